"""Laplace noise on raw values."""

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Distribution

_LOG_TWO = math.log(2)


class PixelLaplace(Distribution):
    """Laplace(loc, b = exp(log_scale)) over raw values, with one scale for all values or one for each channel.

    Its support is the whole line: a draw of 8-bit pixels may lie outside 0 to 255.

    Args:
        loc: [N,C,H,W], raw units.
        log_scale: [1,1,1] or [C,1,1], the log of b in raw units; the standard deviation is sqrt(2) b.
    """

    arg_constraints: ClassVar[dict[str, Any]] = {}
    has_rsample = True

    def __init__(self, loc: Float[Tensor, "N C H W"], log_scale: Float[Tensor, "#C 1 1"]) -> None:
        super().__init__(loc.shape, validate_args=False)
        self.loc = loc
        self.log_scale = log_scale

    @property
    def mean(self) -> Float[Tensor, "N C H W"]:
        return self.loc

    @property
    def mode(self) -> Float[Tensor, "N C H W"]:
        return self.loc

    @property
    def stddev(self) -> Float[Tensor, "N C H W"]:
        return (math.sqrt(2) * self.log_scale.exp()).expand_as(self.loc)

    @property
    def variance(self) -> Float[Tensor, "N C H W"]:
        return self.stddev.square()

    def rsample(self, sample_shape: Sequence[int] = ()) -> Float[Tensor, "... C H W"]:
        # The difference of two unit exponentials has a unit Laplace distribution, and no logarithm of zero.
        noise = torch.empty((2, *self._extended_shape(torch.Size(sample_shape))), dtype=self.loc.dtype, device=self.loc.device).exponential_()
        return self.loc + self.log_scale.exp() * (noise[0] - noise[1])

    def log_prob(self, value: Float[Tensor, "... C H W"]) -> Float[Tensor, "... C H W"]:
        """log p(x) = -|x - loc| / b - log(2 b), in nats per value, a density per raw unit."""
        loc, value = torch.broadcast_tensors(self.loc, value)
        error = F.l1_loss(loc, value, reduction="none")
        return error * -torch.exp(-self.log_scale) + (-_LOG_TWO - self.log_scale)
