"""`measure_samples`: how good are the images that a model makes?"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Shaped
from torch import Tensor

from vaekit import pictures
from vaekit.data import Dataset
from vaekit.evaluation.passes import seeded
from vaekit.evaluation.samples.aggregate import aggregate_test, astray, conditions
from vaekit.evaluation.samples.choose import choose
from vaekit.evaluation.samples.memorization import Nearest
from vaekit.evaluation.samples.real import Pixels, Real, real_images
from vaekit.evaluation.samples.roughness import roughness
from vaekit.evaluation.samples.ruler import Figure, Ruler
from vaekit.evaluation.samples.space import Space
from vaekit.evaluation.samples.synthetic import learnt
from vaekit.evaluation.samples.two_sample import TwoSampleTest
from vaekit.latents.support import UNFITTED, supports
from vaekit.likelihoods import Causal
from vaekit.model import DRAWN
from vaekit.networks import AttributeCondition
from vaekit.run import Run

PART = 8 * DRAWN
"""Samples that are drawn at once: whole passes of `VAE.sample`."""
SHOWN = 8
"""Pairs in the picture of the nearest neighbours."""
TESTED = 10_000
"""Codes of either side in the two-sample test, at most: the accuracy grows with them, so that their number is named."""
CROWDED = 1.5
"""Times the floor's density: samples are nearer to real images than real images are."""


class Measure(NamedTuple):
    """What a figure is, for tables."""

    title: str
    better: str


MEASURES = {
    "frechet_distance": Measure("Frechet distance", "lower"),
    "kernel_distance": Measure("kernel distance", "lower"),
    "sliced_wasserstein": Measure("sliced Wasserstein", "lower"),
    "precision": Measure("precision", "higher"),
    "recall": Measure("recall", "higher"),
    "density": Measure("density", "higher"),
    "coverage": Measure("coverage", "higher"),
    "sharpness": Measure("sharpness / data's", "near 1"),
    "diversity": Measure("diversity / data's", "near 1"),
    "memorization": Measure("memorized share", "near the floor"),
    "roughness": Measure("roughness of the code", "near 1"),
    "prior_test": Measure("posterior told from prior", "near 0.5"),
    "synthetic_accuracy": Measure("train-on-synthetic accuracy", "higher"),
    "class_accuracy": Measure("samples of the class they were told", "near the floor"),
}


class Draws(NamedTuple):
    """How samples are drawn, as in `VAE.sample`: the spread of the prior, and of a fitted one how much the class counts and the indices left."""

    temperature: float = 1.0
    guidance: float = 1.0
    top: int | None = None


def measure_samples(
    run: Run,
    data: Dataset,
    *,
    n: int = 10_000,
    pixels: Pixels = "mean",
    features: str | Path | Space | None = None,
    seed: int = 0,
    ruler: Ruler | None = None,
    picture: str | Path | None = None,
    draws: Draws = Draws(),
) -> dict[str, Any]:
    """The measures of n samples of a run beside n held-out images, each with its floor: the same measure of n other held-out images in their place.

    `measures` holds for each name of `MEASURES` that applies: `value`, `error` (standard error; of the Frechet and the sliced Wasserstein distance
    by bootstrap over the images of both sets, of the kernel distance over ten disjoint blocks), `floor`, `floor_error`, `space` (in which it was
    taken) and `better`. The floor of `synthetic_accuracy` is the accuracy after as many real training images, and `class_accuracy` is that of the
    same classifier on the samples; the floor of `prior_test` is the prior told from itself, that of `roughness` the 1 of a linear map. A model that
    is conditional, or has a conditional prior, is given the conditions of the real images.

    Args:
        data: the run's own data, or others brought to the same form.
        pixels: "mean" takes the mean of p(x|z) as the image, "draw" a draw from it, with its noise. For a model of binarized pixels, means stand
            beside the grey images and draws beside binary ones.
        features: the feature space: fashion, laplacian, inception, or the path of an ONNX file; chosen by the data when None (see `choose`).
        seed: of the samples and of all that is drawn.
        ruler: made before, for several runs on the same images; then n, pixels and features are its own.
        picture: where to draw the samples that lie nearest to training images, each above its neighbour.
        draws: temperature, guidance and top of the samples. The test of the codes and the roughness are of the prior as it is.

    Raises:
        UserError: for too few images, for a feature space that cannot take them, and for a model that cannot sample.
    """
    if ruler is None:
        ruler = Ruler(choose(features, data.spec, data.name, run.model.device), real_images(data, n, pixels, seed), seed)
    real = ruler.real
    condition = conditions(run.model, data, real.test)
    images = draw(run, len(real.test), condition, real.pixels, ruler.seed, draws)
    figures, copies = ruler.measure(images)
    rows, notes = _beside(figures, ruler.floor), list(real.notes)
    fittable = run.model.encoder is not None and supports(run.model.latent)[0] not in UNFITTED
    notes += _about_samples(run, ruler, figures, draws)
    if condition is None and run.model.sampler is not None and isinstance(run.model.sampler.condition, AttributeCondition):
        notes.append("The prior was told attributes that these data do not have: its samples are of none.")
    of_codes, remarks = _of_codes(run, data, ruler, condition)
    rows, notes = rows | of_codes, notes + remarks
    known = data.labels is not None and bool((data.labels >= 0).all())
    if condition is not None and condition.dim() == 1 and data.labels is not None and len(condition.unique()) > 1:
        rows |= _of_classes(images, condition, real, ruler.seed)
    elif condition is None and fittable and known and len(data.spec.classes) > 1:
        notes.append("No train-on-synthetic accuracy: these samples have no classes. vaekit fit-prior --condition class gives them some.")
    if picture is not None:
        pictures.save(picture, nearest_pairs(images, copies, real))
    measures = {name: rows[name] | {"better": about.better} for name, about in MEASURES.items() if name in rows}
    prior = run.description.get("prior") if run.chosen is None else {"kind": run.chosen}
    return {
        "run": str(run.path),
        "data": data.name,
        "prior": prior,
        "finished": run.finished,
        "draws": draws._asdict(),
        **_compared(ruler),
        "measures": measures,
        "notes": notes,
    }


