"""How much detail an image has: what blur takes away and noise adds."""

from jaxtyping import Float
from torch import Tensor

SMALLEST = 3
"""Pixels on a side that a Laplacian needs."""


def laplacian_variance(x: Float[Tensor, "N C H W"]) -> Float[Tensor, "N"]:
    """The variance of the discrete Laplacian, x_up + x_down + x_left + x_right - 4 x, over the inner pixels of each image, the mean of its channels.

    In squared units of the pixels: only the ratio to the data's is a figure of its own.

    References: Diatom autofocusing in brightfield microscopy: a comparative study (Pech-Pacheco et al., 2000), section 2,
    https://doi.org/10.1109/ICPR.2000.903548
    """
    x = x.double()
    laplacian = x[..., :-2, 1:-1] + x[..., 2:, 1:-1] + x[..., 1:-1, :-2] + x[..., 1:-1, 2:] - 4 * x[..., 1:-1, 1:-1]
    return laplacian.flatten(2).var(2, correction=0).mean(1)
