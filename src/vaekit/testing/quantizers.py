"""Contracts of quantizers, and of priors over their indices."""

import copy
import itertools
import math

import torch
from torch import Tensor

from vaekit.latents.priors.codes import CodesPrior
from vaekit.latents.quantizers.base import Quantizer
from vaekit.model import evaluating
from vaekit.testing.parts import agree


def check_quantizer(quantizer: Quantizer, h: Tensor) -> None:
    """Indices and their vectors; the gradient passes through; images do not see each other; forward changes nothing; means of halves are the whole's.

    Args:
        h: features [N, F, *S], N even.
    """
    n, f, *places = h.shape
    before = {k: v.clone() for k, v in quantizer.state_dict().items()}
    features = h.clone().requires_grad_()
    made = quantizer.train()(features)
    assert all(torch.equal(v, before[k]) for k, v in quantizer.state_dict().items()), "forward changed the quantizer's state."
    assert made.z_q.shape == h.shape and f == quantizer.channels
    assert made.indices.shape == (n, quantizer.levels, *places) and made.indices.dtype == torch.long
    assert made.indices.min() >= 0 and made.indices.max() < quantizer.size, "An index is beyond the codebook."
    assert torch.equal(quantizer.lookup(made.indices), made.z_q.detach()), "lookup(indices) is not what forward gave."
    (gradient,) = torch.autograd.grad(made.z_q.sum(), features, retain_graph=True)
    assert torch.isfinite(gradient).all() and (gradient != 0).any(), "No gradient passes through the quantizer."
    assert made.penalty.shape == (n,) and torch.isfinite(made.penalty).all()
    assert not any(v.requires_grad for v in made.stats.values()), "Statistics must be detached."
    twice = quantizer(torch.cat([h, h]))
    assert torch.equal(twice.indices[:n], made.indices)
    assert torch.allclose(twice.penalty.mean(), made.penalty.mean(), rtol=1e-4), "The penalty changes when the batch is duplicated."
    with evaluating(quantizer), torch.no_grad():
        assert torch.equal(quantizer(h[:1]).indices, made.indices[:1]), "The code of an image depends on its neighbours in the batch."
    _check_processes(quantizer, h)


def _check_processes(quantizer: Quantizer, h: Tensor) -> None:
    """Two processes with half a batch each, whose statistics are averaged, move as one with the whole batch."""
    one, two = copy.deepcopy(quantizer).train(), copy.deepcopy(quantizer).train()
    with torch.no_grad():
        for _ in range(3):
            one.post_step(one(h).stats)
            left, right = two(h[::2]).stats, two(h[1::2]).stats
            two.post_step({k: (v + right[k]) / 2 for k, v in left.items()})
    for name, value in one.state_dict().items():
        assert torch.allclose(value, two.state_dict()[name], rtol=1e-4, atol=1e-6), f"{name} differs between one process and two."


def check_codes_prior(prior: CodesPrior, samples: int = 20_000, c: Tensor | None = None) -> None:
    """The probabilities of all grids sum to 1, and the samples have these probabilities. For grids that can be counted.

    Args:
        c: an embedded condition [1, G], or None.
    """
    every = torch.tensor(list(itertools.product(range(prior.size), repeat=math.prod(prior.shape)))).view(-1, *prior.shape)
    with torch.no_grad():
        log_p = prior(None if c is None else c.expand(len(every), -1)).log_prob(every)
        assert log_p.shape == (len(every),)
        assert abs(log_p.logsumexp(0).item()) < 1e-4, "The probabilities do not sum to 1."
        assert torch.allclose(prior.loss(every, None if c is None else c.expand(len(every), -1)), -log_p)
        codes = prior.sample(samples, c=None if c is None else c.expand(samples, -1))
        assert codes.shape == (samples, *prior.shape) and codes.dtype == torch.long
        drawn = prior(None if c is None else c.expand(samples, -1)).log_prob(codes)
        agree((log_p.exp() * log_p).sum(), drawn, "The mean log-probability of the samples")
        place = prior.size ** torch.arange(math.prod(prior.shape)).flip(0)
        found = torch.bincount((codes.flatten(1) * place).sum(1), minlength=len(every)) / samples
        error = (log_p.exp() * (1 - log_p.exp()) / samples).sqrt()
        assert ((found - log_p.exp()).abs() < 5 * error + 2 / samples).all(), "The samples do not have the probabilities of the prior."
