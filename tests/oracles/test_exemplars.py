"""The exemplar prior: a mixture about images of the data, from which an image's own is left out."""

import math
from pathlib import Path

import pytest
import torch
from torch.distributions import Independent, Normal

from tests.contracts.examples import SHAPE, nets, raw, scrambled
from tests.oracles.densities import integral, plane
from tests.oracles.prior_models import D, exemplars, gaussians, model_with, started
from vaekit.latents import DiagonalGaussian, Flat, StandardNormal
from vaekit.latents.priors import ExemplarPrior
from vaekit.likelihoods import Gaussian
from vaekit.model import VAE
from vaekit.networks import AttributeCondition, ClassCondition, Condition
from vaekit.objectives import ELBO
from vaekit.output import Batch
from vaekit.saving import load_model, save_model
from vaekit.testing import check_gradients


def test_an_exemplar_density_sums_to_one() -> None:
    prior = exemplars(6)
    with torch.no_grad():
        prior.log_variance.fill_(-1.5)
    q = gaussians(6, 2)
    same = torch.zeros(4, 6, dtype=torch.bool)
    same[1, 2], same[2, :5], same[3] = True, True, True
    assert integral(prior(q)).item() == pytest.approx(1, abs=1e-3)
    grid, area = plane(8, 601)
    total = prior(q, same).log_prob(grid[:, None].expand(-1, 4, 2)).double().exp().sum(0) * area
    assert torch.allclose(total, torch.ones(4, dtype=torch.float64), atol=1e-3)


def test_an_image_is_left_out_of_its_own_mixture() -> None:
    prior = exemplars(6)
    q, sigma = gaussians(6), math.exp(-0.4)
    with torch.no_grad():
        prior.log_variance.fill_(-0.8)
    same = torch.zeros(3, 6, dtype=torch.bool)
    same[0, 4], same[2] = True, True
    z = torch.randn(3, D)
    log_p = prior(q, same).log_prob(z)
    each = Normal(q.mean, sigma).log_prob(z[:, None]).sum(-1)
    others = [0, 1, 2, 3, 5]
    assert torch.allclose(log_p[0], each[0, others].logsumexp(0) - math.log(5), atol=1e-5)
    assert torch.allclose(log_p[1], each[1].logsumexp(0) - math.log(6), atol=1e-5)
    assert torch.allclose(log_p[2], StandardNormal([D])().log_prob(z[2]), atol=1e-5), "With no other image, N(0, I) stands in."
    loc = q.mean.clone().requires_grad_()
    moving = Independent(Normal(loc, 1.0), 1)
    (gradient,) = torch.autograd.grad(prior(moving, same).log_prob(z)[0], loc)
    assert torch.isfinite(gradient).all() and gradient[4].norm() == 0 and gradient[others].norm() > 0
    assert prior(q, same).sample((7,)).shape == (7, 3, D)


def test_training_batches_are_told_from_their_exemplars() -> None:
    """Rows of the data set decide, in the model: an image far from all others has a lower log p(z) in training than a stranger like it."""
    model, data = started("exemplar")
    assert int(model.latent.prior.filled) == 8
    model.eval()
    torch.manual_seed(0)
    known = model(data).terms[0]
    torch.manual_seed(0)
    stranger = model(Batch(data.x, index=data.index + 100)).terms[0]
    q = model.latent.posterior(model.encoder(model.likelihood.input(data.x[:8])))
    each = Normal(q.mean, 1.0).log_prob(known.z[:, None]).sum(-1)
    assert torch.allclose(stranger.log_p, each.logsumexp(1) - math.log(8), atol=1e-4)
    own = torch.eye(12, 8, dtype=torch.bool)
    expected = torch.where(own, -math.inf, each).logsumexp(1) - (8 - own.sum(1)).float().log()
    assert torch.allclose(known.log_p, expected, atol=1e-4)


def test_the_weighted_bound_leaves_an_image_out_of_its_own_prior_as_the_elbo_does() -> None:
    model, data = started("exemplar")
    model.eval()
    torch.manual_seed(0)
    expected = model(data).log_w()[0]
    torch.manual_seed(0)
    assert torch.allclose(model.score(data, k=1), expected, atol=1e-4)


def test_a_training_pass_draws_some_of_the_exemplars() -> None:
    prior = exemplars(6, per_step=3).train()
    seen = set()
    for _ in range(30):
        images = prior.images()
        assert images.x.shape == (3, 1, 4, 5) and len(set(images.index.tolist())) == 3
        assert torch.equal(images.x, prior.x[images.index - 10]), "Images and rows go together."
        seen |= set(images.index.tolist())
    assert seen == set(range(10, 16))
    torch.manual_seed(4)
    first = prior.images().index
    torch.manual_seed(4)
    assert torch.equal(prior.images().index, first)
    assert len(prior.eval().images().x) == 6
    assert len(exemplars(2, per_step=3).train().images().x) == 2, "A data set may be smaller than the number of exemplars."
    assert len(ExemplarPrior([1, 4, 5]).images().x) == 1


def test_the_mean_over_draws_is_a_lower_bound() -> None:
    """E log(mean over some exemplars) <= log(mean over all)."""
    prior, q = exemplars(6), gaussians(6)
    z = torch.randn(5, D)
    whole = prior(q).log_prob(z)
    parts = []
    for _ in range(200):
        rows = torch.randperm(6)[:2]
        parts.append(prior(Independent(Normal(q.mean[rows], 1.0), 1)).log_prob(z))
    assert (torch.stack(parts).mean(0) < whole + 0.05).all()


@pytest.mark.parametrize("levels", [2, 256, 65536, None])
def test_exemplars_are_saved_with_the_model(levels: int | None, tmp_path: Path) -> None:
    likelihood = Gaussian(channels=2, levels=levels)
    encoder, decoder = nets("mlp", SHAPE, likelihood.channels(2), D)
    model = VAE(encoder, Flat(DiagonalGaussian(encoder.features, D), ExemplarPrior(SHAPE, 10, 4, levels)), decoder, likelihood)
    scrambled(model)
    x = torch.randn(7, *SHAPE) if levels is None else torch.randint(0, levels, (7, *SHAPE)).to(torch.int32 if levels > 256 else torch.uint8)
    data = Batch(x, index=torch.arange(100, 107))
    model.initialize(data)
    save_model(tmp_path / "model.safetensors", model)
    again, _ = load_model(tmp_path / "model.safetensors")
    prior = again.latent.prior
    assert int(prior.filled) == 7 and torch.equal(prior.x[:7], x) and prior.index.tolist() == [*range(100, 107), -1, -1, -1]
    values = []
    for same in (model, again):
        torch.manual_seed(0)
        values.append((same.score(data, k=2), same.sample(3)))
    assert all(torch.equal(a, b) for a, b in zip(*values, strict=True))


@pytest.mark.parametrize("condition", [ClassCondition(4, 5), AttributeCondition(3)], ids=["class", "attributes"])
def test_exemplars_keep_their_conditions(condition: Condition) -> None:
    shape = [] if isinstance(condition, ClassCondition) else [3]
    model = scrambled(model_with(ExemplarPrior(SHAPE, 6, 4, condition=shape), condition))
    told = torch.arange(6) % 4 if not shape else torch.randn(6, 3)
    data = Batch(raw(6, SHAPE), condition=told, index=torch.arange(6))
    model.initialize(data)
    assert torch.equal(model.latent.prior.condition, told)
    check_gradients(model.train(), ELBO()(model(data)).mean())
    assert model.sample(6, condition=told).shape == (6, *SHAPE)
