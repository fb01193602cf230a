"""The default networks under another objective: weights and schedules of the divergence, tighter bounds, better gradients, controllers."""

from dataclasses import replace
from typing import Any

from vaekit.errors import UserError
from vaekit.objectives import CIWAE, ELBO, GECO, IWAE, MIWAE, PIWAE, STL, Cyclical, DReG, Objective, Renyi, TargetRate
from vaekit.recipes.conv import dimensions, variant
from vaekit.recipes.recipe import Recipe, Setting, recipe

RAINFORTH: dict[str, Any] = {
    "year": 2018,
    "paper": "Tighter Variational Bounds are Not Necessarily Better (Rainforth et al.)",
    "url": "https://arxiv.org/abs/1802.04537",
}


@recipe(
    "free-bits",
    year=2016,
    paper="Improving Variational Inference with Inverse Autoregressive Flow (Kingma et al.)",
    url="https://arxiv.org/abs/1606.04934",
    good_for="a code of which every dimension is used: nothing is gained by saying less than --free-bits nats (0.25) with any of them",
)
def free_bits(s: Setting) -> Recipe:
    """Each latent dimension may carry a quarter of a nat or so for nothing; only what exceeds it is paid for. A dimension is thus never pushed below
    that threshold, and the collapse that comes from the first steps, when the decoder cannot read the code yet, does not happen. Reports always
    give the true divergence.
    """
    return variant(replace(s, free_bits=0.25 if s.free_bits is None else s.free_bits), select="last")


@recipe(
    "cyclical",
    year=2019,
    paper="Cyclical Annealing Schedule: A Simple Approach to Mitigating KL Vanishing (Fu et al.)",
    url="https://arxiv.org/abs/1903.10145",
    good_for="a decoder that ignores the code: the divergence is switched off and brought back several times",
)
def cyclical(s: Setting) -> Recipe:
    """Beta rises from 0 to 1 several times over the run instead of once. Each low phase lets the code say more, each high phase makes that cheap,
    and the next phase starts from a better code. It is known from text, where a single warm-up is often not enough.
    """
    s.refuse(warmup="each of its cycles warms up (--set ramp=0.5)")
    weight = Cyclical(s.knob("cycles", 4), s.knob("ramp", 0.5), 1.0 if s.beta is None else s.beta)
    return variant(s, objective=ELBO(beta=weight, free_bits=s.free_bits or 0.0))


@recipe(
    "iwae",
    year=2015,
    paper="Importance Weighted Autoencoders (Burda, Grosse, Salakhutdinov)",
    url="https://arxiv.org/abs/1509.00519",
    good_for="a better likelihood than the ELBO's, and a posterior that may be of any shape; each step costs 5 decoder passes (--set samples=5)",
)
def iwae(s: Setting) -> Recipe:
    """The bound averages the importance weights of K samples before the logarithm, and comes closer to log p(x) as K grows. The decoder learns from
    a posterior richer than the encoder can state, since the weights correct it. The encoder's own signal fades as K grows: `dreg`, `miwae` and
    `piwae` are answers to that.
    """
    return sampled(s, IWAE(s.knob("samples", 5)))


@recipe("miwae", **RAINFORTH, good_for="iwae with a better trained encoder: the mean of 2 bounds of 4 samples; each step costs 8 decoder passes")
def miwae(s: Setting) -> Recipe:
    """M groups of K samples: the importance-weighted bound of each group, averaged. The groups give back to the encoder the signal that one bound of
    M*K samples would drown in noise. M = 1 is `iwae`, and K = 1 the ELBO.
    """
    return sampled(s, MIWAE(s.knob("groups", 2), s.knob("samples", 4)))


@recipe("ciwae", **RAINFORTH, good_for="something between the ELBO and iwae, by the share --set elbo=0.5; each step costs 5 decoder passes")
def ciwae(s: Setting) -> Recipe:
    """A mixture of the ELBO, which teaches the encoder well, and of the importance-weighted bound, which teaches the decoder well. One number, beta,
    moves between the two. Both are computed from the same K samples.
    """
    return sampled(s, CIWAE(s.knob("samples", 5), s.knob("elbo", 0.5)))


@recipe("piwae", **RAINFORTH, good_for="the decoder of iwae with the encoder of miwae, often the best of the three; each step costs 8 decoder passes")
def piwae(s: Setting) -> Recipe:
    """The decoder learns from the tightest bound, of all M*K samples, and the encoder from the mean of M looser ones. Each gets the objective that
    teaches it best, out of the same samples. Nothing else differs from `iwae`.
    """
    return sampled(s, PIWAE(s.knob("groups", 2), s.knob("samples", 4)))


@recipe(
    "renyi",
    year=2016,
    paper="Renyi Divergence Variational Inference (Li, Turner)",
    url="https://arxiv.org/abs/1602.02311",
    good_for="a choice between the ELBO (--set alpha=1) and iwae (alpha=0), or beyond: how much of the true posterior is covered; 5 decoder passes",
)
def renyi(s: Setting) -> Recipe:
    """A family of bounds from Renyi's divergence of order alpha: alpha = 1 is the ELBO, alpha = 0 the importance-weighted bound. Orders below 1 let
    the posterior cover all that the data allow, orders above 1 make it choose. The samples are those of `iwae`, weighted by another power.
    """
    return sampled(s, Renyi(s.knob("alpha", 0.5), s.knob("samples", 5)))


