"""Posteriors against closed forms, autograd, scipy and Monte-Carlo."""

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
import scipy.integrate
import scipy.special
import torch
from torch import Tensor, nn
from torch.distributions import Categorical, Laplace, MultivariateNormal, Normal, RelaxedOneHotCategorical
from torch.distributions import kl_divergence as torchs_kl

from tests.contracts.examples import batch, scrambled, spec_of, vae
from tests.contracts.families.posteriors import EXAMPLES
from tests.oracles.test_bounds import SIZE, linear_gaussian
from vaekit.distributions.flowed import Chain, Flowed, Map
from vaekit.distributions.full_covariance import FullNormal
from vaekit.distributions.hyperbolic import WrappedNormal, from_origin, mobius_add
from vaekit.distributions.kl import UnitNormal, kl_divergence, stopped
from vaekit.distributions.laplace_kl import DiagonalLaplace, UnitLaplace
from vaekit.distributions.planar import Planar
from vaekit.distributions.radial import Radial
from vaekit.distributions.relaxed_categorical import OneHots, RelaxedOneHots
from vaekit.distributions.von_mises_fisher import UniformOnSphere, VonMisesFisher, _angle_slope, angular, log_surface
from vaekit.errors import UserError
from vaekit.latents import DensityPrior, DiagonalGaussian, Flat, Posterior, StandardNormal
from vaekit.latents.posteriors import IAF, FlowPosterior, FullCovariance, PlanarFlow, RadialFlow, RelaxedCategorical, VonMisesFisherPosterior
from vaekit.latents.priors.categories import UniformCategories
from vaekit.latents.priors.sphere import UniformSphere
from vaekit.model import VAE
from vaekit.recipes import build_recipe
from vaekit.testing import check_posterior, check_prior, check_spec
from vaekit.testing.parts import agree

FLOWS = {
    "planar": lambda f, d: PlanarFlow(f, d, 5),
    "radial": lambda f, d: RadialFlow(f, d, 5),
    "iaf": lambda f, d: IAF(f, d, 3, 32, 8),
    "nsf": lambda f, d: FlowPosterior(f, d, "nsf", 3, 32, 8),
    "realnvp": lambda f, d: FlowPosterior(f, d, "realnvp", 3, 32, 8),
    "maf": lambda f, d: FlowPosterior(f, d, "maf", 3, 32, 8),
}


def bent(name: str, features: int = 8, latent: int = 3, by: float = 1.0) -> Posterior:
    """A flow posterior that is far from a Gaussian."""
    part = FLOWS[name](features, latent)
    with torch.no_grad():
        for parameter in part.parameters():
            parameter.add_(by * torch.randn_like(parameter) / math.sqrt(parameter.shape[-1]))
    return part


# Contracts


@pytest.mark.parametrize("name", [*EXAMPLES, "DiagonalGaussian"])
def test_contracts(name: str) -> None:
    part = scrambled(EXAMPLES[name]() if name in EXAMPLES else DiagonalGaussian(8, 3))
    check_spec(part)
    if isinstance(part, Posterior):
        check_posterior(part, torch.randn(4, 8))
    if isinstance(part, DensityPrior):
        check_prior(part)


@pytest.mark.parametrize("name", FLOWS)
def test_contracts_of_bent_flows(name: str) -> None:
    check_posterior(bent(name), torch.randn(4, 8))


class Wrong(DiagonalGaussian):
    """A posterior that says it gives more than it does, or draws from another distribution than its density."""

    def __init__(self, features: int, latent: int, fault: str) -> None:
        super().__init__(features, latent)
        self.fault = fault

    def forward(self, h: Tensor) -> FullNormal | Flowed:
        q = super().forward(h).base_dist
        if self.fault == "shared":
            # Dimensions that move together, and are said to factorize.
            factor = torch.diag_embed(q.scale)
            factor[:, 1, 0] = 2.0
            return FullNormal(q.loc, scale_tril=factor, validate_args=False)
        return Flowed(q.loc, q.scale, Doubling(self.fault))


