"""`compare`: several runs on the same held-out images, in one table and one picture."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Shaped
from PIL import Image, ImageDraw
from torch import Tensor

from vaekit import pictures
from vaekit.data import Dataset
from vaekit.errors import UserError
from vaekit.evaluation.likelihood import elbo, mean_and_se
from vaekit.evaluation.samples.aggregate import conditions, held_out
from vaekit.evaluation.samples.choose import choose
from vaekit.evaluation.samples.quality import draw, measure_samples
from vaekit.evaluation.samples.real import Pixels, Real, real_images
from vaekit.evaluation.samples.ruler import Ruler
from vaekit.evaluation.samples.space import Space
from vaekit.run import Run

SCORED = 1000
"""Images of the likelihood."""
BATCH = 125
SHOWN = 36
TITLE = 18
"""Pixels: the height of a title in the picture."""


def compare(
    runs: Sequence[Run],
    data: Sequence[Dataset],
    *,
    n: int = 10_000,
    pixels: Pixels = "mean",
    features: str | Path | Space | None = None,
    seed: int = 0,
    out: str | Path | None = None,
) -> dict[str, Any]:
    """`measure_samples` of each run, with its likelihood, size and cost; all beside the same real images.

    `runs` lists for each: `run`, `recipe`, `measures`, `elbo_nats` and `bits_per_dim` of up to 1,000 of the held-out images, with the kind of
    likelihood (None where the model has no bound: a generator without an encoder, an autoencoder), `latent_dim`, `minutes` of training (a fitted
    prior's among them), and `parameters`. Likelihoods of different `levels` are of different data, and no two of them can be compared.

    Args:
        data: of each run, in its own form.
        out: where to draw samples of all runs side by side, beside the data; each run from the same seed.
        n, pixels, features, seed: see `measure_samples`.

    Raises:
        UserError: for fewer than two runs, and for runs whose held-out images differ.
    """
    if len(runs) < 2:
        raise UserError("A comparison is of at least two runs: name more.")
    reals = [real_images(dataset, n, pixels, seed) for dataset in data]
    _same(runs, reals)
    space = choose(features, data[0].spec, data[0].name, runs[0].model.device)
    rulers: dict[bool, Ruler] = {}
    # One ruler for each scale of the images: what it finds of them is the same, and is paid once for each.
    chosen = [rulers.setdefault(real.binarized, Ruler(space, real, seed)) for real in reals]
    rows, tiles = [], [_tile("data", reals[0].images(reals[0].test[:SHOWN]), reals[0])]
    for run, dataset, ruler in zip(runs, data, chosen, strict=True):
        quality = measure_samples(run, dataset, ruler=ruler)
        rows.append({"run": run.label, **_about(run, dataset, ruler), "measures": quality["measures"], "notes": quality["notes"]})
        if out is not None:
            shown = draw(run, SHOWN, conditions(run.model, dataset, ruler.real.test[:SHOWN]), pixels, seed)
            tiles.append(_tile(Path(run.label).name, shown, ruler.real))
    if out is not None:
        pictures.save(out, side_by_side(tiles))
    shared = ("data", "features", "feature_dimensions", "images", "pixels", "real", "floor", "training_images", "seed")
    compared = sorted({real.compared for real in reals})
    return {**{name: quality[name] for name in shared}, "compared": compared, "runs": rows}


def _same(runs: Sequence[Run], reals: Sequence[Real]) -> None:
    digests = [real.digest() for real in reals]
    for run, digest in zip(runs, digests, strict=True):
        if digest != digests[0]:
            why = ""
            if len({real.binarized for real in reals}) > 1 and reals[0].pixels == "draw":
                why = " One is a model of binarized pixels: their means stand beside the same grey images (--pixels mean)."
            raise UserError(f"The held-out images of {runs[0].path} and {run.path} differ, so that no figures of theirs can be compared.{why}")


def _about(run: Run, data: Dataset, ruler: Ruler) -> dict[str, Any]:
    """Likelihood, size and cost."""
    description, model = run.description, run.model
    found: dict[str, Any] = {
        "recipe": description["options"].get("recipe"),
        "parameters": sum(p.numel() for p in model.parameters()),
        "minutes": run.minutes,
        "levels": data.spec.levels,
        "likelihood_kind": model.likelihood.kind,
        "elbo_nats": None,
        "elbo_nats_se": None,
        "bits_per_dim": None,
        "scored_images": None,
        "latent_dim": None,
    }
    if model.encoder is None:
        if model.latent.blind:
            found["latent_dim"] = model.latent.prior_codes(1, c=model.embed(held_out(data, ruler.real.test[:1]).condition))[0].numel()
        return found
    rows = ruler.real.test[:SCORED]
    with torch.no_grad():
        found["latent_dim"] = sum(z[0].numel() for z in model.encode(held_out(data, rows[:2])))
    bound = elbo(model, (held_out(data, part) for part in rows.split(BATCH)), seed=ruler.seed)
    if bound.bounded:
        found["elbo_nats"], found["elbo_nats_se"] = mean_and_se(bound.elbo)
        found["scored_images"] = len(rows)
        if model.likelihood.kind == "pmf":
            found["bits_per_dim"] = -found["elbo_nats"] / (data.spec.dimensions * torch.tensor(2.0).log().item())
    return found


def side_by_side(tiles: Sequence[tuple[str, Image.Image]]) -> Image.Image:
    """Pictures of one size beside each other, each below its name; in rows of up to four."""
    width, height = tiles[0][1].size
    columns = min(4, len(tiles))
    lines = -(-len(tiles) // columns)
    whole = Image.new("RGB", (columns * (width + 6) - 6, lines * (height + TITLE)), "white")
    pen = ImageDraw.Draw(whole)
    for i, (title, tile) in enumerate(tiles):
        left, top = i % columns * (width + 6), i // columns * (height + TITLE)
        while len(title) > 1 and pen.textlength(title) > width - 4:
            title = title[:-1]
        pen.text((left + 2, top + 3), title, fill="black")
        whole.paste(tile, (left, top + TITLE))
    return whole


def _tile(title: str, images: Shaped[Tensor, "n C H W"], real: Real) -> tuple[str, Image.Image]:
    side = max(images.shape[-2:])
    return title, pictures.grid(images, real.spec, columns=6, scale=max(1, 56 // side))


__all__ = ["compare", "side_by_side"]
