"""The standard normal prior."""

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent

from vaekit.distributions.kl import UnitNormal
from vaekit.latents.base import DensityPrior


class StandardNormal(DensityPrior):
    """p(z) = N(0, I).

    Args:
        shape: *E, the shape of one code.
    """

    zero: Tensor
    one: Tensor

    def __init__(self, shape: list[int]) -> None:
        super().__init__()
        self.register_buffer("zero", torch.zeros(*shape), persistent=False)
        self.register_buffer("one", torch.ones(*shape), persistent=False)
        self._made: tuple[Tensor, Distribution] | None = None

    def forward(self, c: Tensor | None = None) -> Distribution:
        if self._made is None or self._made[0] is not self.zero:
            p = Independent(UnitNormal(self.zero, self.one, validate_args=False), self.zero.dim(), validate_args=False)
            self._made = self.zero, p
        return self._made[1]

    def sample(self, n: int, *, c: Tensor | None = None, temperature: float = 1.0) -> Tensor:
        return temperature * torch.randn(n, *self.zero.shape, device=self.zero.device)