class Doubling(Map):
    def __init__(self, fault: str) -> None:
        self.fault = fault

    def forth(self, e: Tensor) -> tuple[Tensor, Tensor]:
        # "volume": the determinant is forgotten, in both directions.
        return 2 * e, e.new_full(e.shape[:-1], 0.0 if self.fault == "volume" else e.shape[-1] * math.log(2))

    def back(self, z: Tensor) -> tuple[Tensor, Tensor]:
        return (z if self.fault == "inverse" else 0.5 * z), self.forth(z)[1]

    def stopped(self) -> "Doubling":
        return self


@pytest.mark.parametrize("fault", ["shared", "volume", "inverse"])
def test_the_contract_finds_faults(fault: str) -> None:
    with pytest.raises(AssertionError):
        check_posterior(Wrong(8, 3, fault), torch.randn(4, 8))


RECIPES = ["full-covariance", "laplace", "planar", "radial", "iaf", "flow-posterior", "svae", "poincare", "gumbel"]


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("latent", [2, 7])
def test_recipes_have_the_latent_that_was_asked_for(name: str, latent: int) -> None:
    recipe = build_recipe(name, spec_of([1, 16, 16]), latent=latent, scale=0.25)
    assert recipe.model.latent.posterior.event_shape == (latent,)


@pytest.mark.parametrize("name", ["iaf", "planar", "radial", "flow-posterior", "full-covariance", "laplace"])
def test_a_code_of_one_dimension(name: str) -> None:
    model = build_recipe(name, spec_of([1, 16, 16]), latent=1, scale=0.25).model
    out = model(batch(4, [1, 16, 16]))
    assert torch.isfinite(out.rate()).all() and torch.isfinite(out.log_w()).all()


CLOSED = {"full-covariance": 4, "laplace": 4, "svae": 1, "gumbel": 1}
"""In how many parts, for a code of 4 (one categorical variable of 4 classes)."""


@pytest.mark.parametrize("name", CLOSED)
def test_closed_form_rates_reach_the_objective(name: str) -> None:
    """With the prior of the recipe, and not only between two bare distributions."""
    model = build_recipe(name, spec_of([1, 16, 16]), latent=4, scale=0.25).model
    for term in (model(batch(3, [1, 16, 16])).terms[0], model.eval()(batch(3, [1, 16, 16])).terms[0]):
        assert term.kl is not None and term.kl.shape == (3, CLOSED[name])
        assert (term.kl >= -1e-6).all() and torch.allclose(term.rate(), term.kl.sum(1))


def test_the_density_of_an_ill_conditioned_gaussian_is_exact_at_its_draw() -> None:
    factor = 3 * torch.randn(4, 100, 100).tril(-1) + torch.diag_embed(torch.rand(4, 100) + 0.1)
    q = FullNormal(torch.randn(4, 100), scale_tril=factor, validate_args=False)
    log_q = q.log_prob(q.rsample((2000,)))
    agree(-q.entropy(), log_q, "The entropy")
    easy = full(4, 3)
    z = easy.rsample()
    assert torch.allclose(easy.log_prob(z), MultivariateNormal(easy.loc, scale_tril=easy.scale_tril).log_prob(z), atol=1e-4)


def test_refusals() -> None:
    with pytest.raises(UserError, match="sphere"):
        Flat(VonMisesFisherPosterior(8, 3), StandardNormal([3]))
    with pytest.raises(UserError, match="2 dimensions"):
        build_recipe("svae", spec_of([1, 16, 16]), latent=1)
    with pytest.raises(UserError, match="no flow 'glow'"):
        build_recipe("flow-posterior", spec_of([1, 16, 16]), knobs={"kind": "glow"})
    with pytest.raises(UserError, match="not a multiple"):
        build_recipe("gumbel", spec_of([1, 16, 16]), latent=10, knobs={"classes": 4})
    assert "anywhere" not in IAF.gives and "stopped" not in IAF.gives


# Gaussian and Laplace


def full(n: int, d: int) -> FullNormal:
    factor = torch.randn(n, d, d).tril(-1) + torch.diag_embed(torch.rand(n, d) + 0.2)
    return FullNormal(torch.randn(n, d), scale_tril=factor, validate_args=False)


