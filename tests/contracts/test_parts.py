"""Every registered part keeps its contracts."""

import copy
import dataclasses
import json

import pytest
import torch

from tests.contracts.examples import EXAMPLES, FEATURES, NETS, SHAPE, batch, raw, scrambled, spec_of, vae
from tests.contracts.families.tokenizers import needs_diffusers
from vaekit.errors import UserError
from vaekit.latents import DensityPrior, DiagonalGaussian, Flat, Latent, Posterior
from vaekit.latents.posteriors import IAF
from vaekit.latents.priors import VampPrior
from vaekit.latents.priors.sphere import UniformSphere
from vaekit.likelihoods import Bernoulli, Gaussian, Laplace
from vaekit.model import evaluating
from vaekit.networks import AttributeCondition, ClassCondition
from vaekit.objectives import ELBO, IWAE, Cyclical, Warmup
from vaekit.output import Batch
from vaekit.part import Part, build, registered, spec
from vaekit.penalties import TotalCorrelation
from vaekit.recipes import RECIPES, build_recipe
from vaekit.testing import check_gradients, check_latent, check_model, check_objective, check_posterior, check_prior, check_spec
from vaekit.training import Training
from vaekit.training.critics import Critics
from vaekit.training.optimizer import make_optimizer
from vaekit.training.options import OPTIMIZERS
from vaekit.training.task import Task

NAMES = [cls.__name__ for cls in registered()]


def test_every_part_has_an_example() -> None:
    assert set(NAMES) == set(EXAMPLES)


@pytest.mark.parametrize("name", NAMES)
def test_spec_round_trip(name: str) -> None:
    part = EXAMPLES[name]()
    check_spec(part)
    json.dumps(spec(part), allow_nan=False)


def of(interface: type[Part]) -> list[str]:
    return [cls.__name__ for cls in registered(interface)]


@pytest.mark.parametrize("name", of(Posterior))
def test_posteriors(name: str) -> None:
    check_posterior(EXAMPLES[name](), FEATURES[name]() if name in FEATURES else torch.randn(4, 8))


@pytest.mark.parametrize("name", of(DensityPrior))
def test_priors(name: str) -> None:
    check_prior(EXAMPLES[name]())


@pytest.mark.parametrize("name", of(Latent))
def test_latents(name: str) -> None:
    check_latent(EXAMPLES[name](), FEATURES[name]() if name in FEATURES else torch.randn(6, 8))


OBJECTIVES = {
    "elbo": lambda: ELBO(),
    "beta": lambda: ELBO(beta=4.0),
    "warm-up": lambda: ELBO(beta=Warmup(0.5, 0.2, 1.0)),
    "cyclical": lambda: ELBO(beta=Cyclical()),
    "free-bits": lambda: ELBO(free_bits=0.5),
    "capacity": lambda: ELBO(capacity=3.0, gamma=10.0),
    "iwae": lambda: IWAE(4),
}


@pytest.mark.parametrize("name", OBJECTIVES)
def test_objectives(name: str) -> None:
    check_objective(OBJECTIVES[name](), scrambled(vae("mlp")), batch())


@pytest.mark.parametrize("net", NETS)
@pytest.mark.parametrize("shape", [[1, 28, 28], [3, 8, 8], [2, 9, 11], [4, 7, 16], [5, 1, 3]], ids=str)
def test_networks_of_any_shape(net: str, shape: list[int]) -> None:
    check_model(scrambled(vae(net, shape)), batch(4, shape))


@pytest.mark.parametrize("net", NETS)
def test_conditions(net: str) -> None:
    model = scrambled(vae(net, condition=ClassCondition(4, 5)))
    x = batch(4)
    check_model(model, Batch(x.x, condition=torch.arange(4)))
    a, b = (model(Batch(x.x, condition=torch.full((4,), i))).px.mean for i in (0, 1))
    assert not torch.allclose(a, b)
    check_model(scrambled(vae(net, condition=AttributeCondition(3))), Batch(x.x, condition=torch.randn(4, 3)))


def test_an_attribute_that_does_not_vary_is_not_scaled() -> None:
    """What is rare may be in none of the images that it is measured on: one of a million would be told of it."""
    condition = AttributeCondition(2)
    condition.initialize(torch.tensor([[0.0, 1.0], [0.0, 3.0]]))
    assert torch.equal(condition(torch.tensor([[1.0, 4.0]])), torch.tensor([[1.0, 2.0]]))


