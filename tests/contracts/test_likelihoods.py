"""What every likelihood promises, over the registry; and the traps that the field has fallen into."""

import itertools
import math

import numpy as np
import pytest
import scipy.stats
import torch
from torch import Tensor

from vaekit.data.spec import DataSpec
from vaekit.errors import UserError
from vaekit.likelihoods import LIKELIHOODS, Bernoulli, Categorical, ContinuousBernoulli, Gaussian, Laplace, Likelihood, Mixture, for_data
from vaekit.likelihoods.noise import NoiseScale
from vaekit.model import total_log_prob
from vaekit.part import build, spec

NAMES = [name for name in LIKELIHOODS if name != "causal"]
"""Of independent pixels; those that know of each other have oracles of their own."""
NOISY = ["gaussian", "laplace"]
MODES = [0.1, "learned", "learned-per-channel", "optimal"]
FLOATS = DataSpec("values", (2, 5, 3), None, mean=(-10.0, 200.0), std=(2.0, 50.0))


def _data(name: str, channels: int = 3, height: int = 5, width: int = 4, levels: int = 256) -> DataSpec:
    return DataSpec("pixels", (channels, height, width), 2 if name == "bernoulli" else levels)


def _images(data: DataSpec, n: int = 6) -> Tensor:
    if data.levels is None:
        mean, std = (torch.tensor(v).view(-1, 1, 1) for v in (data.mean, data.std))
        return mean + std * torch.randn(n, *data.shape)
    return torch.randint(0, data.levels, (n, *data.shape)).to(torch.uint8 if data.levels <= 256 else torch.uint16)


def _params(likelihood: Likelihood, data: DataSpec, n: int = 6) -> Tensor:
    return torch.randn(n, likelihood.channels(data.shape[0]), *data.shape[1:])


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("name", NAMES)
def test_shapes_and_ranges(name: str, channels: int) -> None:
    data = _data(name, channels)
    likelihood = for_data(name, data)
    x = _images(data)
    target, inputs = likelihood.target(x), likelihood.input(x)
    assert target.dtype == inputs.dtype == torch.float32
    torch.testing.assert_close(target, x.float())
    torch.testing.assert_close(inputs, x.float() / (data.levels - 1))
    px = likelihood(_params(likelihood, data))
    rows = 1 if name == "mixture" else channels
    assert px.log_prob(target).shape == (6, rows, 5, 4)
    assert px.sample().shape == (6, channels, 5, 4)
    assert px.sample((2,)).shape == (2, 6, channels, 5, 4)
    for picture in (px.mean, px.mode):
        assert picture.shape == (6, channels, 5, 4)
        assert picture.min() >= 0 and picture.max() <= data.levels - 1
    if likelihood.kind == "pmf":
        draw = px.sample()
        torch.testing.assert_close(draw, draw.round().clamp(0, data.levels - 1))


@pytest.mark.parametrize("name", NAMES)
def test_it_is_rebuilt_from_its_description(name: str) -> None:
    likelihood = for_data(name, _data(name))
    again = build(spec(likelihood))
    again.load_state_dict(likelihood.state_dict())
    assert spec(again) == spec(likelihood)
    params, x = _params(likelihood, _data(name)), likelihood.target(_images(_data(name)))
    torch.testing.assert_close(again(params).log_prob(x), likelihood(params).log_prob(x))


