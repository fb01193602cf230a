"""q(z|x) and p(z): a latent owns both."""

from vaekit.latents.base import DensityPrior, Latent, Posterior, Prior
from vaekit.latents.flat import Flat
from vaekit.latents.posteriors import DiagonalGaussian
from vaekit.latents.priors import StandardNormal

__all__ = ["DensityPrior", "DiagonalGaussian", "Flat", "Latent", "Posterior", "Prior", "StandardNormal"]
