"""A posterior of directions."""

from typing import ClassVar

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from vaekit.distributions.von_mises_fisher import VonMisesFisher
from vaekit.errors import UserError
from vaekit.latents.base import Posterior


class VonMisesFisherPosterior(Posterior):
    """q(z|x) = vMF(z; mu(h), kappa(h)) on the unit sphere in R^D: one dense layer to mu, which is normalized, and to kappa = D softplus + 0.01.

    kappa is in units of D, since what a concentration means is kappa / D; it is kept below 10^4.

    Raises `UserError` below two dimensions.

    References: Hyperspherical Variational Auto-Encoders (Davidson et al., 2018), https://arxiv.org/abs/1804.00891

    Args:
        features: F, the width of the encoder's output [N, F].
        latent: D, the dimension of the space that the sphere S^(D-1) lies in.
    """

    support: ClassVar[str] = "sphere"
    gives: ClassVar[frozenset[str]] = frozenset({"density", "stopped", "anywhere", "comparable", "divergence", "vector"})

    def __init__(self, features: int, latent: int) -> None:
        super().__init__()
        if latent < 2:
            raise UserError(f"A sphere lies in 2 dimensions or more, and the latent size is {latent}.")
        self.latent = latent
        self.head = nn.Linear(features, latent + 1)

    @property
    def event_shape(self) -> tuple[int, ...]:
        return (self.latent,)

    def forward(self, h: Float[Tensor, "N F"]) -> VonMisesFisher:  # type: ignore[override]
        direction, concentration = self.head(h).float().split([self.latent, 1], dim=-1)
        kappa = (self.latent * F.softplus(concentration.squeeze(-1)) + 0.01).clamp_max(1e4)
        return VonMisesFisher(F.normalize(direction, dim=-1, eps=1e-6), kappa)
