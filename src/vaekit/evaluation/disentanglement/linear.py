"""Linear classifiers: what can be read off a code without effort."""

from typing import Any

import numpy as np
from jaxtyping import Float, Int


def accuracy(x: Float[np.ndarray, "N D"], y: Int[np.ndarray, "N"], x_test: Float[np.ndarray, "M D"], y_test: Int[np.ndarray, "M"]) -> float:
    """The share of test points that a logistic regression, fitted on (x, y), puts in the right class."""
    x, x_test = _standardized(x, x_test)
    return float((_regression().fit(x, y).predict(x_test) == y_test).mean())


def area_under_curve(x: Float[np.ndarray, "N D"], y: Int[np.ndarray, "N"], x_test: Float[np.ndarray, "M D"], y_test: Int[np.ndarray, "M"]) -> float:
    """The mean over classes of the area under the ROC curve of one class against the rest, by logistic regressions fitted on (x, y).

    Classes that are not in both halves, or that are all there is of one, have no curve and are left out; without any, the area is that of chance.
    """
    from sklearn.metrics import roc_auc_score

    x, x_test = _standardized(x, x_test)
    areas = []
    for value in np.intersect1d(y, y_test):
        here, there = y == value, y_test == value
        if not here.all() and not there.all():
            areas.append(roc_auc_score(there, _regression().fit(x, here).decision_function(x_test)))
    return float(np.mean(areas)) if areas else 0.5


def _regression() -> Any:
    from sklearn.linear_model import LogisticRegression  # takes a second

    return LogisticRegression(max_iter=2000)


def _standardized(x: np.ndarray, other: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both with the first one's means removed and in units of its deviations; a constant column is 0."""
    mean, deviation = x.mean(0), x.std(0)
    scale = np.where(deviation > 1e-12 * np.abs(mean), np.divide(1.0, deviation, where=deviation > 0, out=np.zeros_like(deviation)), 0.0)
    return (x - mean) * scale, (other - mean) * scale
