"""A network's output as the location and the scale of a logistic over raw pixels."""

import math

from jaxtyping import Float
from torch import Tensor

# exp(-7) of half the range of 8 bits, as published: 0.12 of a grey level, where the likeliest level can have 97 %.
_LOG_SMALLEST = -7 + math.log(127.5)
_LOG_LARGEST_OF_HALF_RANGE = 7.0


def location(params: Float[Tensor, "*shape"], levels: int) -> Float[Tensor, "*shape"]:
    """-1 and 1 are the ends of the range, 0 is mid grey, and beyond them the ends become ever more certain. In raw units."""
    return (0.5 * (levels - 1)) * (params + 1)


def log_scale(params: Float[Tensor, "*shape"], levels: int) -> Float[Tensor, "*shape"]:
    """Log of the scale in half ranges, kept above 0.12 of a level (-7 for 8 bits) and below e^7 half ranges. In raw units."""
    log_half_range = math.log(0.5 * (levels - 1))
    return (params + log_half_range).clamp(_LOG_SMALLEST, _LOG_LARGEST_OF_HALF_RANGE + log_half_range)
