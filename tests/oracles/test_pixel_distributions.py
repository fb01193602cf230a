"""Pixel distributions against scipy, torch, quadrature and brute force, and as one compiled graph."""

import itertools
import math
import subprocess
import sys

import numpy as np
import pytest
import scipy.stats
import torch
from torch import distributions as td

from vaekit.distributions import discretized_logistic
from vaekit.distributions.pixel_bernoulli import PixelBernoulli
from vaekit.distributions.pixel_categorical import PixelCategorical
from vaekit.distributions.pixel_continuous_bernoulli import PixelContinuousBernoulli
from vaekit.distributions.pixel_gaussian import PixelGaussian
from vaekit.distributions.pixel_laplace import PixelLaplace
from vaekit.distributions.pixel_logistic import PixelLogistic
from vaekit.distributions.pixel_logistic_mixture import PixelLogisticMixture

EXTREMES = [-1e6, -1e4, -300.0, -90.0, -20.0, -1.0, -1e-3, -1e-8, 0.0, 1e-8, 1e-3, 1.0, 20.0, 90.0, 300.0, 1e4, 1e6]


def test_bernoulli_is_the_cross_entropy_of_torch() -> None:
    logits = torch.tensor(EXTREMES).clamp(-80, 80).view(1, 1, 1, -1)
    for bit in (0.0, 1.0):
        x = torch.full_like(logits, bit)
        torch.testing.assert_close(PixelBernoulli(logits).log_prob(x), td.Bernoulli(logits=logits.double()).log_prob(x.double()).float())


@pytest.mark.parametrize("sigma", [0.25, 1.0, 25.5, 300.0])
def test_gaussian_and_laplace_are_those_of_scipy_in_raw_units(sigma: float) -> None:
    loc, x = 255 * torch.rand(2, 3, 4, 5), torch.randint(0, 256, (2, 3, 4, 5)).float()
    log_scale = torch.full((1, 1, 1), math.log(sigma))
    for ours, theirs in ((PixelGaussian, scipy.stats.norm), (PixelLaplace, scipy.stats.laplace)):
        px = ours(loc, log_scale)
        expected = theirs.logpdf(x, loc, sigma)
        inside = np.isfinite(expected)  # scipy takes the logarithm of a density that underflows
        np.testing.assert_allclose(px.log_prob(x)[inside], expected[inside], rtol=2e-5, atol=1e-5)
        np.testing.assert_allclose(px.stddev, theirs.std(loc, sigma), rtol=1e-5)


def test_a_scale_for_each_channel() -> None:
    loc, x = torch.randn(2, 3, 4, 5), torch.randn(2, 3, 4, 5)
    scale = torch.tensor([0.5, 1.0, 2.0]).view(3, 1, 1)
    torch.testing.assert_close(PixelGaussian(loc, scale.log()).log_prob(x), td.Normal(loc, scale).log_prob(x))
    torch.testing.assert_close(PixelLaplace(loc, scale.log()).log_prob(x), td.Laplace(loc, scale).log_prob(x))


