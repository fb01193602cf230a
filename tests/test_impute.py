"""Missing pixels, filled in: against the conditional Gaussian, which is known, and as a contract."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.distributions import MultivariateNormal

from tests.contracts.examples import batch, scrambled, spec_of, vae
from tests.oracles.test_bounds import SIGMA, SIZE, linear_gaussian
from vaekit.editing import impute
from vaekit.editing.chains import posterior_codes
from vaekit.errors import UserError
from vaekit.latents.fitted import Fitted
from vaekit.latents.priors.full_mixture import FullMixturePrior
from vaekit.likelihoods import Bernoulli, Logistic, Mixture
from vaekit.model import VAE
from vaekit.networks import OneHotCondition
from vaekit.output import Batch
from vaekit.recipes import build_recipe
from vaekit.recipes import missing as recipe_module  # noqa: F401 (registers the recipe)

MISSING = torch.tensor([1, 3, 4])
SEEN = torch.tensor([0, 2, 5])


def conditional(truth: MultivariateNormal, x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean [N, M] and covariance [M, M] of the missing pixels given the observed ones."""
    cov, mean = truth.covariance_matrix, truth.mean
    gain = cov[MISSING][:, SEEN] @ torch.linalg.inv(cov[SEEN][:, SEEN])
    return mean[MISSING] + (x[:, SEEN] - mean[SEEN]) @ gain.T, cov[MISSING][:, MISSING] - gain @ cov[SEEN][:, MISSING]


@pytest.mark.parametrize("rounds", [0, 10])
def test_the_conditional_gaussian(rounds: int) -> None:
    """Mean, deviation, and the mean and covariance of the answers, within five standard errors of the closed form."""
    model, truth = linear_gaussian(exact_posterior=False)
    x = truth.sample((4,))
    mask = torch.zeros(4, SIZE, dtype=torch.bool)
    mask[:, SEEN] = True
    # What stands in a missing pixel is never looked at.
    images = Batch(torch.where(mask, x, torch.nan).view(4, 1, 1, SIZE), mask=mask.view(4, 1, 1, SIZE))
    result = impute(model, images, answers=4000, samples=20_000, rounds=rounds, chunk=2000)
    mean, covariance = conditional(truth, x)
    assert (result.effective > 500).all(), result.effective
    std = covariance.diagonal().sqrt()
    error = std / result.effective.sqrt().unsqueeze(1)
    found = result.mean.view(4, SIZE)
    assert ((found[:, MISSING] - mean).abs() < 5 * error).all()
    assert ((result.std.view(4, SIZE)[:, MISSING] - std).abs() < 5 * error).all()
    draws = result.draws.view(4, 4000, SIZE)[:, :, MISSING]
    spread = (1 / result.effective + 1 / 4000).sqrt()
    assert ((draws.mean(1) - mean).abs() < 5 * std * spread.unsqueeze(1)).all()
    # The standard error of a covariance is at most sqrt((s_i^2 s_j^2 + c_ij^2) / n).
    limit = (std.outer(std).square() + covariance.square()).sqrt()
    for i in range(4):
        assert ((torch.cov(draws[i].T) - covariance).abs() < 5 * limit * spread[i]).all()
    seen = mask.view(4, 1, 1, SIZE)
    assert torch.equal(result.mean[seen], images.x[seen]) and (result.std[seen] == 0).all()
    assert (result.draws == images.x.unsqueeze(1))[seen.unsqueeze(1).expand_as(result.draws)].all()


