"""A free probability for each level of each value."""

import math
from typing import ClassVar, Literal

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from vaekit.data.spec import DataSpec
from vaekit.distributions.pixel_categorical import PixelCategorical
from vaekit.errors import UserError
from vaekit.likelihoods.base import Likelihood
from vaekit.likelihoods.options import alternatives, given, pixel_levels
from vaekit.likelihoods.units import Units, to_float

_MOST = 256


class Categorical(Likelihood):
    """P(x = l) = softmax(params)_l: any distribution over the levels, at the price of P = levels * C parameters per pixel, level by level.

    Args:
        levels: the number of pixel levels, at most 256.

    Raises:
        UserError: for more levels.
    """

    kind: ClassVar[Literal["pmf", "density", "bound", "energy"]] = "pmf"

    def __init__(self, levels: int = 256) -> None:
        super().__init__()
        if levels > _MOST:
            choice = alternatives(DataSpec("pixels", (1, 1, 1), levels))
            raise UserError(f"categorical has a parameter for each level, at most {_MOST}, and these have {levels}: choose {choice}.")
        self.levels = levels
        self.units = Units(levels)

    @classmethod
    def for_data(cls, data: DataSpec, **options: object) -> "Categorical":
        given("categorical", options)
        return cls(pixel_levels("categorical", data))

    def channels(self, image_channels: int) -> int:
        return image_channels * self.levels

    def input(self, x: Shaped[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        return self.units.to_unit(x)

    def target(self, x: Shaped[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        return to_float(x)

    def forward(self, params: Float[Tensor, "N P H W"]) -> PixelCategorical:
        return PixelCategorical(params.float().unflatten(1, (self.levels, -1)))

    @torch.no_grad()
    def bias(self, x: Shaped[Tensor, "B C H W"]) -> Float[Tensor, "P H W"]:
        """Log frequencies of the levels at each pixel, to which those of the whole channel count as one more image: a batch has few images."""
        places = math.prod(x.shape[1:])
        cells = x.long().flatten(1) * places + torch.arange(places, device=x.device)
        counts = torch.bincount(cells.flatten(), minlength=self.levels * places).view(self.levels, *x.shape[1:]).float()
        channel = (counts + 1 / self.levels).mean((2, 3), keepdim=True)
        return torch.log((counts + channel / channel.sum(0, keepdim=True)) / (x.shape[0] + 1)).flatten(0, 1)