def test_continuous_bernoulli_is_that_of_double_precision() -> None:
    """log C = log(l / tanh(l/2)) and the closed forms of mean and variance, in double precision away from 0."""
    logits = torch.cat([torch.linspace(-30, 30, 120), torch.tensor([-0.999, 1.001, -1.001, 0.3, 1e-1])]).view(1, 1, 1, -1)
    exact = logits.double()
    px = PixelContinuousBernoulli(logits, 256)
    for value in (0.0, 100.0, 255.0):
        u = value / 255
        cross_entropy = u * torch.nn.functional.logsigmoid(exact) + (1 - u) * torch.nn.functional.logsigmoid(-exact)
        expected = torch.log(exact / torch.tanh(exact / 2)) + cross_entropy - math.log(255)
        torch.testing.assert_close(px.log_prob(torch.full_like(logits, value)), expected.float(), rtol=1e-5, atol=1e-5)
    mean = 1 / (1 - torch.exp(-exact)) - 1 / exact
    variance = 1 / exact**2 - 0.25 / torch.sinh(exact / 2) ** 2
    torch.testing.assert_close(px.mean, 255 * mean.float(), rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(px.variance, 255**2 * variance.float(), rtol=1e-4, atol=1e-2)


def test_continuous_bernoulli_agrees_with_torch() -> None:
    logits = torch.linspace(-8, 8, 40).view(1, 1, 1, -1)
    theirs = td.ContinuousBernoulli(logits=logits.double())
    u = torch.rand_like(logits)
    torch.testing.assert_close(PixelContinuousBernoulli(logits, 2).log_prob(u), theirs.log_prob(u.double()).float(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["mean", "variance", "log_prob"])
def test_continuous_bernoulli_is_smooth_at_zero(name: str) -> None:
    """The gradient of the stand-in series and that of the closed form, in single precision, near the true one at double precision."""
    logits = torch.linspace(-1.5, 1.5, 61)[:-1].view(1, 1, 1, -1).requires_grad_()
    px = PixelContinuousBernoulli(logits, 2)
    value = px.log_prob(torch.full_like(logits, 0.3)) if name == "log_prob" else getattr(px, name)
    (gradient,) = torch.autograd.grad(value.sum(), logits)
    l = logits.detach().double()  # noqa: E741
    u = torch.linspace(0, 1, 20001, dtype=torch.float64).view(-1, 1, 1, 1)
    weight = torch.exp(l * u)
    weight[[0, -1]] *= 0.5
    weight = weight / weight.sum(0)
    mean = (weight * u).sum(0)
    central = [(weight * (u - mean) ** k).sum(0) for k in range(4)]
    expected = {"mean": central[2], "variance": central[3], "log_prob": 0.3 - mean}[name]
    torch.testing.assert_close(gradient[0], expected.float(), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("logit", [-200.0, -5.0, -0.5, 0.0, 1e-3, 0.5, 3.0, 50.0])
def test_continuous_bernoulli_integrates_to_one_and_draws_its_mean(logit: float) -> None:
    px = PixelContinuousBernoulli(torch.full((1, 1, 1, 1), logit), 256)
    x = torch.linspace(0, 255, 200_001).view(-1, 1, 1, 1)
    density = px.log_prob(x).exp().double().flatten()
    assert torch.trapezoid(density, x.double().flatten()).item() == pytest.approx(1, abs=1e-4)
    draws = px.sample((40_000,))
    assert draws.min() >= 0 and draws.max() <= 255
    assert draws.mean().item() == pytest.approx(px.mean.item(), abs=4 * px.stddev.item() / 200 + 1e-3)
    assert draws.std().item() == pytest.approx(px.stddev.item(), rel=0.05)


def test_continuous_bernoulli_reparametrizes() -> None:
    """The gradient of the mean draw is A''(l), the derivative of the mean."""
    logits = torch.tensor([-4.0, -0.3, 0.0, 0.005, 2.0]).view(1, 1, 1, -1).requires_grad_()
    px = PixelContinuousBernoulli(logits, 256)
    (gradient,) = torch.autograd.grad(px.rsample((60_000,)).mean(0).sum(), logits)
    torch.testing.assert_close(gradient, px.variance.detach() / 255, rtol=0.03, atol=0.05)


@pytest.mark.parametrize("levels", [2, 4, 256])
def test_discretized_logistic_sums_to_one(levels: int) -> None:
    loc = torch.tensor([-1e6, -1000.0, -0.5, 0.0, 0.49, levels / 2, levels - 1.0, levels + 3.3, 1e5]).view(1, 1, -1, 1)
    log_scale = torch.tensor([-2.15, -1.0, 0.0, 2.0, 5.0, 11.0]).view(1, 1, 1, -1)
    loc, log_scale = (t.contiguous() for t in torch.broadcast_tensors(loc, log_scale))
    px = PixelLogistic(loc, log_scale, levels)
    x = torch.arange(levels).float().view(-1, 1, 1, 1).expand(-1, *loc.shape[1:])
    total = px.log_prob(x).double().exp().sum(0)
    torch.testing.assert_close(total, torch.ones_like(total), rtol=0, atol=1e-5)


def test_discretized_logistic_is_a_difference_of_distribution_functions() -> None:
    loc, scale = 100.3, 4.0
    x = torch.arange(256).float().view(1, 1, 1, -1)
    cdf = scipy.stats.logistic(loc, scale).cdf
    k = np.arange(256)
    probability = np.where(k < 255, cdf(k + 0.5), 1.0) - np.where(k > 0, cdf(k - 0.5), 0.0)
    px = PixelLogistic(torch.full_like(x, loc), torch.full_like(x, math.log(scale)), 256)
    log_prob = px.log_prob(x).flatten()
    keep = probability > 1e-9  # the plain difference loses the far upper tail
    np.testing.assert_allclose(log_prob.numpy()[keep], np.log(probability[keep]), rtol=1e-4, atol=1e-5)
    assert torch.isfinite(log_prob).all()


@pytest.mark.parametrize(("log_scale", "within"), [(-2.15, 0.2), (-0.69, 0.03), (1.0, 0.01), (4.0, 0.01)])
def test_the_mean_of_a_discretized_logistic_is_as_near_as_documented(log_scale: float, within: float) -> None:
    loc = torch.cat([torch.linspace(-6, 6, 49), torch.linspace(99, 101, 21), torch.linspace(250, 262, 49)]).view(1, 1, 1, -1)
    px = PixelLogistic(loc, torch.full_like(loc, log_scale), 256)
    x = torch.arange(256).float().view(-1, 1, 1, 1).expand(-1, *loc.shape[1:])
    exact = (px.log_prob(x).exp() * x).sum(0, keepdim=True)
    assert (px.mean - exact).abs().max() < within


def test_the_mode_of_a_discretized_logistic_is_the_likeliest_level() -> None:
    loc = torch.linspace(-4, 20, 60).view(1, 1, 1, -1)
    x = torch.arange(16).float().view(-1, 1, 1, 1).expand(-1, *loc.shape[1:])
    for log_scale in (-2.0, 0.0, 1.0, 3.0):
        px = PixelLogistic(loc, torch.full_like(loc, log_scale), 16)
        table = px.log_prob(x)
        torch.testing.assert_close(px.log_prob(px.mode), table.amax(0, keepdim=True))


def _mixture(k: int, c: int, levels: int, n: int = 1, size: tuple[int, int] = (2, 3)) -> PixelLogisticMixture:
    return PixelLogisticMixture(
        torch.randn(n, k, *size),
        (levels - 1) * torch.rand(n, k, c, *size),
        torch.randn(n, k, c, *size) - 1,
        torch.tanh(torch.randn(n, k, c * (c - 1) // 2, *size)),
        levels,
    )


@pytest.mark.parametrize(("c", "levels"), [(1, 256), (2, 6), (3, 4), (4, 3)])
def test_a_mixture_sums_to_one_over_whole_pixels(c: int, levels: int) -> None:
    px = _mixture(3, c, levels)
    pixels = torch.tensor(list(itertools.product(range(levels), repeat=c))).float().view(-1, c, 1, 1).expand(-1, -1, 2, 3)
    log_prob = px.log_prob(pixels)
    assert log_prob.shape == (levels**c, 1, 2, 3)
    torch.testing.assert_close(log_prob.exp().sum(0), torch.ones(1, 2, 3), rtol=0, atol=1e-5)


def test_a_mixture_is_its_definition_pixel_by_pixel() -> None:
    px = _mixture(2, 3, 256)
    x = torch.randint(0, 256, (1, 3, 2, 3)).float()
    total = torch.full((2, 3), -torch.inf)
    for k in range(2):
        a = px.coefficients[0, k]
        r, g = (x[0, i] - 127.5 for i in range(2))
        locs = [px.loc[0, k, 0], px.loc[0, k, 1] + a[0] * r, px.loc[0, k, 2] + a[1] * r + a[2] * g]
        log_p = sum(discretized_logistic.log_probability(x[0, i], locs[i], px.log_scale[0, k, i], 256) for i in range(3))
        total = torch.logaddexp(total, torch.log_softmax(px.logits, 1)[0, k] + log_p)
    torch.testing.assert_close(px.log_prob(x)[0, 0], total, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("c", [1, 2, 3])
def test_a_mixture_draws_what_it_scores(c: int) -> None:
    levels = 4
    px = _mixture(2, c, levels, size=(1, 1))
    draws = px.sample((30_000,)).view(-1, c)
    code = (draws * levels ** torch.arange(c)).sum(1).long()
    frequency = torch.bincount(code, minlength=levels**c) / len(draws)
    pixels = torch.stack([torch.arange(levels**c) // levels**i % levels for i in range(c)], 1).float().view(-1, c, 1, 1)
    probability = px.log_prob(pixels).exp().flatten()
    assert ((frequency - probability).abs() < 5 * (probability * (1 - probability) / len(draws)).sqrt() + 1e-4).all()


def test_a_mixture_of_one_channel_and_component_is_a_logistic() -> None:
    px = _mixture(1, 1, 256)
    one = PixelLogistic(px.loc[:, 0], px.log_scale[:, 0], 256)
    x = torch.randint(0, 256, (1, 1, 2, 3)).float()
    torch.testing.assert_close(px.log_prob(x), one.log_prob(x))
    torch.testing.assert_close(px.mean, one.mean)


def test_the_mean_of_a_colour_mixture_plugs_in_expected_channels() -> None:
    px = PixelLogisticMixture(
        torch.zeros(1, 2, 1, 1),
        60 + 120 * torch.rand(1, 2, 3, 1, 1),
        torch.full((1, 2, 3, 1, 1), 1.0),
        0.2 * torch.randn(1, 2, 3, 1, 1),
        256,
    )
    draws = px.sample((20_000,)).squeeze(1)
    torch.testing.assert_close(draws.mean(0, keepdim=True), px.mean, rtol=0, atol=5 * draws.std(0).max().item() / 20_000**0.5)


def test_categorical_is_that_of_torch() -> None:
    logits = 3 * torch.randn(2, 7, 3, 4, 5)
    theirs = td.Categorical(logits=logits.movedim(1, -1))
    px = PixelCategorical(logits)
    x = torch.randint(0, 7, (2, 3, 4, 5))
    torch.testing.assert_close(px.log_prob(x.float()), theirs.log_prob(x))
    torch.testing.assert_close(px.mode, theirs.mode.float())
    draws = px.sample((4000,))
    assert draws.shape == (4000, 2, 3, 4, 5)
    assert ((draws.mean(0) - px.mean).abs() < 5.5 * (px.variance / 4000).sqrt() + 1e-3).all()


def _extreme(name: str, p: torch.Tensor) -> tuple[td.Distribution, torch.Tensor]:
    """A distribution with the parameters p [n,1,1,1] in each place, and values at the ends and inside."""
    x = torch.tensor([0.0, 1.0, 128.0, 255.0]).view(1, 1, 1, -1).expand(len(p), -1, -1, -1)
    p = p.expand(-1, -1, -1, 4)
    shared = torch.full((1, 1, 1), math.log(0.25))
    if name == "bernoulli":
        return PixelBernoulli(p), (x > 100).float()
    if name == "continuous-bernoulli":
        return PixelContinuousBernoulli(p, 256), x
    if name == "gaussian":
        return PixelGaussian(255 * torch.sigmoid(p), shared), x
    if name == "laplace":
        return PixelLaplace(255 * torch.sigmoid(p), shared), x
    if name == "logistic":
        return PixelLogistic(p, p.clamp(-2, 11), 256), x
    if name == "mixture":
        many = p.unsqueeze(1) * torch.tensor([1.0, -1.0]).view(1, 2, 1, 1, 1)
        return PixelLogisticMixture(many[:, :, 0], many, many.clamp(-2, 11), many[:, :, :0], 256), x
    return PixelCategorical(p.unsqueeze(1) * torch.linspace(-1, 1, 256).view(1, -1, 1, 1, 1)), x


@pytest.mark.parametrize("name", ["bernoulli", "continuous-bernoulli", "gaussian", "laplace", "logistic", "mixture", "categorical"])
def test_extreme_parameters_have_finite_values_and_gradients(name: str) -> None:
    p = torch.tensor(EXTREMES).view(-1, 1, 1, 1).requires_grad_()
    px, x = _extreme(name, p)
    log_prob = px.log_prob(x)
    for value in (log_prob, px.mean):
        assert torch.isfinite(value).all()
        (gradient,) = torch.autograd.grad(value.sum(), p, retain_graph=True)
        assert torch.isfinite(gradient).all()
    assert torch.isfinite(px.sample()).all()


def test_each_likelihood_traces_into_one_graph() -> None:
    """In a process of its own, where no shape checks stand between the compiler and the code."""
    program = """
import torch
from vaekit.data.spec import DataSpec
from vaekit.likelihoods import LIKELIHOODS, for_data
for name in LIKELIHOODS:
    levels = 2 if name == "bernoulli" else 256
    likelihood = for_data(name, DataSpec("pixels", (3, 4, 5), levels), layers=2 if name == "causal" else None)
    x = torch.randint(0, levels, (2, 3, 4, 5)).byte()
    params = torch.randn(2, likelihood.channels(3), 4, 5, requires_grad=True)
    def loss(params, x):
        px = likelihood(params)
        log_prob = px.log_prob(likelihood.target(x))
        # A draw of ordered pixels is a loop over them, which nobody compiles.
        return (log_prob,) if name == "causal" else (log_prob, px.mean, px.mode, px.sample())
    compiled = torch.compile(loss, fullgraph=True, backend="eager")
    for mine, plain in zip(compiled(params, x)[:3], loss(params, x)[:3]):
        torch.testing.assert_close(mine, plain)
print("one graph")
"""
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert run.stdout.strip() == "one graph", run.stderr[-3000:]
