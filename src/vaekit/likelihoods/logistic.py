"""Discretized logistic pixels."""

from typing import ClassVar, Literal

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from vaekit.data.spec import DataSpec
from vaekit.distributions.pixel_logistic import PixelLogistic
from vaekit.likelihoods import logistic_head
from vaekit.likelihoods.base import Likelihood
from vaekit.likelihoods.options import given, pixel_levels
from vaekit.likelihoods.units import Units, to_float


class Logistic(Likelihood):
    """A logistic density integrated over the bin of each level, with a location and a scale for each value: probabilities of integers.

    The first C parameters are locations, where -1 and 1 are the ends of the range; the other C are log scales in half ranges.

    Args:
        levels: the number of pixel levels.

    Reference: "Improving Variational Inference with Inverse Autoregressive Flow", Kingma et al., 2016, appendix B,
    https://arxiv.org/abs/1606.04934.
    """

    kind: ClassVar[Literal["pmf", "density", "bound", "energy"]] = "pmf"

    def __init__(self, levels: int = 256) -> None:
        super().__init__()
        self.levels = levels
        self.units = Units(levels)

    @classmethod
    def for_data(cls, data: DataSpec, **options: object) -> "Logistic":
        given("logistic", options)
        return cls(pixel_levels("logistic", data))

    def channels(self, image_channels: int) -> int:
        return 2 * image_channels

    def input(self, x: Shaped[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        return self.units.to_unit(x)

    def target(self, x: Shaped[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        return to_float(x)

    def forward(self, params: Float[Tensor, "N P H W"]) -> PixelLogistic:
        loc, log_scale = params.float().chunk(2, 1)
        return PixelLogistic(logistic_head.location(loc, self.levels), logistic_head.log_scale(log_scale, self.levels), self.levels)

    @torch.no_grad()
    def bias(self, x: Shaped[Tensor, "B C H W"]) -> Float[Tensor, "P H W"]:
        """The location of each pixel's mean; log scales of 0."""
        loc = 2 * self.units.to_unit(x).mean(0) - 1
        return torch.cat([loc, torch.zeros_like(loc)])
