"""Images made of several, and parts of them filled in."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.distributions import Independent, Normal

from tests.oracles.test_bounds import SIZE, linear_gaussian
from tests.test_impute import MISSING, SEEN, conditional
from tests.test_traverse import SCALES, Flatten, Identity, images, pixels
from vaekit import editing
from vaekit.data import DataSpec
from vaekit.editing.codes import vectors
from vaekit.editing.keep import blend_weights
from vaekit.errors import UserError
from vaekit.latents import DensityPrior, Flat
from vaekit.latents.posteriors import PointPosterior
from vaekit.latents.support import supports
from vaekit.likelihoods import Gaussian
from vaekit.model import VAE
from vaekit.output import Batch
from vaekit.recipes import build_recipe

S = torch.tensor(SCALES)


def code(x: Tensor) -> Tensor:
    """Of the images of `pixels`: each pixel times its scale; its decoder shows the code itself."""
    return x.flatten(1) * S


def shown(z: Tensor) -> Tensor:
    return z.view(*z.shape[:-1], 1, 1, 4)


# ---- several images


def test_arithmetic() -> None:
    model, x = pixels(), images(6)
    a, b, c = x.split(2)
    assert torch.allclose(editing.arithmetic(model, a, b, c), shown(code(a) - code(b) + code(c)), atol=1e-6)
    assert torch.equal(editing.arithmetic(model, a, a, c), model.reconstruct(c)), "a - a + c is c"
    with pytest.raises(UserError, match="2, 2, 1 of them"):
        editing.arithmetic(model, a, b, c[:1])


@pytest.fixture(scope="module")
def ladder() -> VAE:
    torch.manual_seed(1)
    model = build_recipe("ladder", DataSpec("pixels", (1, 16, 16), 256, mean=(100.0,), std=(50.0,)), scale=0.25).model.eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model


def test_mixing_all_layers_is_a_reconstruction(ladder: VAE) -> None:
    x = torch.randint(0, 256, (4, 1, 16, 16), dtype=torch.uint8)
    a, b, layers = x[:2], x[2:], ladder.latent.layers
    assert torch.allclose(editing.mix(ladder, a, b, layers), ladder.reconstruct(a), atol=1e-3)
    assert torch.allclose(editing.mix(ladder, a, b, 0), ladder.reconstruct(b), atol=1e-3)
    some = editing.mix(ladder, a, b, 1)
    code_a, code_b = ladder.encode(a), ladder.encode(b)
    assert torch.allclose(some, ladder.decode((code_a[0], *code_b[1:])).mean) and not torch.allclose(some, ladder.reconstruct(a), atol=1e-2)
    for count in (-1, layers + 1):
        with pytest.raises(UserError, match=f"0 to {layers} of them are coarse"):
            editing.mix(ladder, a, b, count)
    with pytest.raises(UserError, match="this model has one layer"):
        editing.mix(pixels(), images(1), images(1), 1)


def test_a_ladder_is_edited_in_all_layers(ladder: VAE) -> None:
    x = torch.randint(0, 256, (4, 1, 16, 16), dtype=torch.uint8)
    z, layout = vectors(ladder, x)
    assert all(torch.equal(part, own) for part, own in zip(layout.split(z), ladder.encode(x), strict=True))
    for how in ("linear", "spherical"):
        path = editing.interpolate(ladder, x[:2], x[2:], 3, how)
        assert torch.allclose(path.images[:, 0], ladder.reconstruct(x[:2]), atol=1e-2) and path.log_p is None
        assert torch.allclose(path.images[:, 2], ladder.reconstruct(x[2:]), atol=1e-2)
    middle = layout.split(editing.interpolate(ladder, x[:2], x[2:], 3, "spherical").codes[:, 1])
    for part, a, b in zip(middle, ladder.encode(x[:2]), ladder.encode(x[2:]), strict=True):
        norms = (a.flatten(1).norm(dim=1) + b.flatten(1).norm(dim=1)) / 2
        assert torch.allclose(part.flatten(1).norm(dim=1), norms, rtol=1e-4), "an arc for each layer"
    assert torch.allclose(editing.arithmetic(ladder, x[:2], x[:2], x[2:]), ladder.reconstruct(x[2:]), atol=1e-2)
    with pytest.raises(UserError, match="one layer and its p"):
        editing.interpolate(ladder, x[:2], x[2:], how="density")


def test_a_mix_report_by_hand() -> None:
    a, b = torch.zeros(1, 1, 8, 8), torch.zeros(1, 1, 8, 8)
    b[..., :4] = 2.0
    b[..., ::2, :] += 1.0
    b[..., 1::2, :] -= 1.0
    same = editing.mix_report(b, a, b)
    assert same["forms_from_fine"] == same["details_from_fine"] == 0.0
    assert same["details_from_coarse"] == 1.0 and same["forms_from_coarse"] == pytest.approx(math.sqrt(2.0), abs=1e-4)


# ---- what is hidden, and what is kept


def test_weights_of_an_edge() -> None:
    inside = torch.zeros(1, 1, 9, 9, dtype=torch.bool)
    inside[..., 1:8, 1:8] = True
    weights = blend_weights(inside, 2)[0, 0]
    assert torch.equal(weights[4, :5], torch.tensor([0.0, 1 / 3, 2 / 3, 1.0, 1.0])) and torch.equal(weights, weights.T)
    assert torch.equal(blend_weights(inside, 0), inside.float())
    half = torch.zeros(1, 1, 4, 6, dtype=torch.bool)
    half[..., 3:] = True
    assert torch.equal(blend_weights(half, 1)[0, 0, 0], torch.tensor([0.0, 0, 0, 0.5, 1.0, 1.0])), "the border of the image is no edge"


@pytest.mark.parametrize("feather", [0, 2])
def test_the_rest_stays_to_the_bit(feather: int) -> None:
    x = torch.randint(0, 256, (2, 3, 9, 9), dtype=torch.uint8)
    edited = 255 * torch.rand(2, 4, 3, 9, 9)
    inside = torch.zeros(2, 3, 9, 9, dtype=torch.bool)
    inside[..., 1:8, 1:8] = True
    found = editing.keep_rest(x, edited, inside, feather)
    outside = ~inside.unsqueeze(1).expand_as(found)
    original = x.float().unsqueeze(1).expand_as(found)
    assert torch.equal(found[outside], original[outside]) and torch.equal(found[..., 4, 4], edited[..., 4, 4])
    if feather:
        assert torch.allclose(found[..., 1, 4], edited[..., 1, 4] / 3 + 2 / 3 * original[..., 1, 4], atol=1e-3)
    else:
        assert torch.equal(found[~outside], edited[~outside])
    for wrong, message in (((x, edited, ~inside & inside), "mask is empty"), ((x, edited, inside, -1), "at least 0")):
        with pytest.raises(UserError, match=message):
            editing.keep_rest(*wrong)


def hidden_gaussian() -> tuple[VAE, Tensor, Tensor, Tensor, Tensor]:
    """A linear model, images, what is hidden of them, and the mean and covariance of p(x|z)'s mean there, given what is seen."""
    model, truth = linear_gaussian(exact_posterior=False)
    x = truth.sample((3,))
    hidden = torch.zeros(3, 1, 1, SIZE, dtype=torch.bool)
    hidden[..., MISSING] = True
    mean, _ = conditional(truth, x)
    w = model.decoder.linear.weight
    precision = torch.eye(w.shape[1]) + w[SEEN].T @ w[SEEN] / (truth.covariance_matrix - w @ w.T)[0, 0]
    covariance = w[MISSING] @ torch.linalg.inv(precision) @ w[MISSING].T
    return model, x.view(3, 1, 1, SIZE), hidden, mean, covariance.detach()


