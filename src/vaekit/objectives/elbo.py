"""The evidence lower bound and its schedules."""

import torch
from jaxtyping import Float
from torch import Tensor

from vaekit.distributions.relaxed_categorical import Categories
from vaekit.objectives.base import Objective
from vaekit.objectives.schedules import Constant, Schedule
from vaekit.output import VAEOutput


class ELBO(Objective):
    r"""-ELBO = E_q[-log p(x|z)] + beta KL(q(z|x) || p(z)), in nats per image; with beta 1 and nothing else it is the bound itself.

    * `beta`: a number or a schedule (warm-up, cyclical).
    * `free_bits` lambda, in nats for each dimension of a vector, or each channel of a map: the divergence becomes sum_j max(lambda, mean over the
      batch of KL_j), so that a dimension below lambda is not pushed down. Where the divergence has no closed form by dimension, a layer has the
      lambdas of all its D together, max(D lambda, KL); a variable of several classes has one. Reports always give the true divergence.
    * `capacity` C, in nats per image, a number or a schedule: the divergence becomes gamma |KL - C|, with `gamma` its weight.

    References:
        beta-VAE (Higgins et al., 2017), Eq. 4, https://openreview.net/forum?id=Sy2fzU9gl
        Improving Variational Inference with Inverse Autoregressive Flow (Kingma et al., 2016), Eq. 15, https://arxiv.org/abs/1606.04934
        Understanding disentangling in beta-VAE (Burgess et al., 2018), Eq. 8, https://arxiv.org/abs/1804.03599
    """

    beta: Tensor
    capacity: Tensor

    def __init__(
        self,
        beta: float | Schedule = 1.0,
        free_bits: float = 0.0,
        capacity: float | Schedule | None = None,
        gamma: float = 1.0,
    ) -> None:
        super().__init__()
        self.beta_schedule = beta if isinstance(beta, Schedule) else Constant(beta)
        self.capacity_schedule = Constant(capacity) if isinstance(capacity, (int, float)) else capacity
        self.free_bits, self.gamma = free_bits, gamma
        self.scheduled = not (isinstance(self.beta_schedule, Constant) and self.beta_schedule.value == 1.0)
        self.register_buffer("beta", torch.tensor(self.beta_schedule.at(0.0)), persistent=False)
        self.register_buffer("capacity", torch.tensor(0.0 if self.capacity_schedule is None else self.capacity_schedule.at(0.0)), persistent=False)

    def forward(self, out: VAEOutput) -> Float[Tensor, "B"]:
        rate = out.rate() if self.free_bits == 0 else self._free_bits(out)
        if self.capacity_schedule is not None:
            rate = self.gamma * (rate - self.capacity).abs()
        if self.scheduled:
            rate = self.beta * rate
        loss = out.distortion + rate
        penalty = out.penalty()
        if penalty is not None:
            loss = loss + penalty
        return loss[0] if out.k == 1 else loss.mean(0)

    @property
    def is_bound(self) -> bool:
        """Whether it is -ELBO itself in the end, with a weight of 1 and nothing that costs nothing."""
        return self.beta_schedule.at(1.0) == 1.0 and self.free_bits == 0 and self.capacity_schedule is None

    def _free_bits(self, out: VAEOutput) -> Float[Tensor, "K B"]:
        total = torch.zeros_like(out.log_px)
        for term in out.terms:
            if term.kl is None:
                kl = (term.log_q - term.log_p).unsqueeze(1)
            else:
                kl = term.kl.flatten(2).sum(2) if term.kl.dim() > 2 else term.kl
            whole = kl.shape[1] == 1 and not isinstance(term.q, Categories)
            free = self.free_bits * (term.z.shape[1] if whole else 1)
            # Where the batch mean is below the threshold the term is a constant, for every image, without gradient.
            total = total + torch.where(kl.mean(0) > free, kl, free).sum(1).view(out.k, -1)
        return total

    def progress(self, fraction: float) -> dict[str, float]:
        values = {}
        if self.scheduled:
            values["beta"] = self.beta_schedule.at(fraction)
            self.beta.fill_(values["beta"])
        if self.capacity_schedule is not None:
            values["capacity"] = self.capacity_schedule.at(fraction)
            self.capacity.fill_(values["capacity"])
        return values
