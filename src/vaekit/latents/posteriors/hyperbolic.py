"""A posterior in hyperbolic space."""

from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from vaekit.distributions.hyperbolic import WrappedNormal, from_origin
from vaekit.errors import UserError
from vaekit.latents.posteriors.dense import DensePosterior

REACH = 5.0
"""How far from the origin a mean may be: further out, float32 cannot tell points of the ball apart."""

MOST = 32
"""Dimensions: in twice as many, one draw in twenty-five is so far out that float32 cannot hold it, and its density is that of another point."""


class HyperbolicPosterior(DensePosterior):
    """q(z|x): a wrapped normal in the Poincare ball of D dimensions and curvature -1, with one dense layer to its mean and log-scale.

    The mean is at the distance 5 tanh(|t| / 5) from the origin in the direction of t(h); the log-scale is kept within [-7, 0.5].

    References: Continuous Hierarchical Representations with Poincare Variational Auto-Encoders (Mathieu et al., 2019),
    https://arxiv.org/abs/1901.06033

    Raises `UserError` for more than 32 dimensions.

    Args:
        features: F, the width of the encoder's output [N, F].
        latent: D, the number of latent dimensions.
    """

    support: ClassVar[str] = "ball"
    gives: ClassVar[frozenset[str]] = frozenset({"density", "stopped", "anywhere", "divergence", "vector"})

    def __init__(self, features: int, latent: int) -> None:
        if latent > MOST:
            raise UserError(f"Codes in a hyperbolic ball have at most {MOST} dimensions, and not {latent}: in more, draws lie at its very edge.")
        super().__init__(features, latent)

    def forward(self, h: Float[Tensor, "N F"]) -> WrappedNormal:  # type: ignore[override]
        tangent, log_scale = self.two(h)
        length = torch.linalg.vector_norm(tangent, dim=-1, keepdim=True).clamp_min(1e-6)
        return WrappedNormal(from_origin(tangent / length * (REACH * torch.tanh(length / REACH))), log_scale.clamp(-7, 0.5).exp())
