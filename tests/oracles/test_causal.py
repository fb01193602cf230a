"""Pixels that know of the pixels before them: the chain rule, by exhaustion."""

import itertools

import pytest
import torch

from tests.contracts.examples import spec_of
from vaekit.errors import UserError
from vaekit.latents.priors import MixturePrior
from vaekit.likelihoods import Bernoulli, Causal, Gaussian, Mixture
from vaekit.model import total_log_prob
from vaekit.recipes import build_recipe


def binary(height: int = 2, width: int = 3, reach: int = 2, layers: int = 0) -> tuple[Causal, torch.Tensor]:
    """A likelihood whose correction is not zero, and parameters for one image."""
    torch.manual_seed(0)
    likelihood = Causal(Bernoulli(), 1, context=3, reach=reach, width=8, layers=layers)
    for parameter in likelihood.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return likelihood, torch.randn(1, likelihood.channels(1), height, width)


def every(height: int, width: int) -> torch.Tensor:
    return torch.tensor(list(itertools.product((0.0, 1.0), repeat=height * width))).view(-1, 1, height, width)


@pytest.mark.parametrize(("reach", "layers"), [(2, 0), (1, 2)])
def test_probabilities_of_all_images_sum_to_one(reach: int, layers: int) -> None:
    likelihood, params = binary(3, 3, reach, layers)
    images = every(3, 3)
    px = likelihood(params.expand(len(images), -1, -1, -1))
    log_p = total_log_prob(px, images)
    assert log_p.logsumexp(0).abs() < 1e-5
    independent = likelihood.pixel(params[:, :1]).log_prob(images).flatten(1).sum(1)
    assert (log_p - independent).abs().max() > 0.1, "The correction does nothing: the test would prove nothing."


def test_probabilities_of_all_grey_images_sum_to_one() -> None:
    """The likelihood of the 8-bit records, with four levels: each pixel's mixture of logistics is moved by the pixels before it."""
    torch.manual_seed(0)
    likelihood = Causal(Mixture(3, levels=4), 1, context=3, reach=2, width=8)
    for parameter in likelihood.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    params = torch.randn(1, likelihood.channels(1), 2, 3)
    images = torch.tensor(list(itertools.product((0.0, 1.0, 2.0, 3.0), repeat=6))).view(-1, 1, 2, 3)
    log_p = total_log_prob(likelihood(params.expand(len(images), -1, -1, -1)), images)
    assert log_p.logsumexp(0).abs() < 1e-4
    independent = total_log_prob(likelihood.pixel(params[:, : likelihood.own].expand(len(images), -1, -1, -1)), images)
    assert (log_p - independent).abs().max() > 0.1, "The correction does nothing: the test would prove nothing."


@pytest.mark.parametrize("layers", [0, 2])
def test_draws_and_the_mean_have_the_distribution_that_the_log_probability_says(layers: int) -> None:
    likelihood, params = binary(layers=layers)
    images = every(2, 3)
    p = total_log_prob(likelihood(params.expand(64, -1, -1, -1)), images).exp()
    n = 20_000
    px = likelihood(params.expand(n, -1, -1, -1))
    counts = (px.sample().flatten(1) @ (2.0 ** torch.arange(5, -1, -1))).long().bincount(minlength=64)
    chi = ((counts - n * p) ** 2 / (n * p)).sum().item()
    assert chi < 63 + 5 * (2 * 63) ** 0.5
    exact = (p.view(-1, 1, 1, 1) * images).sum(0)
    assert (px.mean.mean(0) - exact).abs().max() < 0.02


@pytest.mark.parametrize("reach", [1, 3])
def test_a_pixel_hears_of_those_before_it_alone_and_within_reach(reach: int) -> None:
    torch.manual_seed(0)
    likelihood = Causal(Mixture(2, channels=2), 2, context=2, reach=reach, width=8)
    torch.nn.init.normal_(likelihood.head.weight)
    x = torch.randint(0, 256, (1, 2, 7, 9)).float()
    params = torch.randn(1, likelihood.channels(2), 7, 9)
    before = likelihood(params).log_prob(x)
    changed = x.clone()
    changed[:, :, 3, 4] = 255 - changed[:, :, 3, 4]
    moved = (likelihood(params).log_prob(changed) != before)[0, 0]
    expected = torch.zeros(7, 9, dtype=torch.bool)
    expected[3, 4 : 4 + reach + 1] = True
    expected[4 : 4 + reach, 4 - reach : 4 + reach + 1] = True
    assert torch.equal(moved, expected)


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_masked_convolutions_hear_of_pixels_before_alone_and_farther(layers: int) -> None:
    likelihood, _ = binary(reach=1, layers=layers)
    params, x = torch.randn(1, likelihood.channels(1), 12, 15), torch.randint(0, 2, (1, 1, 12, 15)).float()
    before = likelihood(params).log_prob(x)
    changed = x.clone()
    changed[:, :, 4, 7] = 1 - changed[:, :, 4, 7]
    moved = (likelihood(params).log_prob(changed) != before)[0, 0].nonzero()
    after = [(i, j) for i, j in moved.tolist() if (i, j) != (4, 7)]
    assert all(i > 4 or (i == 4 and j > 7) for i, j in after)
    sides = [1 + sum(1 + k % 2 for k in range(layers))] * 3
    assert [max(i for i, _ in after) - 4, max(j for _, j in after) - 7, 7 - min(j for _, j in after)] == sides


