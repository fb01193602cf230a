"""Which pixels of an image are missing: what the data say (NaN, transparency), or a share that is hidden for an experiment."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Shaped
from torch import Tensor

from vaekit.data import augment as augmentation
from vaekit.data.binarize import random_bits
from vaekit.data.cache import digest
from vaekit.data.pack import Store, store
from vaekit.data.source import Source
from vaekit.errors import UserError

SEED = 4242
"""Of the hidden pixels: an image misses the same ones in every pass, every split and every run."""
KINDS = ("alpha", "nan")


def parse(missing: Any) -> str | float | None:
    """None, "alpha", "nan" or a share in (0, 1). Raises `UserError` for anything else."""
    if missing is None or missing in KINDS:
        return missing
    try:
        share = float(missing)
    except (TypeError, ValueError):
        share = -1.0
    if not 0 < share < 1:
        raise UserError(f"--missing is alpha, nan, or the share of pixels to hide, between 0 and 1 as 0.5, and not {missing!r}.")
    return share


def check_holes(source: Source, missing: str | float | None) -> Source:
    """The source itself. Raises `UserError` where holes were asked for that this kind of data cannot have."""
    if missing in KINDS and source.observed is None:
        what = "only floating-point arrays hold NaN" if missing == "nan" else "only image files, and arrays of 2 or 4 channels, have an alpha channel"
        raise UserError(f"--missing {missing} does not go with '{source.name}': {what}. A share, as --missing 0.5, hides pixels of any images.")
    return source


def opaque(alpha: np.ndarray, levels: int | None) -> np.ndarray:
    """Whether a pixel is at least half opaque: between clear and opaque lie the edges that scaling has blurred, and they go to the nearer side."""
    return 2 * alpha.astype(np.float64) >= (1 if levels is None else levels - 1)


def without_alpha(source: Source) -> Source:
    """A source of 2 or 4 channels as one of 1 or 3, whose pixels are observed where the alpha channel, which is dropped, is opaque."""
    channels, levels = source.shape[0] - 1, source.levels
    return replace(
        source,
        key=digest(source.key, "without alpha"),
        shape=(channels, *source.shape[1:]),
        read=lambda rows: np.ascontiguousarray(source.read(rows)[:, :channels]),
        observed=lambda rows: opaque(source.read(rows)[:, channels:], levels),
        notes=[*source.notes, "Pixels that are more transparent than opaque count as missing; the alpha channel itself is dropped."],
    )


class Holes:
    """Which values of a source are observed, by row; made only where something is missing."""

    def __init__(self, source: Source, missing: str | float, progress: Callable[[int, int], Any] | None = None) -> None:
        self.shape = source.shape
        self.share = missing if isinstance(missing, float) else None
        self._store: Store | None = None
        if self.share is None:
            assert source.observed is not None
            self._store, _ = store(_mask_source(source), progress)

    def observed(self, index: Tensor) -> Bool[Tensor, "B C H W"]:
        """True where a value is observed. A hidden pixel is hidden in all of its channels."""
        channels, height, width = self.shape
        if self._store is not None:
            return self._store.gather(index).bool().expand(-1, channels, -1, -1)
        assert self.share is not None
        bits = random_bits(index.numpy(), height * width, SEED, 0)
        seen = torch.from_numpy(bits >= np.uint32(self.share * 2.0**32))
        return seen.view(len(index), 1, height, width).expand(-1, channels, -1, -1)

    def moments(self, images: Store, rows: Tensor) -> tuple[tuple[float, ...], tuple[float, ...], float]:
        """Mean and standard deviation of each channel over the observed values of these rows, and the share of all values that they are.

        Raises `UserError` for a channel that is never observed.
        """
        count = torch.zeros(self.shape[0], dtype=torch.float64)
        total, squares = torch.zeros_like(count), torch.zeros_like(count)
        for index in rows.split(512):
            seen, x = self.observed(index), images.gather(index).double()
            x = torch.where(seen, x, 0.0)
            count += seen.sum((0, 2, 3))
            total += x.sum((0, 2, 3))
            squares += x.square().sum((0, 2, 3))
        if (count == 0).any():
            raise UserError("A channel of the training images is missing everywhere: there is nothing to learn from.")
        mean = total / count
        variance = (squares / count - mean.square()).clamp_min(0)
        std = torch.where(variance <= 1e-12 * mean.square().clamp_min(1e-30), 1.0, variance.sqrt())
        share = float(count.sum()) / (len(rows) * self.shape[0] * self.shape[1] * self.shape[2])
        return tuple(mean.tolist()), tuple(std.tolist()), share


def _mask_source(source: Source) -> Source:
    """The observed values as binary images, of one channel where the channels agree."""
    observed = source.observed
    assert observed is not None
    channels = observed(np.arange(1)).shape[1]
    return replace(
        source,
        key=digest(source.key, "observed"),
        shape=(channels, *source.shape[1:]),
        dtype=np.dtype(np.uint8),
        levels=2,
        read=lambda rows: observed(rows).astype(np.uint8),
        observed=None,
    )


def moved(seen: Bool[Tensor, "B C H W"], names: Iterable[str], *, seed: int, position: int) -> Bool[Tensor, "B C H W"]:
    """The mask after the augmentation that its images went through: a value is observed where all that it was made of is."""
    geometric = tuple(n for n in names if n != "colour")
    if not geometric:
        return seen
    # In floats, so that a value between an observed and a missing one shows as a fraction; the random changes come before any of the colours.
    return augmentation.augment(seen.float(), geometric, None, seed=seed, position=position) > 0.999


def filled(x: Shaped[Tensor, "B C H W"], seen: Bool[Tensor, "B C H W"], mean: tuple[float, ...], whole: bool) -> Shaped[Tensor, "B C H W"]:
    """The images with each channel's mean (rounded for pixels) where a value is missing: what was there is gone."""
    values = torch.tensor(mean, dtype=torch.float64).view(-1, 1, 1)
    return torch.where(seen, x, (values.round() if whole else values).to(x.dtype))
