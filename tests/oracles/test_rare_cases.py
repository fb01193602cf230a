"""Combinations and figures at their edges: what is rare in the data, in the options or in the numbers."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

import vaekit
from tests.contracts.examples import batch, scrambled, spec_of, vae
from tests.oracles.prior_models import started
from vaekit.data import open_data
from vaekit.distributions.von_mises_fisher import VonMisesFisher
from vaekit.editing import impute
from vaekit.editing.attributes import sides
from vaekit.editing.impute import _joined
from vaekit.editing.traverse import _prior
from vaekit.errors import UserError
from vaekit.evaluation.annealed import path_of
from vaekit.evaluation.latent import LatentStatistics, collapse_warning
from vaekit.evaluation.samples.pyramid import PyramidSpace
from vaekit.evaluation.samples.roughness import roughness
from vaekit.latents import Flat
from vaekit.latents.priors.mixture import MixturePrior
from vaekit.latents.priors.sphere import UniformSphere
from vaekit.latents.quantizers import LFQ
from vaekit.networks import ClassCondition
from vaekit.output import Batch, LatentTerm
from vaekit.recipes import build_recipe
from vaekit.training import Silent
from vaekit.training.second_stage import Codes, _images


def test_a_class_keeps_its_number_where_another_has_no_image() -> None:
    told = torch.tensor([0, 2, 10, 2, 2])
    codes = Codes(torch.randn(5, 3), None, told)
    images = _images(codes, "class", 11)
    assert images.labels.tolist() == told.tolist() and len(images.classes) == 11
    joined = open_data(images, validation_data=_images(Codes(torch.randn(2, 3), None, torch.tensor([2, 0])), "class", 11))
    assert joined.labels.tolist() == [0, 2, 10, 2, 2, 2, 0]


def test_a_class_without_training_images_is_named() -> None:
    torch.manual_seed(0)
    x = torch.randint(0, 256, (60, 1, 8, 8), dtype=torch.uint8)
    y = np.array(["a", "c"] * 25 + ["a"] * 5 + ["b"] * 5)
    run = vaekit.fit("mlp", (x[:50], y[:50]), validation_data=(x[50:], y[50:]), epochs=1, scale=0.05, latent=2, watcher=Silent())
    watcher = Silent()
    data = open_data((x[:50], y[:50]), validation_data=(x[50:], y[50:]))
    from vaekit.training.second_stage import fit_prior

    inner = fit_prior(run, data, "flow-matching", condition="class", epochs=0.2, watcher=watcher)
    assert any("No training image is of b" in message for message in watcher.messages)
    assert inner.spec.classes == ("0", "1", "2")


def test_draws_of_pixels_are_no_roughness() -> None:
    recipe = build_recipe("conv", spec_of([1, 8, 8], 2), scale=0.1, likelihood="causal")
    assert roughness(scrambled(recipe.model).eval(), PyramidSpace(), spec_of([1, 8, 8], 2), 8) is None


def test_an_entry_of_a_codebook_says_nothing_of_what_is_hidden() -> None:
    model = build_recipe("vq", spec_of([1, 8, 8]), scale=0.1).model.eval()
    x = torch.randint(0, 256, (2, 1, 8, 8), dtype=torch.uint8)
    mask = torch.ones(2, 1, 8, 8, dtype=torch.bool)
    mask[:, :, :4] = False
    with pytest.raises(UserError, match="one entry of a codebook"):
        impute(model, Batch(x, mask), samples=4)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32, torch.float32])
def test_a_guess_beyond_the_pixels_is_at_their_end(dtype: torch.dtype) -> None:
    x, mask = torch.zeros(1, 1, 1, 4, dtype=dtype), torch.zeros(1, 1, 1, 4, dtype=torch.bool)
    guess = torch.tensor([-0.7, -3.0, 257.0, 9.6]).view(1, 1, 1, 4)
    expected = {torch.uint8: [0, 0, 255, 10], torch.int32: [0, 0, 257, 10], torch.float32: guess.flatten().tolist()}[dtype]
    assert _joined(mask, x, guess).flatten().tolist() == pytest.approx(expected)


def test_chains_from_the_prior_begin_where_they_are_weighed() -> None:
    """An image's own exemplar is left out of both: with the posterior of each image far from all others, a draw near its own tells."""
    model, data = started("exemplar")
    model.eval()
    torch.manual_seed(0)
    path = path_of(model, data, 500, posterior=False)
    p = model(data).terms[0].p
    own = model.latent.posterior(model.encoder(model.likelihood.input(data.x[:8]))).mean
    others = torch.stack([own[torch.arange(8) != i].mean(0) for i in range(len(data))])
    z = path.z.view(500, len(data), -1)
    assert (z.mean(0) - others).abs().max() < 6 * z.std(0).max() / math.sqrt(500)
    assert torch.allclose(path.look(path.z).start.view(500, -1)[0], p.log_prob(path.z.view(500, len(data), -1)[0]), atol=1e-4)


