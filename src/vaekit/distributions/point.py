"""A point: what an autoencoder without noise has for a posterior."""

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.distributions import Distribution


class Point(Distribution):
    """All mass at `loc` [N, *E]. It has no density: `log_prob` is 0 by convention, and a model with it has no ELBO."""

    arg_constraints: ClassVar[dict[str, Any]] = {}
    has_rsample = True

    def __init__(self, loc: Tensor) -> None:
        super().__init__(loc.shape[:1], loc.shape[1:], validate_args=False)
        self.loc = loc

    @property
    def mean(self) -> Tensor:
        return self.loc

    @property
    def variance(self) -> Tensor:
        return torch.zeros_like(self.loc)

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        return self.loc.expand(*sample_shape, *self.loc.shape)

    def log_prob(self, value: Tensor) -> Tensor:
        return value.new_zeros(value.shape[: value.dim() - len(self.event_shape)])
