"""Codes whose dimensions are to be independent: each adds a measure of their dependence to the bound."""

from dataclasses import replace

from vaekit.objectives import ELBO, Warmup
from vaekit.penalties import DIP, CodeDiscriminator, FactorTC, TotalCorrelation
from vaekit.recipes.conv import dimensions, variant
from vaekit.recipes.mlp import nets
from vaekit.recipes.recipe import Recipe, Setting, recipe

LATENT = 10
"""Dimensions of the code where none are asked for: few enough to look at one by one."""


def few(s: Setting) -> Setting:
    """The setting with a code of ten dimensions unless it was said otherwise."""
    return s if s.latent else replace(s, latent=LATENT)


def bound(s: Setting) -> ELBO:
    """The ELBO with a weight of 1 on the divergence: what `beta` multiplies in these recipes is the total correlation alone."""
    return replace(s, beta=1.0).objective(warmup=0.1)


@recipe(
    "beta-tc",
    year=2018,
    paper="Isolating Sources of Disentanglement in VAEs (Chen et al.)",
    url="https://arxiv.org/abs/1802.04942",
    good_for="one factor of the images (position, size, colour) for each dimension of the code, to be turned like knobs; no second network",
)
def beta_tc(s: Setting) -> Recipe:
    """The divergence is split into what the code says of the image, how much its dimensions depend on each other, and the rest; only the dependence,
    the total correlation, is weighted up. Independent dimensions tend to be the factors of the images. It is estimated on the batch, with weights
    that account for the size of the data set.

    beta is the weight of the total correlation: the loss is -ELBO + (beta - 1) TC.
    """
    s = few(s)
    beta = s.knob("beta", 6.0 if s.beta is None else s.beta)
    estimator = s.knob("estimator", "stratified")
    penalty = TotalCorrelation(s.data.count, estimator, weight=Warmup(0.1, 0.0, beta - 1))
    return variant(s, None, bound(s), penalty, select="last", networks=nets(s))


@recipe(
    "factor",
    year=2018,
    paper="Disentangling by Factorising (Kim, Mnih)",
    url="https://arxiv.org/abs/1802.05983",
    good_for="the aim of beta-tc, with a discriminator in place of the batch's estimate: sharper images for the same independence, slower",
)
def factor(s: Setting) -> Recipe:
    """As `beta-tc`, with a discriminator that tells codes from codes whose dimensions were shuffled: its logit is the log ratio whose mean is the
    total correlation. It needs no estimate on the batch, and a second network. Training alternates between the two.
    """
    s = few(s)
    penalty = FactorTC(weight=Warmup(0.1, 0.0, s.knob("gamma", 10.0)))
    critic = CodeDiscriminator(dimensions(s), width=s.wide(256))
    return variant(s, None, s.objective(warmup=0.1), penalty, critics={"code": critic}, select="last", networks=nets(s))


@recipe(
    "dip-i",
    year=2017,
    paper="Variational Inference of Disentangled Latent Concepts (Kumar et al.)",
    url="https://arxiv.org/abs/1711.00848",
    good_for="codes whose means are uncorrelated and of unit variance, a cheap step towards disentangling",
)
def dip_i(s: Setting) -> Recipe:
    """The covariance of the posterior's means over the batch is drawn to the identity. Uncorrelated dimensions of unit variance are a first step
    towards independent ones, and cost next to nothing. The aggregate posterior then resembles the prior in its first two moments.
    """
    s = few(s)
    off = s.knob("off_diagonal", 10.0)
    penalty = DIP("I", off, s.knob("diagonal", 10 * off), weight=Warmup(0.1))
    return variant(s, None, s.objective(warmup=0.1), penalty, select="last", networks=nets(s))


@recipe(
    "dip-ii",
    year=2017,
    paper="Variational Inference of Disentangled Latent Concepts (Kumar et al.)",
    url="https://arxiv.org/abs/1711.00848",
    good_for="as dip-i, for the codes themselves and not their means: where many dimensions would stay unused",
)
def dip_ii(s: Setting) -> Recipe:
    """As `dip-i`, with the covariance of the codes themselves: that of the means and the mean of the posterior's variances. Where `dip-i` leaves
    unused dimensions noisy, this one sees their noise. It suits a latent that is larger than needed.
    """
    s = few(s)
    off = s.knob("off_diagonal", 10.0)
    penalty = DIP("II", off, s.knob("diagonal", off), weight=Warmup(0.1))
    return variant(s, None, s.objective(warmup=0.1), penalty, select="last", networks=nets(s))
