"""Pixels that are 0 or 1."""

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Distribution


class PixelBernoulli(Distribution):
    """P(x = 1) = sigmoid(logits), for each value on its own.

    Args:
        logits: [N,C,H,W].
    """

    arg_constraints: ClassVar[dict[str, Any]] = {}

    def __init__(self, logits: Float[Tensor, "N C H W"]) -> None:
        super().__init__(logits.shape, validate_args=False)
        self.logits = logits

    @property
    def mean(self) -> Float[Tensor, "N C H W"]:
        return torch.sigmoid(self.logits)

    @property
    def mode(self) -> Float[Tensor, "N C H W"]:
        return (self.logits >= 0).float()

    @property
    def variance(self) -> Float[Tensor, "N C H W"]:
        p = self.mean
        return p * (1 - p)

    def sample(self, sample_shape: Sequence[int] = ()) -> Float[Tensor, "... C H W"]:
        with torch.no_grad():
            return torch.bernoulli(self.mean.expand(self._extended_shape(torch.Size(sample_shape))))

    def log_prob(self, value: Float[Tensor, "... C H W"]) -> Float[Tensor, "... C H W"]:
        """log P(x) = x * logits - softplus(logits), in nats per value; stable for any logit."""
        logits, value = torch.broadcast_tensors(self.logits, value)
        return -F.binary_cross_entropy_with_logits(logits, value, reduction="none")