@recipe(
    "stl",
    year=2017,
    paper="Sticking the Landing: Simple, Lower-Variance Gradient Estimators for Variational Inference (Roeder, Wu, Duvenaud)",
    url="https://arxiv.org/abs/1703.09194",
    good_for="flows and other rich posteriors: an ELBO gradient without noise where the posterior is right, at no cost",
)
def stl(s: Setting) -> Recipe:
    """The gradient of the ELBO has a part with mean zero, the score of the posterior at its own sample, and leaving it out removes its noise. At the
    exact posterior the gradient is then zero for every sample, so that training can settle: it sticks the landing. The bound itself is unchanged.
    """
    return sampled(s, STL(s.knob("samples", 1)))


@recipe(
    "dreg",
    year=2018,
    paper="Doubly Reparameterized Gradient Estimators for Monte Carlo Objectives (Tucker et al.)",
    url="https://arxiv.org/abs/1810.04152",
    good_for="iwae with many samples: its encoder's gradient keeps its signal; each step costs 8 decoder passes (--set samples=8)",
)
def dreg(s: Setting) -> Recipe:
    """The importance-weighted bound with a gradient for the encoder that goes through the samples alone, each weighted by its squared share. It has
    the same mean as the plain gradient and none of the part that drowns as K grows. The decoder's gradient is that of `iwae`.
    """
    return sampled(s, DReG(s.knob("samples", 8)))


@recipe(
    "geco",
    year=2018,
    paper="Taming VAEs (Rezende, Viola)",
    url="https://arxiv.org/abs/1810.00597",
    good_for="reconstructions of a quality that you choose (--set fraction: what of the pixels' variance may be lost), with the simplest code for it",
)
def geco(s: Setting) -> Recipe:
    """Instead of weighing the divergence, ask for a reconstruction error: a multiplier rises while the error is too high and falls when it is met.
    What is left is spent on making the code cheap. The target is what a user can judge by eye, where beta is not.
    """
    s.refuse_weight("it finds the weight itself")
    fraction, target = s.knob("fraction", usual_fraction(s)), s.knob("target", None)
    if isinstance(s.sigma, str):
        raise UserError("geco needs noise of a fixed width, since its target is a distortion: give a number, for example --sigma 0.1.")
    return variant(s.with_sigma(0.1), objective=GECO(number("target", target), fraction, s.knob("gain", 0.01)), select="last")


@recipe(
    "target-rate",
    year=2020,
    paper="ControlVAE: Controllable Variational Autoencoder (Shao et al.)",
    url="https://arxiv.org/abs/2004.05988",
    good_for="a code that carries just so much (--set target, in nats), so that models can be compared at one rate and none collapses",
)
def target_rate(s: Setting) -> Recipe:
    """A controller turns beta up when the codes carry more nats than asked for, and down when they carry fewer. The run ends near the target
    whatever the images are. It is the way to compare models at one rate, and a cure for collapse.
    """
    s.refuse_weight("it finds the weight itself")
    return variant(s, objective=TargetRate(s.knob("target", usual_rate(s)), s.knob("gain", 0.02)), select="last")


def sampled(s: Setting, objective: Objective) -> Recipe:
    """These networks under a bound of several samples."""
    s.refuse(beta="it is a bound as it stands", free_bits="it has no divergence by dimension", warmup="it is a bound as it stands")
    if s.sigma == "optimal" and objective.samples > 1:
        raise UserError("An optimal sigma is measured with one sample for each image: take --sigma learned, or a number.")
    return variant(s.with_sigma("learned"), objective=objective)


def usual_rate(s: Setting) -> float:
    """2 nats for each dimension, about what a used one carries (one place of seven, e^2), but at most 20: what small grey images need in all."""
    return float(min(20, 2 * dimensions(s)))


def usual_fraction(s: Setting) -> float:
    """How much of the first distortion above the floor `geco` leaves.

    A quarter of the variance (half of the absolute error, its square root) under noise of a fixed width is a recognizable picture that a few
    dozen dimensions can give. Bits that are uncertain in themselves cost about a quarter of the first distortion in any model, and a good one
    of handwritten digits reaches a third: 0.4. A likelihood with a width of its own starts close to where it ends: 0.8.
    """
    name = s.likelihood or ("bernoulli" if s.data.levels == 2 else "gaussian")
    return {"gaussian": 0.25, "laplace": 0.5, "bernoulli": 0.4}.get(name, 0.8)


def number(name: str, value: Any) -> float | None:
    """The value of a knob that is None unless it is set."""
    try:
        return None if value is None else float(value)
    except ValueError as error:
        raise UserError(f"{name} is a number, and it is '{value}'.") from error
