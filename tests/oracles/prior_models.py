"""Small models with each of the priors inside the bound, and what stands for their codes and exemplars."""

import torch
from torch.distributions import Distribution, Independent, Normal

from tests.contracts.examples import SHAPE, batch, nets, raw, scrambled
from tests.contracts.families.priors import moved
from vaekit.latents import DensityPrior, DiagonalGaussian, Flat
from vaekit.latents.base import AnchoredPrior
from vaekit.latents.priors import AutoregressivePrior, ExemplarPrior, FlowPrior, MixturePrior, VampPrior
from vaekit.likelihoods import Gaussian
from vaekit.model import VAE
from vaekit.networks import Condition
from vaekit.output import Batch

D = 3
PRIORS = {
    "mixture": lambda: moved(MixturePrior(D, components=7)),
    "vamp": lambda: VampPrior(SHAPE, components=6),
    "exemplar": lambda: ExemplarPrior(SHAPE, exemplars=8, per_step=4),
    "realnvp": lambda: moved(FlowPrior(D, "realnvp", 3, 16)),
    "maf": lambda: moved(FlowPrior(D, "maf", 2, 16)),
    "nsf": lambda: moved(FlowPrior(D, "nsf", 2, 16)),
    "autoregressive": lambda: moved(AutoregressivePrior(D, 16, 4)),
}


def model_with(prior: DensityPrior | AnchoredPrior, condition: Condition | None = None) -> VAE:
    """A small VAE that knows its data-dependent start."""
    likelihood = Gaussian(sigma=0.3, channels=SHAPE[0])
    told = 0 if condition is None else condition.features
    encoder, decoder = nets("mlp", SHAPE, likelihood.channels(SHAPE[0]), D, told)
    return VAE(encoder, Flat(DiagonalGaussian(encoder.features, D), prior), decoder, likelihood, condition)


def started(name: str) -> tuple[VAE, Batch]:
    """A model with this prior after its data-dependent start, and the images of that start."""
    model, data = model_with(PRIORS[name]()), batch(12)
    scrambled(model.encoder), scrambled(model.decoder), scrambled(model.latent.posterior)
    model.initialize(data)
    return model, data


def gaussians(count: int, size: int = D) -> Distribution:
    """Always the same posteriors, as of `count` images."""
    generator = torch.Generator().manual_seed(1)
    loc = torch.randn(count, size, generator=generator)
    return Independent(Normal(loc, 0.3 + torch.rand(count, size, generator=generator)), 1)


def exemplars(count: int, **more: object) -> ExemplarPrior:
    """A prior of up to six exemplars that has seen `count` images, the rows from 10 on of their data set."""
    prior = ExemplarPrior([1, 4, 5], exemplars=6, **more)
    x = raw(count, [1, 4, 5])
    prior.initialize(x, None, 10 + torch.arange(count), x.float() / 255)
    return prior
