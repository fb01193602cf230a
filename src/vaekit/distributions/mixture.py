"""Mixtures of the members of one batch of distributions: the density of each member at each code is a matrix, from one product."""

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.distributions import Distribution, Independent, Normal

from vaekit.distributions.precision import double, full_precision


class Mixture(Distribution):
    """p(z) = sum_m w_m q_m(z), in nats, for the M members q_m of one batch.

    Args:
        components: batch shape [M], event shape [*E], with a density at any code.
        log_weights: [M], or [N, M] for N mixtures of the same members; each row is normalized, and -inf leaves a member out.
    """

    arg_constraints: ClassVar[dict[str, Any]] = {}

    def __init__(self, components: Distribution, log_weights: Float[Tensor, "*N M"]) -> None:
        super().__init__(log_weights.shape[:-1], components.event_shape, validate_args=False)
        self.components, self.log_weights = components, log_weights

    @property
    def mean(self) -> Tensor:
        """[*N, *E], the mean of the members' means."""
        means = self.components.mean
        return (self.log_weights.exp() @ means.flatten(1)).view(*self.batch_shape, *self.event_shape)

    def log_prob(self, value: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        return (pairwise_log_prob(self.components, value) + self.log_weights).logsumexp(-1)

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """[*sample_shape, *N, *E]; which member a draw is of has no gradient."""
        with torch.no_grad():
            count = math.prod(sample_shape)
            which = torch.multinomial(self.log_weights.exp(), count, replacement=True)
            which = which.T if self.batch_shape else which  # [S, N]
            return self._of(which.flatten(), 1.0).view(self._extended_shape(torch.Size(sample_shape)))

    def draw(self, n: int, temperature: float = 1.0) -> Tensor:
        """n codes [n, *E] of one mixture: a member, and a draw of it whose distance from the member's mean is times `temperature`."""
        with torch.no_grad():
            return self._of(torch.multinomial(self.log_weights.exp(), n, replacement=True), temperature)

    def _of(self, which: Int[Tensor, "n"], temperature: float) -> Tensor:
        if normal := _as_normal(self.components):
            loc, scale = (t.expand(self.components.batch_shape + self.components.event_shape)[which] for t in (normal.loc, normal.scale))
            return loc + temperature * scale * torch.randn_like(loc)
        # The n-th choice of a member takes its n-th draw.
        order = which.argsort(stable=True)
        counts = which.bincount(minlength=self.components.batch_shape[0])
        rank = torch.empty_like(which)
        rank[order] = torch.arange(len(which), device=which.device) - (counts.cumsum(0) - counts)[which[order]]
        draws = self.components.sample((int(counts.max()),))[rank, which]
        mean = self.components.mean[which]
        return mean + temperature * (draws - mean)


def pairwise_log_prob(q: Distribution, z: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """log q_m(z_n) in nats, [..., M], for the members of q (batch shape [M]) at codes z [..., *E]."""
    normal = _as_normal(q)
    if normal is None:
        return q.log_prob(z.unsqueeze(-1 - len(q.event_shape)))
    return normal_log_prob(z.flatten(z.dim() - len(q.event_shape)) if len(q.event_shape) > 1 else z, normal.loc.flatten(1), normal.scale.flatten(1))


def normal_log_prob(z: Float[Tensor, "*N D"], loc: Float[Tensor, "M D"], scale: Float[Tensor, "M D"]) -> Float[Tensor, "*N M"]:
    """log N(z_n; loc_m, diag scale_m^2) in nats: -1/2 sum_d (z^2 / s^2 - 2 z loc / s^2 + loc^2 / s^2) - sum_d log s - D/2 log 2 pi.

    The square is opened so that codes and members meet in one product of matrices, and no [N, M, D] is ever made. Its terms cancel, and do so in 64
    bits: in 32, a member with scale 0.001 and mean 3 would be wrong by nats.
    """
    with full_precision(z):
        wide, loc, inverse = double(z), double(loc), double(scale).reciprocal()
        scaled = loc * inverse
        constant = inverse.log().sum(1) - 0.5 * (scaled * scaled).sum(1) - 0.5 * z.shape[-1] * math.log(2 * math.pi)
        factors = torch.cat((-0.5 * inverse * inverse, scaled * inverse), 1)
        flat = wide.reshape(-1, z.shape[-1])
        product = torch.addmm(constant, torch.cat((flat * flat, flat), 1), factors.T)
        return product.to(z.dtype).view(*z.shape[:-1], len(factors))


def _as_normal(q: Distribution) -> Normal | None:
    if not isinstance(q, Independent) or not isinstance(q.base_dist, Normal) or len(q.batch_shape) != 1:
        return None
    return q.base_dist
