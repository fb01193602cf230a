"""The uniform prior on the sphere."""

from typing import ClassVar

import torch
from torch import Tensor

from vaekit.distributions.von_mises_fisher import UniformOnSphere
from vaekit.errors import UserError
from vaekit.latents.base import DensityPrior


class UniformSphere(DensityPrior):
    """p(z) = Gamma(D/2) / (2 pi^(D/2)) on the unit sphere in R^D. It has no spread that a temperature could scale.

    References: Hyperspherical Variational Auto-Encoders (Davidson et al., 2018), https://arxiv.org/abs/1804.00891

    Args:
        latent: D.
    """

    support: ClassVar[str] = "sphere"
    zero: Tensor

    def __init__(self, latent: int) -> None:
        super().__init__()
        if latent < 2:
            raise UserError(f"A sphere lies in 2 dimensions or more, and the latent size is {latent}.")
        self.register_buffer("zero", torch.zeros(latent), persistent=False)

    def forward(self, c: Tensor | None = None) -> UniformOnSphere:
        return UniformOnSphere(self.zero)

    def sample(self, n: int, *, c: Tensor | None = None, temperature: float = 1.0) -> Tensor:
        return self().sample((n,))
