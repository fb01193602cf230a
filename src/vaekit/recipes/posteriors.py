"""Other posteriors than a diagonal Gaussian, in the default networks."""

from vaekit.errors import UserError
from vaekit.latents import Flat, Posterior, StandardNormal
from vaekit.latents.posteriors import (
    IAF,
    FlowPosterior,
    FullCovariance,
    HyperbolicPosterior,
    LaplacePosterior,
    PlanarFlow,
    RadialFlow,
    RelaxedCategorical,
    VonMisesFisherPosterior,
)
from vaekit.latents.priors.categories import UniformCategories
from vaekit.latents.priors.hyperbolic import HyperbolicNormal
from vaekit.latents.priors.laplace import StandardLaplace
from vaekit.latents.priors.sphere import UniformSphere
from vaekit.recipes.conv import dimensions, variant
from vaekit.recipes.recipe import Recipe, Setting, recipe


def _normal(posterior: Posterior) -> Flat:
    return Flat(posterior, StandardNormal(list(posterior.event_shape)))


@recipe(
    "full-covariance",
    year=2013,
    paper="Auto-Encoding Variational Bayes (Kingma, Welling), with the full covariance of its section 2.1",
    url="https://arxiv.org/abs/1312.6114",
    good_for="codes whose uncertain dimensions move together: a tighter bound than a diagonal Gaussian, for small codes (the head grows with D^2)",
)
def full_covariance(s: Setting) -> Recipe:
    """The posterior is a Gaussian with a full covariance matrix, so that its dimensions may depend on each other for a given image. The divergence
    still has a closed form, through the Cholesky factor that the head puts out. The cost grows with the square of the latent size.
    """
    return variant(s, lambda features, latent: _normal(FullCovariance(features, latent)))


@recipe(
    "laplace",
    year=2013,
    paper="Auto-Encoding Variational Bayes (Kingma, Welling): a location-scale family with heavier tails, for q(z|x) and p(z)",
    url="https://arxiv.org/abs/1312.6114",
    good_for="codes with a few large values among small ones; unlike a Gaussian prior, this one is tied to axes, which helps to read them",
)
def laplace(s: Setting) -> Recipe:
    """Posterior and prior have heavier tails and a sharper peak than Gaussians. A code stays near zero in most dimensions and departs far in a few,
    which favours sparse explanations. The divergence has a closed form.
    """
    return variant(s, lambda features, latent: Flat(LaplacePosterior(features, latent), StandardLaplace([latent])))


@recipe(
    "planar",
    year=2015,
    paper="Variational Inference with Normalizing Flows (Rezende, Mohamed)",
    url="https://arxiv.org/abs/1505.05770",
    good_for="the first flow posterior: a cheap step from the Gaussian towards the true posterior, best for small codes (knob steps)",
)
def planar(s: Setting) -> Recipe:
    """The posterior's sample goes through a chain of planar maps, each of which bends the space along one direction. Their log-determinants are
    cheap, so that the bound stays exact while the posterior leaves the family of Gaussians. A few maps are enough to see the effect in small
    latents.
    """
    steps = s.knob("steps", 10)
    return variant(s, lambda features, latent: _normal(PlanarFlow(features, latent, steps)))


@recipe(
    "radial",
    year=2015,
    paper="Variational Inference with Normalizing Flows (Rezende, Mohamed)",
    url="https://arxiv.org/abs/1505.05770",
    good_for="as planar, with maps that pull codes to a point or push them from it (knob steps)",
)
def radial(s: Setting) -> Recipe:
    """As `planar`, with maps that contract or expand the space around a point. The two kinds suit different shapes: ridges there, blobs here. The
    density can be inverted in closed form.
    """
    steps = s.knob("steps", 10)
    return variant(s, lambda features, latent: _normal(RadialFlow(features, latent, steps)))


@recipe(
    "iaf",
    year=2016,
    paper="Improving Variational Inference with Inverse Autoregressive Flow (Kingma et al.)",
    url="https://arxiv.org/abs/1606.04934",
    good_for="a tighter bound with large codes: a flexible posterior whose samples cost one pass (knobs steps, width)",
)
def iaf(s: Setting) -> Recipe:
    """Each dimension of the sample is shifted and scaled by a network of the dimensions before it, all at once, since the noise is known. That is an
    inverse autoregressive flow: sampling is one pass, and so is the density of one's own sample. It is the most flexible posterior that scales to
    large latents.
    """
    steps, width = s.knob("steps", 4), s.knob("width", s.wide(128))
    return variant(s, lambda features, latent: _normal(IAF(features, latent, steps, width)))