def refitted() -> tuple[VAE, MultivariateNormal]:
    """The linear-Gaussian model with a prior N(m, S) that was fitted to its codes, far from its own N(0, I), and the x that they make."""
    model, _ = linear_gaussian(exact_posterior=False)
    p = torch.tensor([[1.4, 0.0], [0.3, 1.2]])  # P P^T = S^-1
    fitted = Fitted(FullMixturePrior(2, components=1), [2]).eval()
    with torch.no_grad():
        fitted.prior.means.copy_(torch.tensor([[0.9, -0.5]]))
        fitted.prior.log_diagonals.copy_(p.diagonal().log())
        fitted.prior.below.copy_(p)
        fitted.mean.copy_(torch.tensor([0.2, -0.1]))
        fitted.std.copy_(torch.tensor([1.1, 0.8]))
    model.sampler = fitted
    linear = model.decoder.linear
    w, s = linear.weight.detach(), torch.linalg.inv(p @ p.T)
    scaled = w @ fitted.std.diag()
    mean = scaled @ fitted.prior.means[0].detach() + w @ fitted.mean + linear.bias.detach()
    return model, MultivariateNormal(mean, scaled @ s @ scaled.T + SIGMA**2 * torch.eye(SIZE))


@pytest.mark.parametrize("how", ["weighted", "chains"])
def test_answers_are_those_of_the_fitted_prior(how: str) -> None:
    """The mean and the deviation between codes of E[x|z], against the closed form; those of the model's own prior are elsewhere."""
    model, truth = refitted()
    x = truth.sample((4,))
    mask = torch.zeros(4, 1, 1, SIZE, dtype=torch.bool)
    mask[..., SEEN] = True
    images = Batch(torch.where(mask, x.view(4, 1, 1, SIZE), 0.0), mask=mask)
    if how == "weighted":
        found = impute(model, images, answers=1, samples=100_000, rounds=0, chunk=20_000)
        assert (found.effective > 200).all()
        middle, error = found.mean.view(4, SIZE)[:, MISSING], 1 / found.effective.sqrt()
    else:
        codes = posterior_codes(model, images, 400, steps=20, settle=20)
        means = model.decoder(codes.flatten(0, 1)).view(400, 4, SIZE)[..., MISSING].detach()
        middle, error = means.mean(0), torch.full((4,), 400**-0.5)
    wanted, covariance = conditional(truth, x)
    limit = 5 * covariance.diagonal().sqrt() * error.unsqueeze(1)
    assert ((middle - wanted).abs() < limit).all()
    own, _ = conditional(linear_gaussian(exact_posterior=False)[1], x)
    assert ((own - wanted).abs() > limit).any(1).sum() >= 3


def test_rounds_help_a_network_that_does_not_see_the_mask() -> None:
    model, truth = linear_gaussian(exact_posterior=True)
    x = truth.sample((50,)).view(50, 1, 1, SIZE)
    mask = torch.zeros_like(x, dtype=torch.bool)
    mask[..., SEEN] = True
    plain, better = (impute(model, Batch(x, mask=mask), samples=500, rounds=r).effective.mean() for r in (0, 10))
    assert better > plain


@pytest.mark.parametrize("likelihood", [Bernoulli(), Logistic(levels=256), Mixture(components=2, channels=2)], ids=lambda p: type(p).__name__)
def test_any_likelihood(likelihood: torch.nn.Module) -> None:
    levels = 2 if isinstance(likelihood, Bernoulli) else 256
    model = scrambled(vae("mlp", likelihood=likelihood))
    x = batch(3, levels=levels)
    mask = (torch.rand(3, 1, 9, 11) > 0.3).expand(-1, 2, -1, -1)
    result = impute(model, replace(x, mask=mask), answers=4, samples=20, chunk=7)
    again = impute(model, replace(x, mask=mask), answers=4, samples=20, chunk=7)
    assert torch.equal(result.draws, again.draws), "the same seed gives the same answers"
    assert result.mean.shape == result.std.shape == x.x.shape and result.draws.shape == (3, 4, *x.x.shape[1:])
    assert torch.equal(result.mean[mask], x.x[mask].float()) and (result.std[mask] == 0).all() and (result.std[~mask] > 0).any()
    assert ((result.draws >= 0) & (result.draws <= levels - 1)).all()
    assert ((result.effective >= 1 - 1e-6) & (result.effective <= 20 + 1e-6)).all()


