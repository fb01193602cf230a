"""Grey levels as a continuous Bernoulli variable."""

from typing import ClassVar, Literal

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from vaekit.data.spec import DataSpec
from vaekit.distributions.pixel_continuous_bernoulli import PixelContinuousBernoulli
from vaekit.errors import UserError
from vaekit.likelihoods.base import Likelihood
from vaekit.likelihoods.options import alternatives, given, pixel_levels
from vaekit.likelihoods.units import Units, to_float


class ContinuousBernoulli(Likelihood):
    """What the cross-entropy of grey values becomes with its missing normalizing constant: a density on [0, levels - 1], one logit per value.

    Binary pixels are refused: they lie on the ends of the range, where this density grows with the logit without bound (as log |logit|).

    Args:
        levels: the number of grey levels, at least 3.

    Raises:
        UserError: for 2 levels.

    Reference: "The continuous Bernoulli: fixing a pervasive error in variational autoencoders", Loaiza-Ganem and Cunningham, 2019,
    https://arxiv.org/abs/1907.06845.
    """

    kind: ClassVar[Literal["pmf", "density", "bound", "energy"]] = "density"

    def __init__(self, levels: int = 256) -> None:
        super().__init__()
        if levels == 2:
            choice = alternatives(DataSpec("pixels", (1, 1, 1), 2))
            raise UserError(f"continuous-bernoulli is a density inside the range, and pixels that are 0 or 1 lie on its ends: choose {choice}.")
        self.levels = levels
        self.units = Units(levels)

    @classmethod
    def for_data(cls, data: DataSpec, **options: object) -> "ContinuousBernoulli":
        given("continuous-bernoulli", options)
        return cls(pixel_levels("continuous-bernoulli", data))

    def channels(self, image_channels: int) -> int:
        return image_channels

    def input(self, x: Shaped[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        return self.units.to_unit(x)

    def target(self, x: Shaped[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        return to_float(x)

    def forward(self, params: Float[Tensor, "N P H W"]) -> PixelContinuousBernoulli:
        return PixelContinuousBernoulli(params.float(), self.levels)

    @torch.no_grad()
    def bias(self, x: Shaped[Tensor, "B C H W"]) -> Float[Tensor, "P H W"]:
        """The logit whose mean is each pixel's mean (kept within 1 % of the range from its ends), by bisection: the inverse has no closed form."""
        wanted = self.units.to_unit(x).mean(0).clamp(0.01, 0.99) * self.units.size
        low, high = torch.full_like(wanted, -101.0), torch.full_like(wanted, 101.0)
        for _ in range(30):
            middle = 0.5 * (low + high)
            above = PixelContinuousBernoulli(middle[None], self.levels).mean[0] > wanted
            low, high = torch.where(above, low, middle), torch.where(above, middle, high)
        return 0.5 * (low + high)
