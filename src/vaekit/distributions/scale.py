"""Standard deviations from what networks give."""

from jaxtyping import Float
from torch import Tensor

LIMIT = 14.0
"""Log-variances are kept within +-14: beyond, float32 has nothing left to tell."""


def deviation(log_variance: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """exp(v / 2), the log-variance v kept within [-14, 14]; there is no gradient beyond."""
    return (0.5 * log_variance.clamp(-LIMIT, LIMIT)).exp()
