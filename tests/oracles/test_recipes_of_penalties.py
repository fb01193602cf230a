"""Recipes that add a penalty: a step with its critics, conditions and knobs, and the weights of the papers."""

import math

import pytest
import torch

from tests.contracts.examples import batch, raw, scrambled, spec_of
from vaekit.latents.posteriors.point import PointPosterior
from vaekit.likelihoods import Bernoulli
from vaekit.output import Batch
from vaekit.recipes import build_recipe
from vaekit.testing import check_model
from vaekit.training.critics import Critics
from vaekit.training.options import Training
from vaekit.training.task import Task

NAMES = ["beta-tc", "factor", "dip-i", "dip-ii", "info-mmd", "wae-mmd", "sliced-wasserstein", "rae-l2", "rae-gp", "rae-sn"]
NAMES += ["ms-ssim", "perceptual", "vae-gan", "aae", "consistency"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("shape", "levels"), [([1, 28, 28], 2), ([3, 17, 30], 256), ([1, 12, 12], None), ([2, 9, 11], 256)], ids=str)
def test_recipes_take_a_step(name: str, shape: list[int], levels: int | None) -> None:
    """A step of the task with its critics: the loss is finite, and every parameter of the model gets a finite gradient."""
    recipe = build_recipe(name, spec_of(shape, levels), scale=0.25)
    check_model(scrambled(recipe.model), batch(3, shape, levels))
    recipe = build_recipe(name, spec_of(shape, levels), scale=0.25)
    critics = Critics(recipe.critics, Training(), torch.device("cpu"))
    task = Task(recipe.model, recipe.objective, recipe.penalties, recipe.critics)
    x = batch(6, shape, levels)
    task.initialize(x)
    scrambled(recipe.model)
    task.progress(1.0)
    task.train()
    step = task(x)
    (step.loss / x.x[0].numel()).backward()
    assert torch.isfinite(step.loss)
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in recipe.model.parameters())
    assert all(math.isfinite(v) for v in critics.step(step.feeds).values())
    half = Task(recipe.model, recipe.objective, recipe.penalties, recipe.critics, precision="bf16")
    half.progress(1.0)
    assert torch.isfinite(half(x).loss)


@pytest.mark.parametrize("name", NAMES)
def test_recipes_take_conditions_and_knobs(name: str) -> None:
    data = spec_of([1, 16, 16], classes=("a", "b", "c"), attributes=("u", "v"))
    small = build_recipe(name, data, condition="class", latent=2, scale=0.25)
    large = build_recipe(name, data, condition="attributes", latent=5, scale=2.0)
    assert small.model.latent.posterior.event_shape == (2,) and large.model.latent.posterior.event_shape == (5,)
    assert small.select == "last"
    task = Task(scrambled(small.model), small.objective, small.penalties, small.critics)
    assert torch.isfinite(task(Batch(raw(4, [1, 16, 16]), condition=torch.tensor([0, 1, 2, 0]))).loss)
    assert all(p.schedule.at(1.0) > 0 for p in small.penalties)


def test_point_recipes_hold_sigma_fixed_unless_it_is_set() -> None:
    data = spec_of([1, 12, 12])
    assert build_recipe("rae-l2", data, scale=0.25).model.likelihood.noise.mode == "fixed"
    assert build_recipe("rae-l2", data, scale=0.25, sigma="learned").model.likelihood.noise.mode == "learned"
    assert isinstance(build_recipe("aae", spec_of([1, 12, 12], 2), scale=0.25).model.likelihood, Bernoulli)
    assert isinstance(build_recipe("aae", data, scale=0.25).model.latent.posterior, PointPosterior)


def test_info_mmd_weights_are_those_of_the_paper() -> None:
    """(1 - alpha) KL + (alpha + lambda - 1) MMD."""
    recipe = build_recipe("info-mmd", spec_of([1, 12, 12]), knobs={"alpha": 0.25, "lambda": 100.0})
    recipe.objective.progress(1.0)
    assert recipe.objective.beta.item() == 0.75 and recipe.penalties[0].schedule.at(0.5) == pytest.approx(99.25)