@pytest.mark.parametrize("how", ["chains", "weighted"])
def test_answers_are_those_of_the_conditional_gaussian(how: str) -> None:
    model, x, hidden, mean, covariance = hidden_gaussian()
    n = 400
    found = editing.inpaint(model, Batch(x), hidden, answers=n, how=how, samples=8000, steps=30)
    assert found.how == how and (found.effective is None) == (how == "chains")
    kept = ~hidden.unsqueeze(1).expand_as(found.images)
    assert torch.equal(found.images[kept], x.unsqueeze(1).expand_as(found.images)[kept]), "what is seen stays to the bit"
    draws = found.images.flatten(2)[:, :, MISSING]
    std = covariance.diagonal().sqrt()
    assert ((draws.mean(1) - mean).abs() < 5 * std / math.sqrt(n)).all()
    for one in draws:
        assert ((torch.cov(one.T) - covariance).abs() < 0.3 * covariance.diagonal().max()).all()
    # What the hidden pixels hold has no say.
    other = editing.inpaint(model, Batch(torch.where(hidden, torch.nan, x)), hidden, answers=3, how=how, samples=50, steps=4)
    assert torch.equal(other.images, editing.inpaint(model, Batch(x), hidden, answers=3, how=how, samples=50, steps=4).images)


def test_what_cannot_be_filled_in() -> None:
    model, x, hidden, _, _ = hidden_gaussian()
    batch = Batch(x)
    for arguments, options, message in (
        ((batch, hidden | True), {}, "All of an image"),
        ((batch, hidden & False), {}, "No pixel"),
        ((batch, hidden), {"how": "magic"}, "not by 'magic'"),
        ((batch, hidden), {"answers": 0}, "at least 1 answer"),
        ((Batch(x, mask=~hidden), hidden), {"feather": 1}, "leave the feather at 0"),
    ):
        with pytest.raises(UserError, match=message):
            editing.inpaint(model, *arguments, **options)