@pytest.mark.parametrize("name", [n for n in NAMES if LIKELIHOODS[n].kind == "pmf"])
@pytest.mark.parametrize(("channels", "levels"), [(1, 256), (1, 2), (2, 4), (3, 4)])
@pytest.mark.parametrize("spread", [1.0, 1000.0])
def test_a_pmf_sums_to_one(name: str, channels: int, levels: int, spread: float) -> None:
    """Over every pixel that there is, all channels together."""
    data = _data(name, channels, 2, 3, levels)
    likelihood = for_data(name, data)
    px = likelihood(spread * _params(likelihood, data, 1))
    total = torch.zeros(2, 3)
    for pixel in itertools.product(range(data.levels), repeat=channels):
        x = torch.tensor(pixel).float().view(1, -1, 1, 1).expand(-1, -1, 2, 3)
        total = total + px.log_prob(x).sum(1)[0].exp()
    torch.testing.assert_close(total, torch.ones(2, 3), rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", [n for n in NAMES if LIKELIHOODS[n].kind == "density"])
@pytest.mark.parametrize("levels", [16, 256, 65536])
def test_a_density_integrates_to_one_over_raw_values(name: str, levels: int) -> None:
    data = DataSpec("pixels", (1, 1, 1), levels)
    likelihood = for_data(name, data)
    px = likelihood(_params(likelihood, data, 1))
    reach = 0 if name == "continuous-bernoulli" else 8
    x = torch.linspace(-reach, 1 + reach, 400_001, dtype=torch.float64) * (levels - 1)
    density = px.log_prob(x.float().view(-1, 1, 1, 1)).exp().double().flatten()
    assert torch.trapezoid(density, x).item() == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("name", NOISY)
def test_a_density_of_floats_integrates_to_one_over_raw_values(name: str) -> None:
    likelihood = for_data(name, FLOATS)
    px = likelihood(_params(likelihood, FLOATS, 1))
    for c, (mean, std) in enumerate(zip(FLOATS.mean, FLOATS.std, strict=True)):
        x = torch.linspace(mean - 25 * std, mean + 25 * std, 20_001)
        values = x.view(-1, 1, 1, 1).expand(-1, *FLOATS.shape)
        density = px.log_prob(values)[:, c].exp()
        torch.testing.assert_close(torch.trapezoid(density, x.view(-1, 1, 1), dim=0), torch.ones(5, 3), rtol=0, atol=1e-3)


@pytest.mark.parametrize("name", NAMES)
def test_draws_have_the_mean(name: str) -> None:
    data = _data(name, 2, 2, 2)
    likelihood = for_data(name, data)
    params = _params(likelihood, data, 1)
    if name == "mixture":  # its mean is exact where channels are not clipped: narrow components inside the range
        params = (params.view(1, 5, -1, 2, 2) * torch.tensor([1, 0.2, 0.2, 0.1, 0.1, 0.1]).view(-1, 1, 1)).view_as(params)
        params.view(1, 5, -1, 2, 2)[:, :, 3:5] -= 4
    px = likelihood(params)
    draws = px.sample((20_000,))[:, 0]
    error = draws.std(0) / len(draws) ** 0.5
    assert ((draws.mean(0) - px.mean[0]).abs() < 5 * error + 0.03).all()


@pytest.mark.parametrize("name", NAMES)
def test_every_parameter_of_the_network_and_of_the_likelihood_gets_a_gradient(name: str) -> None:
    data = _data(name)
    likelihood = for_data(name, data)
    params = (0.1 * _params(likelihood, data)).requires_grad_()
    likelihood(params).log_prob(likelihood.target(_images(data))).sum().backward()
    assert torch.isfinite(params.grad).all()
    # A logit of the far tail may get an exact zero in single precision, but not most of them.
    assert (params.grad != 0).float().mean() > 0.95
    for parameter in likelihood.parameters():
        assert parameter.grad is not None and (parameter.grad != 0).all()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", NOISY)
def test_every_scale_gets_a_gradient(name: str, mode: float | str) -> None:
    likelihood = for_data(name, _data(name), sigma=mode)
    shapes = {"learned": [(1,)], "learned-per-channel": [(3,)]}.get(mode, [])
    assert [tuple(p.shape) for p in likelihood.parameters()] == shapes
    params = _params(likelihood, _data(name)).requires_grad_()
    likelihood(params).log_prob(likelihood.target(_images(_data(name)))).sum().backward()
    assert (params.grad != 0).all()
    assert all((p.grad != 0).all() for p in likelihood.parameters())


@pytest.mark.parametrize("name", NAMES)
def test_an_image_is_scored_the_same_in_any_batch(name: str) -> None:
    data = _data(name)
    likelihood = for_data(name, data)
    x, params = likelihood.target(_images(data, 8)), _params(likelihood, data, 8)
    together = likelihood(params).log_prob(x)
    for rows in ([3], [1, 5], [4, 4, 4]):
        torch.testing.assert_close(likelihood(params[rows]).log_prob(x[rows]), together[rows])


@pytest.mark.parametrize("name", NAMES)
def test_bfloat16_parameters_are_scored_in_single_precision(name: str) -> None:
    data = _data(name)
    likelihood = for_data(name, data)
    params, x = _params(likelihood, data).bfloat16(), likelihood.target(_images(data))
    log_prob = likelihood(params).log_prob(x)
    assert log_prob.dtype == torch.float32
    torch.testing.assert_close(log_prob, likelihood(params.float()).log_prob(x))


def test_floats_are_standardized_and_their_bias_is_their_mean() -> None:
    x = _images(FLOATS, 200)
    for name in NOISY:
        likelihood = for_data(name, FLOATS)
        unit = likelihood.input(x)
        assert unit.mean((0, 2, 3)).abs().max() < 0.1 and (unit.std((0, 2, 3)) - 1).abs().max() < 0.1
        torch.testing.assert_close(likelihood.target(x), x)
        torch.testing.assert_close(likelihood(likelihood.bias(x)[None]).mean[0], x.mean(0), rtol=1e-4, atol=1e-3)


def test_a_gaussian_of_floats_is_that_of_scipy_in_raw_units() -> None:
    likelihood = for_data("gaussian", FLOATS, sigma=0.5)
    params, x = torch.randn(3, 2, 5, 3), _images(FLOATS, 3)
    mean, std = (np.array(v).reshape(-1, 1, 1) for v in (FLOATS.mean, FLOATS.std))
    expected = scipy.stats.norm.logpdf(x.numpy(), mean + std * params.numpy(), 0.5 * std)
    np.testing.assert_allclose(likelihood(params).log_prob(x), expected, rtol=1e-4, atol=1e-4)


def test_a_constant_channel_of_floats_is_scored() -> None:
    likelihood = for_data("gaussian", DataSpec("values", (2, 2, 2), None, mean=(0.0, 7.0), std=(1.0, 0.0)))
    assert torch.isfinite(likelihood(torch.zeros(1, 2, 2, 2)).log_prob(torch.full((1, 2, 2, 2), 7.0))).all()
    assert torch.isfinite(likelihood.input(torch.full((1, 2, 2, 2), 7.0))).all()


def test_a_gaussian_of_8_bits_is_per_grey_level() -> None:
    """The trap: a density on [0,1] is 255 times that of grey levels, 5.5 nats for each value."""
    likelihood = for_data("gaussian", _data("gaussian"), sigma=0.1)
    params, x = _params(likelihood, _data("gaussian")), _images(_data("gaussian")).float()
    location = 255 * torch.sigmoid(params.double()).numpy()
    np.testing.assert_allclose(likelihood(params).log_prob(x), scipy.stats.norm.logpdf(x.numpy(), location, 25.5), rtol=1e-4)


def test_a_laplace_of_sigma_is_one_of_that_standard_deviation() -> None:
    px = for_data("laplace", _data("laplace"), sigma=0.1)(torch.zeros(1, 3, 5, 4))
    torch.testing.assert_close(px.stddev, torch.full((1, 3, 5, 4), 25.5))
    assert Laplace(scale=0.1)(torch.zeros(1, 1, 1, 1)).log_scale.exp().item() == pytest.approx(25.5)


@pytest.mark.parametrize(("name", "power"), [("gaussian", 2), ("laplace", 1)])
@pytest.mark.parametrize("data", [_data("gaussian", 2, 5, 3), FLOATS], ids=["pixels", "floats"])
def test_an_optimal_scale_becomes_the_error_of_the_model(name: str, power: int, data: DataSpec) -> None:
    likelihood = for_data(name, data, sigma="optimal")
    likelihood.initialize(_images(data))
    params = torch.randn(64, *data.shape)
    px = likelihood(params)
    width = 1.0 if data.levels is None else 255.0
    x = px.mean + 0.07 * torch.randn(64, *data.shape) * (torch.tensor(data.std).view(-1, 1, 1) if data.levels is None else width)
    error = likelihood.input(x) - likelihood.input(px.mean)
    expected = (error.abs() ** power).mean().item() ** (1 / power)
    for _ in range(300):
        likelihood.post_step(likelihood.stats(likelihood(params), x))
    assert likelihood.noise().exp().item() == pytest.approx(expected, rel=1e-3)
    log_prob = likelihood(params).log_prob(x).sum()
    for factor in (0.97, 1.03):  # it is the most likely one
        other = for_data(name, data, **{"sigma" if power == 2 else "scale": expected * factor})
        assert other(params).log_prob(x).sum() < log_prob


def test_an_optimal_scale_changes_nothing_in_forward() -> None:
    likelihood = for_data("gaussian", _data("gaussian"), sigma="optimal")
    before = {k: v.clone() for k, v in likelihood.state_dict().items()}
    px = likelihood(_params(likelihood, _data("gaussian")))
    px.log_prob(likelihood.target(_images(_data("gaussian"))))
    stats = likelihood.stats(px, likelihood.target(_images(_data("gaussian"))))
    assert not any(v.requires_grad for v in stats.values())
    assert before.keys() == {"noise.moment"}
    torch.testing.assert_close(likelihood.state_dict(), before)


@pytest.mark.parametrize("mode", ["learned", "learned-per-channel", "optimal"])
@pytest.mark.parametrize("name", NOISY)
def test_the_scale_starts_from_the_data(name: str, mode: str) -> None:
    data = _data(name)
    likelihood = for_data(name, data, sigma=mode)
    x = (100 + 20 * torch.randn(200, *data.shape)).clamp(0, 255).byte()
    likelihood.initialize(x)
    expected = 20.0 if name == "gaussian" else 20 * math.sqrt(2 / math.pi)
    scale = likelihood(torch.zeros(1, 3, 5, 4)).log_scale.exp().flatten()
    torch.testing.assert_close(scale, torch.tensor(expected).expand(3 if "-" in mode else 1), rtol=0.05, atol=0)


@pytest.mark.parametrize("mode", ["learned", "optimal"])
def test_a_perfect_fit_has_a_finite_density(mode: str) -> None:
    likelihood = for_data("gaussian", _data("gaussian"), sigma=mode)
    params = torch.zeros(4, 3, 5, 4)
    x = torch.full((4, 3, 5, 4), 127.5)
    optimizer = torch.optim.Adam(list(likelihood.parameters()) or [torch.zeros(1, requires_grad=True)], lr=0.3)
    for _ in range(400):
        px = likelihood(params)
        if mode == "learned":
            optimizer.zero_grad()
            (-px.log_prob(x).mean()).backward()
            optimizer.step()
        likelihood.post_step(likelihood.stats(px, x))
    px = likelihood(params)
    assert px.log_prob(x).max() < 0.48
    assert px.stddev.min().item() == pytest.approx(0.25, rel=0.02)


def test_learned_sigma_is_the_error_when_it_has_converged() -> None:
    """The trap of a sigma fixed at 1: this one finds the error of the model, whatever the image size."""
    likelihood = for_data("gaussian", _data("gaussian"))
    params = torch.randn(32, 3, 5, 4)
    x = (likelihood(params).mean + 12 * torch.randn(32, 3, 5, 4)).detach()
    optimizer = torch.optim.Adam(likelihood.parameters(), lr=0.05)
    for _ in range(300):
        optimizer.zero_grad()
        (-likelihood(params).log_prob(x).mean()).backward()
        optimizer.step()
    assert likelihood(params).stddev.mean().item() == pytest.approx((x - likelihood(params).mean).square().mean().sqrt().item(), rel=1e-2)


@pytest.mark.parametrize("name", NAMES)
def test_log_prob_is_of_single_values(name: str) -> None:
    """The trap of a mean over pixels: an image of four copies has four times the log-probability."""
    data = _data(name, 1, 3, 3)
    likelihood = for_data(name, data)
    params, x = _params(likelihood, data), likelihood.target(_images(data))
    one = likelihood(params).log_prob(x).flatten(1).sum(1)
    four = likelihood(params.repeat(1, 1, 2, 2)).log_prob(x.repeat(1, 1, 2, 2)).flatten(1).sum(1)
    torch.testing.assert_close(four, 4 * one)


def test_the_automatic_choice() -> None:
    assert isinstance(for_data(None, DataSpec("pixels", (1, 2, 2), 2)), Bernoulli)
    for data in (DataSpec("pixels", (1, 2, 2)), DataSpec("pixels", (1, 2, 2), 65536), FLOATS):
        likelihood = for_data(None, data, sigma=None)
        assert isinstance(likelihood, Gaussian) and likelihood.noise.mode == "learned"


GREY, BITS, DEEP = DataSpec("pixels", (1, 2, 2)), DataSpec("pixels", (1, 2, 2), 2), DataSpec("pixels", (1, 2, 2), 65536)


@pytest.mark.parametrize(
    ("name", "data", "options", "sentence"),
    [
        (
            "bernoulli",
            GREY,
            {},
            "Bernoulli scores pixels that are 0 or 1, and these have 256 levels: draw bits with --binarize, or choose continuous-bernoulli, "
            "gaussian, logistic, mixture or categorical.",
        ),
        ("bernoulli", FLOATS, {}, "Bernoulli scores pixels that are 0 or 1, and these are floating-point values: choose gaussian or laplace."),
        ("continuous-bernoulli", BITS, {}, "choose bernoulli, gaussian or categorical."),
        ("continuous-bernoulli", FLOATS, {}, "continuous-bernoulli scores pixels, and these are floating-point values: choose gaussian or laplace."),
        ("logistic", FLOATS, {}, "choose gaussian or laplace."),
        ("mixture", FLOATS, {}, "choose gaussian or laplace."),
        ("categorical", FLOATS, {}, "choose gaussian or laplace."),
        ("categorical", DEEP, {}, "these have 65536: choose continuous-bernoulli, gaussian, logistic or mixture."),
        ("bernoulli", BITS, {"sigma": 1.0}, "sigma is an option of gaussian and laplace, and not of bernoulli."),
        ("gaussian", GREY, {"components": 3}, "components is an option of mixture and causal, and not of gaussian."),
        ("gaussian", GREY, {"colour": 3}, "'colour' is not an option of a likelihood: gaussian has sigma."),
        ("gaussian", GREY, {"sigma": "best"}, "a number or one of learned, learned-per-channel, optimal, and not 'best'."),
        ("gaussian", GREY, {"sigma": 0.0}, "a positive number"),
        ("laplace", GREY, {"sigma": 0.1, "scale": 0.1}, "once"),
        ("mixture", GREY, {"components": 0}, "at least one component"),
        ("poisson", GREY, {}, "There is no likelihood 'poisson': choose one of bernoulli, continuous-bernoulli, gaussian, laplace, logistic"),
    ],
)
def test_what_makes_no_sense_is_refused_with_the_alternatives(name: str, data: DataSpec, options: dict[str, object], sentence: str) -> None:
    with pytest.raises(UserError) as refusal:
        for_data(name, data, **options)
    assert sentence in str(refusal.value)


def test_constructors_refuse_too() -> None:
    with pytest.raises(UserError, match="lie on its ends"):
        ContinuousBernoulli(2)
    with pytest.raises(UserError, match="at most 256"):
        Categorical(1000)
    with pytest.raises(UserError, match="1 channels, and these images have 3"):
        Mixture().channels(3)
    with pytest.raises(UserError, match="learned-per-channel"):
        NoiseScale("per-pixel", 1, 2, floor=0.1, start=1.0)


@pytest.mark.parametrize("name", [n for n in NAMES if n not in ("bernoulli", "categorical")])
def test_sixteen_bits(name: str) -> None:
    data = DataSpec("pixels", (1, 3, 2), 65536)
    likelihood = for_data(name, data)
    x = torch.tensor([0, 1, 300, 40000, 65534, 65535], dtype=torch.int32).to(torch.uint16).view(1, 1, 3, 2)
    likelihood.initialize(x)
    px = likelihood(likelihood.bias(x)[None])
    assert torch.isfinite(px.log_prob(likelihood.target(x))).all()
    assert likelihood.input(x).max() == 1


@pytest.mark.parametrize("name", NAMES)
def test_networks_in_16_bits_leave_the_density_in_32(name: str) -> None:
    """Weights of importance are differences of these sums: what autocast rounds by a hundredth of a per cent is nats."""
    data = _data(name, channels=1 if name == "bernoulli" else 3, height=16, width=16)
    likelihood = for_data(name, data)
    x, params = likelihood.target(_images(data)), _params(likelihood, data)
    expected = likelihood(params).log_prob(x).flatten(1).sum(1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = total_log_prob(likelihood(params), x)
    torch.testing.assert_close(found, expected, rtol=2e-6, atol=1e-3)
