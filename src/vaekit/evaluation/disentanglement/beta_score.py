"""The score of beta-VAE: can a line tell which factor two images share?"""

import numpy as np
from jaxtyping import Float, Int64

from vaekit.evaluation.disentanglement.linear import accuracy
from vaekit.evaluation.disentanglement.table import Array, Fixed, Table, table


def beta_vae_score(codes: Array, factors: Array, *, points: int = 1000, pairs: int = 64, seed: int = 0) -> float:
    """The score of beta-VAE: the accuracy of a linear classifier that names the factor which pairs of images share, from 1/F (chance) to 1.

    A point: choose a factor k, take `pairs` pairs of images that agree in it, and average |z_1 - z_2| over them. A logistic regression on these
    averages (divided by each code's deviation over all images, so that the unit of a code does not matter) answers with k. It is fitted on `points`
    points and judged on as many others.

    Args:
        codes: [N, D], posterior means as a rule.
        factors: [N, F] integers; pairs are drawn from this table, with replacement.
        points: for the fit, and again for the accuracy.
        pairs: L, of each point.
        seed: of the draws.

    Raises:
        UserError: see `table` and `Fixed`.

    References: beta-VAE: Learning Basic Visual Concepts with a Constrained Variational Framework (Higgins et al., 2017), section 3,
    https://openreview.net/forum?id=Sy2fzU9gl
    """
    given = table(codes, factors)
    if len(given.columns) == 1:
        return 1.0
    fixed, generator = Fixed(given), np.random.default_rng(seed)
    deviation = given.codes.std(0)
    scaled = Table(given.codes / np.where(deviation > 0, deviation, 1.0), given.factors, given.columns)
    fit, test = (_points(scaled, fixed, points, pairs, generator) for _ in range(2))
    return accuracy(*fit, *test)


def _points(
    given: Table, fixed: Fixed, points: int, pairs: int, generator: np.random.Generator
) -> tuple[Float[np.ndarray, "P D"], Int64[np.ndarray, "P"]]:
    """Mean absolute differences, and the factor that the pairs of each share: each factor equally often, up to one."""
    chosen = np.arange(points, dtype=np.int64) % len(given.columns)
    features = np.empty((points, given.codes.shape[1]))
    for k in range(len(given.columns)):
        here = chosen == k
        first = generator.integers(len(given), size=int(here.sum()) * pairs)
        second = fixed.draw(first, k, 1, generator)[:, 0]
        features[here] = np.abs(given.codes[first] - given.codes[second]).reshape(-1, pairs, features.shape[1]).mean(1)
    return features, chosen