def test_supports_and_refusals(ladder: VAE) -> None:
    spec = DataSpec("pixels", (1, 16, 16), 256, mean=(100.0,), std=(50.0,))
    x = torch.randint(0, 256, (2, 1, 16, 16), dtype=torch.uint8)
    kinds = {"vq": ("indices",), "svae": ("sphere",), "poincare": ("ball",), "joint": ("reals", "categories"), "gumbel": ("categories",)}
    models = {name: build_recipe(name, spec, scale=0.25).model.eval() for name in kinds}
    assert {name: supports(model.latent) for name, model in models.items()} == kinds
    assert supports(ladder.latent) == ("reals",) * ladder.latent.layers
    for name, words in (("vq", "entries of a codebook"), ("joint", "categories"), ("svae", "points of a sphere")):
        with pytest.raises(UserError, match=f"An attribute needs codes that are real numbers, and some of this model's are {words}"):
            editing.codes_of(models[name], [x])
        with pytest.raises(UserError, match=words):
            editing.arithmetic(models[name], x, x, x)
    arc = editing.interpolate(models["svae"], x[:1], x[1:], 5, "spherical")
    assert torch.allclose(arc.codes.norm(dim=2), torch.ones(1, 5), atol=1e-4), "an arc stays on the sphere"
    with pytest.raises(UserError, match="A linear interpolation needs"):
        editing.interpolate(models["svae"], x[:1], x[1:])
    assert editing.interpolate(models["poincare"], x[:1], x[1:], 4).codes.norm(dim=2).max() < 1
    point = VAE(Flatten(), Flat(PointPosterior(4, 4), Dense()), Identity(), Gaussian(sigma=1.0, channels=1, levels=None, mean=[0.0], std=[1.0]))
    with pytest.raises(UserError, match="choose weighted"):
        editing.inpaint(point, Batch(images(1)), torch.tensor([[[[True, False, False, False]]]]), how="chains")
    with pytest.raises(UserError, match="at least 2 steps"):
        editing.interpolate(pixels(), images(1), images(1), 1)


class Dense(DensityPrior):
    def forward(self, c: Tensor | None = None) -> Independent:
        return Independent(Normal(torch.zeros(4), torch.ones(4)), 1)

    def sample(self, n: int, *, c: Tensor | None = None, temperature: float = 1.0) -> Tensor:
        return temperature * torch.randn(n, 4)


# ---- pictures and commands


def test_strips_and_animations(tmp_path: Path) -> None:
    spec = DataSpec("pixels", (1, 8, 8), 256)
    x = torch.stack([torch.full((1, 8, 8), v) for v in (0, 60, 120, 180)]).unsqueeze(0).to(torch.uint8)
    plain, titled = editing.strip(x, spec), editing.strip(x, spec, ["a", "b", "c", "d"])
    assert titled.width == plain.width and titled.height > plain.height
    band = np.asarray(titled)[: titled.height - plain.height]
    assert (band < 100).any() and (band == 255).any()
    with pytest.raises(UserError, match="4 columns and 1"):
        editing.strip(x, spec, ["a"])
    path = editing.save_strip(tmp_path / "a.gif", x.repeat(2, 1, 1, 1, 1), spec)
    with Image.open(path) as gif:
        assert gif.n_frames == 6, "there and back again, the ends once"
        levels = []
        for i in range(6):
            gif.seek(i)
            levels.append(int(np.asarray(gif.convert("L"))[3, 3]))
            assert gif.height == 2 * gif.width
        assert levels == pytest.approx([0, 60, 120, 180, 120, 60], abs=2)
    with pytest.raises(UserError, match=r"ends in \.gif"):
        editing.save_animation(tmp_path / "a.png", x[0], spec)
