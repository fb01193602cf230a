"""`shapes`: white shapes on black whose factors are known, rendered by a formula on the grid of factors of dSprites."""

import numpy as np

from vaekit.data.cache import digest
from vaekit.data.source import Source
from vaekit.errors import UserError

CLASSES = ("square", "ellipse", "heart")
FACTORS = {"shape": 3, "scale": 6, "orientation": 40, "x": 32, "y": 32}
TOTAL = 3 * 6 * 40 * 32 * 32
DEFAULT_COUNT = 20_000
SIDE = 64
VERSION = 1


def factor_indices(rows: np.ndarray) -> np.ndarray:
    """Positions [K] in the whole grid (0 .. 737279, the last factor moving fastest) -> factor indices [K, 5] int64."""
    return np.stack(np.unravel_index(rows, tuple(FACTORS.values())), 1).astype(np.int64)


def factor_values(indices: np.ndarray) -> np.ndarray:
    """Factor indices [K, 5] -> values [K, 5] float32: shape 0..2, scale 0.5..1, orientation 0..2 pi radians, x and y 0..1."""
    scale = 0.5 + 0.1 * indices[:, 1]
    orientation = indices[:, 2] * (2 * np.pi / 39)
    return np.stack([indices[:, 0], scale, orientation, indices[:, 3] / 31, indices[:, 4] / 31], 1).astype(np.float32)


def render(indices: np.ndarray) -> np.ndarray:
    """Factor indices [K, 5] -> binary images [K, 1, 64, 64] uint8."""
    values = factor_values(indices)
    scale, angle = 10.0 * values[:, 1], values[:, 2]
    centre = 15.5 + 33 * values[:, 3:5]  # the shape stays inside: its radius is at most 15 pixels
    axis = np.arange(SIDE, dtype=np.float32)
    dx = (axis[None, :] - centre[:, :1])[:, None, :]
    dy = (axis[None, :] - centre[:, 1:])[:, :, None]
    cos, sin = (np.cos(angle) / scale)[:, None, None], (np.sin(angle) / scale)[:, None, None]
    u, v = cos * dx + sin * dy, cos * dy - sin * dx
    out = np.empty((len(indices), SIDE, SIDE), bool)
    for number, inside in enumerate((_square, _ellipse, _heart)):
        here = indices[:, 0] == number
        out[here] = inside(u[here], v[here])
    return out[:, None].view(np.uint8)


def _square(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return np.maximum(np.abs(u), np.abs(v)) <= 1


def _ellipse(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return u * u / 1.96 + v * v / 0.49 <= 1


def _heart(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    # (x^2 + y^2 - 1)^3 <= x^2 y^3, pointing down
    x, y = u, -v + 0.1
    squares = x * x
    ring = squares + y * y - 1
    return ring * ring * ring <= squares * y * y * y


def source(count: int = DEFAULT_COUNT) -> Source:
    """`count` images of the grid, always the same ones. Labels are the shapes, attributes the factors' values."""
    if not 10 <= count <= TOTAL:
        raise UserError(f"'shapes' has {TOTAL} images: choose from 10 to that many.")
    rows = np.arange(TOTAL) if count == TOTAL else np.sort(np.random.RandomState(0).permutation(TOTAL)[:count])
    indices = factor_indices(rows)
    return Source(
        name="shapes" if count == DEFAULT_COUNT else f"shapes-{count}",
        key=digest("shapes", VERSION, count),
        shape=(1, SIDE, SIDE),
        dtype=np.dtype(np.uint8),
        levels=2,
        count=count,
        read=lambda chosen: render(indices[chosen]),
        on_disk=True,
        labels=indices[:, 0].copy(),
        classes=CLASSES,
        attributes=factor_values(indices),
        attribute_names=tuple(FACTORS),
        notes=[f"{count} of the {TOTAL} combinations of five known factors; 'shapes:N' takes N of them."],
    )
