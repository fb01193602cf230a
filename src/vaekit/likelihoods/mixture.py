"""Mixtures of discretized logistics, with the channels of a pixel joint."""

from typing import ClassVar, Literal

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from vaekit.data.spec import DataSpec
from vaekit.distributions.pixel_logistic_mixture import PixelLogisticMixture
from vaekit.errors import UserError
from vaekit.likelihoods import logistic_head
from vaekit.likelihoods.base import Likelihood
from vaekit.likelihoods.options import given, pixel_levels
from vaekit.likelihoods.units import Units, to_float


class Mixture(Likelihood):
    """K discretized logistics over a whole pixel, in which a channel's location shifts with the true values of the channels before it.

    The parameters are, for each component in turn: a weight's logit, C locations (-1 and 1 are the ends of the range), C log scales in half
    ranges, and C(C-1)/2 coefficients, of which the tanh is taken. P = K (1 + 2C + C(C-1)/2).

    Args:
        components: K.
        channels: C, the number of image channels.
        levels: the number of pixel levels.

    Raises:
        UserError: if there is not at least one component.

    Reference: "PixelCNN++: Improving the PixelCNN with Discretized Logistic Mixture Likelihood and Other Modifications", Salimans et al., 2017,
    https://arxiv.org/abs/1701.05517.
    """

    kind: ClassVar[Literal["pmf", "density", "bound", "energy"]] = "pmf"
    joint: ClassVar[bool] = True

    def __init__(self, components: int = 5, channels: int = 1, levels: int = 256) -> None:
        super().__init__()
        if components < 1:
            raise UserError(f"A mixture has at least one component, and not {components}.")
        self.components = components
        self.image_channels = channels
        self.levels = levels
        self.units = Units(levels)

    @classmethod
    def for_data(cls, data: DataSpec, **options: object) -> "Mixture":
        chosen = given("mixture", options, ("components",))
        return cls(**chosen, channels=data.shape[0], levels=pixel_levels("mixture", data))

    def channels(self, image_channels: int) -> int:
        """Raises `UserError` for images of another number of channels than this mixture was made for."""
        if image_channels != self.image_channels:
            raise UserError(f"This mixture is over pixels of {self.image_channels} channels, and these images have {image_channels}.")
        return self.components * sum(self._sizes)

    @property
    def _sizes(self) -> tuple[int, int, int, int]:
        c = self.image_channels
        return 1, c, c, c * (c - 1) // 2

    def input(self, x: Shaped[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        return self.units.to_unit(x)

    def target(self, x: Shaped[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        return to_float(x)

    def forward(self, params: Float[Tensor, "N P H W"]) -> PixelLogisticMixture:
        n, _, height, width = params.shape
        parts = params.float().reshape(n, self.components, sum(self._sizes), height, width)
        logits, loc, log_scale, coefficients = parts.split(self._sizes, 2)
        return PixelLogisticMixture(
            logits.squeeze(2),
            logistic_head.location(loc, self.levels),
            logistic_head.log_scale(log_scale, self.levels),
            torch.tanh(coefficients),
            self.levels,
        )

    @torch.no_grad()
    def bias(self, x: Shaped[Tensor, "B C H W"]) -> Float[Tensor, "P H W"]:
        """Locations spread evenly from one standard deviation below each pixel's mean to one above; zero elsewhere.

        Components that start alike get the same gradient, and would stay alike under an output layer that starts at zero.
        """
        values = 2 * self.units.to_unit(x) - 1
        mean, std = values.mean(0), values.std(0, unbiased=False)
        spread = torch.linspace(-1, 1, self.components, device=x.device) if self.components > 1 else torch.zeros(1, device=x.device)
        start = mean.new_zeros(self.components, sum(self._sizes), *mean.shape[1:])
        start[:, 1 : 1 + self.image_channels] = mean + spread.view(-1, 1, 1, 1) * std
        return start.flatten(0, 1)
