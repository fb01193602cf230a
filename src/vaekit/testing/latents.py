"""Contracts of posteriors, priors and latents."""

import torch
from torch import Tensor
from torch.distributions import Distribution

from vaekit.distributions.kl import kl_divergence, stopped
from vaekit.latents import DensityPrior, Posterior
from vaekit.model import evaluating
from vaekit.testing.parts import agree, check_gradients
from vaekit.testing.supports import REFERENCES, outside, total


def check_posterior(posterior: Posterior, h: Tensor, samples: int = 20000, prior: DensityPrior | None = None) -> None:
    """Shapes, gradients, and every capability that it says it gives, held against its own samples.

    In eval mode the samples and the mean are codes on its support; a density agrees with its samples and, where it is known anywhere, integrates
    to 1; analytic divergences, entropies and moments equal their Monte-Carlo estimates within the error.

    Args:
        h: features [N, F] of a few images.
        prior: what the divergence is from; None for the simplest prior of its support.
    """
    gives = posterior.gives
    q = posterior(h)
    z = q.rsample()
    assert z.shape == (len(h), *posterior.event_shape), f"A sample has the shape {tuple(z.shape)}, and the event is {posterior.event_shape}."
    assert q.log_prob(z).shape == (len(h),), "log q(z|x) must be summed over the event: one number for each image."
    # Weighted, since on a sphere the sum of squares has no gradient.
    loss = (torch.linspace(-1, 2, z.numel()).view(z.shape) * z).sum() + (z**2).sum()
    check_gradients(posterior, loss + q.log_prob(z).sum() if "density" in gives else loss)
    p = (prior or REFERENCES[posterior.support](posterior))()
    with evaluating(posterior), torch.no_grad():
        q = posterior(h)
        assert q.mean.shape == z.shape, f"The mean has the shape {tuple(q.mean.shape)}, and a code {tuple(z.shape)}."
        draws = q.sample((samples,))
        wrong = outside(posterior, draws) or outside(posterior, q.mean)
        assert wrong is None, wrong
        _check_divergence(posterior, q, p, draws)
        if "anywhere" in gives:
            _check_anywhere(posterior, q, draws)
        if "moments" in gives:
            agree(q.mean, draws, "The analytic mean")
            agree(q.variance, (draws - q.mean) ** 2, "The analytic variance")
        if "comparable" in gives:
            other = posterior(h.flip(0))
            between = kl_divergence(q, other)
            assert between is not None, "It says that its posteriors can be compared, and there is no closed-form divergence between them."
            agree(between.flatten(1).sum(1), q.log_prob(draws) - other.log_prob(draws), "The divergence between two posteriors")
    if "stopped" in gives:
        _check_stopped(posterior(h))


def _check_divergence(posterior: Posterior, q: Distribution, p: Distribution, draws: Tensor) -> None:
    kl = kl_divergence(q, p)
    assert kl is not None or "divergence" not in posterior.gives or "density" in posterior.gives, (
        "It says that it gives a divergence, and there is neither a closed form nor a density."
    )
    if kl is None:
        return
    assert (kl >= -1e-5).all(), "A divergence is below 0."
    log_q = q.log_prob(draws)
    agree(kl.flatten(1).sum(1), log_q - p.log_prob(draws), "The analytic divergence")
    agree(q.entropy(), -log_q, "The analytic entropy")


def _check_anywhere(posterior: Posterior, q: Distribution, draws: Tensor) -> None:
    """The density of a copy of a sample is that of the sample, codes of one image go beside the posteriors of others, and it integrates to 1."""
    event = len(posterior.event_shape)
    z = q.rsample()
    assert torch.allclose(q.log_prob(z), q.log_prob(z.clone()), atol=1e-3, rtol=1e-4), "log q of a sample is not log q of the same code."
    across = q.log_prob(z.unsqueeze(1))
    assert across.shape == (len(z), len(z)), "The density of each code under each posterior, log_prob([N,1,*E]), must be [N,N]."
    assert torch.allclose(across.diagonal(), q.log_prob(z), atol=1e-3, rtol=1e-4)
    weights = total(posterior, q.log_prob, draws, event)
    if weights is not None:
        agree(torch.ones(len(z)), weights, "The integral of the density")
    if "factorized" in posterior.gives and event == 1 and z.shape[-1] > 1:
        # log q is a sum over dimensions: to swap the first ones between two codes does not change the sum over both.
        a, b = q.sample(), q.sample()
        c, d = torch.cat([a[:, :1], b[:, 1:]], 1), torch.cat([b[:, :1], a[:, 1:]], 1)
        assert torch.allclose(q.log_prob(a) + q.log_prob(b), q.log_prob(c) + q.log_prob(d), atol=1e-3), "The density does not factorize."


def _check_stopped(q: Distribution) -> None:
    """With its parameters held it has the same density, the same slope along the code, and no gradient but through the code."""
    z = q.rsample()
    held = stopped(q)
    assert torch.allclose(held.log_prob(z), q.log_prob(z), atol=1e-3, rtol=1e-4), "The density with fixed parameters is another one."
    leaf = z.detach()
    assert not held.log_prob(leaf).requires_grad, "The fixed parameters get a gradient."
    leaf.requires_grad_()
    slopes = [torch.autograd.grad(each.log_prob(leaf).sum(), leaf)[0] for each in (held, q)]
    assert torch.allclose(slopes[0], slopes[1], atol=1e-3, rtol=1e-3), "The density with fixed parameters has another slope along the code."


def check_prior(prior: DensityPrior, samples: int = 200_000) -> None:
    """The density integrates to 1 (importance sampling), and the samples have the density's mean log-probability and lie on its support."""
    p = prior()
    shape = p.event_shape
    with torch.no_grad():
        draws = p.sample((samples,))
        weights = total(prior, p.log_prob, draws, len(shape))
        if weights is not None:
            agree(torch.tensor(1.0), weights, "The integral of the density")
        mine = prior.sample(samples)
        assert mine.shape == (samples, *shape)
        wrong = outside(prior, mine)
        assert wrong is None, wrong
        agree(p.log_prob(draws).mean(), p.log_prob(mine), "The mean log-probability of the prior's samples")
        assert torch.allclose(prior.loss(mine[:8]), -p.log_prob(mine[:8])), "loss(code) is not -log p(code)."
        cold = prior.sample(2000, temperature=0.01)
        if prior.support in ("reals", "ball"):
            assert cold.std() < mine[:2000].std(), "A low temperature does not narrow the samples."
        else:
            # What has no spread is left as it is: a low temperature leads to no less probable codes.
            assert p.log_prob(cold).mean() > p.log_prob(mine[:2000]).mean() - 0.1, "A low temperature leads to less probable codes."
