"""Unsupervised disentanglement ranking: models of the same data that agree."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from jaxtyping import Float

from vaekit.errors import UserError
from vaekit.evaluation.disentanglement.table import Array, as_array


def udr(
    codes: Sequence[Array],
    *,
    informative: Sequence[Array] | None = None,
    method: Literal["spearman", "lasso"] = "spearman",
    alpha: float = 0.1,
) -> Float[np.ndarray, "M"]:
    """The unsupervised disentanglement ranking of each of M models, 0 to 1, without factors: do its codes agree one to one with those of the others?

    UDR_ij = (sum_b r_b^2 / sum_a R[a, b] + sum_a r_a^2 / sum_b R[a, b]) / (D_i + D_j), where R[a, b] is how alike code a of model i and code b of
    model j are, r_b = max_a R[a, b] and r_a = max_b R[a, b], all over the informative codes alone. A model's score is the median over the others.
    Models that differ by the order and the signs of their codes alone score 1 where the codes are uncorrelated.

    Args:
        codes: of each model, [N, D_i]: the same N images in the same order, for models that differ in their seeds.
        informative: of each model, [D_i] booleans: which codes count (in the paper those with a rate above 0.01 nats); None for all that vary.
        method: "spearman" for the absolute rank correlation; "lasso" for the absolute weights of a sparse regression from the standardized codes of
            model i to each of model j, which shrinks them by `alpha`: a perfect agreement scores 1 - alpha.
        alpha: of the regression.

    Raises:
        UserError: for fewer than two models, other shapes, and another method.

    References: Unsupervised Model Selection for Variational Disentangled Representation Learning (Duan et al., 2020), the definition of UDR_ij,
    https://arxiv.org/abs/1905.12614
    """
    if method not in ("spearman", "lasso"):
        raise UserError(f"The method is 'spearman' or 'lasso', and not '{method}'.")
    models = [as_array(z).astype(np.float64) for z in codes]
    if len(models) < 2:
        raise UserError("A ranking needs the codes of at least two models of the same images.")
    if any(z.ndim != 2 or len(z) != len(models[0]) for z in models):
        raise UserError(f"The codes of each model are [N, D] of the same N images, and not {', '.join(str(list(z.shape)) for z in models)}.")
    if informative is not None and [len(m) for m in informative] != [z.shape[1] for z in models]:
        raise UserError("There is one boolean for each code of each model in `informative`.")
    masks = [np.ptp(z, axis=0) > 0 for z in models]
    if informative is not None:
        masks = [mask & as_array(given).astype(bool) for mask, given in zip(masks, informative, strict=True)]
    prepared = [_ranked(z[:, mask]) if method == "spearman" else _standardized(z[:, mask]) for z, mask in zip(models, masks, strict=True)]
    scores = np.zeros((len(models), len(models)))
    for i in range(len(models)):
        for j in range(len(models)):
            if i != j and prepared[i].shape[1] and prepared[j].shape[1]:
                alike = np.abs(prepared[i].T @ prepared[j]) / len(prepared[i]) if method == "spearman" else _lasso(prepared[i], prepared[j], alpha)
                scores[i, j] = agreement(alike)
    others = ~np.eye(len(models), dtype=bool)
    return np.array([np.median(row[other]) for row, other in zip(scores, others, strict=True)])


def agreement(alike: Float[np.ndarray, "A B"]) -> float:
    """UDR_ij of the likenesses R[a, b] of the informative codes of two models."""
    total = sum(_relative(r).sum() for r in (alike, alike.T))
    return float(total / sum(alike.shape))


def _relative(alike: Float[np.ndarray, "A B"]) -> Float[np.ndarray, "B"]:
    """r_b^2 / sum_a R[a, b]; 0 for a code that is like none."""
    total = alike.sum(0)
    return np.divide(alike.max(0) ** 2, total, out=np.zeros_like(total), where=total > 0)


def _standardized(z: Float[np.ndarray, "N D"]) -> Float[np.ndarray, "N D"]:
    return (z - z.mean(0)) / z.std(0)


def _ranked(z: Float[np.ndarray, "N D"]) -> Float[np.ndarray, "N D"]:
    """Ranks, ties sharing their mean, standardized: their products are Spearman's correlations."""
    from scipy.stats import rankdata

    return _standardized(rankdata(z, axis=0)) if z.shape[1] else z


def _lasso(a: Float[np.ndarray, "N A"], b: Float[np.ndarray, "N B"], alpha: float) -> Float[np.ndarray, "A B"]:
    from sklearn.linear_model import Lasso  # takes a second

    return np.abs(np.stack([Lasso(alpha=alpha).fit(a, target).coef_ for target in b.T], axis=1))
