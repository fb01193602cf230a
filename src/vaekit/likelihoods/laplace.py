"""Laplace noise."""

import math
from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

import torch
from jaxtyping import Float, Shaped
from torch import Tensor
from torch.distributions import Distribution

from vaekit.data.spec import DataSpec
from vaekit.distributions.pixel_laplace import PixelLaplace
from vaekit.errors import UserError
from vaekit.likelihoods.base import Likelihood
from vaekit.likelihoods.noise import NoiseScale
from vaekit.likelihoods.options import given
from vaekit.likelihoods.units import Units, noise_arguments, to_float


class Laplace(Likelihood):
    """x = location + noise: p(x|z) = Laplace(location(params), b), a density per raw unit. Its distortion is an absolute error.

    Location, lower bound of the scale and units are those of `Gaussian`; the density of a pixel is at most 2 (0.7 nats).

    Args:
        scale: b in unit range (the standard deviation is sqrt(2) b), "learned", "learned-per-channel" or "optimal" (see `NoiseScale`).
        channels: the number of image channels.
        levels: the number of pixel levels; None for floats.
        mean, std: one figure per channel in raw units, for floats.
    """

    kind: ClassVar[Literal["pmf", "density", "bound", "energy"]] = "density"

    def __init__(
        self,
        scale: float | int | str = "learned",
        channels: int = 1,
        levels: int | None = 256,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        self.units = Units(levels, mean, std)
        self.noise = NoiseScale(scale, channels, power=1, **self.units.noise_range())

    @classmethod
    def for_data(cls, data: DataSpec, **options: object) -> "Laplace":
        """As for all; `sigma`, the standard deviation, may be given in place of `scale`, so that one option serves each kind of noise."""
        chosen = given("laplace", options, ("sigma", "scale"))
        if len(chosen) > 1:
            raise UserError("Give the width of laplace noise once: sigma, its standard deviation, or scale, which is sigma / sqrt(2).")
        sigma = chosen.pop("sigma", None)
        if sigma is not None:
            chosen["scale"] = sigma / math.sqrt(2) if isinstance(sigma, (int, float)) else sigma
        return cls(**chosen, **noise_arguments(data))

    def channels(self, image_channels: int) -> int:
        return image_channels

    def input(self, x: Shaped[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        return self.units.to_unit(x)

    def target(self, x: Shaped[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        return to_float(x)

    def forward(self, params: Float[Tensor, "N P H W"]) -> PixelLaplace:
        return PixelLaplace(self.units.location(params.float()), self.noise() + self.units.log_width())

    @torch.no_grad()
    def bias(self, x: Shaped[Tensor, "B C H W"]) -> Float[Tensor, "P H W"]:
        """The location of each pixel's mean."""
        return self.units.bias(x)

    def initialize(self, x: Shaped[Tensor, "B C H W"]) -> None:
        """A scale that is not fixed starts from the mean absolute deviation of the batch."""
        self.noise.initialize(self.units.to_unit(x))

    def stats(self, px: Distribution, target: Float[Tensor, "N C H W"], mask: Tensor | None = None) -> Mapping[str, Tensor]:
        """The mean absolute error in unit range, for an optimal scale."""
        return self.noise.stats((target - px.mean.detach()) / self.units.width(), mask) if self.noise.mode == "optimal" else {}

    def post_step(self, stats: Mapping[str, Tensor]) -> None:
        self.noise.post_step(stats)
