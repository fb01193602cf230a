"""Pictures to look at: grids of images, single images, training curves, maps of a latent plane.

Nothing is left half-written: every file appears under its name when it is complete.
"""

import io
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Shaped, UInt8
from PIL import Image
from torch import Tensor
from torch.distributions import Normal

from vaekit.data.spec import DataSpec
from vaekit.errors import UserError

BACKGROUND = 208
"""Grey level between the tiles: neither black nor white, so that the edges of both show."""
SIDE = 800
"""Pixels: small images are enlarged, by a whole factor, as long as a picture stays below this."""
TILE = 256
"""Pixels: an image is not enlarged beyond this."""
SPREAD = 3.0
"""Floats are shown from the mean minus this many standard deviations to the mean plus as many."""


def unit(images: Shaped[Tensor, "n C H W"], spec: DataSpec, like: Shaped[Tensor, "m C H W"] | None = None) -> Float[Tensor, "n C H W"]:
    """Raw values on a scale where 0 is the darkest and 1 the brightest that is shown, not clipped.

    Pixels are divided by levels - 1. Floats: each channel's mean -+ 3 standard deviations over the training split; where the spec has none, the
    smallest and the largest value of `like` (of the images themselves when None).
    """
    if spec.levels is not None:
        return images.double() / (spec.levels - 1)
    if spec.mean and spec.std:
        mean, std = (torch.tensor(v, dtype=torch.float64, device=images.device).view(-1, 1, 1) for v in (spec.mean, spec.std))
        low, width = mean - SPREAD * std, 2 * SPREAD * std
    else:
        source = (images if like is None else like).double()
        low = source.amin((0, 2, 3)).view(-1, 1, 1)
        width = source.amax((0, 2, 3)).view(-1, 1, 1) - low
    return (images.double() - low) / torch.where(width > 0, width, 1.0)


def channels(images: Shaped[Tensor, "n C H W"], spec: DataSpec) -> UInt8[np.ndarray, "n H W P"]:
    """8-bit channels that a file can hold: grey (P 1), grey and alpha (2), RGB (3), RGBA (4).

    Values outside the range are clipped. Of more than four channels the first three are shown as RGB; floats have no alpha, so that of two channels
    the first is shown, and of four the first three.
    """
    return _eight_bits(unit(images.detach().cpu(), spec), spec)


def _eight_bits(shades: Float[Tensor, "n C H W"], spec: DataSpec) -> UInt8[np.ndarray, "n H W P"]:
    levels = (shades.nan_to_num(0.0).clamp(0, 1) * 255).round().to(torch.uint8)
    shown = levels.shape[1]
    if shown > 4 or (spec.kind == "values" and shown in (2, 4)):
        shown = 3 if shown > 3 else 1
    return levels[:, :shown].permute(0, 2, 3, 1).contiguous().numpy()


def grid(images: Shaped[Tensor, "n C H W"], spec: DataSpec, columns: int | None = None, scale: int | None = None, padding: int = 2) -> Image.Image:
    """The images in rows, as an RGB picture; transparent pixels lie on white.

    Args:
        images: raw values; see `channels` for how many channels are shown.
        columns: of the grid; None for a square.
        scale: a whole factor of enlargement; None for a picture of about 500 to 800 pixels a side, when the images are small.
        padding: pixels between the tiles.
    """
    tiles = on_white(channels(images, spec))
    columns = min(len(tiles), columns or math.ceil(math.sqrt(len(tiles))))
    rows = [list(range(start, min(start + columns, len(tiles)))) for start in range(0, len(tiles), columns)]
    return _paste(tiles, rows, [padding] * len(rows), padding, scale)


def reconstructions(
    originals: Shaped[Tensor, "n C H W"],
    reconstructions: Shaped[Tensor, "n C H W"],
    spec: DataSpec,
    columns: int | None = None,
    scale: int | None = None,
    padding: int = 2,
) -> Image.Image:
    """Each row of originals above the row of their reconstructions.

    Args:
        originals, reconstructions: raw values.
        columns: pairs in a row; None for 8, or fewer where there are fewer.
        scale, padding: see `grid`.
    """
    n, originals = len(originals), originals.detach().cpu()
    # On the scale of the originals, also where the spec has none of its own.
    both = torch.cat([unit(x, spec, like=originals) for x in (originals, reconstructions.detach().cpu())])
    tiles = on_white(_eight_bits(both, spec))
    columns = min(n, columns or 8)
    rows, gaps = [], []
    for start in range(0, n, columns):
        pair = list(range(start, min(start + columns, n)))
        rows += [pair, [n + i for i in pair]]
        gaps += [4 * padding, padding]
    return _paste(tiles, rows, gaps, padding, scale)


