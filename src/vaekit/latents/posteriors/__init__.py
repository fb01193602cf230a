"""q(z|x)."""

from vaekit.latents.posteriors.categorical import RelaxedCategorical
from vaekit.latents.posteriors.flow import IAF, FlowPosterior, PlanarFlow, RadialFlow
from vaekit.latents.posteriors.full_covariance import FullCovariance
from vaekit.latents.posteriors.gaussian import DiagonalGaussian
from vaekit.latents.posteriors.gaussian_map import GaussianMap
from vaekit.latents.posteriors.hyperbolic import HyperbolicPosterior
from vaekit.latents.posteriors.laplace import LaplacePosterior
from vaekit.latents.posteriors.point import PointPosterior
from vaekit.latents.posteriors.sphere import VonMisesFisherPosterior

__all__ = [
    "IAF",
    "DiagonalGaussian",
    "FlowPosterior",
    "FullCovariance",
    "GaussianMap",
    "HyperbolicPosterior",
    "LaplacePosterior",
    "PlanarFlow",
    "PointPosterior",
    "RadialFlow",
    "RelaxedCategorical",
    "VonMisesFisherPosterior",
]
