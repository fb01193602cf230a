"""Priors that are learned with the model: each closes some of the gap between the codes of the data and N(0, I)."""

from dataclasses import replace

from vaekit.latents import DiagonalGaussian, Flat
from vaekit.latents.base import AnchoredPrior, DensityPrior
from vaekit.latents.priors import AutoregressivePrior, ExemplarPrior, FlowPrior, MixturePrior, VampPrior
from vaekit.recipes.conv import dimensions, variant
from vaekit.recipes.recipe import Recipe, Setting, recipe


def _with(s: Setting, prior: DensityPrior | AnchoredPrior) -> Recipe:
    return variant(s, lambda features, latent: Flat(DiagonalGaussian(features, latent), prior))


@recipe(
    "mixture",
    year=2017,
    paper="The mixture-of-Gaussians prior of VAE with a VampPrior (Tomczak, Welling)",
    url="https://arxiv.org/abs/1705.07120",
    good_for="data of several kinds: a prior of 500 learned Gaussians; better samples than N(0, I) at next to no cost",
)
def mixture(s: Setting) -> Recipe:
    """The prior is a learned mixture of Gaussians instead of one. Where images fall into kinds, the codes need not be pressed into one ball, and the
    bound rises by what that costs. Sampling stays a draw from the mixture.
    """
    return _with(s, MixturePrior(dimensions(s), s.knob("components", 500)))


@recipe(
    "vamp",
    year=2017,
    paper="VAE with a VampPrior (Tomczak, Welling)",
    url="https://arxiv.org/abs/1705.07120",
    good_for="a better likelihood and less collapse: the prior is the average posterior of 500 learned pseudo-images; every step encodes them too, "
    "so it is several times slower than conv (--set components=100 is faster)",
)
def vamp(s: Setting) -> Recipe:
    """The prior is the mixture of the posteriors of learned pseudo-images. It is thus shaped as the aggregate of the posteriors is, which is the
    best prior that there could be, and costs one encoding of the pseudo-images per step. After training the pseudo-images themselves are pictures
    of what the model knows.
    """
    return _with(s, VampPrior(list(s.data.shape), s.knob("components", 500), s.condition_width(), s.data.levels))


@recipe(
    "exemplar",
    year=2020,
    paper="Exemplar VAE: Linking Generative Models, Nearest Neighbor Retrieval, and Data Augmentation (Norouzi et al.)",
    url="https://arxiv.org/abs/2004.04795",
    good_for="new images as variations of real ones, and codes that suit nearest neighbours; the model's file holds up to 1,000 training images",
)
def exemplar(s: Setting) -> Recipe:
    """The prior is a mixture around the codes of training images: to draw a new image, take one, and vary it. An image never counts as its own
    exemplar, so that copying does not pay. The exemplars are kept inside the model's file.
    """
    one = [] if s.condition == "class" else [len(s.data.attributes)]
    exemplars, drawn = s.knob("exemplars", 1000), s.knob("per_step", 256)
    built = _with(s, ExemplarPrior(list(s.data.shape), exemplars, drawn, s.data.levels, one if s.condition else None))
    return replace(built, start=max(built.start, exemplars))


@recipe(
    "realnvp",
    year=2016,
    paper="Density estimation using Real NVP (Dinh et al.), as the prior",
    url="https://arxiv.org/abs/1605.08803",
    good_for="the default: any folder of images up to about 128 x 128; better likelihood and samples than conv for hardly more time",
)
def realnvp(s: Setting) -> Recipe:
    """The prior is a flow of affine coupling layers, trained inside the bound. It bends N(0, I) to where the codes are, so that fewer nats are lost
    between posterior and prior and samples fall where the decoder knows what to draw. Density and sampling are both one pass.
    """
    return _with(s, _flow(s, "realnvp", 4))


@recipe(
    "maf",
    year=2017,
    paper="Masked Autoregressive Flow for Density Estimation (Papamakarios et al.), as the prior",
    url="https://arxiv.org/abs/1705.07057",
    good_for="a good likelihood at little cost: an autoregressive flow as the prior; samples take one pass for each latent dimension",
)
def maf(s: Setting) -> Recipe:
    """The prior is a masked autoregressive flow: each dimension of the code given those before it. Its density, which training needs, is one pass;
    sampling takes one per dimension. It fits better than `realnvp` layer for layer.
    """
    return _with(s, _flow(s, "maf", 3))


@recipe(
    "nsf",
    year=2019,
    paper="Neural Spline Flows (Durkan et al.), as the prior",
    url="https://arxiv.org/abs/1906.04032",
    good_for="the most flexible of the flow priors, for few latent dimensions and some patience: splines can bend a density into any shape",
)
def nsf(s: Setting) -> Recipe:
    """The prior is an autoregressive flow of monotone splines, which can put several modes into every dimension. It is the most flexible of the flow
    priors here, and the slowest. Use it when the aggregate of the codes is far from a Gaussian.
    """
    return _with(s, _flow(s, "nsf", 2))


@recipe(
    "autoregressive-prior",
    year=2016,
    paper="Variational Lossy Autoencoder (Chen et al.): an autoregressive prior, here of Gaussian mixtures",
    url="https://arxiv.org/abs/1611.02731",
    good_for="the best likelihood of the learned priors: each latent dimension is a mixture of Gaussians given those before it",
)
def autoregressive_prior(s: Setting) -> Recipe:
    """The prior gives each dimension of the code a mixture of Gaussians, told the dimensions before it by one masked network. Its density is exact
    and one pass. Sampling goes dimension by dimension.
    """
    return _with(s, AutoregressivePrior(dimensions(s), s.knob("hidden", s.wide(256)), s.knob("components", 8)))


def _flow(s: Setting, name: str, transforms: int) -> FlowPrior:
    return FlowPrior(dimensions(s), name, s.knob("transforms", transforms), s.knob("hidden", s.wide(128)), s.condition_width())