def test_large_images_start_in_several_passes() -> None:
    """What the start measures of codes is that of one pass, and no pass has more pixels than 1,024 images of 28 x 28."""
    shape, seen = [1, 112, 112], []
    recipe = build_recipe("vq", spec_of(shape), scale=0.1)
    x = raw(150, shape)
    whole = copy.deepcopy(recipe.model)
    with torch.no_grad(), evaluating(whole):
        whole.likelihood.initialize(x)
        whole.decoder.initialize(whole.likelihood.bias(x))
        torch.manual_seed(0)
        whole.latent.initialize(whole._encode(Batch(x), None))
    recipe.model.encoder.register_forward_hook(lambda module, inputs, output: seen.append(len(inputs[0])))
    torch.manual_seed(0)
    recipe.model.initialize(x)
    assert seen == [64, 64, 22]
    for name, value in whole.state_dict().items():
        torch.testing.assert_close(recipe.model.state_dict()[name], value, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize(("shape", "levels"), [([1, 28, 28], 2), ([3, 17, 30], 256), ([1, 12, 12], None)], ids=str)
def test_recipes(name: str, shape: list[int], levels: int | None) -> None:
    needs_diffusers(name)
    # Flows as wide as 128 dimensions make codes of 1e10 with weights at random, and rounding would decide.
    few = {"latent": 24} if name in ("iaf", "flow-posterior") else {}
    recipe = build_recipe(name, spec_of(shape, levels, classes=("a", "b", "c")), scale=0.25, **few)
    scrambled(recipe.model)
    x = Batch(raw(4, shape, levels), label=torch.tensor([0, 2, -1, 1]), index=torch.arange(4))
    recipe.model.initialize(x)
    scrambled(recipe.model)
    check_model(recipe.model, x)
    Critics(recipe.critics, recipe.defaults, torch.device("cpu"))
    task = Task(recipe.model, recipe.objective, recipe.penalties, recipe.critics)
    step = task(x)
    check_gradients(recipe.model, step.loss)
    assert all(p.grad is None for critic in recipe.critics.values() for p in critic.parameters()), "A critic learns from the model's loss."
    for part in (recipe.objective, *recipe.penalties, *recipe.critics.values()):
        check_spec(part)


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_takes_conditions_and_knobs(name: str) -> None:
    needs_diffusers(name)
    data = spec_of([1, 16, 16], classes=("a", "b", "c"), attributes=("u", "v"))
    small = build_recipe(name, data, condition="class", latent=2, scale=0.25)
    large = build_recipe(name, data, condition="attributes", latent=5, scale=2.0)
    assert sum(p.numel() for p in large.model.parameters()) > 2 * sum(p.numel() for p in small.model.parameters())
    assert isinstance(small.model.condition, ClassCondition) and isinstance(large.model.condition, AttributeCondition)


def test_tutorial_is_the_textbook_network() -> None:
    """The layers that the tutorial names, at 28 x 28, counted by hand."""
    model = build_recipe("tutorial", spec_of([1, 28, 28])).model
    convolutions = (9 * 16 + 16) + (16 * 9 * 32 + 32) + 2 * (16 + 32)
    encoder = convolutions + (32 * 49 * 256 + 256) + (256 * 32 + 32)
    decoder = (16 * 256 + 256) + (256 * 32 * 49 + 32 * 49) + (32 * 16 * 16 + 16) + 2 * 16 + (16 * 16 + 1)
    assert sum(p.numel() for p in model.parameters()) == encoder + decoder + 1  # and one sigma
    defaults = build_recipe("tutorial", spec_of([1, 28, 28])).defaults
    assert (defaults.optimizer, defaults.lr, defaults.batch_size, defaults.epochs, defaults.ema) == ("adam", 1e-3, 64, 10, 0.0)


def test_masked_pixels_are_not_scored() -> None:
    model = scrambled(vae("mlp", likelihood=Gaussian(sigma=0.2, channels=2)))
    x = batch(4)
    mask = torch.rand(x.x.shape) > 0.5
    model.eval()
    torch.manual_seed(0)
    masked = model(Batch(x.x, mask=mask))
    torch.manual_seed(0)
    whole = model(x)
    expected = torch.where(mask, whole.px.log_prob(model.likelihood.target(x.x)), 0.0).flatten(1).sum(1)
    assert torch.allclose(masked.log_px[0], expected)


def test_forward_changes_nothing() -> None:
    """No buffer moves in forward: what moves is moved by post_step."""
    model = vae("resnet", likelihood=Gaussian(sigma="optimal", channels=2)).train()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    out = model(batch())
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    model.post_step(out.stats)
    assert any(not torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_a_replaced_part_is_described_as_it_is_now() -> None:
    model = vae("mlp")
    model.likelihood = Bernoulli()
    assert spec(model)["arguments"]["likelihood"]["part"] == "Bernoulli"
    assert isinstance(build(spec(model)).likelihood, Bernoulli)


def test_raw_images_are_never_changed() -> None:
    x = raw(4, SHAPE)
    before = x.clone()
    vae("conv")(x)
    assert torch.equal(x, before)


@pytest.mark.parametrize("likelihood", [Gaussian(sigma="optimal", channels=2), Laplace(scale="optimal", channels=2)])
def test_missing_pixels_have_no_part_in_the_noise(likelihood: Gaussian | Laplace) -> None:
    """The scale that is measured on the way is that of observed pixels: what stands under the mask changes nothing."""
    model = scrambled(vae("mlp", likelihood=likelihood)).eval()
    x, mask = batch(4), torch.rand(4, *SHAPE) > 0.5
    other = Batch(torch.where(mask, x.x, raw(4)), mask=mask)
    px = model.decode(model.encode(x))
    moments = [likelihood.stats(px, likelihood.target(b.x), mask)["noise_moment"] for b in (x, other)]
    assert torch.equal(*moments)


def test_weight_decay_leaves_places_alone() -> None:
    """Pseudo-images, means of a mixture and codebooks are not weights: decay would draw them to 0."""
    for name, place in (("vamp", "latent.prior.inputs"), ("mixture", "latent.prior.means"), ("vq", "latent.quantizer.codebook")):
        model = build_recipe(name, spec_of([1, 12, 12]), scale=0.25).model
        optimizer = make_optimizer(model, Training(optimizer="adamw", weight_decay=0.1))
        decayed = {id(p) for group in optimizer.param_groups if group["weight_decay"] for p in group["params"]}
        assert id(model.get_parameter(place)) not in decayed and decayed


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_no_weight_decay_is_none(optimizer: str) -> None:
    """AdamW's own is not 0, and would draw biases and codebooks to it."""
    groups = make_optimizer(build_recipe("conv", spec_of([1, 28, 28])).model, Training(optimizer=optimizer)).param_groups
    assert groups and all(group["weight_decay"] == 0.0 for group in groups)


def test_what_does_not_go_together_is_refused() -> None:
    """One rule: the parts' capabilities. The page of the docs asks the same one."""
    with pytest.raises(UserError, match="TotalCorrelation does not go with PointPosterior: it needs"):
        recipe = build_recipe("wae-mmd", spec_of([1, 12, 12]), scale=0.25)
        dataclasses.replace(recipe, penalties=(TotalCorrelation(100),))
    with pytest.raises(UserError, match="IWAE does not go with Discrete"):
        dataclasses.replace(build_recipe("vq", spec_of([1, 12, 12]), scale=0.25), objective=IWAE(5))
    with pytest.raises(UserError, match="VampPrior does not go with IAF"):
        Flat(IAF(8, 3), VampPrior([1, 4, 4], 5))
    with pytest.raises(UserError, match="UniformSphere does not go with DiagonalGaussian: its codes are sphere"):
        Flat(DiagonalGaussian(8, 3), UniformSphere(3))


def test_a_knob_that_the_recipe_lacks_is_refused() -> None:
    with pytest.raises(UserError, match="The recipe vamp has no knob 'gamma'; it has components"):
        build_recipe("vamp", spec_of([1, 12, 12]), knobs={"gamma": 3})
    with pytest.raises(UserError, match="components is a whole number"):
        build_recipe("vamp", spec_of([1, 12, 12]), knobs={"components": 2.5})
    assert len(build_recipe("vamp", spec_of([1, 12, 12]), knobs={"components": 7}).model.latent.prior.inputs) == 7


def test_the_causal_network_has_knobs_where_there_is_one() -> None:
    likelihood = build_recipe("conv", spec_of([1, 12, 12]), likelihood="causal", knobs={"causal_width": 16, "causal_reach": 4}).model.likelihood
    assert list(likelihood.before.shape) == [16, 1, 5, 9] and likelihood.context == 8 and len(likelihood.blocks) == 1
    bare = build_recipe("pixel-vae", spec_of([1, 12, 12]), knobs={"causal_layers": 0, "causal_blocks": 0, "causal_context": 0}).model.likelihood
    assert len(bare.layers) == len(bare.blocks) == bare.context == 0
    with pytest.raises(UserError, match="causal_reach is a whole number of at least 1"):
        build_recipe("conv", spec_of([1, 12, 12]), likelihood="causal", knobs={"causal_reach": 0})
    with pytest.raises(UserError, match="has no knob 'causal_width'"):
        build_recipe("conv", spec_of([1, 12, 12]), knobs={"causal_width": 16})
