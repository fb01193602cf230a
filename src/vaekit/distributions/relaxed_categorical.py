"""Categorical variables as one-hot vectors, and their continuous relaxation."""

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Distribution

from vaekit.distributions.kl import TABLE


class Categories(Distribution):
    """V independent variables of K classes each, as a vector of V K numbers: what the hard and the relaxed form share.

    `mean` is the most probable class of each variable as a one-hot vector: it is what stands for the distribution as a code, and the mean of a
    one-hot vector, its probabilities, is none.

    Args:
        logits: [*B,V,K].
    """

    arg_constraints: ClassVar[dict[str, Any]] = {}
    has_rsample = True

    def __init__(self, logits: Float[Tensor, "*B V K"]) -> None:
        *batch, self.variables, self.classes = logits.shape
        super().__init__(torch.Size(batch), torch.Size([self.variables * self.classes]), validate_args=False)
        self.log_probs = logits.log_softmax(-1)

    @property
    def mean(self) -> Float[Tensor, "*B E"]:
        return _one_hot(self.log_probs.argmax(-1), self.log_probs)

    @property
    def probs(self) -> Float[Tensor, "*B V K"]:
        return self.log_probs.exp()

    def entropy(self) -> Float[Tensor, "*B"]:
        """In nats, of the categorical variables (also where the samples are relaxed)."""
        return -(self.probs * self.log_probs).sum((-2, -1))

    def _noisy(self, sample_shape: Sequence[int]) -> Float[Tensor, "... V K"]:
        """log p + Gumbel noise, whose largest entry is a draw."""
        shape = torch.Size(sample_shape) + self.log_probs.shape
        race = torch.empty(shape, dtype=self.log_probs.dtype, device=self.log_probs.device).exponential_()
        return self.log_probs - race.clamp_min(torch.finfo(race.dtype).tiny).log()


class OneHots(Categories):
    """P(z) = prod over variables of p_v(class), z one-hot. A draw has no gradient."""

    def rsample(self, sample_shape: Sequence[int] = ()) -> Float[Tensor, "... E"]:
        return _one_hot(self._noisy(sample_shape).argmax(-1), self.log_probs)

    def log_prob(self, value: Float[Tensor, "... E"]) -> Float[Tensor, "..."]:
        """sum of z log p, in nats; linear in z where z is relaxed."""
        return (value.unflatten(-1, (self.variables, self.classes)) * self.log_probs).sum((-2, -1))


class RelaxedOneHots(Categories):
    """z_v = softmax((log p_v + Gumbel noise) / temperature): a point of the simplex that carries a gradient, a one-hot vector in the limit 0.

    Args:
        logits: [*B,V,K].
        temperature: a 0-d tensor.

    References:
        Categorical Reparameterization with Gumbel-Softmax (Jang et al., 2016), Eq. 2, https://arxiv.org/abs/1611.01144
        The Concrete Distribution (Maddison et al., 2016), Eq. 1, https://arxiv.org/abs/1611.00712
    """

    def __init__(self, logits: Float[Tensor, "*B V K"], temperature: Float[Tensor, ""]) -> None:
        super().__init__(logits)
        self.temperature = temperature

    def rsample(self, sample_shape: Sequence[int] = ()) -> Float[Tensor, "... E"]:
        return (self._noisy(sample_shape) / self.temperature).softmax(-1).flatten(-2)

    def log_prob(self, value: Float[Tensor, "... E"]) -> Float[Tensor, "..."]:
        """The density of the relaxed variables on their simplices: not the probability of a class, and no part of a bound on log p(x)."""
        t, k = self.temperature, self.classes
        log_z = value.unflatten(-1, (self.variables, k)).clamp_min(torch.finfo(value.dtype).tiny).log()
        each = (self.log_probs - (t + 1) * log_z).sum(-1) - k * (self.log_probs - t * log_z).logsumexp(-1)
        return each.sum(-1) + self.variables * (math.lgamma(k) + (k - 1) * t.log())


def _one_hot(index: Tensor, like: Tensor) -> Tensor:
    return torch.nn.functional.one_hot(index, like.shape[-1]).to(like).flatten(-2)


def _categories(q: Categories, p: Categories) -> Tensor:
    """KL of the categorical variables, sum over classes of p log (p / p'), for each variable [N,V]."""
    return (q.probs * (q.log_probs - p.log_probs)).sum(-1)


TABLE[(OneHots, OneHots)] = _categories  # type: ignore[assignment]
TABLE[(RelaxedOneHots, OneHots)] = _categories  # type: ignore[assignment]
