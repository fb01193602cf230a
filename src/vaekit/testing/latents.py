"""Contracts of posteriors, priors and latents."""

import torch
from torch import Tensor

from vaekit.distributions.kl import kl_divergence, stopped
from vaekit.latents import DensityPrior, Latent, Posterior, StandardNormal
from vaekit.model import evaluating
from vaekit.testing.parts import agree, check_gradients


def check_posterior(posterior: Posterior, h: Tensor, samples: int = 20000) -> None:
    """rsample carries gradient; the analytic divergence equals a Monte-Carlo estimate within its error; the entropy too.

    Args:
        h: features [N, F] of a few images.
    """
    q = posterior(h)
    z = q.rsample()
    assert z.shape == (len(h), *posterior.event_shape), f"A sample has the shape {tuple(z.shape)}, and the event is {posterior.event_shape}."
    assert q.log_prob(z).shape == (len(h),), "log q(z|x) must be summed over the event: one number for each image."
    check_gradients(posterior, (z**2).sum() + q.log_prob(z).sum())
    with torch.no_grad():
        p = StandardNormal(list(posterior.event_shape))()
        draws = q.sample((samples,))
        log_q, log_p = q.log_prob(draws), p.log_prob(draws)
        kl = kl_divergence(q, p)
        if kl is not None:
            agree(kl.flatten(1).sum(1), log_q - log_p, "The analytic divergence")
            assert (kl >= -1e-5).all(), "A divergence is below 0."
            agree(q.entropy(), -log_q, "The analytic entropy")
    # Gradient through the sample alone: the score of q at its own parameters has mean zero, and is removed here.
    path = stopped(q).log_prob(q.rsample())
    assert path.shape == (len(h),)


def check_prior(prior: DensityPrior, samples: int = 200_000) -> None:
    """The density integrates to 1 (importance sampling from a wide Gaussian), and the samples have the density's mean log-probability."""
    p = prior()
    shape = p.event_shape
    with torch.no_grad():
        wide = torch.distributions.Independent(torch.distributions.Normal(torch.zeros(shape), torch.full(shape, 1.5)), len(shape))
        z = wide.sample((samples,))
        weights = (p.log_prob(z) - wide.log_prob(z)).exp()
        agree(torch.tensor(1.0), weights, "The integral of the density")
        mine = prior.sample(samples)
        assert mine.shape == (samples, *shape)
        agree(p.log_prob(p.sample((samples,))).mean(), p.log_prob(mine), "The mean log-probability of the prior's samples")
        assert torch.allclose(prior.loss(mine[:8]), -p.log_prob(mine[:8])), "loss(code) is not -log p(code)."
        cold = prior.sample(2000, temperature=0.01)
        assert cold.std() < mine[:2000].std(), "A low temperature does not narrow the samples."


def check_latent(latent: Latent, h: Tensor) -> None:
    """`generate` with the inferred code gives the decoder what `infer` gave it; infer never looks beyond one image."""
    with evaluating(latent), torch.no_grad():
        d, terms = latent.infer(h, mean=True)
        code = tuple(term.z for term in terms)
        assert torch.allclose(latent.generate(len(h), code=code), d), "generate(code) is not what infer handed to the decoder."
        alone, _ = latent.infer(h[:1], mean=True)
        assert torch.allclose(alone, d[:1], atol=1e-5), "The code of an image depends on its neighbours in the batch."
        assert latent.generate(5).shape == (5, *d.shape[1:])
        for term in terms:
            assert term.log_q.shape == term.log_p.shape == (len(h),)
