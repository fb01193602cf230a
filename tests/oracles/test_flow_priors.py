"""Flow priors against zuko, the Jacobian of their map, and integrals on a grid."""

import pytest
import torch
import zuko
from torch.distributions import Normal

from tests.contracts.families.priors import moved
from tests.oracles.densities import integral, plane
from tests.oracles.prior_models import D
from vaekit.errors import UserError
from vaekit.latents import StandardNormal
from vaekit.latents.priors import FlowPrior
from vaekit.testing import check_gradients, check_prior


@pytest.mark.parametrize("flow", ["realnvp", "maf", "nsf"])
def test_flow_priors(flow: str) -> None:
    prior = moved(FlowPrior(2, flow, transforms=2, hidden=8), 0.3)
    check_prior(prior, 40_000)
    assert integral(prior(), 10, 301).item() == pytest.approx(1, abs=2e-3)
    z = torch.randn(20, 2)
    theirs = prior.flow()
    assert isinstance(theirs, zuko.distributions.NormalizingFlow) and torch.allclose(prior().log_prob(z), theirs.log_prob(z))
    check_gradients(prior, -prior().log_prob(z).sum())


@pytest.mark.parametrize("flow", ["realnvp", "maf", "nsf"])
def test_flows_start_as_the_standard_normal(flow: str) -> None:
    prior, z = FlowPrior(D, flow), torch.randn(30, D)
    assert torch.allclose(prior().log_prob(z), StandardNormal([D])().log_prob(z), atol=1e-4)


@pytest.mark.parametrize("flow", ["realnvp", "maf", "nsf"])
def test_the_log_determinant_of_a_flow_is_that_of_its_jacobian(flow: str) -> None:
    prior = moved(FlowPrior(4, flow, 2, 12), 0.3).double()
    z = torch.randn(4, dtype=torch.float64)
    map_ = prior.flow().transform
    jacobian = torch.autograd.functional.jacobian(map_, z)
    expected = Normal(0.0, 1.0).log_prob(map_(z)).sum() + torch.linalg.slogdet(jacobian).logabsdet
    assert torch.allclose(prior().log_prob(z), expected, atol=1e-8)


@pytest.mark.parametrize("flow", ["realnvp", "maf", "nsf"])
def test_conditional_flows(flow: str) -> None:
    prior = moved(FlowPrior(2, flow, 2, 8, condition=3), 0.25)
    c = torch.randn(2, 3)
    p = prior(c)
    assert p.batch_shape == (2,)
    grid, area = plane(15, 401)
    total = p.log_prob(grid[:, None].expand(-1, 2, 2)).exp().sum(0) * area
    assert torch.allclose(total, torch.ones(2), atol=5e-3)
    z = prior.sample(40_000, c=c[:1].expand(40_000, 3))
    other = prior.sample(40_000, c=c[1:].expand(40_000, 3))
    own = prior(c[:1]).log_prob(z)
    assert own.mean() - prior(c[1:]).log_prob(z).mean() > 0.01 and prior(c[:1]).log_prob(other).mean() < prior(c[1:]).log_prob(other).mean()
    assert torch.allclose(own.mean(), p.log_prob(p.sample((40_000,)))[:, 0].mean(), atol=0.05)
    assert prior.sample(5, c=torch.randn(5, 3), temperature=0.0).shape == (5, 2)
    with pytest.raises(UserError, match="conditional"):
        prior()


def test_flows_that_cannot_be_are_refused() -> None:
    with pytest.raises(UserError, match="needs 2 latent dimensions"):
        FlowPrior(1, "realnvp")
    with pytest.raises(UserError, match="There is no flow 'glow'; there are realnvp, maf, nsf"):
        FlowPrior(2, "glow")
