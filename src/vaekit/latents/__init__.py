"""q(z|x) and p(z): a latent owns both."""

from vaekit.latents.base import AnchoredPrior, DensityPrior, Latent, Posterior, Prior
from vaekit.latents.discrete import Discrete
from vaekit.latents.flat import Flat
from vaekit.latents.ladder import Ladder
from vaekit.latents.posteriors import DiagonalGaussian
from vaekit.latents.prior_only import PriorOnly
from vaekit.latents.priors import StandardNormal
from vaekit.latents.product import Product

__all__ = [
    "AnchoredPrior",
    "DensityPrior",
    "DiagonalGaussian",
    "Discrete",
    "Flat",
    "Ladder",
    "Latent",
    "Posterior",
    "Prior",
    "PriorOnly",
    "Product",
    "StandardNormal",
]
