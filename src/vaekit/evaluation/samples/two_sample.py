"""Do two sets of vectors come from one distribution? A classifier tries to tell them apart."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from torch import Tensor

from vaekit.errors import UserError

ROUNDS, LEAVES = 100, 15


@dataclass(frozen=True)
class TwoSampleTest:
    """How well a classifier tells two sets apart that it has not seen."""

    accuracy: float
    """1/2 if they cannot be told apart."""
    p_value: float
    """The chance of at least this accuracy if both sets come from one distribution."""
    tested: int


def classifier_test(x: Float[Tensor, "N F"], y: Float[Tensor, "N F"], *, seed: int = 0) -> TwoSampleTest:
    """Boosted trees learn on one half of either set which of the two a vector is of, and are judged on the other halves.

    If both sets come from one distribution, which T/2 of the T judged vectors are of the first set is pure chance: with K vectors called so, the
    number of right calls is hypergeometric (T, T/2, K), and the p-value is its upper tail, which is exact.

    Raises `UserError` unless both sets have as many vectors, at least 20.

    References: Revisiting Classifier Two-Sample Tests (Lopez-Paz, Oquab, 2017), section 3, https://arxiv.org/abs/1610.06545; the exact tail:
    The Logic of Inductive Inference (Fisher, 1935), https://doi.org/10.2307/2342435
    """
    if len(x) != len(y) or len(x) < 20:
        raise UserError(f"A two-sample test needs as many vectors on both sides, at least 20, and not {len(x)} and {len(y)}.")
    from sklearn.ensemble import HistGradientBoostingClassifier

    generator, half = np.random.default_rng(seed), len(x) // 2
    sides = [part.double().numpy()[generator.permutation(len(part))] for part in (x, y)]
    learn, judge = (np.concatenate([side[rows] for side in sides]) for rows in (slice(len(x) - half), slice(len(x) - half, None)))
    classifier = HistGradientBoostingClassifier(max_iter=ROUNDS, max_leaf_nodes=LEAVES, random_state=seed)
    classifier.fit(learn, np.repeat([0, 1], len(x) - half))
    called = classifier.predict(judge) == 0
    right = int(called[:half].sum())
    accuracy = (right + int((~called[half:]).sum())) / (2 * half)
    return TwoSampleTest(accuracy, chance(right, int(called.sum()), half), 2 * half)


def chance(right: int, called: int, half: int) -> float:
    """P(X >= right) for X hypergeometric: of 2 half vectors, half of them of the first set, `called` are picked at random."""
    from scipy.stats import hypergeom

    return float(hypergeom.sf(right - 1, 2 * half, half, called))


__all__ = ["TwoSampleTest", "chance", "classifier_test"]