@pytest.mark.parametrize(
    ("used", "seen", "size", "collapsed"), [(49, 49, 512, False), (3, 10_000, 512, True), (49, 60, 512, False), (2, 100, 512, True)]
)
def test_few_indices_cannot_use_many_entries(used: int, seen: int, size: int, collapsed: bool) -> None:
    stats = LatentStatistics()
    z = (torch.arange(seen) % used).view(1, 1, seen, 1)
    stats.update([LatentTerm(z, codebook=size)])
    said = collapse_warning(stats)
    assert (said is not None) == collapsed and (said is None or "the codebook is in use" in said)


def test_one_of_several_codebooks_that_has_collapsed_is_told() -> None:
    stats = LatentStatistics()
    z = torch.stack([torch.arange(640) % 64, torch.zeros(640, dtype=torch.long)]).view(1, 2, 640, 1)
    stats.update([LatentTerm(z, codebook=64)])
    assert stats.codebook_usage == pytest.approx((1 + 1 / 64) / 2) and "one of the codebooks" in str(collapse_warning(stats))


@pytest.mark.parametrize("classes", [10, 300])
def test_new_images_go_through_all_classes_in_turn(classes: int) -> None:
    model = scrambled(vae("mlp", condition=ClassCondition(classes, 5))).eval()
    seen: list[torch.Tensor] = []
    model.condition.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    model.sample(600)
    assert torch.equal(torch.cat(seen), torch.arange(600) % classes)


@pytest.mark.parametrize(("channels", "temperature", "size"), [(8, 0.01, 1.0), (16, 1.0, 2.0)])
def test_the_entropy_of_codes_that_never_come_has_a_gradient(channels: int, temperature: float, size: float) -> None:
    h = (torch.randn(8, channels, 2, 2).sign() if temperature == 1 else torch.randn(8, channels, 2, 2)) * size
    if temperature == 1:
        h = h[:1].expand(8, -1, -1, -1) * 1.0
    h = h.clone().requires_grad_()
    quantizer = LFQ(channels, temperature=temperature)
    entropies = quantizer.entropies(h)
    entropies.sum().backward()
    assert torch.isfinite(h.grad).all()
    p = torch.sigmoid(4 / temperature * h.detach()).movedim(1, -1).flatten(0, -2).double()
    joint = torch.stack([torch.where(bits > 0, p, 1 - p).prod(1).mean() for bits in quantizer.bits]) if channels < 10 else None
    if joint is not None:
        own = -(torch.xlogy(p, p) + torch.xlogy(1 - p, 1 - p)).sum()
        expected = own - len(p) * -torch.xlogy(joint, joint).sum()
        assert entropies.sum().item() == pytest.approx(expected.item(), rel=1e-3, abs=1e-2)


def test_directions_on_a_sphere_count_by_what_they_can_have() -> None:
    """128 coordinates of a unit vector have a variance of 1/128 each."""
    means = torch.nn.functional.normalize(torch.randn(400, 128), dim=1)
    q = VonMisesFisher(means, torch.full((400,), 400.0))
    stats = LatentStatistics()
    stats.update([LatentTerm(means, q, UniformSphere(128)())])
    assert stats.active_units == 128


def test_what_is_not_known_is_on_neither_side() -> None:
    data = open_data(torch.randint(0, 256, (40, 1, 8, 8), dtype=torch.uint8))
    data.attributes, data.spec = torch.arange(40.0).unsqueeze(1), replace(data.spec, attributes=("age",))
    rows = data.index("train")
    data.attributes[rows[1]] = math.nan
    known = data.attributes[rows, 0]
    yes, no = sides(data, "train", "age")
    assert not yes[1] and not no[1] and bool((yes | no | known.isnan()).all())
    assert torch.equal(yes, known > 19.5) and torch.equal(no, known <= 19.5)
    data.attributes = torch.full((40, 1), math.nan)
    with pytest.raises(UserError, match="known of no image"):
        sides(data, "train", "age")


def test_the_moments_of_a_told_prior_are_of_as_many_draws_for_each_image() -> None:
    model = scrambled(vae("mlp", condition=ClassCondition(4, 5))).eval()
    prior = MixturePrior(3, 5)
    with torch.no_grad():
        prior.means.normal_()
    model.latent = Flat(model.latent.posterior, prior)
    x = batch(300)
    mean, deviation = _prior(model, Batch(x.x, condition=torch.arange(300) % 4))
    p = prior()
    weights = prior.logits.softmax(0)
    exact = (weights[:, None] * prior.means).sum(0)
    assert mean.shape == deviation.shape == (300, 3) and torch.isfinite(deviation).all()
    assert (mean - exact).abs().max() < 6 * deviation.max() / math.sqrt(4096)
    assert p is not None


@pytest.mark.parametrize("shape", [(8, 256), (16, 512), (4, 128), (1, 100), (2, 300)])
def test_long_and_low_images_have_a_pyramid(shape: tuple[int, int]) -> None:
    spec = spec_of([1, *shape])
    x = torch.randint(0, 256, (3, 1, *shape), dtype=torch.uint8)
    found = PyramidSpace()(x, spec)
    assert len(found) == 3 and torch.isfinite(found).all()
    blank = PyramidSpace()(torch.full_like(x, 7), spec)
    assert torch.allclose(blank[0], blank[1]) and not torch.allclose(found[0], found[1])
