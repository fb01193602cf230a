"""Modularity and explicitness."""

import numpy as np

from vaekit.evaluation.disentanglement.information import BINS, information
from vaekit.evaluation.disentanglement.linear import area_under_curve
from vaekit.evaluation.disentanglement.table import Array, table

NOTHING = 1e-12
"""Nats below which rounding is all that a code says."""


def modularity(codes: Array, factors: Array, *, bins: int = BINS) -> float:
    """Modularity, from 0 to 1: does each code say something of one factor alone?

    1 - sum_{k != j} m[d, k]^2 / (m[d, j]^2 (F - 1)) with m = I(z_d; v_k), j = argmax_k m[d, k], the mean over the codes that say anything at all; 0
    where none does. Several codes may tell the same factor.

    Args:
        codes: [N, D], posterior means as a rule.
        factors: [N, F] integers; with a single one every code is modular.
        bins: of each code.

    Raises:
        UserError: see `table`.

    References: Learning Deep Disentangled Embeddings with the F-Statistic Loss (Ridgeway, Mozer, 2018), on modularity and explicitness, https://arxiv.org/abs/1802.05312
    """
    given = table(codes, factors)
    m = information(given, bins)
    m = m[m.max(1) > NOTHING]
    if len(m) == 0:
        return 0.0
    largest = m.max(1) ** 2
    rest = (m**2).sum(1) - largest
    return float((1 - rest / (largest * max(len(given.columns) - 1, 1))).mean())


def explicitness(codes: Array, factors: Array, *, seed: int = 0) -> float:
    """Explicitness, from 0.5 (chance) to 1: can the factors' values be read off the whole code by linear means?

    The area under the ROC curve of a logistic regression that tells one value of a factor from the rest, on held-out images: the mean over the
    values of each factor, and then over factors.

    Args:
        codes: [N, D], posterior means as a rule.
        factors: [N, F] integers.
        seed: of the halves, one to fit on and one to judge on.

    Raises:
        UserError: see `table`.

    References: Learning Deep Disentangled Embeddings with the F-Statistic Loss (Ridgeway, Mozer, 2018), on modularity and explicitness, https://arxiv.org/abs/1802.05312
    """
    given = table(codes, factors)
    fit, test = given.halves(seed)
    areas = [area_under_curve(fit.codes, fit.factors[:, k], test.codes, test.factors[:, k]) for k in range(len(given.columns))]
    return float(np.mean(areas))