def save_grid(
    path: str | os.PathLike[str],
    images: Shaped[Tensor, "n C H W"],
    spec: DataSpec,
    columns: int | None = None,
    scale: int | None = None,
    padding: int = 2,
) -> Path:
    """Writes a `grid`."""
    return save(path, grid(images, spec, columns, scale, padding))


def save(path: str | os.PathLike[str], picture: Image.Image) -> Path:
    """Writes a picture in the format that the suffix of the path names."""
    path = Path(path)
    buffer = io.BytesIO()
    picture.save(buffer, format=_format(path))
    return _write(path, buffer.getvalue())


def save_images(folder: str | os.PathLike[str], images: Shaped[Tensor, "n C H W"], spec: DataSpec, start: int = 0) -> list[Path]:
    """One PNG for each image, 000000.png and on.

    Grey pixels of more than 8 bits are written with 16 bits; alpha is kept; for more than four channels and for floats see `channels`.

    Args:
        images: raw values.
        start: the number of the first image.
    """
    if spec.levels is not None and spec.levels > 256 and images.shape[1] == 1:
        raw = (unit(images.detach().cpu(), spec).nan_to_num(0.0).clamp(0, 1) * 65535).round()
        pictures = [Image.fromarray(image) for image in raw[:, 0].numpy().astype(np.uint16)]
    else:
        pictures = [Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image) for image in channels(images, spec)]
    return [save(Path(folder) / f"{start + i:06d}.png", picture) for i, picture in enumerate(pictures)]


DRAWS = 2**15
"""Of the prior, for its quantiles."""


def manifold(model: Any, spec: DataSpec, n: int = 20, scale: int | None = None, condition: Tensor | int | None = None) -> Image.Image:
    """The map of a two-dimensional latent: p(x|z)'s mean at n x n points.

    The points are quantiles of the prior from 0.01 to 0.99 in each dimension (of many draws, where it is no Gaussian), z[0] growing to the right and
    z[1] upwards.

    References: Auto-Encoding Variational Bayes (Kingma, Welling, 2013), appendix A, https://arxiv.org/abs/1312.6114

    Args:
        model: a VAE with one latent vector of two dimensions.
        condition: of every image; a model of classes takes its first one when None.

    Raises:
        UserError: for any other latent.
    """
    shape = getattr(getattr(model.latent, "posterior", None), "event_shape", None)
    if shape is None or tuple(shape) != (2,):
        size = "no single vector" if shape is None else f"{math.prod(shape)} dimensions"
        raise UserError(f"The map needs a latent of two dimensions, and this model's has {size}: train it with --latent 2.")
    if model.latent.posterior.support != "reals":
        raise UserError("The map is of a plane, and the codes of this model are not all of one.")
    if condition is None and model.condition is not None:
        condition = model.condition.draw(1)
    across, up = _quantiles(model, n, condition)
    z = torch.stack([across.repeat(n), up.flip(0).repeat_interleave(n)], dim=1)
    if isinstance(condition, Tensor) and condition.shape[:1] == (1,):
        condition = condition.expand(len(z), *condition.shape[1:])
    images = []
    for start in range(0, len(z), 256):
        rows = slice(start, start + 256)
        told = condition[rows] if isinstance(condition, Tensor) and condition.dim() > 0 else condition
        images.append(model.decode(z[rows].to(model.device), condition=told).mean.cpu())
    return grid(torch.cat(images), spec, columns=n, scale=scale, padding=0)


