"""Recipes follow their data and what was asked for: the weights that are kept, the noise of an autoencoder, lengths, starts and penalties."""

import itertools
import math

import pytest
import torch

import vaekit
from tests.contracts.examples import batch, scrambled, spec_of, vae
from vaekit.data.spec import DataSpec
from vaekit.errors import UserError
from vaekit.likelihoods import for_data
from vaekit.networks import ClassCondition
from vaekit.objectives import ELBO, Warmup
from vaekit.penalties import Consistency
from vaekit.penalties.perceptual import LaplacianPyramid
from vaekit.recipes import build_recipe
from vaekit.recipes.autoencoders import SIGMA
from vaekit.training import Silent
from vaekit.training.optimizer import make_optimizer
from vaekit.training.options import Training
from vaekit.training.task import ANSWERS, Task


@pytest.mark.parametrize("name", ["conv", "mlp", "realnvp", "ladder", "iaf", "tutorial"])
def test_the_best_weights_are_those_of_what_was_asked_for(name: str) -> None:
    """The ELBO of a run with another weight on the divergence is best in its first passes."""
    data = spec_of([1, 28, 28])
    assert build_recipe(name, data).select == build_recipe(name, data, warmup=0.5).select == "elbo"
    for options in ({"beta": 4.0}, {"beta": 0.1}, {"free_bits": 0.2}):
        assert build_recipe(name, data, **options).select == "last"
    assert ELBO(Warmup(0.2)).is_bound and not ELBO(capacity=3.0).is_bound


@pytest.mark.parametrize(("levels", "std"), [(256, 90.0), (256, 6.0), (17, 5.4), (65536, 650.0), (None, 3.0)])
def test_reconstruction_earns_the_same_on_any_data(levels: int | None, std: float) -> None:
    """std^2 / (2 sigma^2) nats for each value, against penalties that have fixed weights: 0.1 of the range for Fashion-MNIST, as it was."""
    data = DataSpec("values" if levels is None else "pixels", (1, 8, 8), levels, count=500, mean=(10.0,), std=(std,))
    likelihood = build_recipe("wae-mmd", data, scale=0.1).model.likelihood
    px = likelihood(torch.zeros(1, likelihood.channels(1), 8, 8))
    assert math.sqrt(px.variance.flatten()[0].item()) == pytest.approx(SIGMA * std, rel=1e-3)


def test_before_any_data_an_autoencoder_has_the_noise_of_bright_images() -> None:
    """`vaekit.recipe` with a shape alone does not know how far pixels spread."""
    likelihood = vaekit.recipe("wae-mmd", shape=(1, 28, 28), scale=0.1).model.likelihood
    px = likelihood(torch.zeros(1, likelihood.channels(1), 28, 28))
    assert math.sqrt(px.variance.flatten()[0].item()) == pytest.approx(25.5, rel=1e-3)


def test_a_plane_leaves_nothing_in_the_bands_of_a_pyramid() -> None:
    """Their pixels go back to where they were taken from: half a pixel beside it, a slope of g left g/2 in every band."""
    rows, columns = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
    x = (0.3 * rows - 0.2 * columns)[None, None]
    pyramid = LaplacianPyramid()
    smaller = pyramid._smooth(x)[:, :, ::2, ::2]
    wide = torch.zeros_like(x)
    wide[:, :, ::2, ::2] = smaller
    assert (x - 4 * pyramid._smooth(wide))[..., 8:-8, 8:-8].abs().max() < 1e-4
    flat = torch.full((1, 2, 30, 20), 0.5)
    assert pyramid(flat, torch.zeros_like(flat)).item() == pytest.approx(4**3 * 0.5 * 2 * math.ceil(30 / 8) * math.ceil(20 / 8), rel=1e-5)


