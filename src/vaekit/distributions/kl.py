"""Closed-form divergences, in a table keyed on exact types.

`torch.distributions.kl_divergence` finds its formula by a search over subclasses that breaks full graphs in a cold process, and it sums
over event dimensions; free bits and the collapse watch need the divergence per dimension.
"""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Distribution, Independent, Normal


class _NormalNormal(torch.autograd.Function):
    """log(t/s) + (s^2 + (m-n)^2) / (2 t^2) - 1/2 as one node of the graph: a ladder has one of them for each group in each step."""

    @staticmethod
    def forward(ctx: Any, m: Tensor, s: Tensor, n: Tensor, t: Tensor) -> Tensor:
        ctx.save_for_backward(m, s, n, t)
        inverse = t.reciprocal()
        ratio, shift = s * inverse, (m - n) * inverse
        return torch.addcmul(ratio * ratio - 1, shift, shift).mul_(0.5).sub_(ratio.log())

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        # Made of the inputs alone, so that it has a derivative of its own.
        m, s, n, t = ctx.saved_tensors
        _, of_s, of_n, of_t = ctx.needs_input_grad
        inverse = t.reciprocal()
        ratio, shift = s * inverse, (m - n) * inverse
        scaled = grad * inverse
        dm = scaled * shift
        ds = scaled * (ratio - ratio.reciprocal()) if of_s else None
        dt = scaled * (1 - torch.addcmul(ratio * ratio, shift, shift)) if of_t else None
        return dm.sum_to_size(m.shape), _summed(ds, s), (-dm).sum_to_size(n.shape) if of_n else None, _summed(dt, t)


def _summed(gradient: Tensor | None, like: Tensor) -> Tensor | None:
    """What was broadcast forward is added up backward."""
    return None if gradient is None else gradient.sum_to_size(like.shape)


def _normal_normal(q: Normal, p: Normal) -> Tensor:
    """KL(N(m,s) || N(n,t)) = log(t/s) + (s^2 + (m-n)^2) / (2 t^2) - 1/2."""
    return _NormalNormal.apply(q.loc, q.scale, p.loc, p.scale)  # type: ignore[no-any-return]


class UnitNormal(Normal):
    """N(0, 1), a type of its own so that the divergence from it is the short formula."""


class _NormalUnit(torch.autograd.Function):
    """(m^2 + s^2 - 1) / 2 - log s as one node of the graph: it runs in every step of most trainings."""

    @staticmethod
    def forward(ctx: Any, m: Tensor, s: Tensor) -> Tensor:
        ctx.save_for_backward(m, s)
        return torch.addcmul(s * s - 1, m, m).mul_(0.5).sub_(s.log())

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        m, s = ctx.saved_tensors
        return grad * m, grad * (s - s.reciprocal())


def _normal_unit(q: Normal, p: UnitNormal) -> Tensor:
    """KL(N(m,s) || N(0,1)) = (m^2 + s^2 - 1) / 2 - log s."""
    return _NormalUnit.apply(q.loc, q.scale)  # type: ignore[no-any-return]


TABLE: dict[tuple[type, type], Callable[[Distribution, Distribution], Tensor]] = {
    (Normal, Normal): _normal_normal,  # type: ignore[dict-item]
    (Normal, UnitNormal): _normal_unit,  # type: ignore[dict-item]
}


def kl_divergence(q: Distribution, p: Distribution) -> Float[Tensor, "N ..."] | None:
    """KL(q || p) in nats for each dimension of the event (or in fewer parts), or None where no closed form is known."""
    if isinstance(q, Independent) and isinstance(p, Independent):
        q, p = q.base_dist, p.base_dist
    formula = TABLE.get((type(q), type(p)))
    return None if formula is None else formula(q, p)


def stopped(q: Distribution) -> Distribution:
    """The same distribution with its parameters detached."""
    if isinstance(q, Independent):
        return Independent(stopped(q.base_dist), q.reinterpreted_batch_ndims, validate_args=False)
    if type(q) is Normal:
        return Normal(q.loc.detach(), q.scale.detach(), validate_args=False)
    if hasattr(q, "stopped"):
        return q.stopped()
    raise NotImplementedError(f"{type(q).__name__} has no version with detached parameters yet.")