def test_divergence_of_a_full_gaussian() -> None:
    q, p = full(7, 4), full(7, 4)
    unit = MultivariateNormal(torch.zeros(4), torch.eye(4))
    exact = torchs_kl(MultivariateNormal(q.loc, scale_tril=q.scale_tril), unit)
    parts = kl_divergence(q, UnitNormal(torch.zeros(4), torch.ones(4)))
    assert parts.shape == (7, 4) and (parts >= 0).all()
    assert torch.allclose(parts.sum(1), exact, rtol=1e-4)
    exact = torchs_kl(MultivariateNormal(q.loc, scale_tril=q.scale_tril), MultivariateNormal(p.loc, scale_tril=p.scale_tril))
    assert torch.allclose(kl_divergence(q, p).sum(1), exact, rtol=1e-3)


def test_divergences_of_laplace() -> None:
    q, p = DiagonalLaplace(3 * torch.randn(7, 4), torch.rand(7, 4) + 0.1), DiagonalLaplace(torch.randn(7, 4), torch.rand(7, 4) + 0.1)
    plain = Laplace(q.loc, q.scale)
    assert torch.allclose(kl_divergence(q, p), torchs_kl(plain, Laplace(p.loc, p.scale)), atol=1e-4, rtol=1e-4)
    assert torch.allclose(kl_divergence(q, UnitLaplace(0.0, 1.0)), torchs_kl(plain, Laplace(0.0, 1.0)), atol=1e-4, rtol=1e-4)
    assert torch.allclose(kl_divergence(q, UnitNormal(0.0, 1.0)), torchs_kl(plain, Normal(0.0, 1.0)), atol=1e-4, rtol=1e-4)
    assert torch.allclose(kl_divergence(q, Normal(p.loc, p.scale)), torchs_kl(plain, Normal(p.loc, p.scale)), atol=1e-4, rtol=1e-3)


def test_a_divergence_without_its_half_as_in_rave_and_in_the_ladder_of_pytorch_vae() -> None:
    """RAVE doubles the KL, PyTorch-VAE's LVAE drops the 1/2 before the log-variances, alibi-detect takes its mean over dimensions."""
    q = Normal(torch.randn(6, 3), torch.rand(6, 3) + 0.2)
    posteriors = [FullNormal(q.loc, scale_tril=torch.diag_embed(q.scale), validate_args=False), q]
    exact = torchs_kl(q, Normal(0.0, 1.0)).sum(1)
    for each in posteriors:
        mine = kl_divergence(each, UnitNormal(torch.zeros(3), torch.ones(3))).sum(1)
        assert torch.allclose(mine, exact, rtol=1e-4)
        assert not torch.allclose(mine, 2 * exact, rtol=0.1) and not torch.allclose(mine, exact / 3, rtol=0.1)


def test_a_full_covariance_is_exact_where_a_diagonal_one_is_not() -> None:
    """The linear-Gaussian model with columns that are not orthogonal: log w is the same for every sample."""
    model, _ = linear_gaussian(exact_posterior=True)
    columns = torch.randn(SIZE, 2)
    bias = model.decoder.linear.bias
    sigma = 0.7
    precision = torch.eye(2) + columns.T @ columns / sigma**2
    covariance = torch.linalg.inv(precision)
    factor = torch.linalg.cholesky(covariance)
    posterior = FullCovariance(SIZE, 2)
    with torch.no_grad():
        model.decoder.linear.weight.copy_(columns)
        gain = covariance @ columns.T / sigma**2
        posterior.head.weight.zero_()
        posterior.head.weight[:2] = gain
        posterior.head.bias.copy_(torch.cat([-gain @ bias, factor.diagonal().log(), factor[1:, 0]]))
    exact = VAE(model.encoder, Flat(posterior, StandardNormal([2])), model.decoder, model.likelihood).eval()
    truth = MultivariateNormal(bias, columns @ columns.T + sigma**2 * torch.eye(SIZE))
    x = truth.sample((30,))
    out = exact(x.view(30, 1, 1, SIZE), k=100)
    assert torch.allclose(out.log_w(), truth.log_prob(x).expand(100, 30), atol=2e-3)
    assert torch.allclose(-(out.distortion + out.rate()).mean(0), truth.log_prob(x), atol=1.0)


