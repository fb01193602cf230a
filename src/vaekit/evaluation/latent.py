"""Which latent dimensions a model uses, and whether its posterior collapses."""

import math
from collections.abc import Callable, Iterable

import torch
from jaxtyping import Float
from torch import Tensor

from vaekit.distributions.von_mises_fisher import VonMisesFisher
from vaekit.output import LatentTerm

ACTIVE = 0.01
"""A dimension is active when the variance over x of its posterior mean is above this, in squared latent units (`LayerStatistics.unit`)."""


class LayerStatistics:
    """Running statistics of one stochastic layer over the images; every position of an event [D,h,w] is a dimension.

    For the lower layers of a ladder, the posterior is that given the layers above, as they were sampled.
    """

    def __init__(self) -> None:
        self.images = 0
        self.dimensions = 0
        self.stochastic = False
        """Whether there is a q(z|x), and not a point, nor the prior itself, which has nothing to collapse to."""
        self.rate = 0.0
        """Mean KL(q || p) in nats per image, summed over the dimensions."""
        self.mean: Float[Tensor, "D"] | None = None
        """Mean over x of the posterior mean."""
        self.variance_of_means: Float[Tensor, "D"] | None = None
        """Variance over x of the posterior mean; None where the posterior has no mean in closed form."""
        self.posterior_variance: Float[Tensor, "D"] | None = None
        """Mean over x of the posterior's variance."""
        self.rate_per_dim: Float[Tensor, "D"] | None = None
        """Mean KL of each dimension in nats; None without a closed form."""
        self.codes: Float[Tensor, "Q size"] | None = None
        """How often each entry of each codebook was used; None for real codes."""
        self.unit = 1.0
        """The variance of a dimension of the prior that counts as one: 1/D on a sphere, whose D coordinates have 1 together."""

    @torch.no_grad()
    def update(self, term: LatentTerm) -> None:
        """Adds the images of one batch."""
        before, new = self.images, term.z.shape[0]
        self.images += new
        weight = new / self.images
        self.dimensions = term.z[0].numel()
        self.stochastic = term.q is not None and term.q is not term.p
        self.rate += weight * (term.rate().mean().item() - self.rate)
        if not term.z.is_floating_point():
            books = term.z.cpu().flatten(1).unsqueeze(1) if term.z.dim() < 3 else term.z.cpu().flatten(2)
            counts = torch.stack([torch.bincount(book.flatten(), minlength=term.codebook).double() for book in books.unbind(1)])
            self.codes = counts if self.codes is None else self.codes + counts
        if isinstance(term.q, VonMisesFisher):
            self.unit = 1 / self.dimensions
        kl, variance, means = term.kl, _moment(term, "variance"), _moment(term, "mean")
        self.rate_per_dim = _blend(self.rate_per_dim, kl, weight, before)
        self.posterior_variance = _blend(self.posterior_variance, variance, weight, before)
        if means is None:
            self.mean = self.variance_of_means = None
            return
        # Two means and variances joined exactly: Chan, Golub and LeVeque, 1983, Eq. 2.1.
        mean, spread = means.mean(0), means.var(0, correction=0)
        if before == 0 or self.mean is None or self.variance_of_means is None:
            self.mean, self.variance_of_means = mean, spread
        else:
            delta = mean - self.mean
            self.mean = self.mean + weight * delta
            self.variance_of_means = (1 - weight) * self.variance_of_means + weight * spread + weight * (1 - weight) * delta**2

    @property
    def active_units(self) -> int | None:
        """The number of active dimensions; None where the posterior's mean is not known."""
        return None if self.variance_of_means is None else int(self.is_active(self.variance_of_means).sum())

    def is_active(self, variance: Tensor) -> Tensor:
        """Which dimensions with these variances of the posterior's mean are active."""
        return variance > ACTIVE * self.unit


