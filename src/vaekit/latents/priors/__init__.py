"""p(z)."""

from vaekit.latents.priors.autoregressive import AutoregressivePrior
from vaekit.latents.priors.exemplar import ExemplarPrior
from vaekit.latents.priors.flow import FlowPrior
from vaekit.latents.priors.mixture import MixturePrior
from vaekit.latents.priors.normal import StandardNormal
from vaekit.latents.priors.vamp import VampPrior

__all__ = ["AutoregressivePrior", "ExemplarPrior", "FlowPrior", "MixturePrior", "StandardNormal", "VampPrior"]
