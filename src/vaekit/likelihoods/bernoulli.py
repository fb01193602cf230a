"""Binary pixels."""

from typing import ClassVar, Literal

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from vaekit.data.spec import DataSpec
from vaekit.distributions.pixel_bernoulli import PixelBernoulli
from vaekit.errors import UserError
from vaekit.likelihoods.base import Likelihood
from vaekit.likelihoods.options import alternatives, given, values_of
from vaekit.likelihoods.units import to_float


class Bernoulli(Likelihood):
    """P(x = 1) = sigmoid(params): pixels that are 0 or 1, and nothing else.

    The cross-entropy of a grey value is not a log-probability, so other data is refused.
    """

    kind: ClassVar[Literal["pmf", "density", "bound", "energy"]] = "pmf"

    def __init__(self) -> None:
        super().__init__()

    @classmethod
    def for_data(cls, data: DataSpec, **options: object) -> "Bernoulli":
        given("bernoulli", options)
        if data.levels != 2:
            draw = "" if data.levels is None else "draw bits with --binarize, or "
            raise UserError(f"Bernoulli scores pixels that are 0 or 1, and {values_of(data)}: {draw}choose {alternatives(data)}.")
        return cls()

    def channels(self, image_channels: int) -> int:
        return image_channels

    def input(self, x: Shaped[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        return to_float(x)

    def target(self, x: Shaped[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        return to_float(x)

    def forward(self, params: Float[Tensor, "N P H W"]) -> PixelBernoulli:
        return PixelBernoulli(params.float())

    @torch.no_grad()
    def bias(self, x: Shaped[Tensor, "B C H W"]) -> Float[Tensor, "P H W"]:
        """The logit of each pixel's mean, which is kept within [0.01, 0.99]."""
        return torch.logit(x.float().mean(0).clamp(0.01, 0.99))
