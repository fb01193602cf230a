"""Entropy and mutual information of counts, in nats: the same numbers whatever the versions of other libraries."""

import numpy as np
from jaxtyping import Float, Int, Int64

from vaekit.evaluation.disentanglement.table import Table

BINS = 20
"""Of equal width for each code, as in the studies whose figures are compared."""


def entropy(counts: Int[np.ndarray, "..."]) -> float:
    """H = -sum p log p in nats, of the frequencies p = counts / sum; 0 log 0 is 0."""
    p = counts[counts > 0] / counts.sum()
    return float(-(p * np.log(p)).sum())


def mutual_information(a: Int[np.ndarray, "N"], b: Int[np.ndarray, "N"]) -> float:
    """I(a; b) = H(a) + H(b) - H(a, b) in nats, of two columns of numbers from 0 on; never below 0."""
    joint = np.bincount(a * (int(b.max()) + 1) + b, minlength=(int(a.max()) + 1) * (int(b.max()) + 1)).reshape(int(a.max()) + 1, -1)
    return max(0.0, entropy(joint.sum(1)) + entropy(joint.sum(0)) - entropy(joint))


def binned(codes: Float[np.ndarray, "N D"], bins: int = BINS) -> Int64[np.ndarray, "N D"]:
    """The bin of each value, 0 .. bins - 1: equal widths between the least and the largest value of its code. A constant code has one bin."""
    low, width = codes.min(0), np.ptp(codes, axis=0)
    place = (codes - low) / np.where(width > 0, width, 1.0) * bins
    return np.minimum(place.astype(np.int64), bins - 1)


def information(table: Table, bins: int = BINS) -> Float[np.ndarray, "D F"]:
    """I(z_d; v_k) in nats of each binned code with each factor."""
    codes = binned(table.codes, bins)
    return np.array([[mutual_information(code, factor) for factor in table.factors.T] for code in codes.T])
