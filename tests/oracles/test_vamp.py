"""The VampPrior: the mixture of the posteriors of pseudo-inputs, which start as images and learn."""

import math

import pytest
import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, Normal

from tests.contracts.examples import SHAPE, raw, scrambled
from tests.oracles.densities import integral
from tests.oracles.prior_models import D, model_with, started
from vaekit.errors import UserError
from vaekit.latents import Flat, Posterior
from vaekit.latents.priors import ExemplarPrior, VampPrior
from vaekit.networks import ClassCondition
from vaekit.objectives import ELBO
from vaekit.output import Batch
from vaekit.testing import check_gradients


def test_the_log_variance_is_not_divided_by_the_variance() -> None:
    """PyTorch-VAE's VampVAE has -0.5 (log_var + (z - mu)^2) / log_var.exp(), in q and in p: its log_var is divided by the variance."""
    mu, log_var = torch.randn(6, D), torch.randn(6, D)
    z = torch.randn(20, D)
    q = Independent(Normal(mu, (log_var / 2).exp()), 1)
    p = VampPrior(SHAPE, components=6)(q)
    each = Normal(mu, (log_var / 2).exp()).log_prob(z[:, None]).sum(-1)
    assert torch.allclose(p.log_prob(z), each.logsumexp(1) - math.log(6), atol=1e-5)
    wrong = (-0.5 * (log_var + (z[:, None] - mu) ** 2) / log_var.exp()).sum(-1).logsumexp(1) - math.log(6) - 0.5 * D * math.log(2 * math.pi)
    assert not torch.allclose(p.log_prob(z), wrong, atol=0.1)
    two = VampPrior(SHAPE, components=6)(Independent(Normal(mu[:, :2], (log_var[:, :2] / 2).exp()), 1))
    assert integral(two).item() == pytest.approx(1, abs=1e-3)


def test_a_vamp_model_has_the_density_of_its_pseudo_inputs() -> None:
    model, data = started("vamp")
    model.eval()
    out = model(data)
    images = model.latent.prior.images().x
    assert images.shape == (6, *SHAPE) and images.min() > 0 and images.max() < 1
    q = model.latent.posterior(model.encoder(images, None)).base_dist
    each = Normal(q.loc, q.scale).log_prob(out.terms[0].z[:, None]).sum(-1)
    assert torch.allclose(out.terms[0].log_p, each.logsumexp(1) - math.log(6), atol=1e-4)
    assert torch.allclose(out.rate(), (out.terms[0].log_q - out.terms[0].log_p)[None], atol=1e-5)


def test_pseudo_inputs_start_as_images() -> None:
    model, data = started("vamp")
    wanted = model.likelihood.input(data.x[:6]).clamp(0.02, 0.98)
    assert torch.allclose(model.latent.prior.images().x, wanted, atol=1e-5)
    few = VampPrior(SHAPE, components=6)
    few.initialize(data.x[:4], None, None, model.likelihood.input(data.x[:4]))
    assert torch.allclose(few.images().x[:4], wanted[:4], atol=1e-5)
    assert not torch.allclose(few.images().x[4:], wanted[:2], atol=1e-4) and torch.allclose(few.images().x[4:], wanted[:2], atol=0.15)
    free = VampPrior([1, 2, 3], components=2, levels=None)
    x = 5 * torch.randn(3, 1, 2, 3)
    free.initialize(x, None, None, x)
    assert torch.equal(free.images().x, x[:2])


def test_gradients_reach_the_pseudo_inputs_and_the_encoder() -> None:
    model, data = started("vamp")
    term = model(data).terms[0]
    z = term.z.detach()
    encoder = list(model.encoder.parameters()) + list(model.latent.posterior.parameters())
    gradients = torch.autograd.grad(term.p.log_prob(z).sum(), [model.latent.prior.inputs, *encoder], allow_unused=True)
    assert all(g is not None and torch.isfinite(g).all() for g in gradients)
    assert gradients[0].flatten(1).norm(dim=1).min() > 0 and gradients[1].norm() > 0


def test_a_vamp_prior_refuses_a_posterior_without_a_cheap_density() -> None:
    class Elsewhere(Posterior):
        gives = frozenset({"density", "divergence", "vector"})

        @property
        def event_shape(self) -> tuple[int, ...]:
            return (D,)

        def forward(self, h: Tensor) -> Distribution:
            return Independent(Normal(h, 1.0), 1)

    with pytest.raises(UserError, match="VampPrior does not go with Elsewhere: it needs a density that is cheap at any code"):
        Flat(Elsewhere(), VampPrior(SHAPE, components=2))
    Flat(Elsewhere(), ExemplarPrior(SHAPE))


def test_a_conditional_vamp_learns_its_conditions() -> None:
    model = scrambled(model_with(VampPrior(SHAPE, 6, condition=5), ClassCondition(4, 5)))
    data = Batch(raw(8, SHAPE), condition=torch.arange(8) % 4)
    model.initialize(data)
    check_gradients(model, ELBO()(model(data)).mean())
    assert model.latent.prior.conditions.grad.norm() > 0
    assert model.sample(4).shape == (4, *SHAPE)
