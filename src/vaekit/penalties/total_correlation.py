"""The total correlation of the code, estimated on a minibatch."""

from collections.abc import Callable
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Independent

from vaekit.errors import UserError
from vaekit.objectives.schedules import Schedule
from vaekit.output import VAEOutput
from vaekit.part import Part
from vaekit.penalties.base import Penalty
from vaekit.penalties.tools import codes


def stratified(size: int, count: int) -> Float[Tensor, "B B"]:
    """w[i, m], the weight of image m in q(z_i), for a batch of `size` from `count` images: the sample's own image stands for itself alone.

    With M = B - 1: 1/N for the image itself, (N - M) / (N M) for the next one (a row's last, in the paper's order), 1/M for the others.
    E[sum_m w[i, m] q(z_i|x_m)] = q(z_i) exactly.

    References: Isolating Sources of Disentanglement in VAEs (Chen et al., 2018), appendix C.2, Eq. S6, https://arxiv.org/abs/1802.04942
    """
    others, count = size - 1, max(count, size)
    weights = torch.full((size, size), 1 / others)
    rows = torch.arange(size)
    weights[rows, rows] = 1 / count
    weights[rows, (rows + 1) % size] = (count - others) / (count * others)
    return weights


def weighted(size: int, count: int) -> Float[Tensor, "B B"]:
    """Equal weights 1/B: the paper's 1/(N B) without its constant 1/N, which has no gradient and moves a factorized code's figure away from 0.

    References: Isolating Sources of Disentanglement in VAEs (Chen et al., 2018), Eq. 4, https://arxiv.org/abs/1802.04942
    """
    return torch.full((size, size), 1 / size)


ESTIMATORS: dict[str, Callable[[int, int], Tensor]] = {"stratified": stratified, "weighted": weighted}
"""(B, N) -> weights [B, B], whose rows sum to 1."""


class TotalCorrelation(Penalty):
    """TC(z) = KL(q(z) || prod_j q(z_j)) = E[log q(z) - sum_j log q(z_j)], in nats, with q(z) = 1/N sum_n q(z|x_n) estimated on the batch.

    It looks at the whole batch: the figure of an image depends on its neighbours. The logarithm of an estimate is too low on average (Jensen),
    the more so with many dimensions and a small batch. beta-TCVAE is the ELBO + (beta - 1) of this.

    References: Isolating Sources of Disentanglement in VAEs (Chen et al., 2018), Eq. 2 and 4, https://arxiv.org/abs/1802.04942

    Args:
        count: N, the number of training images; 0 where it is not known, and then a batch stands for all of them.
        estimator: "stratified" or "weighted" minibatch sampling.

    Raises:
        UserError: for an unknown estimator.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"factorized", "anywhere"})

    def __init__(self, count: int = 0, estimator: str = "stratified", weight: float | Schedule = 1.0) -> None:
        super().__init__(weight)
        if estimator not in ESTIMATORS:
            raise UserError(f"The total correlation is estimated by {' or '.join(ESTIMATORS)} sampling, and not by '{estimator}'.")
        self.count, self.weights_of = count, ESTIMATORS[estimator]

    def forward(self, out: VAEOutput, critic: Part | None = None) -> Float[Tensor, "B"]:
        """[B] log q(z) - sum_j log q(z_j), at one code for each image."""
        z, size, q = codes(out), len(out.batch), out.terms[0].q
        if size < 2:
            return 0 * z.sum(1)
        if not isinstance(q, Independent):
            raise TypeError("A posterior that factorizes is an Independent of its dimensions.")
        # [i, m, j]: dimension j of the code of image i, under the posterior of image m.
        each = q.base_dist.log_prob(out.terms[0].z[:size].unsqueeze(1))[:, :size].flatten(2)
        log_weights = self.weights_of(size, self.count).log().to(z.device)
        joint = (each.sum(2) + log_weights).logsumexp(1)
        marginals = (each + log_weights.unsqueeze(2)).logsumexp(1)
        return joint - marginals.sum(1)
