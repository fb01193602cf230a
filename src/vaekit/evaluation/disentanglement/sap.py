"""The separated attribute predictability."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int64

from vaekit.evaluation.disentanglement.table import Array, among, gap, table


def sap(codes: Array, factors: Array, *, unordered: Sequence[int] = ()) -> float:
    """The separated attribute predictability, from 0 to 1: how much better does the best single code predict a factor than the second best?

    SAP = mean_k (S[j, k] - max_{d != j} S[d, k]), j = argmax_d S[d, k]. For a factor whose values are numbers S is the share of its variance that a
    line in the code explains, Cov(z_d, v_k)^2 / (Var z_d Var v_k); for an unordered one the balanced accuracy of the best thresholds, so that
    chance, 1/K, is what the second best has: a perfect code of K classes scores 1 - 1/K.

    Args:
        codes: [N, D], posterior means as a rule.
        factors: [N, F] integers; their values are taken as equidistant.
        unordered: columns of the factors whose values are classes.

    Raises:
        UserError: see `table`.

    References: Variational Inference of Disentangled Latent Concepts from Unlabeled Observations (Kumar et al., 2017), section 3,
    https://arxiv.org/abs/1711.00848
    """
    given = table(codes, factors)
    classes = among(unordered, given)
    gaps = []
    for k, size in enumerate(given.sizes):
        factor = given.factors[:, k]
        if k in classes:
            scores, floor = [balanced_accuracy(code, factor) for code in given.codes.T], 1 / size
        else:
            scores, floor = [explained(code, factor) for code in given.codes.T], 0.0
        gaps.append(gap(np.array(scores)[:, None], floor)[0])
    return float(np.mean(gaps))


def explained(code: Float[np.ndarray, "N"], factor: Int64[np.ndarray, "N"]) -> float:
    """The squared correlation; a constant code explains nothing."""
    a, b = code - code.mean(), factor - factor.mean()
    power = (a @ a) * (b @ b)
    return float((a @ b) ** 2 / power) if np.ptp(code) > 0 else 0.0


def balanced_accuracy(code: Float[np.ndarray, "N"], classes: Int64[np.ndarray, "N"]) -> float:
    """The largest mean over K classes of the share that is told rightly, over all K - 1 thresholds on the code and all answers between them.

    Exact, by dynamic programming over the code's values in their order: best[m, c] is the most that is right so far, with answer c in interval m.
    """
    size = int(classes.max()) + 1
    values, place = np.unique(code, return_inverse=True)
    right = np.zeros((len(values), size))
    np.add.at(right, (place.reshape(-1), classes), 1.0)
    right /= right.sum(0) * size
    best = np.full((size, size), -np.inf)
    best[0] = 0.0
    entering = np.full((size, 1), -np.inf)
    for row in right:
        # The first interval is never entered: it begins with the first value.
        entering[1:, 0] = best[:-1].max(1)
        best = np.maximum(best, entering) + row
    return float(best.max())
