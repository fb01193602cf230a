"""A free probability for each level."""

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Distribution


class PixelCategorical(Distribution):
    """P(x = l) = softmax(logits)_l for the levels l = 0 to L - 1, for each value on its own.

    Args:
        logits: [N,L,C,H,W].
    """

    arg_constraints: ClassVar[dict[str, Any]] = {}

    def __init__(self, logits: Float[Tensor, "N L C H W"]) -> None:
        super().__init__(logits.shape[:1] + logits.shape[2:], validate_args=False)
        self.logits = logits

    @property
    def mean(self) -> Float[Tensor, "N C H W"]:
        return self._expectation(self._levels)

    @property
    def mode(self) -> Float[Tensor, "N C H W"]:
        return self.logits.argmax(1).float()

    @property
    def variance(self) -> Float[Tensor, "N C H W"]:
        return self._expectation((self._levels - self.mean.unsqueeze(1)) ** 2)

    def sample(self, sample_shape: Sequence[int] = ()) -> Float[Tensor, "... C H W"]:
        with torch.no_grad():
            shape = torch.Size(sample_shape) + self.logits.shape
            # The largest of p / Exp(1) is a draw from p.
            race = torch.empty(shape, dtype=self.logits.dtype, device=self.logits.device).exponential_()
            return (torch.softmax(self.logits, 1) / race).argmax(-4).float()

    def log_prob(self, value: Float[Tensor, "N C H W"]) -> Float[Tensor, "N C H W"]:
        """log P(x), in nats per value."""
        return -F.cross_entropy(self.logits, value.long(), reduction="none")

    @property
    def _levels(self) -> Tensor:
        return torch.arange(self.logits.shape[1], dtype=self.logits.dtype, device=self.logits.device).view(-1, 1, 1, 1)

    def _expectation(self, of: Tensor) -> Tensor:
        return (torch.softmax(self.logits, 1) * of).sum(1)