def _quantiles(model: Any, n: int, condition: Tensor | int | None) -> tuple[Tensor, Tensor]:
    """n quantiles of the prior, told the first condition, in each of its two dimensions."""
    levels = torch.linspace(0.01, 0.99, n, dtype=torch.float64) if n > 1 else torch.tensor([0.5], dtype=torch.float64)
    told = None if condition is None else torch.as_tensor(condition, device=model.device)
    with torch.random.fork_rng(), torch.no_grad():
        c = None if told is None else model.embed((told if told.dim() else told.view(1))[:1])
        base = getattr(model.latent.prior(c), "base_dist", None) if model.latent.anchored is None else None
        if isinstance(base, Normal):
            mean, std = (v.cpu().double().view(-1, 2)[0] for v in (base.loc, base.scale))
            both = mean + std * torch.special.ndtri(levels).unsqueeze(1)
        else:
            torch.manual_seed(0)
            draws = model.latent.prior_codes(DRAWS, anchors=model.anchors(), c=None if c is None else c.expand(DRAWS, -1))
            both = draws.cpu().double().view(DRAWS, 2).quantile(levels, dim=0)
    return both[:, 0].float(), both[:, 1].float()


PANELS = (
    ("elbo_nats", "Evidence lower bound", "nats per image", "settled"),
    ("loss_nats", "Objective (minimized)", "nats per image", "settled"),
    ("distortion_nats", "Distortion, -log p(x|z)", "nats per image", "settled"),
    ("rate_nats", "Rate, KL(q(z|x) || p(z))", "nats per image", "linear"),
    ("active_units", "Active latent dimensions", "dimensions", "zero"),
    ("beta", "Weight of the rate", "beta", "zero"),
    ("lr", "Learning rate", "step size", "zero"),
    ("grad_norm_nats", "Norm of the gradient", "nats", "log"),
)
"""Quantity, title, unit and vertical axis of each panel of `curves`: "settled" leaves out the first steep moments, "zero" starts from 0."""
SPLITS = {"": "", "train_": "training", "val_": "validation"}
AXES = {"epoch": "epochs", "images": "images seen", "step": "steps", "minutes": "minutes"}


def curves(history: Mapping[str, Sequence[float | int | None]], path: str | os.PathLike[str], title: str | None = None) -> Path:
    """Writes the curves of a training run: one panel for each quantity that the history has.

    Args:
        history: columns of one length, None where a row has no figure. The horizontal axis is `epoch`, `images`, `step` or `minutes`, the first of
            these that is there (else the row). The others are the quantities of `PANELS`, alone or after `train_` or `val_`
            (`train_elbo_nats`, `val_elbo_nats`, `lr`); unknown columns are left out.
        path: .png, .svg or .pdf.
    """
    from matplotlib.figure import Figure  # slow to import, and pyplot is not needed
    from matplotlib.ticker import MaxNLocator

    axis = next((name for name in AXES if name in history), None)
    panels = []
    for quantity, *labels in PANELS:
        series: dict[str, tuple[list[float], list[float]]] = {}
        for prefix, label in SPLITS.items():
            values = history.get(prefix + quantity, ())
            if points := _points(history[axis] if axis else range(len(values)), values):
                series[label] = points
        if series:
            panels.append((series, labels))
    if not panels:
        raise UserError("The history has no figures to draw yet.")
    columns = min(len(panels), 3)
    rows = math.ceil(len(panels) / columns)
    figure = Figure(figsize=(12, 0.4 + 3.3 * rows), dpi=100, layout="constrained", facecolor="white")
    if title:
        figure.suptitle(title, fontsize=13, x=0.01, ha="left")
    for i, (series, (name, unit_name, scale)) in enumerate(panels):
        ax = figure.add_subplot(rows, columns, i + 1)
        for label, (x, y) in series.items():
            colour, width = ("#9aa5b1", 1.2) if label == "training" and len(series) > 1 else ("#1f5fa8", 1.8)
            ax.plot(x, y, color=colour, linewidth=width, label=label, marker="o" if len(x) <= 25 else None, markersize=3)
        if any(series):
            ax.legend(frameon=False, fontsize=9)
        ax.set_title(name, fontsize=11, loc="left")
        ax.set_ylabel(unit_name, fontsize=9)
        ax.set_xlabel(AXES[axis] if axis else "row", fontsize=9)
        ax.tick_params(labelsize=8.5)
        ax.grid(color="#e4e7eb", linewidth=0.7)
        ax.spines[["top", "right"]].set_visible(False)
        if scale == "log" and min(min(y) for _, y in series.values()) > 0:
            ax.set_yscale("log")
        elif scale == "zero":
            ax.set_ylim(0, 1.1 * max(max(y) for _, y in series.values()) or 1)
            ax.ticklabel_format(axis="y", scilimits=(-2, 5))
        elif scale == "settled" and (limits := _limits([y for _, y in series.values()])) is not None:
            ax.set_ylim(*limits)
        if axis in ("epoch", "step"):
            ax.xaxis.set_major_locator(MaxNLocator("auto", steps=[1, 2, 5, 10], integer=True))
        if unit_name == "dimensions":
            ax.yaxis.set_major_locator(MaxNLocator("auto", steps=[1, 2, 5, 10], integer=True))
    buffer, path = io.BytesIO(), Path(path)
    figure.savefig(buffer, format=path.suffix[1:].lower() or "png")
    return _write(path, buffer.getvalue())