def test_what_lies_under_a_hole_changes_nothing() -> None:
    model = scrambled(vae("conv"))
    a, b = batch(3), batch(3)
    mask = torch.rand(3, 2, 9, 11) > 0.5
    one = impute(model, Batch(a.x, mask=mask), samples=8)
    two = impute(model, Batch(torch.where(mask, a.x, b.x), mask=mask), samples=8)
    assert torch.equal(one.mean, two.mean) and torch.equal(one.draws, two.draws)


def test_without_holes_the_image_is_its_own_answer() -> None:
    x = batch(2)
    result = impute(vae("mlp"), replace(x, mask=torch.ones_like(x.x, dtype=torch.bool)), samples=4)
    assert torch.equal(result.mean, x.x.float()) and (result.std == 0).all()


def test_errors() -> None:
    model, x = vae("mlp"), batch(2)
    with pytest.raises(UserError, match="Nothing is missing"):
        impute(model, x)
    with pytest.raises(UserError, match="at least 1"):
        impute(model, replace(x, mask=torch.ones_like(x.x, dtype=torch.bool)), answers=0)


def test_the_recipe_sees_the_mask_and_scores_what_is_observed() -> None:
    recipe = build_recipe("missing", spec_of([1, 12, 12]), scale=0.25, knobs={"samples": 3})
    assert recipe.objective.samples == 3 and recipe.model.sees_mask
    model = scrambled(recipe.model).eval()
    x, other = batch(4, [1, 12, 12]).x, batch(4, [1, 12, 12]).x
    mask = torch.rand(4, 1, 12, 12) > 0.5
    torch.manual_seed(0)
    one = model(Batch(x, mask=mask))
    torch.manual_seed(0)
    two = model(Batch(torch.where(mask, x, other), mask=mask))
    assert torch.equal(one.log_px, two.log_px) and torch.equal(one.rate(), two.rate()), "a missing pixel is looked at"
    torch.manual_seed(0)
    assert not torch.allclose(one.rate(), model(Batch(x)).rate()), "the mask is not looked at"
    expected = torch.where(mask, one.px.log_prob(model.likelihood.target(x)), 0.0).sum((1, 2, 3))
    assert torch.allclose(one.log_px[0], expected)


def test_the_masked_bound_is_a_bound_on_the_observed_pixels() -> None:
    """IWAE on the mask against log p(x_obs), which is Gaussian."""
    model, truth = linear_gaussian(exact_posterior=False)
    x = truth.sample((20,))
    mask = torch.zeros(20, SIZE, dtype=torch.bool)
    mask[:, SEEN] = True
    seen = torch.distributions.MultivariateNormal(truth.mean[SEEN], truth.covariance_matrix[SEEN][:, SEEN]).log_prob(x[:, SEEN])
    images = Batch(x.view(20, 1, 1, SIZE), mask=mask.view(20, 1, 1, SIZE))
    score = model.score(images, k=20_000, chunk=5000)
    assert torch.allclose(score, seen, atol=0.1), (score - seen).abs().max()
    out = model(images)
    assert -(out.distortion + out.rate()).mean() < seen.mean() + 3 / math.sqrt(20)


def test_codes_of_no_class_follow_the_density_without_one() -> None:
    """Two classes far apart: a prior that is told them draws them in turn, and with `in_turn=False` at random, as chains have to begin."""
    fitted = Fitted(FullMixturePrior(2, components=1, classes=2), [2], condition=OneHotCondition(2)).eval()
    with torch.no_grad():
        fitted.prior.means.copy_(torch.tensor([[-5.0, 0.0], [5.0, 0.0]]))
        fitted.prior.by_class.copy_(torch.tensor([[20.0, -20.0], [-20.0, 20.0]]))
    turns, chance = (fitted.sample(400, in_turn=in_turn)[:, 0] > 0 for in_turn in (True, False))
    assert torch.equal(turns, torch.arange(400) % 2 == 1) and not torch.equal(chance, turns)
    assert 140 < int(chance.sum()) < 260
