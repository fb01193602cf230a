"""q(z|x)."""

from vaekit.latents.posteriors.gaussian import DiagonalGaussian

__all__ = ["DiagonalGaussian"]