def test_the_bound_of_a_moved_image_is_that_of_the_image() -> None:
    model = scrambled(vae("mlp"))
    out = model(batch(6))
    out.asked["moved"] = moved = ANSWERS["moved"](model, out)
    objective = ELBO(beta=Warmup(0.5), free_bits=0.4)
    penalty = Consistency(0.0, ELBO(beta=Warmup(0.5), free_bits=0.4))
    task = Task(model, objective, (penalty,), {})
    task.progress(0.2)
    assert torch.allclose(penalty(out), objective(moved), rtol=1e-6)
    built = build_recipe("consistency", spec_of([1, 8, 8]), warmup=0.5, free_bits=0.3, scale=0.1)
    assert built.penalties[0].bound.free_bits == built.objective.free_bits == 0.3


@pytest.mark.parametrize("latent", [7, 11])
def test_channels_that_cannot_be_rounded_together(latent: int) -> None:
    with pytest.raises(UserError, match=f"{latent} cannot be split so: choose {latent - 1} or {latent + 1}"):
        build_recipe("fsq", spec_of([1, 16, 16]), latent=latent, scale=0.1)
    for near in (latent - 1, latent + 1):
        assert build_recipe("fsq", spec_of([1, 16, 16]), latent=near, scale=0.1).model.latent.quantizer.size < 1024


def test_the_number_of_steps_does_not_jump() -> None:
    """Some 12,000, as 30 passes over Fashion-MNIST are; fewer for few images, which are seen 100 times."""
    steps = []
    for count in (300, 2_000, 5_000, 19_999, 50_000):
        training = build_recipe("conv", DataSpec("pixels", (1, 8, 8), 256, count=count, mean=(9.0,), std=(9.0,)), scale=0.1).defaults
        steps.append(training.epochs * count / training.batch_size)
    assert steps[0] == 300 * 100 / 32 and all(a <= b * 1.05 for a, b in itertools.pairwise(steps)) and max(steps) < 12_100


def test_as_many_exemplars_as_were_asked_for() -> None:
    assert build_recipe("exemplar", spec_of([1, 8, 8]), knobs={"exemplars": 3000}, scale=0.1).start == 3000
    torch.manual_seed(0)
    x = torch.randint(0, 256, (1500, 1, 4, 4), dtype=torch.uint8)
    run = vaekit.fit("exemplar", x, validation_data=x[:50], knobs={"exemplars": 1300}, epochs=0.02, scale=0.05, latent=2, watcher=Silent())
    assert int(run.model.latent.prior.filled) == 1300


def test_weight_decay_leaves_biases_and_embeddings_alone() -> None:
    recipe = build_recipe("vq", spec_of([1, 16, 16], classes=("a", "b")), condition="class", scale=0.1)
    model = scrambled(vae("resnet", [1, 16, 16], condition=ClassCondition(4, 5)))
    for module, exempt in (
        (recipe.model, {recipe.model.decoder.bias, recipe.model.condition.embedding.weight, recipe.model.latent.quantizer.codebook}),
        (model, {model.decoder.bias, model.condition.embedding.weight}),
    ):
        groups = make_optimizer(module, Training(optimizer="adamw", weight_decay=0.1)).param_groups
        decayed = {p for group in groups if group["weight_decay"] for p in group["params"]}
        learned = {p for p in exempt if isinstance(p, torch.nn.Parameter) and p.requires_grad}
        assert learned and not decayed & learned and decayed


def test_dark_images_of_16_bits_start_where_they_are() -> None:
    """12 bits in 16, say: 1 % of the range is far above all of them."""
    data = DataSpec("pixels", (1, 8, 8), 65536, count=100, mean=(150.0,), std=(40.0,))
    x = (150 + 40 * torch.randn(64, 1, 8, 8)).clamp_min(0).round().to(torch.int32)
    likelihood = for_data("gaussian", data)
    mean = likelihood(likelihood.bias(x)[None]).mean
    assert (mean[0] - x.float().mean(0)).abs().max() < 2
