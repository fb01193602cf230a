"""Gaussian noise."""

from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

import torch
from jaxtyping import Float, Shaped
from torch import Tensor
from torch.distributions import Distribution

from vaekit.data.spec import DataSpec
from vaekit.distributions.pixel_gaussian import PixelGaussian
from vaekit.likelihoods.base import Likelihood
from vaekit.likelihoods.noise import NoiseScale
from vaekit.likelihoods.options import given
from vaekit.likelihoods.units import Units, noise_arguments, to_float


class Gaussian(Likelihood):
    """x = location + sigma * noise: p(x|z) = N(location(params), sigma^2), a density per raw unit (for 8-bit pixels, per grey level).

    The location is (levels - 1) sigmoid(params) for pixels, mean + std params for floats. Sigma is learned unless it is said otherwise: a fixed
    sigma of 1 on a range of [0,1], the plain squared error, lets the KL term win and blurs the pictures.

    Sigma (but a fixed one) has a lower bound: a quarter of a grey level for pixels, a thousandth of the channel's standard deviation for floats.
    With it the density of a pixel is at most 1.6, so that its logarithm exceeds 0, which is the bound of a probability, by at most 0.47 nats.

    Args:
        sigma: a number in unit range (1 is the whole range of the pixels, or one standard deviation of floats), "learned",
            "learned-per-channel" or "optimal" (see `NoiseScale`).
        channels: the number of image channels.
        levels: the number of pixel levels; None for floats.
        mean, std: one figure per channel in raw units, for floats.
    """

    kind: ClassVar[Literal["pmf", "density", "bound", "energy"]] = "density"

    def __init__(
        self,
        sigma: float | int | str = "learned",
        channels: int = 1,
        levels: int | None = 256,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        self.units = Units(levels, mean, std)
        self.noise = NoiseScale(sigma, channels, power=2, **self.units.noise_range())

    @classmethod
    def for_data(cls, data: DataSpec, **options: object) -> "Gaussian":
        chosen = given("gaussian", options, ("sigma",))
        return cls(**chosen, **noise_arguments(data))

    def channels(self, image_channels: int) -> int:
        return image_channels

    def input(self, x: Shaped[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        return self.units.to_unit(x)

    def target(self, x: Shaped[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        return to_float(x)

    def forward(self, params: Float[Tensor, "N P H W"]) -> PixelGaussian:
        if self.units.levels is None:
            return PixelGaussian(self.units.location(params.float()), self.noise() + self.units.log_width())
        return PixelGaussian.of_logits(params.float(), self.units.size, self.noise())

    @torch.no_grad()
    def bias(self, x: Shaped[Tensor, "B C H W"]) -> Float[Tensor, "P H W"]:
        """The location of each pixel's mean."""
        return self.units.bias(x)

    def initialize(self, x: Shaped[Tensor, "B C H W"]) -> None:
        """A sigma that is not fixed starts from the standard deviation of the batch."""
        self.noise.initialize(self.units.to_unit(x))

    def stats(self, px: Distribution, target: Float[Tensor, "N C H W"], mask: Tensor | None = None) -> Mapping[str, Tensor]:
        """The mean squared error in unit range, for an optimal sigma."""
        return self.noise.stats((target - px.mean.detach()) / self.units.width(), mask) if self.noise.mode == "optimal" else {}

    def post_step(self, stats: Mapping[str, Tensor]) -> None:
        self.noise.post_step(stats)