@pytest.mark.parametrize(("reach", "layers", "height"), [(2, 0, 5), (1, 1, 5), (2, 3, 5), (1, 2, 1)])
def test_a_walk_says_of_each_pixel_what_all_at_once_says(reach: int, layers: int, height: int) -> None:
    torch.manual_seed(0)
    likelihood = Causal(Mixture(2, channels=2), 2, context=2, reach=reach, width=8, layers=layers)
    for parameter in likelihood.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    x = torch.randint(0, 256, (3, 2, height, 6)).float()
    px = likelihood(torch.randn(3, likelihood.channels(2), height, 6))
    walk, together = px._begin(), px.log_prob(x)
    for i in range(height):
        for j in range(6):
            pixel = x[:, :, i : i + 1, j : j + 1]
            torch.testing.assert_close(walk.at(i, j).log_prob(pixel), together[:, :, i : i + 1, j : j + 1], rtol=1e-4, atol=1e-4)
            walk.put(i, j, pixel)


@pytest.mark.parametrize("layers", [0, 3])
def test_it_starts_as_the_plain_likelihood(layers: int) -> None:
    likelihood = Causal(Bernoulli(), 1, layers=layers)
    params, x = torch.randn(3, likelihood.channels(1), 5, 5), torch.randint(0, 2, (3, 1, 5, 5)).float()
    torch.testing.assert_close(likelihood(params).log_prob(x), Bernoulli()(params[:, :1]).log_prob(x))
    bias = likelihood.bias(x)
    assert bias.shape == params.shape[1:] and torch.equal(bias[:1], Bernoulli().bias(x)) and (bias[1:] == 0).all()


def test_masked_convolutions_start_as_none() -> None:
    """Each adds nothing to the network before it, whatever that says."""
    plain, _ = binary(reach=1)
    deeper = Causal(Bernoulli(), 1, context=3, reach=1, width=8, layers=2)
    missing, unexpected = deeper.load_state_dict(plain.state_dict(), strict=False)
    assert sorted(missing) == ["layers.0.conv.weight", "layers.1.conv.weight"] and not unexpected
    params, x = torch.randn(3, plain.channels(1), 5, 5), torch.randint(0, 2, (3, 1, 5, 5)).float()
    assert torch.equal(deeper(params).log_prob(x), plain(params).log_prob(x))
    assert (deeper(params).log_prob(x) - Bernoulli()(params[:, :1]).log_prob(x)).abs().max() > 0.01


def test_it_refuses_what_it_cannot_score() -> None:
    with pytest.raises(UserError, match="optimal"):
        Causal(Gaussian("optimal"), 1)
    with pytest.raises(UserError, match="missing"):
        likelihood, params = binary()
        total_log_prob(likelihood(params), torch.zeros(1, 1, 2, 3), torch.ones(1, 1, 2, 3, dtype=torch.bool))


def test_the_recipe_of_pixels_that_see_each_other() -> None:
    recipe = build_recipe("pixel-vae", spec_of([1, 28, 28]))
    model = recipe.model
    assert isinstance(model.likelihood, Causal) and [layer.step for layer in model.likelihood.layers] == [1, 2, 1, 2]
    assert isinstance(model.latent.prior, MixturePrior) and len(model.latent.prior.logits) == 500
    assert model.encoder.shortcut is None and model.decoder.shortcut is None
    assert recipe.defaults.optimizer == "muon" and recipe.parameters == sum(p.numel() for p in model.parameters())
    with pytest.raises(UserError, match="those of --likelihood mixture do not"):
        build_recipe("pixel-vae", spec_of([1, 28, 28]), likelihood="mixture")