# Flows


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


@pytest.mark.parametrize("part", [lambda: bent("nsf"), lambda: bent("planar"), lambda: FullCovariance(8, 3), lambda: VonMisesFisherPosterior(8, 3)])
def test_in_mixed_precision_the_density_is_still_that_of_the_sample(part: Callable[[], Posterior]) -> None:
    posterior = scrambled(part())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        q = posterior(torch.randn(5, 8))
        z = q.rsample()
        assert z.dtype == torch.float32
        assert torch.allclose(q.log_prob(z), q.log_prob(z.clone()), atol=1e-3)


# Directions


@pytest.mark.parametrize("d", [2, 3, 5, 40, 256])
@pytest.mark.parametrize("kappa", [1e-2, 1.0, 30.0, 1e3, 1e4])
def test_the_normalizer_of_von_mises_fisher(d: int, kappa: float) -> None:
    """Against Bessel functions where scipy has them, and against numerical integration where they underflow."""
    log_integral, gap = (v.item() for v in angular(torch.tensor(kappa, dtype=torch.float64), d))
    order = d / 2 - 1
    bessel = scipy.special.ive(order, kappa)
    if bessel > 1e-290:
        exact = math.log(bessel) - order * math.log(kappa / 2) + 0.5 * math.log(math.pi) + math.lgamma((d - 1) / 2)
        assert log_integral == pytest.approx(exact, abs=1e-9)
        assert 1 - gap == pytest.approx(scipy.special.ive(order + 1, kappa) / bessel, abs=1e-9)
    else:
        flat = 0.5 * math.log(math.pi) + math.lgamma((d - 1) / 2) - math.lgamma(d / 2)
        assert log_integral == pytest.approx(flat - kappa + kappa**2 / (2 * d), abs=1e-9)
    peak = max((d - 2) / kappa, 0.0)
    top = math.acos(min(1.0, 2 * kappa / ((d - 2) + math.hypot(d - 2, 2 * kappa)))) if peak else 0.0
    wide = 15 / math.sqrt(kappa + d)

    def f(t: float) -> float:
        return math.exp(kappa * (math.cos(t) - 1) + (d - 2) * math.log(math.sin(t)) - log_integral) if 0 < t < math.pi else float(d == 2)

    parts = np.clip([top - wide, top, top + wide, math.pi], 0, math.pi)
    assert sum(scipy.integrate.quad(f, a, b, limit=200)[0] for a, b in itertools.pairwise(parts) if b > a) == pytest.approx(1, abs=1e-6)


def test_surfaces_of_spheres() -> None:
    assert [math.exp(log_surface(d)) for d in (1, 2, 3, 4)] == pytest.approx([2, 2 * math.pi, 4 * math.pi, 2 * math.pi**2])


@pytest.mark.parametrize("d", [2, 3, 8, 100])
@pytest.mark.parametrize("kappa", [1e-2, 2.0, 50.0, 1e4])
def test_draws_and_divergence_of_von_mises_fisher(d: int, kappa: float) -> None:
    """E[mu.z] = A, E[(mu.z)^2] = 1 - (D - 1) A / kappa; the divergence from the uniform by the draws."""
    mu = torch.nn.functional.normalize(torch.randn(2, d), dim=-1)
    q = VonMisesFisher(mu, torch.full((2,), kappa))
    z = q.sample((20_000,))
    w = (z * mu).sum(-1).double()
    a = scipy.special.ive(d / 2, kappa) / scipy.special.ive(d / 2 - 1, kappa) if d < 100 or kappa > 1 else kappa / d
    assert q.mean_length.tolist() == pytest.approx([a, a], rel=1e-5)
    agree(torch.full((2,), a, dtype=torch.float64), w, "A")
    agree(torch.full((2,), 1 - (d - 1) * a / kappa, dtype=torch.float64), w.square(), "The second moment")
    across = z - w.unsqueeze(-1).float() * mu
    agree(torch.zeros(2, d), across, "The mean across")
    kl = kl_divergence(q, UniformOnSphere(torch.zeros(d)))
    assert kl.shape == (2, 1)
    agree(kl[:, 0], q.log_prob(z) + log_surface(d), "The divergence")


