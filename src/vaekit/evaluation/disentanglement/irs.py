"""The interventional robustness score."""

import numpy as np
from jaxtyping import Float

from vaekit.evaluation.disentanglement.table import Array, table


def irs(codes: Array, factors: Array, *, quantile: float = 0.99) -> float:
    """The interventional robustness score, from 0 to 1: does a code stay where it is when all factors but its own change?

    IRS[d, k] = 1 - E_v[ max |z_d - E[z_d | v_k = v]| given v_k = v ] / max |z_d - E z_d|: the largest deviation that other factors cause while
    factor k is held, relative to the largest of all. The score is the mean over codes of max_k IRS[d, k], weighted by their largest deviations, so
    that dead codes do not count; 0 where all are constant.

    Args:
        codes: [N, D], posterior means as a rule.
        factors: [N, F] integers.
        quantile: what stands for the maximum, above and below the line; 1 is the paper's, and depends on the number of images.

    Raises:
        UserError: see `table`.

    References: Robustly Disentangled Causal Mechanisms (Suter et al., 2019), the definition of the IRS, https://arxiv.org/abs/1811.00007
    """
    matrix, weights = robustness(codes, factors, quantile=quantile)
    return float((matrix.max(1) * weights).sum() / weights.sum()) if weights.sum() > 0 else 0.0


def robustness(codes: Array, factors: Array, *, quantile: float = 0.99) -> tuple[Float[np.ndarray, "D F"], Float[np.ndarray, "D"]]:
    """IRS[d, k], and the largest deviation of each code; see `irs`."""
    given = table(codes, factors)
    largest = np.quantile(np.abs(given.codes - given.codes.mean(0)), quantile, axis=0)
    # The mean of equal numbers may differ from them by a rounding.
    largest = np.where(np.ptp(given.codes, axis=0) > 0, largest, 0.0)
    moved = np.zeros((given.codes.shape[1], len(given.columns)))
    for k, size in enumerate(given.sizes):
        for value in range(size):
            here = given.codes[given.factors[:, k] == value]
            moved[:, k] += len(here) / len(given) * np.quantile(np.abs(here - here.mean(0)), quantile, axis=0)
    # With a quantile below 1, the deviations at one value may exceed those of all images together.
    ratio = np.divide(moved, largest[:, None], out=np.ones_like(moved), where=largest[:, None] > 0)
    return np.clip(1 - ratio, 0.0, 1.0), largest
