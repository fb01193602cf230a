"""Categories, hard and relaxed, against torch's distributions and a sum over all codes."""

import math

import pytest
import torch
from torch import nn
from torch.distributions import Categorical, RelaxedOneHotCategorical
from torch.distributions import kl_divergence as torchs_kl

from tests.contracts.examples import batch, scrambled, vae
from vaekit.distributions.kl import kl_divergence
from vaekit.distributions.relaxed_categorical import OneHots, RelaxedOneHots
from vaekit.latents import Flat
from vaekit.latents.posteriors import RelaxedCategorical
from vaekit.latents.priors.categories import UniformCategories
from vaekit.testing.parts import agree


def test_divergence_and_density_of_categories() -> None:
    logits = torch.randn(5, 4, 3)
    q, p = OneHots(logits), UniformCategories(4, 3)()
    exact = torchs_kl(Categorical(logits=logits), Categorical(logits=torch.zeros(4, 3)))
    assert torch.allclose(kl_divergence(q, p), exact, atol=1e-5) and exact.shape == (5, 4)
    assert torch.allclose(q.entropy(), Categorical(logits=logits).entropy().sum(1), atol=1e-5)
    z = q.sample()
    classes = z.view(5, 4, 3).argmax(-1)
    assert torch.allclose(q.log_prob(z), Categorical(logits=logits).log_prob(classes).sum(1), atol=1e-5)
    assert torch.allclose(p.log_prob(z), torch.full((5,), -4 * math.log(3)))
    agree(Categorical(logits=logits).probs.flatten(1), q.sample((20_000,)), "The probabilities of the classes")


@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.0])
def test_relaxed_categories(temperature: float) -> None:
    """Their density is torch's, the largest entry is a draw of the categorical variable, and a low temperature makes them hard."""
    logits, t = torch.randn(5, 4, 3), torch.tensor(temperature)
    q = RelaxedOneHots(logits, t)
    z = q.rsample()
    torchs = RelaxedOneHotCategorical(t, logits=logits, validate_args=False)
    assert torch.allclose(q.log_prob(z), torchs.log_prob(z.view(5, 4, 3).clamp_min(1e-30)).sum(1), atol=1e-2, rtol=1e-3)
    draws = q.sample((20_000,)).view(-1, 5, 4, 3)
    hard = torch.nn.functional.one_hot(draws.argmax(-1), 3).float()
    agree(logits.softmax(-1), hard, "The probabilities of the classes")
    assert torch.allclose(RelaxedOneHots(logits, torch.tensor(1e-4)).rsample().view(5, 4, 3).max(-1).values.mean(), torch.tensor(1.0), atol=1e-3)


def test_gumbel_temperature_by_batch_index_as_in_pytorch_vae() -> None:
    """The temperature is a function of the fraction of the run: neither a forward pass nor the number of batches moves it."""
    part = RelaxedCategorical(8, 2, 3, start=1.0, end=0.25).train()
    for _ in range(5):
        part(torch.randn(4, 8)).rsample()
    assert part.temperature.item() == 1.0
    assert [part.progress(f)["temperature"] for f in (0.0, 0.5, 1.0)] == pytest.approx([1.0, 0.5, 0.25])
    assert part(torch.randn(4, 8)).temperature.item() == 0.25


def test_with_categories_the_elbo_in_eval_is_a_bound() -> None:
    """log p(x) by a sum over all codes: above the ELBO, and the limit of the importance-weighted bound."""
    model = scrambled(vae("mlp", latent=6))
    model.latent = Flat(RelaxedCategorical(model.encoder.features, 2, 3), UniformCategories(2, 3))
    model.eval()
    x = batch(4)
    codes = nn.functional.one_hot(torch.cartesian_prod(torch.arange(3), torch.arange(3)), 3).flatten(1).float()
    with torch.no_grad():
        each = torch.stack([model.decode(code.expand(4, 6)).log_prob(model.likelihood.target(x.x)).flatten(1).sum(1) for code in codes])
        log_p = each.logsumexp(0) - math.log(9)
        out = model(x, k=400)
        elbo = -(out.distortion + out.rate()).mean(0)
        assert (elbo < log_p + 0.3).all()
        assert torch.allclose(model.score(x, k=4000, chunk=400), log_p, atol=0.3)


def test_a_single_variable_gives_classes() -> None:
    assert "classes" in RelaxedCategorical(8, 1, 5).gives and "classes" not in RelaxedCategorical(8, 2, 5).gives
    assert "density" not in RelaxedCategorical(8, 1, 5).gives
