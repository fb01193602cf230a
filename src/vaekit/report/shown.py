"""What a model makes: new images, and images by way of their codes with the error."""

import numpy as np
import torch
from torch import Tensor

from vaekit.data import Dataset
from vaekit.evaluation.passes import seeded
from vaekit.model import VAE
from vaekit.output import Batch
from vaekit.report.content import Block, Picture, Prose, Section
from vaekit.report.measure import Measured
from vaekit.report.sheets import errors, heat, heat_scale, in_rows, room, sheet, tiles


def samples(model: VAE, data: Dataset, *, quick: bool = False) -> Section:
    """New images, as means of p(x|z) and as draws from it, of the same codes."""
    spec = data.spec
    told = data.batch("validation", torch.arange(1)).condition
    classes = spec.classes if told is not None and told.dim() == 1 else ()
    columns = len(classes) if 2 <= len(classes) <= 10 else 8
    count = room(spec, columns * (5 if quick else 8), columns)
    condition = None
    if told is not None and told.dim() > 1:
        condition = data.batch("validation", torch.arange(count) % data.size("validation")).condition
    blocks: list[Block] = []
    if classes:
        order = f"the columns are its classes: {', '.join(classes)}" if columns == len(classes) else "the classes take turns"
        blocks.append(Prose(f"The model is told the class of an image; {order}."))
    elif condition is not None:
        blocks.append(Prose("The model is told attributes: those of the first images of the validation split, in their order."))
    if model.sampler is not None:
        blocks.append(Prose(f"Codes come from the prior that was fitted afterwards, {type(model.sampler.prior).__name__}."))
    for kind, title, note in (
        (
            "mean",
            "New images: means of p(x|z)",
            "What the model believes on average of each pixel: smooth, with the noise of the likelihood taken away.",
        ),
        ("draw", "New images: draws from p(x|z)", "The same codes with every pixel drawn: what the likelihood takes real images to look like."),
    ):
        with seeded(model.device, 1):
            images = _sampled(model, count, condition, kind)
        blocks.append(sheet(in_rows(tiles(images, spec), columns), title, note))
    return Section("Samples", tuple(blocks))


def _sampled(model: VAE, count: int, condition: Tensor | None, kind: str) -> Tensor:
    return model.sample(count, condition=condition, pixels="mean" if kind == "mean" else "draw").cpu()


def reconstructions(model: VAE, data: Dataset, measured: Measured) -> Section:
    """The first images of the validation split and the hardest ones, each with its reconstruction and the error of each pixel."""
    n, columns = len(measured.bound), 8
    count = min(n, room(data.spec, 2 * columns, columns))
    looked = data.positions("validation", n)[0][1]  # what was measured, in that order
    picks = {
        "The first images of the validation split": torch.arange(count),
        "The hardest ones": looked[measured.bound.distortion.argsort(descending=True)[: min(count, columns)]],
    }
    made = {}
    for title, rows in picks.items():
        batch = data.batch("validation", rows)
        made[title] = batch, model.reconstruct(batch).cpu()
    maps = {title: errors(batch.x, y, data.spec, batch.mask) for title, (batch, y) in made.items()}
    high = float(np.nanquantile(np.concatenate([m.ravel() for m in maps.values()]), 0.999)) or 1.0
    notes = {
        "The first images of the validation split": "From the top of each band: the image, its reconstruction, the absolute error of each pixel.",
        "The hardest ones": f"Those of {n:,} with the highest distortion: look whether they are odd images (wrong data?) or a kind that is missed.",
    }
    pictures = [_bands(batch, y, maps[title], high, columns, data, title, notes[title]) for title, (batch, y) in made.items()]
    mean, spread = measured.psnr_db.mean().item(), measured.psnr_db.std().item()
    blocks: list[Block] = [pictures[0], heat_scale(high), pictures[1]]
    if any(batch.mask is not None for batch, _ in made.values()):
        blocks.append(Prose("Missing pixels have no error and stand empty in the map; in the image they have the mean of their channel."))
    over = f"over {len(measured.psnr_db):,} images: {mean:.2f} dB, with a standard deviation of {spread:.2f} dB between images"
    blocks.append(Prose(f"Peak signal-to-noise ratio {over}."))
    return Section("Reconstructions", tuple(blocks))


def _bands(batch: Batch, y: Tensor, maps: np.ndarray, high: float, columns: int, data: Dataset, title: str, note: str) -> Picture:
    sources = [tiles(batch.x, data.spec), tiles(y, data.spec), heat(maps, high)]
    rows = [source[start : start + columns] for start in range(0, len(batch), columns) for source in sources]
    return sheet(rows, title, note, band=3)
