"""Flow posteriors of every kind, far from the Gaussian that they start as."""

import math

import torch

from vaekit.latents import Posterior
from vaekit.latents.posteriors import IAF, FlowPosterior, PlanarFlow, RadialFlow

FLOWS = {
    "planar": lambda f, d: PlanarFlow(f, d, 5),
    "radial": lambda f, d: RadialFlow(f, d, 5),
    "iaf": lambda f, d: IAF(f, d, 3, 32, 8),
    "nsf": lambda f, d: FlowPosterior(f, d, "nsf", 3, 32, 8),
    "realnvp": lambda f, d: FlowPosterior(f, d, "realnvp", 3, 32, 8),
    "maf": lambda f, d: FlowPosterior(f, d, "maf", 3, 32, 8),
}


def bent(name: str, features: int = 8, latent: int = 3, by: float = 1.0) -> Posterior:
    """A flow posterior that is far from a Gaussian."""
    part = FLOWS[name](features, latent)
    with torch.no_grad():
        for parameter in part.parameters():
            parameter.add_(by * torch.randn_like(parameter) / math.sqrt(parameter.shape[-1]))
    return part
