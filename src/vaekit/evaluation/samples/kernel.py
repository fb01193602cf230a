"""The kernel distance: unbiased, also for few images."""

import torch
from jaxtyping import Float
from torch import Tensor

from vaekit.errors import UserError

BLOCKS = 10


def kernel_distance(x: Float[Tensor, "N F"], y: Float[Tensor, "N F"], *, blocks: int = BLOCKS) -> tuple[float, float]:
    """The mean over blocks of the unbiased squared maximum mean discrepancy with k(a, b) = (a'b / F + 1)^3, and its standard error.

    Each of the `blocks` disjoint blocks takes N / blocks images of either set, in their order; the standard error is the standard deviation over
    blocks / sqrt(blocks). Its expectation is 0 for two sets of one kind, so that single values may lie below 0, and it does not depend on N.

    Raises `UserError` for fewer than two images in a block.

    References: Demystifying MMD GANs (Binkowski et al., 2018), section 4, https://arxiv.org/abs/1801.01401
    """
    size = min(len(x), len(y)) // blocks
    if size < 2 or blocks < 2:
        raise UserError(f"The kernel distance needs at least {2 * max(blocks, 2)} images on each side, and there are {min(len(x), len(y))}.")
    values = torch.tensor([squared_mmd(x[i * size : (i + 1) * size], y[i * size : (i + 1) * size]) for i in range(blocks)], dtype=torch.float64)
    return values.mean().item(), values.std().item() / blocks**0.5


def squared_mmd(x: Float[Tensor, "N F"], y: Float[Tensor, "M F"]) -> float:
    """sum_{i != j} k(x_i, x_j) / (N (N - 1)) + sum_{i != j} k(y_i, y_j) / (M (M - 1)) - 2 sum_{i, j} k(x_i, y_j) / (N M).

    References: A Kernel Two-Sample Test (Gretton et al., 2012), Eq. 3, https://jmlr.org/papers/v13/gretton12a.html
    """
    x, y = x.double(), y.double()
    n, m = len(x), len(y)
    xx, yy, xy = (_kernel(a, b) for a, b in ((x, x), (y, y), (x, y)))
    return float((xx.sum() - xx.trace()) / (n * (n - 1)) + (yy.sum() - yy.trace()) / (m * (m - 1)) - 2 * xy.mean())


def _kernel(x: Float[Tensor, "N F"], y: Float[Tensor, "M F"]) -> Float[Tensor, "N M"]:
    return (x @ y.T / x.shape[1] + 1) ** 3


__all__ = ["BLOCKS", "kernel_distance", "squared_mmd"]
