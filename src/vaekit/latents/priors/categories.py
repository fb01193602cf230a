"""The uniform prior of categorical codes."""

from typing import ClassVar

import torch
from torch import Tensor

from vaekit.distributions.relaxed_categorical import OneHots
from vaekit.latents.base import DensityPrior


class UniformCategories(DensityPrior):
    """P(z) = K^-V for V variables of K classes. It has no spread that a temperature could scale.

    References: Categorical Reparameterization with Gumbel-Softmax (Jang et al., 2016), section 4.2, https://arxiv.org/abs/1611.01144

    Args:
        variables: V.
        classes: K.
    """

    support: ClassVar[str] = "categories"
    zero: Tensor

    def __init__(self, variables: int, classes: int) -> None:
        super().__init__()
        self.variables, self.classes = variables, classes
        self.register_buffer("zero", torch.zeros(variables, classes), persistent=False)

    def forward(self, c: Tensor | None = None) -> OneHots:
        return OneHots(self.zero)

    def sample(self, n: int, *, c: Tensor | None = None, temperature: float = 1.0) -> Tensor:
        return self().sample((n,))
