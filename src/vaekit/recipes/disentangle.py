"""Codes whose dimensions are to mean one thing each: what they may carry is kept short, or a measure of their dependence is added to the bound.

All but `annealed` start with a heavy divergence, which falls over the first 60 % of the run (`start`, a knob). A code that may say little at first
says what saves the most distortion, the position of a shape, in the fewest dimensions, and along the prior's axes; the next factors then find
dimensions of their own. A code that is free from the first step spreads position over three or four dimensions and does not leave them again.
"""

from dataclasses import replace

from vaekit.errors import UserError
from vaekit.objectives import ELBO, Annealing, Warmup
from vaekit.penalties import DIP, CodeDiscriminator, FactorTC, TotalCorrelation
from vaekit.recipes.conv import dimensions, variant
from vaekit.recipes.mlp import nets
from vaekit.recipes.objectives import usual_rate
from vaekit.recipes.recipe import Recipe, Setting, recipe

LATENT = 10
"""Dimensions of the code where none are asked for: few enough to look at one by one."""


def few(s: Setting) -> Setting:
    """The setting with a code of ten dimensions unless it was said otherwise."""
    return s if s.latent else replace(s, latent=LATENT)


def bound(s: Setting, weight: float | None = None) -> ELBO:
    """The ELBO whose divergence falls from `start` to its weight; a `start` that is not above the weight gives a constant one after a warm-up.

    What a nat of code saves at most grows with the number of pixels. At one for each 50 of them a shape's code says two nats: where it is, in as many
    dimensions as the plane has. At three times as much it says nothing, and in a long run its dimensions then come one after the other: the first may
    get so far ahead that it winds through the plane.
    """
    end = (1.0 if s.beta is None else s.beta) if weight is None else weight
    usual = end if s.warmup is not None or end < 1 else max(end, s.data.dimensions / 50)
    start = s.knob("start", float(usual))
    if start <= end:
        return replace(s, beta=end).objective(warmup=0.1)
    if s.warmup is not None:
        raise UserError("--warmup and --set start= cannot both decide how the divergence begins: leave one of them out.")
    return ELBO(beta=Annealing(0.6, start, end), free_bits=s.free_bits or 0.0)


@recipe(
    "beta",
    year=2017,
    paper="beta-VAE: Learning Basic Visual Concepts with a Constrained Variational Framework (Higgins et al.)",
    url="https://openreview.net/forum?id=Sy2fzU9gl",
    good_for="latent dimensions that each mean one thing, at the price of blurrier pictures; below 1 (--beta 0.3) sharper pictures instead",
)
def beta(s: Setting) -> Recipe:
    """The divergence counts beta times, so that each nat of code must save more than beta nats of distortion. A tighter code is pressed to use its
    dimensions for what varies independently, which often makes them meaningful. The price is blur: details that cost more than they save are
    dropped.
    """
    return variant(s, None, bound(s, s.knob("beta", 4.0 if s.beta is None else float(s.beta))), select="last", networks=nets(s))


@recipe(
    "annealed",
    year=2018,
    paper="Understanding disentangling in beta-VAE (Burgess et al.)",
    url="https://arxiv.org/abs/1804.03599",
    good_for="latent dimensions that each mean one thing, with sharper pictures than beta: what the code may carry grows over the run",
)
def annealed(s: Setting) -> Recipe:
    """The code is given a capacity in nats that grows over the run, and is held to it by gamma |KL - C|. What matters most to the reconstruction is
    learned first, one factor after the other, each in a dimension that is free by then. The final capacity, and not beta, decides how much detail
    is kept.
    """
    s.refuse(beta="its weight is gamma (--set gamma=10)")
    rise = Warmup(0.5 if s.warmup is None else s.warmup, 0.0, s.knob("capacity", usual_rate(s)))
    objective = ELBO(capacity=rise, gamma=s.knob("gamma", 10.0), free_bits=s.free_bits or 0.0)
    return variant(s, None, objective, select="last", networks=nets(s))


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
    beta = s.knob("beta", 6.0 if s.beta is None else float(s.beta))
    estimator = s.knob("estimator", "stratified")
    penalty = TotalCorrelation(s.data.count, estimator, weight=Warmup(0.1, 0.0, beta - 1))
    return variant(s, None, bound(s, 1.0), penalty, select="last", networks=nets(s))


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
    return variant(s, None, bound(s), penalty, critics={"code": critic}, select="last", networks=nets(s))


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
    return variant(s, None, bound(s), penalty, select="last", networks=nets(s))


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
    return variant(s, None, bound(s), penalty, select="last", networks=nets(s))
