"""Recipes that choose a prior: any images, conditions and knobs."""

import pytest
import torch

from tests.contracts.examples import batch, raw, scrambled, spec_of
from vaekit.output import Batch
from vaekit.recipes import build_recipe
from vaekit.testing import check_gradients, check_spec

RECIPES = ["mixture", "vamp", "exemplar", "realnvp", "maf", "nsf", "autoregressive-prior"]


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize(("shape", "levels"), [([1, 28, 28], 2), ([3, 17, 30], 256), ([1, 12, 12], None)], ids=str)
def test_recipes_take_any_images(name: str, shape: list[int], levels: int | None) -> None:
    recipe = build_recipe(name, spec_of(shape, levels), scale=0.25)
    scrambled(recipe.model)
    data = batch(4, shape, levels)
    recipe.model.initialize(data)
    check_spec(recipe.model)
    check_gradients(recipe.model.train(), recipe.objective(recipe.model(data)).mean())
    assert recipe.model.sample(2).shape == (2, *shape)


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("condition", ["class", "attributes"])
def test_recipes_take_conditions_and_knobs(name: str, condition: str) -> None:
    shape = [1, 16, 16]
    knobs = {"mixture": {"components": 9}, "vamp": {"components": 9}, "exemplar": {"exemplars": 5, "per_step": 3}}.get(name, {"hidden": 24})
    data = spec_of(shape, classes=("a", "b", "c"), attributes=("u", "v"))
    recipe = build_recipe(name, data, condition=condition, latent=2, scale=0.25, knobs=knobs)
    model = scrambled(recipe.model)
    told = torch.arange(6) % 3 if condition == "class" else torch.randn(6, 2)
    images = Batch(raw(6, shape), condition=told, index=torch.arange(6))
    model.initialize(images)
    check_gradients(model.train(), recipe.objective(model(images, k=2)).mean())
    assert model.sample(6, condition=told).shape == (6, *shape)
    assert model.score(images, k=4, chunk=2).shape == (6,)
    if name in ("realnvp", "maf", "nsf"):
        a, b = (model(Batch(images.x, condition=told.flip(0) if i else told)).terms[0].p for i in (0, 1))
        z = torch.randn(6, 2)
        assert not torch.allclose(a.log_prob(z), b.log_prob(z)), "The prior follows the condition."