def _points(x: Sequence[Any], y: Sequence[float | int | None]) -> tuple[list[float], list[float]] | None:
    """The pairs in which both are finite numbers."""
    pairs = [(float(a), float(b)) for a, b in zip(x, y, strict=bool(y)) if a is not None and b is not None and math.isfinite(a) and math.isfinite(b)]
    return ([a for a, _ in pairs], [b for _, b in pairs]) if pairs else None


def _limits(series: list[list[float]]) -> tuple[float, float] | None:
    """The range without the first tenth of each curve, where the start would flatten all that follows; None to show everything."""
    late = [value for y in series for value in y[math.ceil(len(y) / 10) if len(y) >= 5 else 0 :]]
    everything = [value for y in series for value in y]
    low, high = min(late), max(late)
    if high <= low or max(everything) - min(everything) < 2 * (high - low):
        return None
    return low - 0.08 * (high - low), high + 0.08 * (high - low)


def on_white(tiles: UInt8[np.ndarray, "n H W P"]) -> UInt8[np.ndarray, "n H W 3"]:
    """RGB, with transparent pixels on white."""
    if len(tiles) == 0:
        raise UserError("There are no images to show.")
    colour = tiles[..., :1] if tiles.shape[-1] <= 2 else tiles[..., :3]
    if tiles.shape[-1] in (2, 4):
        alpha = tiles[..., -1:].astype(np.uint32)
        colour = ((colour * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)
    return np.ascontiguousarray(np.broadcast_to(colour, (*colour.shape[:3], 3)))


def _paste(tiles: UInt8[np.ndarray, "n H W 3"], rows: list[list[int]], gaps: list[int], padding: int, scale: int | None) -> Image.Image:
    """Rows of tiles, with a gap above each row (but the first) and a margin as wide as the padding."""
    _, height, width, _ = tiles.shape
    columns = max(len(row) for row in rows)
    if scale is None:
        across, down = (SIDE - padding * (columns + 1)) // (columns * width), (SIDE - sum(gaps) - padding) // (len(rows) * height)
        scale = max(1, min(across, down, TILE // max(height, width)))
    height, width = height * scale, width * scale
    tops = [padding]
    for gap in gaps[1:]:
        tops.append(tops[-1] + height + gap)
    picture = np.full((tops[-1] + height + padding, columns * (width + padding) + padding, 3), BACKGROUND, np.uint8)
    for top, row in zip(tops, rows, strict=True):
        for column, i in enumerate(row):
            left = padding + column * (width + padding)
            picture[top : top + height, left : left + width] = tiles[i].repeat(scale, 0).repeat(scale, 1)
    return Image.fromarray(picture)


def _format(path: Path) -> str:
    formats = Image.registered_extensions()
    if path.suffix.lower() not in formats:
        raise UserError(f"A picture's name ends in .png or .jpg, and {path} does not.")
    return formats[path.suffix.lower()]


def writable(path: str | Path | None) -> None:
    """Raises `UserError` if no picture can be written there: to be known before the work, and not after."""
    if path is None:
        return
    path = Path(path)
    _format(path)
    above = next(p for p in path.absolute().parents if p.exists())
    if not os.access(above, os.W_OK):
        raise UserError(f"{path} cannot be written: name a place elsewhere.")


def _write(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(content)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return path
