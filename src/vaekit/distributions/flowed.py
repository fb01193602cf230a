"""A Gaussian pushed through invertible maps: what every flow posterior returns."""

import abc
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Distribution

from vaekit.distributions.precision import full_precision


class Map(abc.ABC):
    """An invertible map of codes [..., N, D] whose parameters have the batch shape [N] or []."""

    @abc.abstractmethod
    def forth(self, e: Float[Tensor, "... D"]) -> tuple[Float[Tensor, "... D"], Float[Tensor, "..."]]:
        """z = f(e) and log |det df/de| at e."""

    @abc.abstractmethod
    def back(self, z: Float[Tensor, "... D"]) -> tuple[Float[Tensor, "... D"], Float[Tensor, "..."]]:
        """e = f^-1(z) and log |det df/de| at that e. Both carry gradients."""

    @abc.abstractmethod
    def stopped(self) -> "Map":
        """The same map with its parameters detached."""


class Chain(Map):
    """One map after the other: f = f_K o ... o f_1."""

    def __init__(self, maps: Sequence[Map]) -> None:
        self.maps = tuple(maps)

    def forth(self, e: Float[Tensor, "... D"]) -> tuple[Float[Tensor, "... D"], Float[Tensor, "..."]]:
        total = e.new_zeros(e.shape[:-1])
        for each in self.maps:
            e, volume = each.forth(e)
            total = total + volume
        return e, total

    def back(self, z: Float[Tensor, "... D"]) -> tuple[Float[Tensor, "... D"], Float[Tensor, "..."]]:
        total = z.new_zeros(z.shape[:-1])
        for each in reversed(self.maps):
            z, volume = each.back(z)
            total = total + volume
        return z, total

    def stopped(self) -> "Chain":
        return Chain([each.stopped() for each in self.maps])


class Flowed(Distribution):
    """z = f(e), e ~ N(loc, scale^2): log q(z) = log N(f^-1(z)) - log |det df/de|.

    Asked about the very tensor that it drew last, it answers with what it knows from drawing it, and inverts nothing.
    `mean` is f(loc), the image of the Gaussian's mean: the mean of z has no closed form.

    Args:
        loc, scale: [N,D].
        flow: f.

    References: Variational Inference with Normalizing Flows (Rezende, Mohamed, 2015), Eq. 5, https://arxiv.org/abs/1505.05770
    """

    arg_constraints: ClassVar[dict[str, Any]] = {}
    has_rsample = True

    def __init__(self, loc: Float[Tensor, "N D"], scale: Float[Tensor, "N D"], flow: Map) -> None:
        super().__init__(loc.shape[:1], loc.shape[1:], validate_args=False)
        self.loc, self.scale, self.flow = loc, scale, flow
        self._drawn: tuple[Tensor, Tensor] | None = None

    @property
    def mean(self) -> Float[Tensor, "N D"]:
        with full_precision(self.loc):  # in bfloat16 a flow in one direction is not the inverse of the other
            return self.flow.forth(self.loc)[0]

    def rsample(self, sample_shape: Sequence[int] = ()) -> Float[Tensor, "... N D"]:
        noise = torch.randn(self._extended_shape(torch.Size(sample_shape)), dtype=self.loc.dtype, device=self.loc.device)
        e = self.loc + self.scale * noise
        with full_precision(e):
            z, volume = self.flow.forth(e)
        self._drawn = z, self._log_base(e) - volume
        return z

    def log_prob(self, value: Float[Tensor, "... D"]) -> Float[Tensor, "..."]:
        if self._drawn is not None and value is self._drawn[0]:
            return self._drawn[1]
        with full_precision(value):
            e, volume = self.flow.back(value)
        return self._log_base(e) - volume

    def _log_base(self, e: Float[Tensor, "... D"]) -> Float[Tensor, "..."]:
        return torch.distributions.Normal(self.loc, self.scale, validate_args=False).log_prob(e).sum(-1)

    def stopped(self) -> "Flowed":
        """The same with its parameters detached. It has drawn nothing: what is known from drawing has the parameters' gradient in it."""
        return Flowed(self.loc.detach(), self.scale.detach(), self.flow.stopped())
