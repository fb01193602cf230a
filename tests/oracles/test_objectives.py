"""What every objective keeps to: its contract, what the layers add, and the numbers that it refuses."""

import math
from collections.abc import Callable

import pytest
import torch

from tests.contracts.examples import batch, scrambled, vae
from tests.contracts.families.objectives import OBJECTIVES
from tests.oracles.sampled import SAMPLED
from vaekit.errors import UserError
from vaekit.objectives import CIWAE, GECO, IWAE, MIWAE, Objective, Renyi, TargetRate
from vaekit.part import registered
from vaekit.testing import check_objective, check_spec


@pytest.mark.parametrize("name", OBJECTIVES)
def test_the_contract(name: str) -> None:
    check_objective(OBJECTIVES[name](), scrambled(vae("mlp")), batch())
    check_spec(OBJECTIVES[name]())


def test_every_objective_is_here() -> None:
    """Those of this family: whatever stands in `vaekit.objectives`."""
    here = {type(build()).__name__ for build in OBJECTIVES.values()}
    assert {cls.__name__ for cls in registered(Objective) if cls.__module__.rpartition(".")[2] in ("bounds", "routed", "controlled", "elbo")} <= here


@pytest.mark.parametrize("name", [*SAMPLED, "GECO", "TargetRate"])
def test_what_the_layers_add_is_in_the_loss(name: str) -> None:
    objective = {**SAMPLED, **OBJECTIVES}[name]()
    k = objective.samples
    out = scrambled(vae("mlp"))(batch(), k=k)
    without = objective(out)
    out.terms[0].penalty = torch.arange(5.0 * k)
    assert torch.allclose(objective(out) - without, torch.arange(5.0 * k).view(k, 5).mean(0), atol=0.02)


@pytest.mark.parametrize(
    ("build", "match"),
    [
        (lambda: IWAE(0), "samples is at least 1"),
        (lambda: MIWAE(0, 3), "groups is at least 1"),
        (lambda: CIWAE(3, 1.5), "share of the ELBO"),
        (lambda: Renyi(math.inf), "alpha is a number"),
        (lambda: GECO(fraction=1.0), "fraction"),
        (lambda: TargetRate(0.0), "target of the rate"),
        (lambda: TargetRate(gain=0.0), "gain"),
    ],
)
def test_numbers_that_make_no_sense(build: Callable[[], Objective], match: str) -> None:
    with pytest.raises(UserError, match=match):
        build()
