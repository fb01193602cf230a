"""The score of FactorVAE: which code stands still when a factor does?"""

import numpy as np
from jaxtyping import Int64

from vaekit.evaluation.disentanglement.table import Array, Fixed, Table, table

DEAD = 0.05
"""A code whose variance is not above this, in squared deviations of the prior, has collapsed to the prior and has no vote (Kim and Mnih)."""


def factor_vae_score(codes: Array, factors: Array, *, votes: int = 800, images: int = 100, dead: float = DEAD, seed: int = 0) -> float:
    """The score of FactorVAE: the accuracy of a majority vote that names the factor which was held fixed, from 1/F (chance) to 1.

    A vote: hold the value of a factor k, take `images` images at random that have it, and find d = argmin_d Var(z_d) / Var_all(z_d). The classifier
    answers each d with the k that it came with most often. It is fitted on `votes` votes and judged on as many others.

    Codes whose variance over all images is at most `dead` are left out; where none is left the score is 0.

    Args:
        codes: [N, D], posterior means as a rule.
        factors: [N, F] integers; images with a fixed factor are drawn from this table, with replacement.
        votes: for the fit, and again for the accuracy.
        images: L, of each vote.
        dead: in squared units of the code; 0 keeps all codes but constant ones.
        seed: of the draws.

    Raises:
        UserError: see `table` and `Fixed`.

    References: Disentangling by Factorising (Kim, Mnih, 2018), section 4, https://arxiv.org/abs/1802.05983
    """
    given = table(codes, factors)
    fixed, generator = Fixed(given), np.random.default_rng(seed)
    variance = given.codes.var(0)
    alive = variance > dead
    if not alive.any():
        return 0.0
    scaled = Table(given.codes[:, alive] / np.sqrt(variance[alive]), given.factors, given.columns)
    fit, test = (_votes(scaled, fixed, votes, images, generator) for _ in range(2))
    answers = fit.argmax(1)
    return float(test[np.arange(len(test)), answers].sum() / test.sum())


def _votes(given: Table, fixed: Fixed, votes: int, images: int, generator: np.random.Generator) -> Int64[np.ndarray, "D F"]:
    """How often code d stood stillest when factor k was fixed."""
    codes, factors = given.codes.shape[1], len(given.columns)
    counts = np.zeros((codes, factors), np.int64)
    chosen = generator.integers(factors, size=votes)
    for k in range(factors):
        rows = generator.integers(len(given), size=int((chosen == k).sum()))
        drawn = given.codes[fixed.draw(rows, k, images, generator)]
        counts[:, k] = np.bincount(drawn.var(1).argmin(1), minlength=codes)
    return counts
