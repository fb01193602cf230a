"""JointVAE: continuous factors and a category side by side, each with a capacity of its own."""

import math
from dataclasses import replace

from vaekit.latents import DiagonalGaussian, Flat, Latent, StandardNormal
from vaekit.latents.posteriors.categorical import RelaxedCategorical
from vaekit.latents.priors.categories import UniformCategories
from vaekit.latents.product import Product
from vaekit.objectives import Warmup
from vaekit.objectives.joint import JointCapacity
from vaekit.recipes.conv import variant
from vaekit.recipes.recipe import Recipe, Setting, recipe


@recipe(
    "joint",
    year=2018,
    paper="Learning Disentangled Joint Continuous and Discrete Representations (Dupont)",
    url="https://arxiv.org/abs/1804.00104",
    good_for="sorting images into kinds without labels: one code says which kind, the others how it looks (angle, width, thickness)",
)
def joint(s: Setting) -> Recipe:
    """A code of two kinds: a category and a Gaussian vector. Each has a capacity in nats that grows over the run, so that the category cannot be
    ignored. On images that come in kinds, the category finds them without labels.
    """
    s.refuse_weight("each kind of code is held to a capacity (--set capacity=, gamma=)")
    classes, capacity = s.knob("classes", 10), s.knob("capacity", 5.0 if s.data.dimensions <= 1024 else 30.0)
    s = replace(s, latent=s.latent or 10)
    # One variable of K classes carries log K nats at most.
    capacities = [Warmup(0.25, 0.0, capacity), Warmup(0.25, 0.0, min(capacity, math.log(classes)))]
    # 30 at 32 x 32 is the paper's; what it stands against, the distortion, grows with the image. Without balance all images end in one class.
    gamma = s.knob("gamma", round(30.0 * s.data.dimensions / 1024, 2))
    objective = JointCapacity(capacities, gamma, s.knob("balance", gamma))
    return variant(s, lambda features, latent: _code(features, latent, classes), objective, width=s.latent + classes, select="last")  # type: ignore[operator]


def _code(features: int, latent: int, classes: int) -> Latent:
    continuous = Flat(DiagonalGaussian(features, latent), StandardNormal([latent]))
    return Product([continuous, Flat(RelaxedCategorical(features, 1, classes), UniformCategories(1, classes))])
