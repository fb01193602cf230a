"""How much detail an image has: what blur takes away and noise adds."""

import math

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

SMALLEST = 3
"""Pixels on a side that a Laplacian needs."""


def laplacian_variance(x: Float[Tensor, "N C H W"], mask: Bool[Tensor, "N C H W"] | None = None) -> Float[Tensor, "N"]:
    """The variance of the discrete Laplacian, x_up + x_down + x_left + x_right - 4 x, over the inner pixels of each image, the mean of its channels.

    In squared units of the pixels: only the ratio to the data's is a figure of its own. With a mask it is over the pixels that are observed with all
    four neighbours; nan for an image in which there are fewer than two in some channel.

    References: Diatom autofocusing in brightfield microscopy: a comparative study (Pech-Pacheco et al., 2000), section 2,
    https://doi.org/10.1109/ICPR.2000.903548
    """
    up, down, left, right, here = _cross(x.double())
    laplacian = (up + down + left + right - 4 * here).flatten(2)
    if mask is None:
        return laplacian.var(2, correction=0).mean(1)
    seen = torch.stack(_cross(mask)).all(0).flatten(2).double()
    count = seen.sum(2, keepdim=True)
    mean = (seen * laplacian).sum(2, keepdim=True) / count
    variance = (seen * (laplacian - mean).square()).sum(2) / count[:, :, 0]
    return torch.where(count[:, :, 0] < 2, math.nan, variance).mean(1)


def _cross(x: Shaped[Tensor, "N C H W"]) -> list[Shaped[Tensor, "N C h w"]]:
    """The pixels above, below, left and right of each inner pixel, and itself."""
    return [x[..., :-2, 1:-1], x[..., 2:, 1:-1], x[..., 1:-1, :-2], x[..., 1:-1, 2:], x[..., 1:-1, 1:-1]]
