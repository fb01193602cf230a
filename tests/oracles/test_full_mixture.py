"""The mixture of Gaussians with full covariances: its density, its draws, and what expectation-maximization finds."""

import pytest
import torch
from torch.distributions import Categorical, MixtureSameFamily, MultivariateNormal

from vaekit.latents.priors.full_mixture import FullMixturePrior, components_for


def known() -> tuple[FullMixturePrior, MixtureSameFamily]:
    """A mixture with any parameters, and the same by PyTorch."""
    torch.manual_seed(0)
    prior = FullMixturePrior(3, components=2)
    with torch.no_grad():
        for parameter in prior.parameters():
            parameter.copy_(0.5 * torch.randn_like(parameter))
    factors = prior._factors().detach()
    gaussians = MultivariateNormal(prior.means.detach(), precision_matrix=factors @ factors.mT)
    return prior, MixtureSameFamily(Categorical(logits=prior.logits.detach()), gaussians)


def test_the_density_is_pytorchs() -> None:
    prior, plain = known()
    z = torch.randn(50, 3)
    torch.testing.assert_close(prior.loss(z), -plain.log_prob(z), rtol=1e-4, atol=1e-4)


def test_draws_have_the_mixtures_mean_and_covariance() -> None:
    prior, plain = known()
    z = prior.sample(40_000)
    assert ((z.mean(0) - plain.mean).abs() < 5 * plain.stddev / 40_000**0.5).all()
    weights, means = plain.mixture_distribution.probs, plain.component_distribution.loc
    apart = (means - plain.mean) * weights.sqrt()[:, None]
    covariance = (weights[:, None, None] * plain.component_distribution.covariance_matrix).sum(0) + apart.T @ apart
    torch.testing.assert_close(z.T.cov(), covariance, rtol=0.05, atol=0.05)
    cold = prior.sample(100, temperature=0.0)
    assert torch.cdist(cold, prior.means).min(1).values.max() < 1e-4


def test_it_finds_the_density_that_the_codes_are_of() -> None:
    """Held-out codes are told within 0.03 nats of what the density itself tells them; two axis-parallel Gaussians are 0.3 nats worse."""
    torch.manual_seed(0)
    tilted = torch.tensor([[1.0, 0.95], [0.95, 1.0]])
    true = MixtureSameFamily(
        Categorical(torch.tensor([0.3, 0.7])), MultivariateNormal(torch.tensor([[2.0, 0.0], [-2.0, 0.0]]), tilted.expand(2, 2, 2))
    )
    prior = FullMixturePrior(2, components=2)
    prior.initialize(true.sample((5000,)))
    z = true.sample((20_000,))
    assert prior.loss(z).mean().item() == pytest.approx(-true.log_prob(z).mean().item(), abs=0.03)
    assert sorted(prior.logits.softmax(0).tolist()) == pytest.approx([0.3, 0.7], abs=0.03)


def test_the_same_seed_finds_the_same() -> None:
    torch.manual_seed(0)
    z, found = torch.randn(500, 3), []
    for _ in range(2):
        torch.manual_seed(1)
        prior = FullMixturePrior(3, components=4)
        prior.initialize(z)
        found.append(prior.means.detach().clone())
    assert torch.equal(*found)


@pytest.mark.parametrize(("latent", "count", "components"), [(40, 50_000, 50), (16, 1257, 3), (128, 1000, 1), (2, 40, 1)])
def test_few_images_get_few_gaussians(latent: int, count: int, components: int) -> None:
    assert components_for(latent, count) == components
