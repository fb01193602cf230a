"""What the codes carry: rate and activity of each dimension, layer or codebook, and what the dimensions change."""

import torch
from torch import Tensor

from vaekit.data import Dataset
from vaekit.editing.traverse import active_dimensions, traverse
from vaekit.errors import UserError
from vaekit.evaluation.latent import ACTIVE, LatentStatistics, LayerStatistics
from vaekit.evaluation.passes import seeded
from vaekit.latents import Ladder
from vaekit.model import VAE
from vaekit.pictures import manifold
from vaekit.report import charts
from vaekit.report.content import Block, Chart, Charts, Prose, Section, Strips, Table
from vaekit.report.sheets import room, sheet, shown, tiles
from vaekit.report.svg import number
from vaekit.run import Run

LAYERS = 6
"""Layers of a ladder whose images are shown, at most."""


def use(latent: LatentStatistics) -> Section:
    """The rate and the activity of what the codes are made of."""
    blocks: list[Block] = []
    layers = latent.layers
    if len(layers) > 1:
        blocks.append(_table(layers))
        if any(layer.stochastic for layer in layers):
            names = [f"layer {i + 1}" for i in range(len(layers))]
            chart = charts.bars("Rate of each layer, from the top", [layer.rate for layer in layers], names, "layers", "nats per image")
            blocks.append(Charts((chart,)))
    made = [chart for i, layer in enumerate(layers) for chart in _layer(layer, f", layer {i + 1}" if len(layers) > 1 else "")]
    if made:
        blocks.append(Charts(tuple(made[:12])))
    if any(layer.stochastic for layer in layers):
        blocks.append(
            Prose(
                "The rate of a dimension is what it costs and carries, KL(q(z|x) || p(z)) in nats. It is active (strong colour) when the mean of "
                f"q(z|x) varies between images by more than {ACTIVE} in variance; the others repeat the prior, and the decoder does not look at them."
            )
        )
    return Section("Use of the latent", tuple(blocks))


def _table(layers: list[LayerStatistics]) -> Table:
    rows = []
    for i, layer in enumerate(layers):
        active = "-" if layer.active_units is None else f"{layer.active_units:,}"
        rows.append((str(i + 1), f"{layer.dimensions:,}", active, f"{layer.rate:.2f}" if layer.stochastic or layer.codes is not None else "-"))
    return Table(("layer, from the top", "dimensions", "active", "rate in nats"), tuple(rows))


def _codebook(counts: Tensor, where: str) -> Chart:
    shares = (counts / counts.sum()).sort(descending=True)
    names = [f"entry {i}" for i in shares.indices.tolist()]
    title = f"Use of the codebook{where}: {int((counts > 0).sum())} of {len(counts):,} entries"
    return charts.bars(title, (100 * shares.values).tolist(), names, "entries, sorted", "% of positions")


def _layer(layer: LayerStatistics, where: str) -> list[Chart]:
    if layer.codes is not None:
        return [_codebook(counts, f" {i + 1}" * (len(layer.codes) > 1) + where) for i, counts in enumerate(layer.codes)]
    made = []
    variance, rates = layer.variance_of_means, layer.rate_per_dim
    known = rates is not None and len(rates) == layer.dimensions
    if not known and variance is None:
        return []
    order = (rates if known and rates is not None else variance).argsort(descending=True).tolist()  # type: ignore[union-attr]
    names = [f"dimension {d}" for d in order]
    active = [] if variance is None else layer.is_active(variance)[order].tolist()
    if known and rates is not None and layer.stochastic:
        values = [float(rates[d]) for d in order]
        made.append(charts.bars(f"Rate of each dimension{where}", values, names, "dimensions, sorted by rate", "nats", full=active))
    if variance is not None:
        made.append(
            charts.bars(
                f"Activity of each dimension{where}",
                [float(variance[d]) for d in order],
                names,
                "dimensions, in the same order" if made else "dimensions, sorted",
                "variance of the means",
                full=active,
            )
        )
    return made


def walks(run: Run, data: Dataset, images: int, *, quick: bool = False) -> Section:
    """What the fullest dimensions change in an image; for a ladder, what each layer adds."""
    title, model = "Traversals", run.model
    batch = data.batch("validation", torch.arange(1))
    try:
        active = active_dimensions(model, data.batches("validation", 128, images))
        dims = active.dims[: 6 if quick else 10]
        steps = min(9, room(data.spec, 9, 9))
        moved = traverse(model, batch, dims, span=2.5, steps=steps)[0]
    except UserError as error:
        return Section(title, _ladder(model, data) if isinstance(model.latent, Ladder) else (Prose(str(error)),))
    rows = []
    for i, d in enumerate(dims):
        rate = "" if active.rates is None else f", {number(active.rates[i], 3)} nats"
        rows.append((f"dimension {d}{rate}", sheet([tiles(moved[i], data.spec)], f"dimension {d}")))
    maps: list[Block] = []
    if model.latent.posterior.event_shape == (2,):  # type: ignore[union-attr]
        note = "The mean of p(x|z) at the quantiles from 0.01 to 0.99 of the prior in each of the two dimensions."
        told = batch.condition
        if told is not None:
            note += " It is told what the first image of the validation split is" + (f": {data.spec.classes[int(told)]}." if told.dim() == 1 else ".")
        maps.append(shown(manifold(model, data.spec, n=14, scale=1, condition=told), "The plane of the two dimensions", note))
    return Section(
        title,
        (
            Prose(
                "The first image of the validation split, while one dimension of its code at a time goes from -2.5 to +2.5 standard deviations of "
                "the prior: what each of the fullest dimensions means. More of it: "
                f"`vaekit traverse {run.path}`."
            ),
            Strips(tuple(rows)),
            *maps,
        ),
    )


def _ladder(model: VAE, data: Dataset) -> tuple[Block, ...]:
    batch = data.batch("validation", torch.arange(min(8, data.size("validation"), room(data.spec, 8, 8))))
    layers = len(model.encode(batch[:1]))
    kept = sorted({round(1 + i * (layers - 1) / max(1, min(LAYERS, layers) - 1)) for i in range(min(LAYERS, layers))})
    rows = [("the images", batch.x)]
    for count in kept:
        with seeded(model.device, 2):
            name = "all layers kept" if count == layers else f"{count} of {layers} layers kept"
            rows.append((name, model.reconstruct(batch, layers=count).cpu()))
    said = "What each layer adds: the first layers of the images' codes are kept, from coarse to fine, and the others are drawn from the prior."
    return Prose(said), Strips(tuple((name, sheet([tiles(x, data.spec)], name)) for name, x in rows))
