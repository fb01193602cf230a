"""The mutual information gap."""

import numpy as np

from vaekit.evaluation.disentanglement.information import BINS, entropy, information
from vaekit.evaluation.disentanglement.table import Array, gap, table


def mig(codes: Array, factors: Array, *, bins: int = BINS) -> float:
    """The mutual information gap, from 0 to 1: does one code alone tell each factor?

    MIG = mean_k (I(z_j; v_k) - max_{d != j} I(z_d; v_k)) / H(v_k), with j = argmax_d I(z_d; v_k), of codes in bins of equal width. It is 1 when one
    code determines each factor and no other code says anything of it. A factor that takes one value is left out. Unused codes change nothing.

    Args:
        codes: [N, D], posterior means as a rule.
        factors: [N, F] integers.
        bins: of each code.

    Raises:
        UserError: see `table`.

    References: Isolating Sources of Disentanglement in VAEs (Chen et al., 2018), Eq. 6, https://arxiv.org/abs/1802.04942
    """
    given = table(codes, factors)
    entropies = np.array([entropy(np.bincount(factor)) for factor in given.factors.T])
    return float((gap(information(given, bins)) / entropies).mean())
