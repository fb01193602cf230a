"""p(z)."""

from vaekit.latents.priors.normal import StandardNormal

__all__ = ["StandardNormal"]
