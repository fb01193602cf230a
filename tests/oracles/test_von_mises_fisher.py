"""Directions: the von Mises-Fisher distribution against Bessel functions, integration and finite differences."""

import itertools
import math

import numpy as np
import pytest
import scipy.integrate
import scipy.special
import torch

from vaekit.distributions.kl import kl_divergence
from vaekit.distributions.von_mises_fisher import UniformOnSphere, VonMisesFisher, _angle_slope, angular, log_surface
from vaekit.latents import Flat
from vaekit.latents.posteriors import VonMisesFisherPosterior
from vaekit.latents.priors.sphere import UniformSphere
from vaekit.testing.parts import agree


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


def test_a_sphere_has_a_prior_of_its_own() -> None:
    latent = Flat(VonMisesFisherPosterior(8, 4), UniformSphere(4))
    _, (term,) = latent.infer(torch.randn(6, 8))
    assert term.rate().shape == (6,) and torch.allclose(term.rate(), term.q.kappa * 0 + kl_divergence(term.q, term.p)[:, 0])
    assert torch.allclose(latent.generate(5).norm(dim=-1), torch.ones(5))