def _beside(figures: Mapping[str, Figure], floor: Mapping[str, Figure]) -> dict[str, dict[str, Any]]:
    """Each figure beside its floor."""
    return {
        name: {"value": f.value, "error": f.error, "floor": floor[name].value, "floor_error": floor[name].error, "space": f.space}
        for name, f in figures.items()
    }


def _about_samples(run: Run, ruler: Ruler, figures: Mapping[str, Figure], draws: Draws) -> list[str]:
    """What a reader must know of the samples to read their figures."""
    notes = []
    if draws != Draws():
        changed = ", ".join(f"{k} {v:g}" for k, v in draws._asdict().items() if v != Draws._field_defaults[k])
        notes.append(f"Samples were drawn with {changed}.")
    if figures["density"].value > CROWDED * ruler.floor["density"].value:
        notes.append("The density is far above the floor: samples crowd in the middle of the data, as blurred images do: precision flatters them.")
    if ruler.real.pixels == "mean" and isinstance(run.model.likelihood, Causal):
        notes.append("The mean of an image is here that of each pixel given drawn pixels before it: it has texture, and two of one code differ.")
    return notes


def _of_codes(run: Run, data: Dataset, ruler: Ruler, condition: Tensor | None) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """The posterior told from the prior, and how rough the code is, where the model has them; and what to do about it."""
    rows: dict[str, dict[str, Any]] = {}
    notes = []
    real = ruler.real
    tests = aggregate_test(run.model, data, real.test[:TESTED], seed=ruler.seed)
    if tests is None:
        notes.append("No two-sample test of the codes: the model has none made of real numbers, or no prior to draw them from.")
    else:
        rows["prior_test"] = _prior_test(*tests, len(real.test))
    wrong = astray(run.model, None if tests is None else tests[0])
    notes += [] if wrong is None else [wrong]
    smooth = roughness(run.model, ruler.space, real.spec, len(real.test), condition, seed=ruler.seed)
    if smooth is not None:
        rows["roughness"] = {"value": smooth.value, "error": smooth.error, "floor": 1.0, "floor_error": None, "space": ruler.space.name}
    return rows, notes


def _prior_test(found: TwoSampleTest, floor: TwoSampleTest, images: int) -> dict[str, Any]:
    """The codes of so many images told from draws of the prior, beside the prior told from itself."""
    row = {"value": found.accuracy, "error": None, "p_value": found.p_value, "floor": floor.accuracy, "floor_error": None}
    return row | {"space": f"codes ({min(TESTED, images)} of either side)"}


def _compared(ruler: Ruler) -> dict[str, Any]:
    """What was compared with what, and in which features."""
    real = ruler.real
    return {
        "features": ruler.space.name,
        "feature_dimensions": ruler.features.shape[1],
        "images": len(real.test),
        "pixels": real.pixels,
        "compared": real.compared,
        "real": real.names[0],
        "floor": f"{real.names[1]} in the samples' place",
        "training_images": len(real.train),
        "seed": ruler.seed,
    }


def draw(run: Run, n: int, condition: Tensor | None, pixels: Pixels, seed: int, draws: Draws = Draws()) -> Shaped[Tensor, "n C H W"]:
    """n samples on the CPU, within the range of the pixels as in a picture's file; the same for the same seed."""
    parts = []  # so that a GPU has not all of them to hold
    with seeded(run.model.device, seed, 0):
        for start in range(0, n, PART):
            told = condition if condition is None else condition[start : start + PART]
            parts.append(run.model.sample(min(PART, n - start), condition=told, pixels=pixels, **draws._asdict()).cpu())
    images, levels = torch.cat(parts), run.spec.levels
    return images if levels is None else images.clamp(0, levels - 1)


def nearest_pairs(images: Shaped[Tensor, "n C H W"], copies: Nearest, real: Real) -> Any:
    """The samples that lie nearest to a training image, the nearest first, each above that image."""
    chosen = copies.distance.argsort()[:SHOWN]
    training = real.images(real.train[copies.place[chosen]])
    return pictures.reconstructions(images[chosen].double(), training.double(), real.spec, columns=len(chosen))


def _of_classes(images: Shaped[Tensor, "n C H W"], told: Tensor, real: Real, seed: int) -> dict[str, dict[str, Any]]:
    """A classifier of samples on real images, and a classifier of as many real images on the samples."""
    known, labels = real.data.labels, told.cpu()
    assert known is not None
    rows = real.train[: len(images)]
    if len(rows) < len(images):  # as many of either
        chosen = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))[: len(rows)]
        images, labels = images[chosen], labels[chosen]
    samples, test = (real.unit(images), labels), (real.unit(real.images(real.test)), known[real.test])
    of_samples, of_real = learnt(*samples, seed=seed), learnt(real.unit(real.images(rows)), known[rows], seed=seed)
    shared = {"error": None, "floor": of_real(*test), "floor_error": None, "space": "pixels"}
    return {"synthetic_accuracy": {"value": of_samples(*test), **shared}, "class_accuracy": {"value": of_real(*samples), **shared}}


__all__ = ["MEASURES", "Draws", "Measure", "draw", "measure_samples", "nearest_pairs"]
