"""Mixtures against torch's and a loop over their members."""

import math

import pytest
import torch
from torch.distributions import Categorical, Distribution, Independent, Laplace, MixtureSameFamily, MultivariateNormal, Normal

from tests.contracts.families.priors import moved
from tests.oracles.prior_models import D
from vaekit.distributions.mixture import Mixture, normal_log_prob, pairwise_log_prob
from vaekit.latents.priors import MixturePrior


def test_the_learned_mixture_is_torchs() -> None:
    prior = moved(MixturePrior(D, components=9), 1.0)
    z = 2 * torch.randn(50, D)
    theirs = MixtureSameFamily(Categorical(logits=prior.logits), Independent(Normal(prior.means, (prior.log_variances / 2).exp()), 1))
    assert torch.allclose(prior().log_prob(z), theirs.log_prob(z), atol=1e-5)
    assert torch.allclose(prior().mean, theirs.mean, atol=1e-5)
    mine = torch.autograd.grad(prior().log_prob(z).sum(), list(prior.parameters()))
    expected = torch.autograd.grad(theirs.log_prob(z).sum(), list(prior.parameters()))
    assert all(torch.allclose(a, b, rtol=1e-4, atol=1e-4) for a, b in zip(mine, expected, strict=True))


def test_the_mixture_starts_as_wide_as_the_standard_normal() -> None:
    prior = MixturePrior(20, components=4000)
    z = prior.sample(50_000)
    assert z.mean().abs() < 0.02 and (z.var() - 1).abs() < 0.03
    assert len(torch.unique(prior.means, dim=0)) == 4000


def test_the_density_of_a_narrow_member_far_from_zero_keeps_its_digits() -> None:
    """The square is opened for one product of matrices: in 32 bits its terms would cancel to nats of error."""
    loc, scale = torch.full((1, 40), 3.0), torch.full((1, 40), 1e-3)
    z = loc + scale * torch.randn(6, 40)
    exact = Normal(loc.double(), scale.double()).log_prob(z.double()).sum(1, keepdim=True)
    assert torch.allclose(normal_log_prob(z, loc, scale).double(), exact, atol=1e-3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.allclose(normal_log_prob(z, loc, scale).double(), exact, atol=1e-3)


@pytest.mark.parametrize("kind", ["normal", "laplace", "full", "map"])
def test_each_member_at_each_code(kind: str) -> None:
    """The general path and the fast one: the loop over members."""
    loc, scale = torch.randn(5, D), torch.rand(5, D) + 0.2
    q: Distribution = Independent(Normal(loc, scale), 1)
    z = torch.randn(2, 11, D)
    if kind == "laplace":
        q = Independent(Laplace(loc, scale), 1)
    if kind == "full":
        q = MultivariateNormal(loc, scale_tril=torch.randn(5, D, D).tril(-1) + torch.diag_embed(scale))
    if kind == "map":
        q, z = Independent(Normal(loc.view(5, D, 1), scale.view(5, D, 1)), 2), z.unsqueeze(-1)
    looped = torch.stack([type_of(q, m).log_prob(z) for m in range(5)], -1)
    assert torch.allclose(pairwise_log_prob(q, z), looped, atol=1e-5)
    p = Mixture(q, torch.randn(5).log_softmax(0))
    draws = p.sample((50_000,))
    assert draws.shape == (50_000, *q.event_shape)
    weights = p.log_weights.exp()
    mean = (weights @ q.mean.flatten(1)).view(q.event_shape)
    assert torch.allclose(p.mean, mean, atol=1e-5)
    assert (draws.mean(0) - mean).abs().max() < 5 * draws.std(0).max() / math.sqrt(50_000)
    second = (weights @ (q.variance + q.mean**2).flatten(1)).view(q.event_shape)
    assert ((draws**2).mean(0) - second).abs().max() < 5 * (draws**2).std(0).max() / math.sqrt(50_000)
    cold = p.draw(500, temperature=1e-5)
    assert torch.cdist(cold.flatten(1), q.mean.flatten(1)).min(1).values.max() < 1e-2, "Without temperature each draw is a member's mean."


def type_of(q: Distribution, m: int) -> Distribution:
    if isinstance(q, MultivariateNormal):
        return MultivariateNormal(q.loc[m], scale_tril=q.scale_tril[m])
    base = q.base_dist
    return Independent(type(base)(base.loc[m], base.scale[m]), len(q.event_shape))
