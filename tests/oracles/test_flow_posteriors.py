"""Flow posteriors against autograd: determinants, inverses, and the gradient of a density known from drawing."""

import math

import pytest
import torch
from torch import Tensor

from tests.oracles.flows import FLOWS, bent
from tests.oracles.test_bounds import SIZE, linear_gaussian
from vaekit.distributions.flowed import Chain, Map
from vaekit.distributions.kl import stopped
from vaekit.distributions.planar import Planar
from vaekit.distributions.radial import Radial
from vaekit.latents import Flat, StandardNormal
from vaekit.model import VAE
from vaekit.testing import check_posterior


@pytest.mark.parametrize("name", FLOWS)
def test_contracts_of_bent_flows(name: str) -> None:
    check_posterior(bent(name), torch.randn(4, 8))


def determinants(flow: Map, e: Tensor) -> Tensor:
    """log |det| of each map [N] by autograd's Jacobian."""
    jacobian = torch.autograd.functional.jacobian(lambda x: flow.forth(x)[0].sum(0), e)
    return torch.linalg.slogdet(jacobian.transpose(0, 1))[1]


@pytest.mark.parametrize("name", FLOWS)
def test_log_determinants_and_inverses_of_flows(name: str) -> None:
    q = bent(name)(torch.randn(16, 8))
    e = 2 * torch.randn(16, 3)
    z, volume = q.flow.forth(e)
    assert (volume.abs() > 0.05).any(), "the map is nearly the identity, and the test tells nothing"
    assert torch.allclose(volume, determinants(q.flow, e), atol=1e-3)
    back, again = q.flow.back(z)
    assert torch.allclose(back, e, atol=5e-3) and torch.allclose(again, volume, atol=5e-3)


@pytest.mark.parametrize("scale", [1.0, 5.0])
def test_planar_and_radial_maps_in_double_precision(scale: float) -> None:
    """Their inverses have the right gradients too, for the code and for each parameter (autograd against finite differences)."""
    d = 3

    def parameters(*shapes: tuple[int, ...]) -> list[Tensor]:
        return [(scale * torch.randn(4, *shape, dtype=torch.float64)).requires_grad_() for shape in shapes]

    for kind, own in ((Planar, parameters((d,), (d,), ())), (Radial, parameters((d,), (), ()))):
        z = (2 * torch.randn(4, d, dtype=torch.float64)).requires_grad_()
        flow = kind(*own)
        e, volume = flow.back(z)
        there, again = flow.forth(e)
        assert torch.allclose(there, z, atol=1e-8) and torch.allclose(volume, again, atol=1e-8)
        assert torch.autograd.gradcheck(lambda z, *own, kind=kind: kind(*own).back(z), (z, *own), atol=1e-4, rtol=1e-3)
        assert torch.autograd.gradcheck(lambda z, *own, kind=kind: kind(*own).forth(z), (z, *own), atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("size", [0.0, 1e-6, 1e-2, 30.0])
def test_a_planar_map_stays_invertible_and_finite(size: float) -> None:
    """Also where w.u is far below -1, and where w vanishes (the correction of u divides by |w|^2)."""
    w, b = size * torch.randn(64, 3), torch.randn(64)
    flow = Planar((-3 * w if size > 1 else torch.randn(64, 3)).requires_grad_(), w.requires_grad_(), b)
    assert ((flow.w * flow.v).sum(-1) > -1 + 1e-4).all() and (flow.v.norm(dim=-1) < 1e3).all()
    e = torch.randn(64, 3)
    z, volume = flow.forth(e)
    assert torch.isfinite(volume).all()
    (z.sum() + volume.sum()).backward()
    assert torch.isfinite(flow.u.grad).all() and torch.isfinite(flow.w.grad).all()


def test_chains_of_maps_add_their_volumes() -> None:
    q = bent("planar")(torch.randn(6, 8))
    e = torch.randn(6, 3)
    one, two = Chain(q.flow.maps[:2]), Chain(q.flow.maps[2:])
    z, first = one.forth(e)
    end, second = two.forth(z)
    whole, volume = q.flow.forth(e)
    assert torch.allclose(end, whole) and torch.allclose(first + second, volume, atol=1e-5)


@pytest.mark.parametrize("name", FLOWS)
def test_the_density_known_from_drawing_has_the_gradient_of_the_other(name: str) -> None:
    """log q(z_theta; theta) by the sample's own path = its slope along the code + its slope in the parameters, both by inversion."""
    part = bent(name, by=0.5)
    parameters = list(part.parameters())
    q = part(torch.randn(5, 8))
    z = q.rsample()
    weights = torch.randn(5)

    def gradient(value: Tensor) -> Tensor:
        each = torch.autograd.grad((weights * value).sum(), parameters, retain_graph=True, allow_unused=True)
        return torch.cat([torch.zeros_like(p).flatten() if g is None else g.flatten() for g, p in zip(each, parameters, strict=True)])

    whole = gradient(q.log_prob(z))
    along = gradient(stopped(q).log_prob(z))
    fixed = gradient(q.log_prob(z.detach()))
    assert torch.allclose(stopped(q).log_prob(z), q.log_prob(z), atol=1e-3)
    assert torch.allclose(whole, along + fixed, atol=2e-2, rtol=2e-2)
    assert along.abs().max() > 1e-2, "nothing flows through the code"


@pytest.mark.parametrize("name", FLOWS)
def test_bounds_with_flow_posteriors_are_ordered(name: str) -> None:
    """ELBO <= IWAE-5 <= IWAE-50 <= log p(x), whatever the posterior: its log-density is that of its samples."""
    model, truth = linear_gaussian(exact_posterior=False)
    posterior = FLOWS[name](SIZE, 2)
    with torch.no_grad():
        exact = model.latent.posterior.head
        posterior.head.weight.mul_(0.3), posterior.head.bias.mul_(0.3)
        posterior.head.weight[:4], posterior.head.bias[:4] = exact.weight, exact.bias
    flowing = VAE(model.encoder, Flat(posterior, StandardNormal([2])), model.decoder, model.likelihood).eval()
    x = truth.sample((150,)).view(150, 1, 1, SIZE)
    log_p = truth.log_prob(x.view(150, SIZE)).mean().item()
    with torch.no_grad():
        log_w = flowing(x, k=1000).log_w()
    iwae = {k: (log_w.view(-1, k, 150).logsumexp(1) - math.log(k)).mean().item() for k in (1, 5, 50, 1000)}
    assert iwae[1] < iwae[5] < iwae[50] < log_p + 0.02
    assert abs(iwae[1000] - log_p) < 0.05
