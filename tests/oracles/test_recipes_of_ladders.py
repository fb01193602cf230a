"""Recipes of latents with several parts: any images, conditions and knobs."""

import pytest
import torch

from tests.contracts.examples import raw, scrambled, spec_of
from vaekit.objectives import Warmup
from vaekit.output import Batch
from vaekit.recipes import build_recipe
from vaekit.testing import check_gradients, check_spec


@pytest.mark.parametrize(("shape", "levels"), [([1, 28, 28], 2), ([3, 17, 30], 256), ([1, 12, 12], None), ([1, 64, 64], 256)], ids=str)
@pytest.mark.parametrize("name", ["ladder", "joint"])
def test_recipes(name: str, shape: list[int], levels: int | None) -> None:
    recipe = build_recipe(name, spec_of(shape, levels, classes=("a", "b", "c")), scale=0.25, condition="class")
    model, x = scrambled(recipe.model), Batch(raw(3, shape, levels), condition=torch.arange(3))
    check_spec(model)
    out = model(x)
    check_gradients(model, recipe.objective(out).mean())
    assert len(out.terms) == (2 if name == "joint" else 3 if levels == 2 else 5 if min(shape[1:]) > 15 else 3)
    assert model.sample(3).shape == model.reconstruct(x).shape == x.x.shape


def test_knobs() -> None:
    data = spec_of([1, 28, 28], 2)
    recipe = build_recipe("ladder", data, latent=7, knobs={"groups": 3, "channels": 4, "components": 1, "resolutions": 2})
    shapes = [tuple(term.z.shape[1:]) for term in recipe.model(raw(2, [1, 28, 28], 2)).terms]
    assert shapes == [(7,), *[(4, 7, 7)] * 3, *[(4, 14, 14)] * 3]
    t = build_recipe("ladder", data, knobs={"components": 1}).defaults
    assert (t.clip, t.ema, t.betas, t.weight_decay, t.lr_warmup, t.lr_hold, t.schedule) == (200.0, 0.999, (0.9, 0.99), 0.01, 0.02, 0.4, "linear")
    assert isinstance(recipe.objective.beta_schedule, Warmup) and recipe.objective.beta_schedule.fraction == 0.1
