"""The continuous Bernoulli density on a range of grey levels."""

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Distribution


class PixelContinuousBernoulli(Distribution):
    """p(u) proportional to exp(l u) for u = x / (levels - 1) in [0,1], as a density over raw values.

    It is an exponential family in the logit l, with log-partition function A(l) = log((exp(l) - 1) / l), so that log p(u) = l u - A(l),
    E[u] = A'(l) and Var[u] = A''(l). In the paper's terms (lambda = sigmoid(l)), log C = log(l / tanh(l/2)). Each of the three has a removable
    singularity at l = 0, where a Taylor series stands in.

    Args:
        logits: [N,C,H,W].
        levels: the number of grey levels.

    Reference: "The continuous Bernoulli: fixing a pervasive error in variational autoencoders", Loaiza-Ganem and Cunningham, 2019, eq. 6 to 8,
    https://arxiv.org/abs/1907.06845.
    """

    arg_constraints: ClassVar[dict[str, Any]] = {}
    has_rsample = True

    def __init__(self, logits: Float[Tensor, "N C H W"], levels: int) -> None:
        super().__init__(logits.shape, validate_args=False)
        self.logits = logits
        self.size = float(levels - 1)

    @property
    def mean(self) -> Float[Tensor, "N C H W"]:
        """A'(l) = 1 / (1 - exp(-l)) - 1 / l, in raw units."""
        small, near, far = _split(self.logits)
        series = 0.5 + near * (1 / 12 + near**2 * (-1 / 720 + near**2 * (1 / 30240 - near**2 / 1209600)))
        upper = -1 / torch.expm1(-far) - 1 / far
        exact = torch.where(self.logits >= 0, upper, 1 - upper)
        return torch.where(small, series, exact) * self.size

    @property
    def mode(self) -> Float[Tensor, "N C H W"]:
        """An end of the range: 0 or levels - 1. At l = 0 all values are equally dense, and the middle is given."""
        return (0.5 + 0.5 * torch.sign(self.logits)) * self.size

    @property
    def variance(self) -> Float[Tensor, "N C H W"]:
        """A''(l) = 1 / l^2 - 1 / (4 sinh(l/2)^2), in squared raw units."""
        small, near, far = _split(self.logits)
        series = 1 / 12 + near**2 * (-1 / 240 + near**2 * (1 / 6048 - near**2 / 172800))
        exact = 1 / far**2 - torch.exp(-far) / torch.expm1(-far) ** 2
        return torch.where(small, series, exact) * self.size**2

    def rsample(self, sample_shape: Sequence[int] = ()) -> Float[Tensor, "... C H W"]:
        """The inverse of the cumulative distribution function at uniform v, u = log(1 + v (exp(l) - 1)) / l, reflected for l < 0."""
        v = torch.rand(self._extended_shape(torch.Size(sample_shape)), dtype=self.logits.dtype, device=self.logits.device)
        small = self.logits.abs() < 0.01
        near = torch.where(small, self.logits, 0.0)
        far = torch.where(small, 1.0, self.logits.abs())
        first_order = v + 0.5 * near * v * (1 - v)
        upper = 1 + torch.log1p(v * torch.expm1(-far)) / far
        exact = torch.where(self.logits >= 0, upper, 1 - upper)
        return torch.where(small, first_order, exact) * self.size

    def log_prob(self, value: Float[Tensor, "... C H W"]) -> Float[Tensor, "... C H W"]:
        """log p(x) = l u - A(l) - log(levels - 1), in nats per value, a density per grey level."""
        return self.logits * (value * (1 / self.size)) - _log_partition(self.logits) - math.log(self.size)


def _split(logits: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    # Each branch gets arguments that are safe for it: a where() alone would let the other branch's infinite gradient through as NaN.
    small = logits.abs() < 1
    return small, torch.where(small, logits, 0.0), torch.where(small, 1.0, logits.abs())


def _log_partition(logits: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """A(l) = l/2 + log(sinh(l/2) / (l/2)) = max(l, 0) + log((1 - exp(-|l|)) / |l|)."""
    small, near, far = _split(logits)
    square = (0.5 * near) ** 2
    series = 0.5 * near + square * (1 / 6 + square * (-1 / 180 + square * (1 / 2835 - square / 37800)))
    exact = torch.relu(logits) + torch.log(-torch.expm1(-far) / far)
    return torch.where(small, series, exact)
