"""Walks along the dimensions of a code: against a decoder whose images are known, and by way of the command."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, Normal

from tests.contracts.examples import batch, scrambled, vae
from vaekit.cli import main
from vaekit.editing import active_dimensions, traverse
from vaekit.errors import UserError
from vaekit.latents import DensityPrior, DiagonalGaussian, Flat, Posterior, StandardNormal
from vaekit.latents.posteriors import PointPosterior
from vaekit.latents.priors.mixture import MixturePrior
from vaekit.likelihoods import Gaussian
from vaekit.model import VAE
from vaekit.networks.base import Decoder, Encoder
from vaekit.networks.condition import ClassCondition
from vaekit.output import Batch

SCALES = (0.5, 2.0, 0.05, 1.0)
"""Of the code's dimensions: the posterior's mean is this times the pixel. The third is not in use."""
RATES = [0.5 * s * s for s in SCALES]
"""KL(N(s x, 1) || N(0, 1)) of pixels of variance 1."""


class Flatten(Encoder):
    def forward(self, x: Float[Tensor, "B C H W"], c: Tensor | None = None) -> Float[Tensor, "B F"]:
        return x.flatten(1)


class Identity(Decoder):
    def __init__(self) -> None:
        super().__init__()
        self.nothing = nn.Parameter(torch.zeros(()))

    def forward(self, d: Float[Tensor, "N D"], c: Tensor | None = None, target: Tensor | None = None) -> Float[Tensor, "N P H W"]:
        return d.view(-1, 1, 1, 4) + (0.0 if c is None else 10 * c[:, :1].view(-1, 1, 1, 1))


class Shifted(DensityPrior):
    """N(shift, 3^2), whose moments can be hidden."""

    def __init__(self, shift: float, hidden: bool) -> None:
        super().__init__()
        self.shift, self.hidden = shift, hidden

    def forward(self, c: Tensor | None = None) -> Distribution:
        p = Independent(Normal(torch.full((4,), self.shift), torch.full((4,), 3.0)), 1)
        return Veiled(p) if self.hidden else p

    def sample(self, n: int, *, c: Tensor | None = None, temperature: float = 1.0) -> Tensor:
        return self.shift + 3 * torch.randn(n, 4)


class Veiled(Distribution):
    def __init__(self, p: Distribution) -> None:
        super().__init__(p.batch_shape, p.event_shape, validate_args=False)
        self.p = p

    def log_prob(self, value: Tensor) -> Tensor:
        return self.p.log_prob(value)


def pixels(prior: DensityPrior | None = None, posterior: Posterior | None = None) -> VAE:
    """A code of four dimensions that are pixels, each times its scale."""
    posterior = posterior or DiagonalGaussian(4, 4)
    model = VAE(
        Flatten(), Flat(posterior, prior or StandardNormal([4])), Identity(), Gaussian(sigma=1.0, channels=1, levels=None, mean=[0.0], std=[1.0])
    )
    with torch.no_grad():
        posterior.head.weight.zero_()
        posterior.head.bias.zero_()
        posterior.head.weight[:4].copy_(torch.diag(torch.tensor(SCALES)))
    return model


def images(n: int = 400) -> Tensor:
    """Pixels of mean 0 and variance 1."""
    x = torch.randn(n, 1, 1, 4, generator=torch.Generator().manual_seed(1))
    return (x - x.mean(0)) / x.std(0, correction=0)


def test_each_row_changes_its_own_dimension() -> None:
    model, x = pixels(), images(3)
    walk = traverse(model, x, [3, 1], span=1.5, steps=5)
    assert walk.shape == (3, 2, 5, 1, 1, 4)
    expected = (x * torch.tensor(SCALES))[:, None, None].repeat(1, 2, 5, 1, 1, 1)
    t = torch.tensor([-1.5, -0.75, 0.0, 0.75, 1.5])
    expected[:, 0, :, 0, 0, 3] = t
    expected[:, 1, :, 0, 0, 1] = t
    assert torch.allclose(walk, expected, atol=1e-6)


@pytest.mark.parametrize("hidden", [False, True])
def test_the_steps_are_those_of_the_prior(hidden: bool) -> None:
    walk = traverse(pixels(Shifted(5.0, hidden)), images(2), [0], span=2.0, steps=3)
    error = 3 / math.sqrt(4096) * 5
    assert torch.allclose(walk[:, 0, :, 0, 0, 0], torch.tensor([-1.0, 5.0, 11.0]).expand(2, 3), atol=2 * error if hidden else 1e-5)
    again = traverse(pixels(Shifted(5.0, hidden)), images(2), [0], span=2.0, steps=3)
    assert torch.equal(walk, again), "the draws of the prior's moments have a seed"


def test_dimensions_in_use_come_by_their_rate() -> None:
    active = active_dimensions(pixels(), images().split(150))
    assert active.dims == (1, 3, 0), "the third is below the variance that counts as use"
    assert active.rates == pytest.approx([RATES[d] for d in active.dims], rel=1e-4)
    unknown = active_dimensions(pixels(MixturePrior(4, components=2)), images().split(150))
    assert unknown.dims == (1, 3, 0) and unknown.rates is None, "without a rate of each dimension, by the variance"


def test_many_images_of_a_conditional_model() -> None:
    model = scrambled(vae("mlp", condition=ClassCondition(3, 4)))
    x = batch(40)
    x.condition = torch.arange(40) % 3
    walk = traverse(model, x, [2, 0], steps=7)
    assert walk.shape == (40, 2, 7, *x.x.shape[1:]), "280 codes are decoded in parts"
    alone = traverse(model, x[37:38], [2, 0], steps=7)
    assert torch.allclose(walk[37:38], alone, atol=1e-4)


def test_errors() -> None:
    model, x = pixels(), images(2)
    for options, message in (
        ({"dims": [4]}, "0 to 3, and 4"),
        ({"dims": []}, "none was asked"),
        ({"dims": [0], "span": 0.0}, "span above 0"),
        ({"dims": [0], "steps": 1}, "at least 2 steps"),
    ):
        with pytest.raises(UserError, match=message):
            traverse(model, x, **options)
    with torch.no_grad():
        model.latent.posterior.head.weight.zero_()
    with pytest.raises(UserError, match="collapsed"):
        active_dimensions(model, [Batch(images(20))])


def test_an_autoencoder_can_be_walked_through() -> None:
    posterior = PointPosterior(4, 4)
    model = VAE(Flatten(), Flat(posterior, StandardNormal([4])), Identity(), Gaussian(sigma=1.0, channels=1, levels=None, mean=[0.0], std=[1.0]))
    x = images(2)
    walk = traverse(model, x, [0], steps=3)
    assert walk.shape == (2, 1, 3, 1, 1, 4) and torch.allclose(walk[:, 0, :, 0, 0, 0], torch.tensor([-2.0, 0.0, 2.0]).expand(2, 3))


def call(*arguments: object) -> int:
    with pytest.raises(SystemExit) as stop:
        main([str(a) for a in arguments])
    return int(stop.value.code or 0)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "shapes"
    options = ["--recipe", "mlp", "--scale", "0.25", "--size", "16", "--latent", "4", "--precision", "fp32", "--beta", "0.05", "--limit", "500"]
    assert call("train", "shapes:2000", *options, "--epochs", "6", "--no-report", "--out", out) == 0
    return out


def test_the_command(trained: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    picture = tmp_path / "t.png"
    assert call("traverse", trained, "--out", picture, "--steps", 5, "--json") == 0
    said = json.loads(capfd.readouterr().out)
    assert said["steps"] == 5 and 1 <= len(said["dimensions"]) <= 4 and said["rates_nats"] == sorted(said["rates_nats"], reverse=True)
    with Image.open(picture) as shown:
        assert shown.width * len(said["dimensions"]) > 5 * shown.height * 0.8, "five columns, and a row for each dimension"
        middle = np.asarray(shown)
    assert call("traverse", trained, "--out", picture, "--steps", 5, "--row", 3, "--span", 1) == 0
    assert f"{len(said['dimensions'])} dimensions in" in capfd.readouterr().out
    with Image.open(picture) as shown:
        assert not np.array_equal(np.asarray(shown), middle)
    Image.fromarray(np.zeros((16, 16), np.uint8)).save(tmp_path / "black.png")
    assert call("traverse", trained, "--image", tmp_path / "black.png", "--out", picture) == 0
    assert call("traverse", trained, "--row", 100_000) == 2
    assert "validation split" in capfd.readouterr().err


def test_evaluate_reports_disentanglement(trained: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert call("evaluate", trained, "--samples", 0, "--split", "all", "--limit", 300, "--disentanglement", "--json") == 0
    figures = json.loads(capfd.readouterr().out)
    assert figures["images"] == 300
    for name in ("mig", "dci_disentanglement", "factor_vae_score", "beta_vae_score", "sap", "modularity", "explicitness", "irs"):
        assert 0 <= figures[name] <= 1, name
    assert call("evaluate", trained, "--samples", 0, "--json") == 0
    assert "mig" not in json.loads(capfd.readouterr().out)
