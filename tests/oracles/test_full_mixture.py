"""The mixture of Gaussians with full covariances: its density, its draws, and what expectation-maximization finds."""

import pytest
import torch
from torch.distributions import Categorical, MixtureSameFamily, MultivariateNormal

from vaekit.errors import UserError
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


def of_classes() -> tuple[FullMixturePrior, torch.Tensor, torch.Tensor]:
    """Fitted to codes of two classes, three of the first for each of the second; with the codes and their one-hot classes."""
    torch.manual_seed(0)
    z = torch.cat((torch.randn(600, 2) * 0.3, torch.randn(200, 2) + 3))
    c = torch.nn.functional.one_hot(torch.arange(800) // 600, 2).float()
    prior = FullMixturePrior(2, components=2, classes=2)
    prior.initialize(z, c)
    return prior, z, c


def test_each_class_has_the_mixture_of_its_own_codes() -> None:
    prior, z, c = of_classes()
    for y, mine in enumerate((z[:600], z[600:])):
        torch.manual_seed(0)
        alone = FullMixturePrior(2, components=2)
        alone.initialize(mine)
        assert prior.loss(mine, c[c[:, y] > 0]).mean().item() == pytest.approx(alone.loss(mine).mean().item(), abs=0.02)
    draws = prior.sample(400, c=c[::2])
    assert draws[:300].mean(0).abs().max() < 0.1 and (draws[300:].mean(0) - 3).abs().max() < 0.4


def test_without_its_class_a_code_has_the_mean_over_the_classes() -> None:
    """p(z) = sum_y p(y) p(z|y), with the shares of the classes."""
    prior, z, c = of_classes()
    told = torch.stack([-prior.loss(z, torch.eye(2)[[y]].expand(800, 2)) for y in range(2)])
    marginal = torch.logsumexp(told + torch.tensor([[0.75], [0.25]]).log(), 0)
    torch.testing.assert_close(-prior.loss(z), marginal, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(prior.loss(z, torch.zeros(800, 2)), prior.loss(z))
    mixed = torch.where(torch.arange(800)[:, None] % 2 == 0, c, 0.0)
    torch.testing.assert_close(prior.loss(z, mixed)[::2], prior.loss(z, c)[::2])


def test_a_class_with_hardly_a_code_is_refused() -> None:
    prior = FullMixturePrior(2, components=3, classes=2)
    with pytest.raises(UserError, match="Class 1 has 2 codes, too few"):
        prior.initialize(torch.randn(12, 2), torch.eye(2)[[0] * 10 + [1] * 2])


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
