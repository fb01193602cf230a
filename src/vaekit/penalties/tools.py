"""What several penalties share: codes as vectors, full precision, and images in network units."""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Distribution

from vaekit.data.spec import DataSpec
from vaekit.errors import UserError
from vaekit.likelihoods.units import Units
from vaekit.objectives.schedules import Schedule
from vaekit.output import VAEOutput, fold
from vaekit.penalties.base import Penalty

SPREAD = 3.0
"""Floats have no range: what counts as one is the mean -+ 3 standard deviations, as in pictures."""


def codes(out: VAEOutput) -> Float[Tensor, "B D"]:
    """One code for each image as a vector: the first sample of the first layer."""
    return out.terms[0].z[: len(out.batch)].flatten(1)


def per_image(values: Float[Tensor, "N"], out: VAEOutput) -> Float[Tensor, "B"]:
    """[K*B] -> [B], the mean over the samples of each image."""
    return values if out.k == 1 else values.view(out.k, -1).mean(0)


def differentiable_mean(px: Distribution) -> Float[Tensor, "N C H W"]:
    """The mean of p(x|z), for a penalty that learns from its gradient.

    Raises `UserError` for pixels that know of those before them: their mean is an average over draws, which no gradient reaches.
    """
    if getattr(px, "ordered", False):
        raise UserError("The causal likelihood has no mean that a gradient reaches, which this recipe's penalty needs: choose another --likelihood.")
    return px.mean


def pixel_units(data: DataSpec) -> dict[str, Any]:
    """What an `ImagePenalty` is told of the data."""
    return {"levels": data.levels, "mean": list(data.mean) or None, "std": list(data.std) or None}


class ImagePenalty(Penalty):
    """A penalty on images in network units: raw / (levels - 1) in [0,1] for pixels, standardized for floats.

    Args:
        levels: the number of pixel levels, None for floats.
        mean, std: one figure per channel in raw units, for floats.
    """

    def __init__(
        self, levels: int | None, mean: Sequence[float] | None = None, std: Sequence[float] | None = None, weight: float | Schedule = 1.0
    ) -> None:
        super().__init__(weight)
        self.units = Units(levels, mean, std)

    def images(self, out: VAEOutput) -> Float[Tensor, "B C H W"]:
        """The images of the batch in network units."""
        return self.units.to_unit(out.batch.x)

    def means(self, out: VAEOutput, px: Distribution | None = None) -> Float[Tensor, "N C H W"]:
        """The mean of p(x|z) in network units, of the reconstructions or of `px`; values that are not observed are those of the images."""
        mean = self.units.to_unit(differentiable_mean(out.px if px is None else px))
        if out.batch.mask is None:
            return mean
        k = len(mean) // len(out.batch)
        return torch.where(fold(out.batch.mask, k), mean, fold(self.images(out), k))

    def shown(self, x: Float[Tensor, "N C H W"]) -> Float[Tensor, "N C H W"]:
        """Network units on a scale where 0 is the darkest and 1 the brightest that is shown, not clipped."""
        return x if self.units.levels is not None else (x + SPREAD) / (2 * SPREAD)
