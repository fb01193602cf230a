"""Recipes that choose an objective: any images, conditions, options honoured or refused, and how beta starts."""

import pytest
import torch

from tests.contracts.examples import batch, scrambled, spec_of
from vaekit.errors import UserError
from vaekit.likelihoods import Bernoulli
from vaekit.networks import ClassCondition
from vaekit.objectives import Objective
from vaekit.output import Batch
from vaekit.recipes import RECIPES, build_recipe, knobs
from vaekit.testing import check_gradients
from vaekit.training.task import Task

NAMES = ["beta", "annealed", "free-bits", "cyclical", "iwae", "miwae", "ciwae", "piwae", "renyi", "stl", "dreg", "geco", "target-rate"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("shape", "levels"), [([1, 28, 28], 2), ([3, 17, 30], 256), ([1, 12, 12], None)], ids=str)
def test_the_recipes(name: str, shape: list[int], levels: int | None) -> None:
    recipe = build_recipe(name, spec_of(shape, levels), scale=0.25)
    task = Task(scrambled(recipe.model), recipe.objective, recipe.penalties)
    data = batch(3, shape, levels)
    task.progress(0.5)
    step = task(data)
    assert torch.isfinite(step.loss)
    check_gradients(recipe.model, step.loss)
    task.post_step(step.stats)
    assert RECIPES[name].good_for


@pytest.mark.parametrize("name", NAMES)
def test_the_recipes_take_conditions(name: str) -> None:
    recipe = build_recipe(name, spec_of([1, 16, 16], classes=("a", "b")), condition="class", latent=2, scale=0.25)
    assert isinstance(recipe.model.condition, ClassCondition)
    x = batch(4, [1, 16, 16])
    check_gradients(recipe.model, Task(scrambled(recipe.model), recipe.objective)(Batch(x.x, condition=torch.arange(4) % 2)).loss)


def test_options_are_honoured_or_refused() -> None:
    data = spec_of([1, 12, 12])

    def built(name: str, **options: object) -> Objective:
        return build_recipe(name, data, scale=0.25, **options).objective

    assert built("beta").progress(1.0) == {"beta": 4.0}
    assert built("beta", beta=2.0, warmup=0.0).progress(0.0) == {"beta": 2.0}
    assert built("beta", knobs={"beta": 7}, free_bits=0.3).progress(1.0) == {"beta": 7.0}
    assert built("beta", free_bits=0.3).free_bits == 0.3
    assert built("free-bits").free_bits == 0.25 and built("free-bits", free_bits=0.0).free_bits == 0.0
    assert built("annealed", latent=4).progress(0.25) == {"capacity": 4.0}
    assert built("annealed", warmup=0.1).progress(0.1) == {"capacity": 20.0}
    assert built("cyclical", beta=0.5).progress(1.0) == {"beta": 0.5}
    assert built("miwae", knobs={"groups": 3, "samples": 2}).samples == 6
    assert built("target-rate", latent=3).target == 6.0
    assert built("geco", knobs={"target": "700"}).target == 700.0
    assert built("beta", beta=2, knobs={"beta": 2.5}, warmup=0.0).progress(0.0) == {"beta": 2.5} and built("beta", beta=0).beta == 0
    assert built("beta", beta=2.0, knobs={"beta": 7}).progress(1.0) == {"beta": 7.0}
    for name in ("iwae", "dreg", "stl", "geco", "target-rate", "joint", "wae-mmd", "rae-l2", "aae", "vq", "fsq"):
        for option in ("beta", "free_bits", "warmup"):
            with pytest.raises(UserError, match="no use for --"):
                built(name, **{option: 0.5})
    with pytest.raises(UserError, match="no use for --warmup"):
        built("missing", warmup=0.5, knobs={"samples": 5})
    for name, knob in (("mixture", "components"), ("iaf", "steps"), ("vq", "codebook"), ("sliced-wasserstein", "projections")):
        with pytest.raises(UserError, match=f"{knob} is a whole number of at least 1"):
            built(name, knobs={knob: 0})
    with pytest.raises(UserError, match="at most 32 dimensions"):
        built("poincare", latent=40)
    with pytest.raises(UserError, match="no use for --beta"):
        built("annealed", beta=2.0)
    with pytest.raises(UserError, match="target is a number"):
        built("geco", knobs={"target": "low"})
    with pytest.raises(UserError, match="fixed width"):
        built("geco", sigma="learned")
    with pytest.raises(UserError, match="optimal sigma"):
        built("iwae", sigma="optimal")


@pytest.mark.parametrize(("name", "end"), [("beta", 4.0), ("beta-tc", 1.0), ("factor", 1.0), ("dip-i", 1.0), ("dip-ii", 1.0)])
def test_a_code_of_few_meanings_starts_with_a_heavy_divergence(name: str, end: float) -> None:
    """One for each 50 pixels, down to the recipe's weight; with `start=1`, with a warm-up, or below 1 it begins as published."""
    data = spec_of([1, 32, 32])

    def weights(**options: object) -> list[float]:
        objective = build_recipe(name, data, scale=0.1, **options).objective
        return [objective.progress(fraction).get("beta", 1.0) for fraction in (0.0, 0.3, 0.6, 1.0)]

    assert weights() == pytest.approx([20.48, (20.48 * end) ** 0.5, end, end])
    assert weights(knobs={"start": 100 * end}) == pytest.approx([100 * end, 10 * end, end, end])
    assert weights(knobs={"start": 1}) == weights(warmup=0.1) == [0.0, end, end, end]
    with pytest.raises(UserError, match="leave one of them out"):
        weights(knobs={"start": 50}, warmup=0.1)
    assert build_recipe("beta", data, scale=0.1, beta=0.5).objective.progress(0.0) == {"beta": 0.0}
    assert build_recipe("beta", data, scale=0.1, knobs={"beta": 0}).objective.progress(1.0) == {"beta": 0.0}


def test_sigma_of_the_recipes() -> None:
    """An optimal sigma is not measured with several samples, and would stay where it starts; a target distortion needs a fixed one."""
    modes = {n: build_recipe(n, spec_of([1, 12, 12]), scale=0.25).model.likelihood.noise.mode for n in NAMES}
    assert modes["geco"] == "fixed" and modes["iwae"] == modes["dreg"] == modes["miwae"] == "learned"
    assert build_recipe("geco", spec_of([1, 12, 12]), scale=0.25, sigma=0.3).model.likelihood.noise.fixed.exp().item() == pytest.approx(0.3)
    assert isinstance(build_recipe("geco", spec_of([1, 12, 12], 2), scale=0.25).model.likelihood, Bernoulli)
    assert build_recipe("geco", spec_of([1, 12, 12], 2), scale=0.25).objective.fraction == 0.4
    assert set(knobs("geco")) == {"fraction", "target", "gain"}
