"""The discretized logistic distribution, for each value on its own."""

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Distribution

from vaekit.distributions import discretized_logistic as logistic


class PixelLogistic(Distribution):
    """Probabilities of the levels 0 to levels - 1: a logistic density integrated over each level's bin (see `discretized_logistic`).

    Args:
        loc: [N,C,H,W], raw units.
        log_scale: [N,C,H,W], raw units.
        levels: the number of levels.
    """

    arg_constraints: ClassVar[dict[str, Any]] = {}

    def __init__(self, loc: Float[Tensor, "N C H W"], log_scale: Float[Tensor, "N C H W"], levels: int) -> None:
        super().__init__(loc.shape, validate_args=False)
        self.loc = loc
        self.log_scale = log_scale
        self.levels = levels

    @property
    def mean(self) -> Float[Tensor, "N C H W"]:
        """The mean but for the rounding to levels: see `clipped_mean` for how near that is."""
        return logistic.clipped_mean(self.loc, self.log_scale, self.levels)

    @property
    def mode(self) -> Float[Tensor, "N C H W"]:
        """The likeliest level: the rounded location, unless the open bin at an end holds more."""
        best = logistic.rounded(self.loc, self.levels)
        log_best = self.log_prob(best)
        for end in (0.0, self.levels - 1.0):
            other = torch.full_like(best, end)
            log_other = self.log_prob(other)
            better = log_other > log_best
            best, log_best = torch.where(better, other, best), torch.where(better, log_other, log_best)
        return best

    def sample(self, sample_shape: Sequence[int] = ()) -> Float[Tensor, "... C H W"]:
        with torch.no_grad():
            shape = self._extended_shape(torch.Size(sample_shape))
            return logistic.draw(self.loc.expand(shape), self.log_scale.expand(shape), self.levels)

    def log_prob(self, value: Float[Tensor, "... C H W"]) -> Float[Tensor, "... C H W"]:
        """log P(x), in nats per value."""
        return logistic.log_probability(value, self.loc, self.log_scale, self.levels)