class LatentStatistics:
    """The use of each stochastic layer, batch by batch.

    References: Importance Weighted Autoencoders (Burda et al., 2015), section 5.2 (active units), https://arxiv.org/abs/1509.00519
    """

    def __init__(self) -> None:
        self.layers: list[LayerStatistics] = []

    def update(self, terms: Iterable[LatentTerm]) -> None:
        """Adds the terms of one batch, with one posterior sample for each image."""
        for i, term in enumerate(terms):
            if i == len(self.layers):
                self.layers.append(LayerStatistics())
            self.layers[i].update(term)

    @property
    def active_units(self) -> int | None:
        """Active dimensions in all layers; None where a layer cannot tell."""
        units = [layer.active_units for layer in self.layers]
        return None if None in units else sum(u for u in units if u is not None)

    @property
    def codebook_usage(self) -> float | None:
        """The share of a codebook's entries that were used at all, the mean over the codebooks."""
        return self._over_codebooks(lambda counts: float((counts > 0).double().mean()))

    @property
    def codebook_perplexity(self) -> float | None:
        """exp(entropy of the codes in use): as many entries, used alike, would carry as much; the mean over the codebooks."""
        return self._over_codebooks(lambda counts: float(torch.special.entr(counts / counts.sum()).sum().exp()))

    def _over_codebooks(self, figure: Callable[[Tensor], float]) -> float | None:
        figures = [figure(counts) for counts in self.codebooks]
        return sum(figures) / len(figures) if figures else None

    @property
    def codebooks(self) -> list[Float[Tensor, "size"]]:
        """How often each entry was used, for each codebook of each layer."""
        return [counts for layer in self.layers if layer.codes is not None for counts in layer.codes]

    @property
    def latent_dim(self) -> int:
        """Dimensions of all layers."""
        return sum(layer.dimensions for layer in self.layers)

    @property
    def rate(self) -> float:
        """Mean rate in nats per image, over all layers."""
        return sum(layer.rate for layer in self.layers)

    @property
    def rate_per_dim(self) -> Float[Tensor, "D"] | None:
        """Mean rate of each dimension in nats, layer after layer; None where a layer has no closed form."""
        rates = [layer.rate_per_dim for layer in self.layers if layer.rate_per_dim is not None]
        return torch.cat(rates) if rates and len(rates) == len(self.layers) else None


def collapse_warning(stats: LatentStatistics, *, rate: float = 1.0, fraction: float = 0.05, enough: float = 5.0) -> str | None:
    """One sentence that names the cure when the posterior has collapsed to the prior, else None.

    It has collapsed when the codes carry less than `rate` nats, or when less than `fraction` of the dimensions are active and the codes carry less
    than `enough` nats. A large latent of which few dimensions are active but full is no collapse: the ELBO prunes what it does not need.
    Layers without a distribution (an autoencoder's points) cannot collapse to it. A codebook has collapsed when less than a tenth is in use of the
    entries that as many indices would use if they were drawn evenly, size (1 - (1 - 1/size)^n).
    """
    for counts in stats.codebooks:
        size, found, seen = len(counts), int((counts > 0).sum()), float(counts.sum())
        if found < -0.1 * size * math.expm1(seen * math.log1p(-1 / max(size, 2))):
            which = "the codebook" if len(stats.codebooks) == 1 else "one of the codebooks"
            return (
                f"{100 * found / size:.1f} % of {which} is in use: it is collapsing; try a smaller codebook, a larger batch, from which it starts, "
                "or the recipe fsq, if this is another, which has no codebook to collapse."
            )
    if not any(layer.stochastic for layer in stats.layers):
        return None
    active, dimensions = stats.active_units, stats.latent_dim
    few = active is not None and active < fraction * dimensions
    if stats.rate >= rate and not (few and stats.rate < enough):
        return None
    used = (
        f"The codes carry {stats.rate:.2g} nats"
        if active is None
        else f"{active} of {dimensions} latent dimensions {'is' if active == 1 else 'are'} used (rate {stats.rate:.2g} nats)"
    )
    cure = "try --warmup 0.3, --free-bits 0.25 or a smaller --beta (or the recipe free-bits, where this one takes none of them)"
    return f"{used}: the posterior is collapsing; {cure}."


def _moment(term: LatentTerm, name: str) -> Float[Tensor, "N D"] | None:
    """The posterior's mean or variance in closed form, in float64 on the CPU; a point is its own mean."""
    if term.q is None:
        value = (term.z if name == "mean" else torch.zeros_like(term.z)) if term.z.is_floating_point() else None
    else:
        try:
            value = getattr(term.q, name)
        except (NotImplementedError, AttributeError):
            value = None
    return None if value is None else value.flatten(1).cpu().double()


def _blend(average: Tensor | None, values: Tensor | None, weight: float, before: int) -> Tensor | None:
    """The running average over images, moved by a batch [N, *E]."""
    if values is None or (before and average is None):
        return None
    mean = values.flatten(1).cpu().double().mean(0)
    return mean if average is None else average + weight * (mean - average)
