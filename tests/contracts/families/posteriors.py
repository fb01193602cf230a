"""Posteriors beside the diagonal Gaussian, and the priors that stand beside them."""

import vaekit.recipes.posteriors  # noqa: F401 (registers the recipes)
from vaekit.latents.posteriors import (
    IAF,
    FlowPosterior,
    FullCovariance,
    HyperbolicPosterior,
    LaplacePosterior,
    PlanarFlow,
    PointPosterior,
    RadialFlow,
    RelaxedCategorical,
    VonMisesFisherPosterior,
)
from vaekit.latents.priors.categories import UniformCategories
from vaekit.latents.priors.hyperbolic import HyperbolicNormal
from vaekit.latents.priors.laplace import StandardLaplace
from vaekit.latents.priors.sphere import UniformSphere

EXAMPLES = {
    "FullCovariance": lambda: FullCovariance(8, 3),
    "LaplacePosterior": lambda: LaplacePosterior(8, 3),
    "PointPosterior": lambda: PointPosterior(8, 3),
    "PlanarFlow": lambda: PlanarFlow(8, 3, 4),
    "RadialFlow": lambda: RadialFlow(8, 3, 4),
    "IAF": lambda: IAF(8, 3, 2, 16, 5),
    "FlowPosterior": lambda: FlowPosterior(8, 3, "nsf", 2, 16, 5),
    "VonMisesFisherPosterior": lambda: VonMisesFisherPosterior(8, 3),
    "RelaxedCategorical": lambda: RelaxedCategorical(8, 2, 3),
    "HyperbolicPosterior": lambda: HyperbolicPosterior(8, 3),
    "HyperbolicNormal": lambda: HyperbolicNormal(2),
    "StandardLaplace": lambda: StandardLaplace([2]),
    "UniformSphere": lambda: UniformSphere(3),
    "UniformCategories": lambda: UniformCategories(2, 3),
}