@recipe(
    "flow-posterior",
    year=2019,
    paper="Neural Spline Flows (Durkan et al.), as a posterior",
    url="https://arxiv.org/abs/1906.04032",
    good_for="the most flexible posterior here whose density is known at any code (knobs kind: nsf, realnvp or maf; steps, width)",
)
def flow_posterior(s: Setting) -> Recipe:
    """Any flow of the library zuko, told the image's features, makes the posterior. The default is a spline flow, which can bend densities into
    several modes. It is slower than `iaf`, and a test of how much the Gaussian posterior costs.
    """
    kind, steps, width = s.knob("kind", "nsf"), s.knob("steps", 4), s.knob("width", s.wide(128))
    return variant(s, lambda features, latent: _normal(FlowPosterior(features, latent, kind, steps, width)))


@recipe(
    "svae",
    year=2018,
    paper="Hyperspherical Variational Auto-Encoders (Davidson et al.)",
    url="https://arxiv.org/abs/1804.00891",
    good_for="small codes without a centre, where all directions are alike: clusters, neighbours by angle, and classifiers on the codes",
)
def svae(s: Setting) -> Recipe:
    # One concentration serves all dimensions, so that a sphere of many of them is a poor fit.
    """Codes lie on a sphere, with a von Mises-Fisher posterior and a uniform prior. There is no centre that everything is pulled to, so that
    directions alone carry meaning, and the divergence depends on the concentration only. It suits small latents; in many dimensions the sphere's
    surface is hard to fill.
    """
    latent = s.latent or 10
    # It collapses to the uniform prior at the start more readily than a Gaussian does: hence the longer warm-up.
    objective = s.objective(warmup=0.3)
    return variant(s, lambda features, _: Flat(VonMisesFisherPosterior(features, latent), UniformSphere(latent)), objective, width=latent)


@recipe(
    "poincare",
    year=2019,
    paper="Continuous Hierarchical Representations with Poincare Variational Auto-Encoders (Mathieu et al.)",
    url="https://arxiv.org/abs/1901.06033",
    good_for="maps of images in few dimensions where kinds branch into sub-kinds: the space grows outwards as a tree does",
)
def poincare(s: Setting) -> Recipe:
    # Its gain is in few dimensions, 2 to 10.
    """Codes lie in a ball of hyperbolic space, where there is exponentially more room towards the edge. Images that form a hierarchy find it easier
    to spread there. Posterior and prior are Gaussians wrapped around that space.
    """
    latent = s.latent or 5
    return variant(s, lambda features, _: Flat(HyperbolicPosterior(features, latent), HyperbolicNormal(latent)), width=latent)


@recipe(
    "gumbel",
    year=2016,
    paper="Categorical Reparameterization with Gumbel-Softmax (Jang et al.); The Concrete Distribution (Maddison et al.)",
    url="https://arxiv.org/abs/1611.01144",
    good_for="codes that are choices: a few categorical variables for each image, with a true bound in eval (knobs classes, start, end)",
)
def gumbel(s: Setting) -> Recipe:
    """The code is a row of categories: several variables with a few values each. Training samples are relaxed, softmax of noisy logits at a
    temperature that falls, so that gradients flow; measured and sampled is the model with hard categories. Its ELBO is then exact.
    """
    latent = s.latent or (200 if dimensions(s) <= 40 else 400)
    variables, classes = _categories(s, latent)
    start, end = s.knob("start", 1.0), s.knob("end", 0.5)

    def code(features: int, _: int) -> Flat:
        return Flat(RelaxedCategorical(features, variables, classes, start, end), UniformCategories(variables, classes))

    return variant(s, code, width=latent)


def _categories(s: Setting, latent: int) -> tuple[int, int]:
    """V and K with V K = latent: K as it was set, else the largest divisor up to 10, else one variable of them all."""
    classes = s.knob("classes", 10)
    if "classes" in s.knobs:
        if classes < 2 or latent % classes:
            raise UserError(f"latent is variables times classes: {latent} is not a multiple of {classes} classes (of two or more).")
        return latent // classes, classes
    if latent < 2:
        raise UserError("A categorical code has at least two classes: set --latent to variables times classes, 200 say.")
    classes = next((k for k in range(min(classes, latent), 1, -1) if latent % k == 0), latent)
    return latent // classes, classes
