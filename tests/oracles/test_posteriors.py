"""What every posterior keeps to, alone and in its recipe; and that the contract finds faults."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from tests.contracts.examples import batch, scrambled, spec_of
from tests.contracts.families.posteriors import EXAMPLES
from tests.oracles.flows import bent
from vaekit.distributions.flowed import Flowed, Map
from vaekit.distributions.full_covariance import FullNormal
from vaekit.errors import UserError
from vaekit.latents import DensityPrior, DiagonalGaussian, Flat, Posterior, StandardNormal
from vaekit.latents.posteriors import IAF, FullCovariance, VonMisesFisherPosterior
from vaekit.recipes import build_recipe
from vaekit.testing import check_posterior, check_prior, check_spec

# ---- contracts


@pytest.mark.parametrize("name", [*EXAMPLES, "DiagonalGaussian"])
def test_contracts(name: str) -> None:
    part = scrambled(EXAMPLES[name]() if name in EXAMPLES else DiagonalGaussian(8, 3))
    check_spec(part)
    if isinstance(part, Posterior):
        check_posterior(part, torch.randn(4, 8))
    if isinstance(part, DensityPrior):
        check_prior(part)


class Wrong(DiagonalGaussian):
    """A posterior that says it gives more than it does, or draws from another distribution than its density."""

    def __init__(self, features: int, latent: int, fault: str) -> None:
        super().__init__(features, latent)
        self.fault = fault

    def forward(self, h: Tensor) -> FullNormal | Flowed:
        q = super().forward(h).base_dist
        if self.fault == "shared":
            # Dimensions that move together, and are said to factorize.
            factor = torch.diag_embed(q.scale)
            factor[:, 1, 0] = 2.0
            return FullNormal(q.loc, scale_tril=factor, validate_args=False)
        return Flowed(q.loc, q.scale, Doubling(self.fault))


class Doubling(Map):
    def __init__(self, fault: str) -> None:
        self.fault = fault

    def forth(self, e: Tensor) -> tuple[Tensor, Tensor]:
        # "volume": the determinant is forgotten, in both directions.
        return 2 * e, e.new_full(e.shape[:-1], 0.0 if self.fault == "volume" else e.shape[-1] * math.log(2))

    def back(self, z: Tensor) -> tuple[Tensor, Tensor]:
        return (z if self.fault == "inverse" else 0.5 * z), self.forth(z)[1]

    def stopped(self) -> "Doubling":
        return self


@pytest.mark.parametrize("fault", ["shared", "volume", "inverse"])
def test_the_contract_finds_faults(fault: str) -> None:
    with pytest.raises(AssertionError):
        check_posterior(Wrong(8, 3, fault), torch.randn(4, 8))


@pytest.mark.parametrize("part", [lambda: bent("nsf"), lambda: bent("planar"), lambda: FullCovariance(8, 3), lambda: VonMisesFisherPosterior(8, 3)])
def test_in_mixed_precision_the_density_is_still_that_of_the_sample(part: Callable[[], Posterior]) -> None:
    posterior = scrambled(part())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        q = posterior(torch.randn(5, 8))
        z = q.rsample()
        assert z.dtype == torch.float32
        assert torch.allclose(q.log_prob(z), q.log_prob(z.clone()), atol=1e-3)


# ---- recipes

RECIPES = ["full-covariance", "laplace", "planar", "radial", "iaf", "flow-posterior", "svae", "poincare", "gumbel"]


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("latent", [2, 7])
def test_recipes_have_the_latent_that_was_asked_for(name: str, latent: int) -> None:
    recipe = build_recipe(name, spec_of([1, 16, 16]), latent=latent, scale=0.25)
    assert recipe.model.latent.posterior.event_shape == (latent,)


@pytest.mark.parametrize("name", ["iaf", "planar", "radial", "flow-posterior", "full-covariance", "laplace"])
def test_a_code_of_one_dimension(name: str) -> None:
    model = build_recipe(name, spec_of([1, 16, 16]), latent=1, scale=0.25).model
    out = model(batch(4, [1, 16, 16]))
    assert torch.isfinite(out.rate()).all() and torch.isfinite(out.log_w()).all()


CLOSED = {"full-covariance": 4, "laplace": 4, "svae": 1, "gumbel": 1}
"""In how many parts, for a code of 4 (one categorical variable of 4 classes)."""


@pytest.mark.parametrize("name", CLOSED)
def test_closed_form_rates_reach_the_objective(name: str) -> None:
    """With the prior of the recipe, and not only between two bare distributions."""
    model = build_recipe(name, spec_of([1, 16, 16]), latent=4, scale=0.25).model
    for term in (model(batch(3, [1, 16, 16])).terms[0], model.eval()(batch(3, [1, 16, 16])).terms[0]):
        assert term.kl is not None and term.kl.shape == (3, CLOSED[name])
        assert (term.kl >= -1e-6).all() and torch.allclose(term.rate(), term.kl.sum(1))


def test_refusals() -> None:
    with pytest.raises(UserError, match="sphere"):
        Flat(VonMisesFisherPosterior(8, 3), StandardNormal([3]))
    with pytest.raises(UserError, match="2 dimensions"):
        build_recipe("svae", spec_of([1, 16, 16]), latent=1)
    with pytest.raises(UserError, match="no flow 'glow'"):
        build_recipe("flow-posterior", spec_of([1, 16, 16]), knobs={"kind": "glow"})
    with pytest.raises(UserError, match="not a multiple"):
        build_recipe("gumbel", spec_of([1, 16, 16]), latent=10, knobs={"classes": 4})
    assert "anywhere" not in IAF.gives and "stopped" not in IAF.gives