@pytest.mark.parametrize("d", [2, 3, 10])
@pytest.mark.parametrize("kappa", [0.1, 3.0, 100.0, 5e3])
def test_gradient_of_draws_for_kappa(d: int, kappa: float) -> None:
    """dE[w]/dkappa and dE[w^2]/dkappa from draws against finite differences of the exact moments."""

    def moments(k: float) -> tuple[float, float]:
        a = scipy.special.ive(d / 2, k) / scipy.special.ive(d / 2 - 1, k)
        return a, 1 - (d - 1) * a / k

    step = 1e-4 * kappa
    exact = [(up - down) / (2 * step) for up, down in zip(moments(kappa + step), moments(kappa - step), strict=True)]
    mu = torch.nn.functional.normalize(torch.randn(50_000, d), dim=-1)
    k = torch.full((50_000,), kappa, requires_grad=True)
    w = (VonMisesFisher(mu, k).rsample() * mu).sum(-1)
    for order, truth in enumerate(exact, start=1):
        (gradient,) = torch.autograd.grad((w**order).sum(), k, retain_graph=True)
        agree(torch.tensor([truth], dtype=torch.float64), gradient.double().unsqueeze(1), f"The gradient of the moment {order}")


@pytest.mark.parametrize("kappa", [0.05, 2.0, 60.0, 1e3])
def test_slope_of_the_angle_on_the_usual_sphere(kappa: float) -> None:
    """For D = 3 the distribution function has a closed form: F = (1 - exp(-kappa g)) / (1 - exp(-2 kappa)) in g = 1 - cos t."""

    def gap(k: float, u: np.ndarray) -> np.ndarray:
        return -np.log1p(u * np.expm1(-2 * k)) / k

    u = np.linspace(0.001, 0.999, 101)
    step = 1e-4 * kappa
    # dg = sin t dt
    t = np.arccos(1 - gap(kappa, u))
    exact = (gap(kappa + step, u) - gap(kappa - step, u)) / (2 * step) / np.sin(t)
    mine = _angle_slope(torch.as_tensor(t), torch.full((101,), kappa, dtype=torch.float64), 3)
    assert np.allclose(mine.numpy(), exact, rtol=1e-4, atol=1e-9)


def test_gradient_of_draws_for_the_direction() -> None:
    """E[c.z] = A c.mu with mu = v / |v|: its gradient for v."""
    v = torch.tensor([0.5, -1.0, 2.0, 0.3])
    c = torch.tensor([1.0, 2.0, -1.0, 0.5])
    many = v.expand(50_000, 4).clone().requires_grad_()
    z = VonMisesFisher(torch.nn.functional.normalize(many, dim=-1), torch.full((50_000,), 7.0)).rsample()
    (gradient,) = torch.autograd.grad((z @ c).sum(), many)
    one = v.clone().requires_grad_()
    a = scipy.special.ive(2, 7.0) / scipy.special.ive(1, 7.0)
    (exact,) = torch.autograd.grad(a * (torch.nn.functional.normalize(one, dim=-1) @ c), one)
    agree(exact, gradient, "The gradient for the direction")


def test_svae_gives_nan_in_training_as_in_pythae_79() -> None:
    """Draws at or near the ends of the sphere have finite gradients (a square root of 1 - w^2 has not)."""
    axes = torch.eye(5)
    for kappa in (1e-2, 1.0, 1e4):
        for d in (2, 3, 5):
            mu = axes[:d, :d].repeat(500, 1).requires_grad_()
            k = torch.full((len(mu),), kappa, requires_grad=True)
            q = VonMisesFisher(mu, k)
            z = q.rsample()
            loss = z.sum() + q.log_prob(z).sum() + kl_divergence(q, UniformOnSphere(torch.zeros(d))).sum() + q.entropy().sum()
            loss.backward()
            assert torch.isfinite(mu.grad).all() and torch.isfinite(k.grad).all() and torch.isfinite(z).all()
            assert (z.norm(dim=-1) - 1).abs().max() < 1e-5


