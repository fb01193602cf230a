"""The standard Laplace prior."""

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent

from vaekit.distributions.laplace_kl import UnitLaplace
from vaekit.latents.base import DensityPrior


class StandardLaplace(DensityPrior):
    """p(z) = prod_j exp(-|z_j|) / 2. It is not invariant to rotations, which ties the dimensions of the code to axes.

    Args:
        shape: *E, the shape of one code.
    """

    zero: Tensor
    one: Tensor

    def __init__(self, shape: list[int]) -> None:
        super().__init__()
        self.register_buffer("zero", torch.zeros(*shape), persistent=False)
        self.register_buffer("one", torch.ones(*shape), persistent=False)

    def forward(self, c: Tensor | None = None) -> Distribution:
        return Independent(UnitLaplace(self.zero, self.one, validate_args=False), self.zero.dim(), validate_args=False)

    def sample(self, n: int, *, c: Tensor | None = None, temperature: float = 1.0) -> Tensor:
        return temperature * self().sample((n,))
