"""Disentanglement, completeness and informativeness."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Float

from vaekit.errors import UserError
from vaekit.evaluation.disentanglement.table import Array, Table, table

LEAF = 16
"""Images in a leaf, at least: without it a tree goes on to split what it cannot tell, and codes of noise get a third of all importance."""


@dataclass(frozen=True)
class DCI:
    """The three scores, each from 0 to 1, and what the first two are made of."""

    disentanglement: float
    """Does each code say something of one factor alone?"""
    completeness: float
    """Is each factor told by one code alone?"""
    informativeness: float
    """The accuracy with which the factors are read off the code, the mean over factors."""
    importance: Float[np.ndarray, "D F"]
    """R: the share of code d in the telling of factor k."""


def dci(codes: Array, factors: Array, *, trees: Literal["forest", "boosting"] = "forest", count: int = 20, seed: int = 0) -> DCI:
    """Disentanglement, completeness and informativeness, by the importance R[d, k] that code d has for a classifier of factor k.

    Disentanglement = sum_d rho_d (1 - H_F(R[d, :])), rho_d the share of code d in all of R; completeness = mean_k (1 - H_D(R[:, k])), H in units of
    log F and log D after a row or column is made to sum to 1. D counts the codes that vary, so that dead ones change nothing. Informativeness is
    the mean accuracy on held-out images. A factor that no code tells anything of has a completeness of 0.

    The classifiers are scikit-learn's, fitted on a random half of the images: random forests as in the paper, of `count` trees that look at every
    code at each split and keep 16 images in a leaf. R is the mean decrease of Gini's impurity. "boosting" takes gradient boosting with 100
    stages of depth 3, as the figures of Locatello et al. (2019) do, and takes many times as long.

    Args:
        codes: [N, D], posterior means as a rule.
        factors: [N, F] integers.
        count: of the forest's trees.
        seed: of the halves and the trees.

    Raises:
        UserError: see `table`, and for another kind of trees.

    References: A Framework for the Quantitative Evaluation of Disentangled Representations (Eastwood, Williams, 2018), section 2,
    https://openreview.net/forum?id=By-7dz-AZ
    """
    if trees not in ("forest", "boosting"):
        raise UserError(f"The trees are a 'forest' or 'boosting', and not '{trees}'.")
    given = table(codes, factors)
    importance, accuracy = _fitted(given, trees, count, seed)
    alive = int((np.ptp(given.codes, axis=0) > 0).sum())
    rows = importance.sum(1)
    weights = rows / rows.sum() if rows.sum() > 0 else rows
    disentanglement = float((weights * _concentration(importance, len(given.columns))).sum())
    return DCI(disentanglement, float(_concentration(importance.T, alive).mean()), accuracy, importance)


def _concentration(importance: Float[np.ndarray, "A B"], base: int) -> Float[np.ndarray, "A"]:
    """1 - H(row) in units of log `base`: 1 where a row has one entry, 0 where it has as many alike, or none at all."""
    total = importance.sum(1, keepdims=True)
    p = np.divide(importance, total, out=np.zeros_like(importance), where=total > 0)
    entropy = -(p * np.log(np.where(p > 0, p, 1.0))).sum(1)
    return np.where(total[:, 0] > 0, 1 - entropy / np.log(max(base, 2)), 0.0)


def _fitted(given: Table, trees: str, count: int, seed: int) -> tuple[Float[np.ndarray, "D F"], float]:
    """R, and the mean accuracy on the images that were not fitted."""
    fit, test = given.halves(seed)
    importance, accuracies = np.zeros((given.codes.shape[1], len(given.columns))), []
    for k in range(len(given.columns)):
        if (fit.factors[:, k] == fit.factors[0, k]).all():  # boosting refuses a single class; it tells nothing of the codes
            accuracies.append(float((test.factors[:, k] == fit.factors[0, k]).mean()))
            continue
        classifier = _classifier(trees, count, seed).fit(fit.codes, fit.factors[:, k])
        importance[:, k] = classifier.feature_importances_
        accuracies.append(float((classifier.predict(test.codes) == test.factors[:, k]).mean()))
    return importance, float(np.mean(accuracies))


def _classifier(trees: str, count: int, seed: int) -> Any:
    from sklearn.ensemble import GradientBoostingClassifier, RandomForestClassifier  # takes a second

    if trees == "boosting":
        return GradientBoostingClassifier(random_state=seed)
    return RandomForestClassifier(count, max_features=None, min_samples_leaf=LEAF, random_state=seed)
