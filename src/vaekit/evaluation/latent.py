"""Which latent dimensions a model uses, and whether its posterior collapses."""

from collections.abc import Callable, Iterable

import torch
from jaxtyping import Float
from torch import Tensor

from vaekit.output import LatentTerm

ACTIVE = 0.01
"""A dimension is active when the variance over x of its posterior mean is above this, in squared latent units."""


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
        self.codes: Float[Tensor, "size"] | None = None
        """How often each entry of a codebook was used; None for real codes."""

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
            size = term.codebook
            counts = torch.bincount(term.z.flatten().cpu(), minlength=size).double()
            self.codes = counts if self.codes is None else self.codes + counts
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
        return None if self.variance_of_means is None else int((self.variance_of_means > ACTIVE).sum())


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
        """The share of the codebooks' entries that were used at all, the mean over the layers that have one."""
        return self._over_codebooks(lambda p: float((p > 0).double().mean()))

    @property
    def codebook_perplexity(self) -> float | None:
        """exp(entropy of the codes in use): as many entries, used alike, would carry as much; the mean over the layers with a codebook."""
        return self._over_codebooks(lambda p: float(torch.special.entr(p).sum().exp()))

    def _over_codebooks(self, figure: Callable[[Tensor], float]) -> float | None:
        figures = [figure(layer.codes / layer.codes.sum()) for layer in self.layers if layer.codes is not None]
        return sum(figures) / len(figures) if figures else None

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
    Layers without a distribution (an autoencoder's points) cannot collapse to it. A codebook has collapsed when less than a tenth of it is in use.
    """
    usage = stats.codebook_usage
    if usage is not None and usage < 0.1:
        return (
            f"{100 * usage:.1f} % of the codebook is in use: it is collapsing; try the recipe fsq, which has no codebook to collapse, "
            "a smaller codebook, or a larger batch, from which it starts."
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
    return f"{used}: the posterior is collapsing; try --warmup 0.3, --free-bits 0.25 or a smaller --beta."


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