def test_divergence_of_directions_grows_from_zero() -> None:
    kappa = torch.logspace(-2, 4, 200)
    for d in (2, 3, 20, 256, 1000):
        mu = torch.nn.functional.normalize(torch.randn(200, d), dim=-1)
        kl = kl_divergence(VonMisesFisher(mu, kappa), UniformOnSphere(torch.zeros(d)))[:, 0]
        assert (kl >= 0).all() and (kl.diff() > 0).all()
        assert kl[0].item() == pytest.approx(1e-4 / (2 * d), rel=1e-2)


# Hyperbolic space


def distance(x: Tensor, y: Tensor) -> Tensor:
    """arcosh(1 + 2 |x - y|^2 / ((1 - |x|^2) (1 - |y|^2))), the distance in the ball."""
    return torch.acosh(1 + 2 * (x - y).square().sum(-1) / ((1 - x.square().sum(-1)) * (1 - y.square().sum(-1))))


def test_the_addition_of_the_ball_is_an_isometry() -> None:
    x, y, move = (from_origin(1.5 * torch.randn(50, 3, dtype=torch.float64)) for _ in range(3))
    assert torch.allclose(distance(mobius_add(move, x), mobius_add(move, y)), distance(x, y), rtol=1e-6)
    assert torch.allclose(mobius_add(-move, mobius_add(move, x)), x)
    s = torch.randn(50, 3, dtype=torch.float64)
    assert torch.allclose(distance(from_origin(s), torch.zeros_like(s)), s.norm(dim=-1))


def test_the_density_of_a_wrapped_normal() -> None:
    """By the Jacobian of the map from the tangent space, in units of hyperbolic volume: (2 / (1 - |z|^2))^D dz."""
    mu, scale = from_origin(torch.randn(20, 3)).double(), torch.rand(20, 3).double() + 0.3
    s = scale * torch.randn(20, 3, dtype=torch.float64)
    z = mobius_add(mu, from_origin(s))
    jacobian = torch.autograd.functional.jacobian(lambda s: mobius_add(mu, from_origin(s)).sum(0), s).transpose(0, 1)
    volume = torch.linalg.slogdet(jacobian)[1] + 3 * (2 / (1 - z.square().sum(-1))).log()
    exact = Normal(0.0, scale).log_prob(s).sum(-1) - volume
    assert torch.allclose(WrappedNormal(mu, scale).log_prob(z), exact, atol=1e-6)


def test_far_codes_of_a_wrapped_normal_are_finite() -> None:
    mu = from_origin(torch.tensor([[5.0, 0.0], [0.0, 0.0]])).requires_grad_()
    scale = torch.tensor([[1.6, 1.6], [1e-3, 1e-3]], requires_grad=True)
    q = WrappedNormal(mu, scale)
    z = q.rsample((2000,))
    assert (z.norm(dim=-1) < 1).all()
    (z.sum() + q.log_prob(z).sum() + WrappedNormal(torch.zeros(2), torch.ones(2)).log_prob(z).sum()).backward()
    assert torch.isfinite(mu.grad).all() and torch.isfinite(scale.grad).all()
    assert torch.isfinite(q.log_prob(mu)).all()


# Categories


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


def test_a_sphere_has_a_prior_of_its_own() -> None:
    latent = Flat(VonMisesFisherPosterior(8, 4), UniformSphere(4))
    _, (term,) = latent.infer(torch.randn(6, 8))
    assert term.rate().shape == (6,) and torch.allclose(term.rate(), term.q.kappa * 0 + kl_divergence(term.q, term.p)[:, 0])
    assert torch.allclose(latent.generate(5).norm(dim=-1), torch.ones(5))


def test_chains_of_maps_add_their_volumes() -> None:
    q = bent("planar")(torch.randn(6, 8))
    e = torch.randn(6, 3)
    one, two = Chain(q.flow.maps[:2]), Chain(q.flow.maps[2:])
    z, first = one.forth(e)
    end, second = two.forth(z)
    whole, volume = q.flow.forth(e)
    assert torch.allclose(end, whole) and torch.allclose(first + second, volume, atol=1e-5)
