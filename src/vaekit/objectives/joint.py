"""A capacity for each latent of a product."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from vaekit.distributions.relaxed_categorical import Categories
from vaekit.errors import UserError
from vaekit.objectives.base import Objective
from vaekit.objectives.schedules import Constant, Schedule
from vaekit.output import VAEOutput


class JointCapacity(Objective):
    r"""E_q[-log p(x|z)] + gamma sum_i |KL_i - C_i|, in nats per image: each latent i is held to a capacity of its own, which grows over the run.

    A capacity that a latent cannot reach (a categorical one of K classes carries log K nats at most) is a pressure that never ends: cap it.

    The divergence of a categorical code is not yet information: one class for all images has KL = log K, and tells nothing. Since
    E_x[KL(q(z|x) || p)] = I(x; z) + KL(q(z) || p), `balance` weighs the second part, KL(q(z) || p(z)) with q(z) the mean over the batch, for
    the categorical latents: with it, the capacity is filled by information. The paper has none of it (0), and raises the capacity slowly.

    Raises `UserError` when the model does not have as many latents as there are capacities.

    References: Learning Disentangled Joint Continuous and Discrete Representations (Dupont, 2018), Eq. 7, https://arxiv.org/abs/1804.00104

    Args:
        capacities: C_i in nats per image, a number or a schedule for each latent in turn.
        gamma: the weight of the deviations.
        balance: the weight of a categorical code's divergence between the mean over the batch and the prior.
    """

    needs = frozenset({"divergence"})
    capacity: Tensor

    def __init__(self, capacities: Sequence[float | Schedule], gamma: float = 30.0, balance: float = 0.0) -> None:
        super().__init__()
        self.schedules = [c if isinstance(c, Schedule) else Constant(c) for c in capacities]
        self.gamma, self.balance = gamma, balance
        self.register_buffer("capacity", torch.tensor([schedule.at(0.0) for schedule in self.schedules]), persistent=False)

    def forward(self, out: VAEOutput) -> Float[Tensor, "B"]:
        if len(out.terms) != len(self.schedules):
            raise UserError(f"There are {len(self.schedules)} capacities, and the model has {len(out.terms)} latents: give one for each.")
        rates = torch.stack([term.rate().view(out.k, -1) for term in out.terms])
        loss = out.distortion + self.gamma * (rates - self.capacity.view(-1, 1, 1)).abs().sum(0)
        if self.balance:
            loss = loss + self.balance * imbalance(out)
        penalty = out.penalty()
        if penalty is not None:
            loss = loss + penalty
        return loss.mean(0)

    def progress(self, fraction: float) -> dict[str, float]:
        values = [schedule.at(fraction) for schedule in self.schedules]
        for i, value in enumerate(values):
            self.capacity[i] = value
        return {f"capacity_{i}": value for i, value in enumerate(values)}


def imbalance(out: VAEOutput) -> Float[Tensor, ""]:
    """KL of the mean over the batch of q(z|x) from the prior, in nats, summed over the variables of the categorical latents; at least 0."""
    total = out.log_px.new_zeros(())
    for term in out.terms:
        if isinstance(term.q, Categories) and isinstance(term.p, Categories):
            mean = term.q.probs.mean(0)
            log_ratio = mean.clamp_min(torch.finfo(mean.dtype).tiny).log() - term.p.log_probs
            total = total + (mean * log_ratio).sum()
    return total
