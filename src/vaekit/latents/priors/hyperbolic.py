"""The standard normal prior of hyperbolic space."""

from typing import ClassVar

import torch
from torch import Tensor

from vaekit.distributions.hyperbolic import WrappedNormal
from vaekit.latents.base import DensityPrior


class HyperbolicNormal(DensityPrior):
    """p(z): the wrapped normal at the origin of the Poincare ball, of scale 1. Most of its volume is far out, where there is room for branches.

    References: Continuous Hierarchical Representations with Poincare Variational Auto-Encoders (Mathieu et al., 2019),
    https://arxiv.org/abs/1901.06033

    Args:
        latent: D.
    """

    support: ClassVar[str] = "ball"
    zero: Tensor
    one: Tensor

    def __init__(self, latent: int) -> None:
        super().__init__()
        self.register_buffer("zero", torch.zeros(latent), persistent=False)
        self.register_buffer("one", torch.ones(latent), persistent=False)

    def forward(self, c: Tensor | None = None) -> WrappedNormal:
        return WrappedNormal(self.zero, self.one)

    def sample(self, n: int, *, c: Tensor | None = None, temperature: float = 1.0) -> Tensor:
        return WrappedNormal(self.zero, temperature * self.one).sample((n,))
