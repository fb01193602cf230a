"""Pictures of many images, small ones at their own size, which the page enlarges, and large ones reduced."""

import io
import math
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float, Shaped, UInt8
from PIL import Image
from torch import Tensor

from vaekit import pictures
from vaekit.data.spec import DataSpec
from vaekit.report.content import Picture, Scale

LARGEST = 300_000
"""Bytes of one PNG; what is larger is shown smaller."""
BUDGET = 280_000
"""Raw bytes of the images of one sheet: noise does not compress."""
TILE = 64
"""Pixels: the longer side of a tile; larger images are reduced by a whole number."""
WIDE, TIMES = 720, 6
"""Pixels and times: a picture is enlarged by a whole factor, up to this width and this often."""


def room(spec: DataSpec, most: int, columns: int) -> int:
    """How many images a sheet has: whole rows of at most `most`, or fewer of large ones, but a row at least."""
    return max(1, min(most, BUDGET // (min(spec.shape[0], 3) * _side(spec) ** 2)) // columns) * columns


def _side(spec: DataSpec) -> int:
    """The side of a square tile of an image's area: larger images are shown at half their size, or less."""
    side = math.isqrt(spec.shape[1] * spec.shape[2])
    return side // shrink(spec)


def shrink(spec: DataSpec) -> int:
    """By what whole number the sides of an image are divided for a sheet."""
    return max(1, -(-max(spec.shape[1:]) // TILE))


def tiles(images: Shaped[Tensor, "n C H W"], spec: DataSpec) -> UInt8[np.ndarray, "n h w 3"]:
    """Raw values as RGB on the scale of `pictures`; transparent pixels lie on white."""
    shown, by = pictures.on_white(pictures.channels(images, spec)), shrink(spec)
    return shown if by == 1 else _reduced(shown.astype(np.float64), by).round().astype(np.uint8)


def _reduced(x: Float[np.ndarray, "n H W *C"], by: int) -> Float[np.ndarray, "n h w *C"]:
    """Means of squares of `by` pixels a side; at the right and at the bottom of what is left of them."""
    if by == 1:
        return x
    for axis in (1, 2):
        starts = np.arange(0, x.shape[axis], by)
        counts = np.diff(np.append(starts, x.shape[axis])).reshape(-1, *[1] * (x.ndim - 1 - axis))
        x = np.add.reduceat(x, starts, axis=axis) / counts
    return x


def errors(
    x: Shaped[Tensor, "n C H W"], y: Shaped[Tensor, "n C H W"], spec: DataSpec, mask: Bool[Tensor, "n C H W"] | None = None
) -> Float[np.ndarray, "n h w"]:
    """|x - y| of each pixel, the mean over channels, as a share of the range that pictures show; NaN where nothing is observed."""
    error = (pictures.unit(x, spec, like=x) - pictures.unit(y, spec, like=x)).abs()
    if mask is None:
        return _reduced(error.mean(1).numpy(), shrink(spec))
    known, wrong = (_reduced(v.sum(1).double().numpy(), shrink(spec)) for v in (mask.float(), torch.where(mask, error, 0.0)))
    return np.divide(wrong, known, out=np.full_like(known, np.nan), where=known > 0)


def heat(values: Float[np.ndarray, "n H W"], high: float) -> UInt8[np.ndarray, "n H W 4"]:
    """Colours from black (0) by red to light yellow (`high` and above); transparent where there is no value."""
    from matplotlib import colormaps

    colours = colormaps["inferno"](np.clip(np.nan_to_num(values) / high, 0, 1), bytes=True)
    colours[np.isnan(values)] = 0
    return colours


def heat_scale(high: float) -> Scale:
    """What the colours of `heat` mean."""
    from matplotlib import colormaps

    steps = colormaps["inferno"](np.linspace(0, 1, 9), bytes=True)
    return Scale(tuple(f"#{r:02x}{g:02x}{b:02x}" for r, g, b, _ in steps.tolist()), "0", f"{100 * high:.3g} % of the range")


def sheet(rows: Sequence[UInt8[np.ndarray, "_ H W _"]], title: str, note: str = "", gap: int = 1, band: int | None = None) -> Picture:
    """Rows of tiles with transparent gaps.

    Args:
        rows: of one length, or the last ones shorter.
        band: this many rows belong together, with a wider gap between the bands.
    """
    height, width = rows[0].shape[1:3]
    columns = max(len(row) for row in rows)
    tops, top = [], 0
    for i in range(len(rows)):
        top += (4 * gap if band and i % band == 0 else gap) if i else 0
        tops.append(top)
        top += height
    canvas = np.zeros((top, columns * (width + gap) - gap, 4), np.uint8)
    for start, row in zip(tops, rows, strict=True):
        for column, tile in enumerate(row):
            place = canvas[start : start + height, column * (width + gap) : column * (width + gap) + width]
            place[..., : tile.shape[-1]] = tile
            if tile.shape[-1] == 3:
                place[..., 3] = 255
    return shown(Image.fromarray(canvas), title, note)


def in_rows(images: UInt8[np.ndarray, "n H W 3"], columns: int) -> list[UInt8[np.ndarray, "_ H W 3"]]:
    """The tiles, `columns` in a row."""
    return [images[start : start + columns] for start in range(0, len(images), columns)]


def shown(image: Image.Image, title: str, note: str = "") -> Picture:
    """A picture as a PNG of at most 300 kB: what is larger is made smaller, and the note says so."""
    whole = image.size
    data = _png(image)
    while len(data) > LARGEST and min(image.size) > 64:
        image = image.resize((image.width * 2 // 3, image.height * 2 // 3), Image.Resampling.LANCZOS)
        data = _png(image)
    if image.size != whole:
        note = f"{note} Shown at {100 * image.width / whole[0]:.0f} % of its size.".strip()
    return Picture(data, *image.size, max(1, min(TIMES, WIDE // image.width)), title, note)


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()
