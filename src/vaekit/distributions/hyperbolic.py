"""Normal variables in hyperbolic space, as points of the Poincare ball |z| < 1 of curvature -1. Densities are per unit of hyperbolic volume."""

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Distribution

from vaekit.distributions.precision import double

_LEAST = 1e-6
_MOST = 1 - 1e-6


def mobius_add(x: Float[Tensor, "*#shape"], y: Float[Tensor, "*#shape"]) -> Float[Tensor, "..."]:
    """x + y of the ball: y moved by the isometry that takes 0 to x.

    References: Hyperbolic Neural Networks (Ganea et al., 2018), Eq. 4, https://arxiv.org/abs/1805.09112
    """
    xy, xx, yy = (x * y).sum(-1, keepdim=True), x.square().sum(-1, keepdim=True), y.square().sum(-1, keepdim=True)
    return ((1 + 2 * xy + yy) * x + (1 - xx) * y) / (1 + 2 * xy + xx * yy)


def from_origin(s: Float[Tensor, "... D"]) -> Float[Tensor, "... D"]:
    """The point at distance |s| from 0 in the direction of s: tanh(|s| / 2) s / |s|."""
    r = torch.linalg.vector_norm(s, dim=-1, keepdim=True).clamp_min(_LEAST)
    return torch.tanh(0.5 * r) / r * s


class WrappedNormal(Distribution):
    """z = mu + exp_0(s) with s ~ N(0, diag scale^2) in the tangent space at 0, + the addition of the ball (an isometry).

        log q(z) = log N(s; 0, diag scale^2) - (D - 1) log(sinh r / r),  r = |s| the distance from mu to z.

    `mean` is mu: the density is the same in opposite directions from it, so that it is the Frechet mean.

    Args:
        mu: [*N,D], within the ball.
        scale: [*N,D], in units of hyperbolic distance.

    References:
        A Wrapped Normal Distribution on Hyperbolic Space (Nagano et al., 2019), algorithm 1 and Eq. 12, https://arxiv.org/abs/1902.02992
        Continuous Hierarchical Representations with Poincare Variational Auto-Encoders (Mathieu et al., 2019), Eq. 5, https://arxiv.org/abs/1901.06033
    """

    arg_constraints: ClassVar[dict[str, Any]] = {}
    has_rsample = True

    def __init__(self, mu: Float[Tensor, "*N D"], scale: Float[Tensor, "*N D"]) -> None:
        super().__init__(mu.shape[:-1], mu.shape[-1:], validate_args=False)
        self.mu, self.scale = mu, scale

    @property
    def mean(self) -> Float[Tensor, "*N D"]:
        return self.mu

    def rsample(self, sample_shape: Sequence[int] = ()) -> Float[Tensor, "... D"]:
        noise = torch.randn(self._extended_shape(torch.Size(sample_shape)), dtype=self.mu.dtype, device=self.mu.device)
        z = mobius_add(double(self.mu), from_origin(double(self.scale * noise)))
        # Beyond float32 there is nothing between a point and the edge of the ball.
        norm = torch.linalg.vector_norm(z, dim=-1, keepdim=True).clamp_min(_LEAST)
        return torch.where(norm > _MOST, z * (_MOST / norm), z).to(self.mu)

    def log_prob(self, value: Float[Tensor, "... D"]) -> Float[Tensor, "..."]:
        y = mobius_add(-double(self.mu), double(value))
        norm = torch.linalg.vector_norm(y, dim=-1).clamp(_LEAST, 1 - 1e-12)
        r = 2 * torch.atanh(norm)
        s = y * (r / norm).unsqueeze(-1)
        flat = -0.5 * (s / self.scale).square() - self.scale.log() - 0.5 * math.log(2 * math.pi)
        # log(sinh r / r) = r + log((1 - exp(-2 r)) / (2 r))
        spread = r + (-torch.expm1(-2 * r) / (2 * r)).log()
        return (flat.sum(-1) - (value.shape[-1] - 1) * spread).to(self.mu)

    def stopped(self) -> "WrappedNormal":
        """The same with its parameters detached."""
        return WrappedNormal(self.mu.detach(), self.scale.detach())
