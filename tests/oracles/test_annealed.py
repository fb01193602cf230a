"""Annealed importance sampling against log p(x) in closed form."""

import math

import pytest
import torch
from torch import Tensor

from tests.contracts.examples import batch, scrambled, vae
from tests.oracles.test_bounds import SIZE, linear_gaussian
from vaekit.errors import UserError
from vaekit.evaluation import ais, iw_bound, mean_and_se
from vaekit.latents import StandardNormal
from vaekit.networks import AttributeCondition
from vaekit.output import Batch


def images(truth: torch.distributions.Distribution, n: int) -> tuple[Tensor, Tensor]:
    x = truth.sample((n,))
    return x.view(n, 1, 1, SIZE), truth.log_prob(x).double()


@pytest.mark.parametrize(("begin", "steps"), [("posterior", 60), ("prior", 120)])
def test_it_is_log_p_of_the_linear_gaussian_model(begin: str, steps: int) -> None:
    model, truth = linear_gaussian(exact_posterior=False)
    x, log_p = images(truth, 64)
    values = ais(model, [x[:40], x[40:]], steps=steps, chains=16, leapfrog=3, begin=begin)
    mean, error = mean_and_se(values - log_p)
    assert values.shape == (64,) and values.dtype == torch.float64
    assert abs(mean) < 0.05 and error < 0.05
    assert (values - log_p).abs().max() < 0.5
    bound = iw_bound(model, [x], k=16)
    assert values.mean() > bound.mean() - 0.02


def test_it_finds_what_a_wrong_encoder_hides() -> None:
    """A posterior three of its own widths away and too narrow: 64 importance samples are nats off, and the annealed estimate is not."""
    model, truth = linear_gaussian(exact_posterior=True)
    with torch.no_grad():
        model.latent.posterior.head.bias[:2] += 1.5
        model.latent.posterior.head.bias[2:] -= 1.0
    x, log_p = images(truth, 24)
    far = (iw_bound(model, [x], k=64) - log_p).mean()
    near = (ais(model, [x], steps=120, chains=16, leapfrog=3) - log_p).mean()
    assert far < -1.0
    assert abs(near) < 0.05


def test_with_the_exact_posterior_every_chain_is_exact() -> None:
    model, truth = linear_gaussian(exact_posterior=True)
    x, log_p = images(truth, 8)
    assert torch.allclose(ais(model, [x], steps=3, chains=2), log_p, atol=1e-3)


def test_one_step_is_the_importance_weighted_bound() -> None:
    model, truth = linear_gaussian(exact_posterior=False)
    x, _ = images(truth, 800)
    difference = ais(model, [x], steps=1, chains=8, chunk=3) - iw_bound(model, [x], k=8, seed=5)
    mean, error = mean_and_se(difference)
    assert abs(mean) < 4 * error


def test_a_short_path_is_unbiased_in_w() -> None:
    """E[w] = p(x) with any number of steps and any size of the transitions: the tuning does not spoil it."""
    model, truth = linear_gaussian(exact_posterior=False)
    x, log_p = images(truth, 1)
    values = ais(model, [x.expand(3000, -1, -1, -1)], steps=4, chains=1, leapfrog=2)
    mean, error = mean_and_se((values - log_p).exp())
    assert abs(mean - 1) < 4 * error and error < 0.03


def test_it_is_the_same_for_the_same_seed_and_leaves_the_generator_alone() -> None:
    model, truth = linear_gaussian(exact_posterior=False)
    x, _ = images(truth, 4)
    state = torch.get_rng_state()
    a, b, other = (ais(model, [x], steps=5, chains=2, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(a, b) and not torch.equal(a, other)
    assert torch.equal(state, torch.get_rng_state())
    assert not any(p.grad is not None for p in model.parameters())


def test_it_takes_conditions_and_masks() -> None:
    model = scrambled(vae("mlp", condition=AttributeCondition(3))).eval()
    data = Batch(batch(3).x, condition=torch.randn(3, 3), mask=torch.rand(3, 2, 9, 11) > 0.3)
    values = ais(model, [data], steps=30, chains=4, leapfrog=3)
    bound = iw_bound(model, [data], k=64)
    assert torch.isfinite(values).all() and (values > bound - 3).all()
    with pytest.raises(UserError, match="conditional"):
        ais(model, [Batch(data.x)], steps=2)


def test_it_refuses_what_it_cannot_measure(monkeypatch: pytest.MonkeyPatch) -> None:
    model = vae("mlp")
    with pytest.raises(UserError, match="begins at"):
        ais(model, [batch()], begin="middle")
    with pytest.raises(UserError, match="at least 1"):
        ais(model, [batch()], steps=0)
    monkeypatch.setattr(type(model.latent.posterior), "gives", frozenset({"density", "vector"}))
    with pytest.raises(UserError, match="not cheap"):
        ais(model, [batch()], begin="posterior")
    monkeypatch.setattr(type(model.latent.posterior), "gives", frozenset({"classes"}))
    with pytest.raises(UserError, match="DiagonalGaussian gives something else"):
        ais(model, [batch()])
    monkeypatch.undo()
    monkeypatch.setattr(type(model.likelihood), "kind", "energy")
    with pytest.raises(UserError, match="not a normalized"):
        ais(model, [batch()])
    monkeypatch.undo()
    model.latent = StandardNormal([3])
    with pytest.raises(UserError, match="StandardNormal gives something else"):
        ais(model, [batch()])


def test_the_estimate_is_a_lower_bound_on_average() -> None:
    model, truth = linear_gaussian(exact_posterior=False)
    x, log_p = images(truth, 400)
    mean, error = mean_and_se(ais(model, [x], steps=6, chains=2, leapfrog=2) - log_p)
    assert mean < 3 * error
    assert math.isfinite(mean)
