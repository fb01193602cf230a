"""Codes of p(z | what is seen of an image), by Hamiltonian chains that begin at the prior."""

import torch
from torch import Tensor

from vaekit.evaluation.annealed import LIMITS, PILOTS, TARGET, path_of, temperatures, transition, tuned_steps
from vaekit.evaluation.passes import seeded
from vaekit.latents import Flat
from vaekit.latents.support import supports
from vaekit.model import VAE, evaluating
from vaekit.output import Batch, fold


def able(model: VAE) -> bool:
    """Whether chains can run in the model's codes: one real vector for each image, with a prior density."""
    latent = model.latent
    wanted = isinstance(latent, Flat) and supports(latent) == ("reals",) and {"vector", "density"} <= latent.gives
    return wanted and model.likelihood.kind != "energy"


def posterior_codes(model: VAE, batch: Batch, count: int, *, steps: int = 60, leapfrog: int = 5, settle: int = 10, seed: int = 0) -> Tensor:
    """`count` codes [A, B, *E] for each image: the ends of independent chains from the prior to p(z | x_obs), close to draws of it.

    A chain goes through p(z) p(x_obs|z)^t as t rises from 0 to 1 in `steps`, one Hamiltonian transition at each t, as annealed importance sampling
    does, and `settle` more at t = 1. p(z) is the prior that was fitted to the model's codes, if there is one with a density of them. Since a chain
    begins at the prior, chains may end at different explanations of what is seen, which draws of q(z|x) seldom are; an explanation with little mass
    may get more than its share when the annealing is short.

    Args:
        batch: with a `mask` that is False where a pixel is not seen.

    References: Annealed Importance Sampling (Neal, 2001), https://arxiv.org/abs/physics/9803008;
        MCMC using Hamiltonian dynamics (Neal, 2011), https://arxiv.org/abs/1206.1901
    """
    batch, times = batch.to(model.device), temperatures(steps)
    with torch.no_grad(), evaluating(model), seeded(model.device, seed):
        fitted = model.sampler if model.sampler is not None and model.sampler.weighs else None
        tuned = tuned_steps(path_of(model, batch, PILOTS, False, fitted), times, leapfrog, len(batch))
        path = path_of(model, batch, count, False, fitted)
        state = path.look(path.z)
        for t, step in zip(times[1:-1], tuned, strict=True):
            state, _ = transition(path, state, t, fold(step, count), leapfrog)
        log_step = tuned[-1].log()
        for _ in range(settle):
            state, accept = transition(path, state, 1.0, fold(log_step.exp(), count), leapfrog)
            log_step = (log_step + 0.15 * (accept.view(count, -1).mean(0) - TARGET)).clamp(*LIMITS)
    return state.z.view(count, len(batch), *state.z.shape[1:])
