"""The narrow waist: the records that every objective, penalty and report is a function of.

Letters of the shapes: B batch, K importance samples, N = K*B (K outermost), *E the latent's event shape.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor
from torch.distributions import Distribution

from vaekit.distributions.kl import kl_divergence, stopped


@dataclass
class Batch:
    """What a loader yields and a model takes; a bare tensor or array is taken as ``Batch(x)``."""

    x: Shaped[Tensor, "B *X"]
    """Raw values, in the data's native units."""
    mask: Bool[Tensor, "B *X"] | None = None
    """What is scored: False for missing pixels and padding."""
    condition: Shaped[Tensor, "B *F"] | None = None
    """What the model is told: class ids [B] or attribute vectors [B, F]."""
    label: Int[Tensor, "B"] | None = None
    """What it may learn from, -1 where unknown."""
    index: Int[Tensor, "B"] | None = None
    """Row in the data set."""

    @staticmethod
    def of(x: "Images") -> "Batch":
        return x if isinstance(x, Batch) else Batch(torch.as_tensor(x))

    def __len__(self) -> int:
        return self.x.shape[0]

    def map(self, change: Any) -> "Batch":
        """The batch with `change` applied to each of its tensors."""
        changed: dict[str, Any] = {f.name: None if (v := getattr(self, f.name)) is None else change(v) for f in fields(self)}
        return Batch(**changed)

    def to(self, device: torch.device | str) -> "Batch":
        # Only there: elsewhere the copy may be read before it has arrived.
        ahead = torch.device(device).type == "cuda"
        return self.map(lambda t: t.to(device, non_blocking=ahead))

    def __getitem__(self, rows: Any) -> "Batch":
        return self.map(lambda t: t[rows])


Images = Batch | Tensor | np.ndarray
"""What a model takes: raw values [B,C,H,W], or a batch of them with what else is known."""


@dataclass
class LatentTerm:
    """One stochastic layer: a flat model has one, a ladder has one per layer.

    Log-probabilities are computed when first asked for, so that an objective pays only for what it uses.
    """

    z: Tensor
    """[N, *E] the sample (long indices for quantizers)."""
    q: Distribution | None = None
    """q(z|x); None for a point: a quantizer's code, or the code of an autoencoder."""
    p: Distribution | None = None
    """p(z), or p(z | parents)."""
    penalty: Tensor | None = None
    """[N], summed over dimensions, e.g. commitment."""
    stats: Mapping[str, Tensor] = field(default_factory=dict)
    """Detached sufficient statistics for `post_step`."""
    codebook: int = 0
    """How many values a countable code can take."""
    _cache: dict[str, Any] = field(default_factory=dict, repr=False)

    def _once(self, name: str, compute: Any) -> Any:
        if name not in self._cache:
            self._cache[name] = compute()
        return self._cache[name]

    def _zeros(self) -> Tensor:
        return torch.zeros(self.z.shape[0], device=self.z.device)

    @property
    def bounded(self) -> bool:
        """Whether there is a divergence: a point among real codes has none, a point among countable ones has -log p(z)."""
        return self.q is not None or not self.z.is_floating_point()

    @property
    def log_q(self) -> Float[Tensor, "N"]:
        """log q(z|x) in nats; zeros for a point mass."""
        return self._once("log_q", lambda: self._zeros() if self.q is None else self.q.log_prob(self.z))

    @property
    def log_q_stopped(self) -> Float[Tensor, "N"]:
        """log q(z|x) with the posterior's parameters detached: the gradient flows through z alone (sticking the landing, DReG)."""
        return self._once("log_q_stopped", lambda: self._zeros() if self.q is None else stopped(self.q).log_prob(self.z))

    @property
    def log_p(self) -> Float[Tensor, "N"]:
        """log p(z | parents) in nats."""
        return self._once("log_p", lambda: self._zeros() if self.p is None else self.p.log_prob(self.z))

    @property
    def kl(self) -> Float[Tensor, "N ..."] | None:
        """Analytic KL(q || p) in as many parts as there are (the dimensions of the code, as a rule), or None where there is no closed form."""
        return self._once("kl", lambda: None if self.q is None or self.p is None else kl_divergence(self.q, self.p))

    def rate(self, analytic: bool = True) -> Float[Tensor, "N"]:
        """KL(q || p) in nats: in closed form where there is one and `analytic`, else the sample's log q - log p; 0 where there is no divergence."""
        if not self.bounded:
            return self._zeros()
        kl = self.kl
        if analytic and kl is not None:
            return self._once("rate", lambda: kl.flatten(1).sum(1))
        return self.log_q - self.log_p

    def entropy(self) -> Float[Tensor, "N"]:
        """Entropy of q(z|x) in nats: in closed form where the rate is, else -log q of the sample. Rate = cross-entropy - entropy."""
        return -self.log_q if self.kl is None or self.q is None else self.q.entropy()


@dataclass
class VAEOutput:
    """What one forward pass knows."""

    batch: Batch
    px: Distribution
    """p(x|z), batch N."""
    log_px: Float[Tensor, "K B"]
    """log p(x|z) in nats, summed where the mask is true."""
    terms: tuple[LatentTerm, ...]
    k: int = 1
    stats: Mapping[str, Mapping[str, Tensor]] = field(default_factory=dict)
    """Detached statistics for `VAE.post_step`, by the name of the model's part."""
    asked: dict[str, Any] = field(default_factory=dict)
    """What the penalties asked for beyond the pass itself (see `Penalty.asks`), by name."""

    @property
    def distortion(self) -> Float[Tensor, "K B"]:
        """-log p(x|z) in nats."""
        return -self.log_px

    @property
    def bounded(self) -> bool:
        """Whether -(distortion + rate) is a bound: every layer has a divergence."""
        return all(term.bounded for term in self.terms)

    def penalty(self) -> Float[Tensor, "K B"] | None:
        """What the layers add to the loss (a quantizer's commitment, say), in nats; None if they add nothing."""
        penalties = [term.penalty for term in self.terms if term.penalty is not None]
        return self._sum(penalties) if penalties else None

    def _sum(self, values: list[Tensor]) -> Float[Tensor, "K B"]:
        if not values:  # a model without latents
            return torch.zeros_like(self.log_px)
        total = values[0]
        for value in values[1:]:
            total = total + value
        return total.view(self.k, -1)

    def rate(self, analytic: bool = True) -> Float[Tensor, "K B"]:
        """The divergence from the prior in nats, summed over dimensions and layers."""
        return self._sum([term.rate(analytic) for term in self.terms])

    def entropy(self) -> Float[Tensor, "K B"]:
        """The entropy of the posterior in nats, summed over layers."""
        return self._sum([term.entropy() for term in self.terms])

    def log_w(self) -> Float[Tensor, "K B"]:
        """log importance weights, log p(x|z) + sum of log p(z) - log q(z|x), in nats."""
        return self.log_px - self._sum([term.log_q - term.log_p for term in self.terms])


def fold(x: Tensor, k: int) -> Tensor:
    """[B, ...] -> [K*B, ...], K outermost."""
    return x if k == 1 else x.unsqueeze(0).expand(k, *x.shape).reshape(k * x.shape[0], *x.shape[1:])
