"""The autoregressive prior is the product of its conditionals, and each dimension sees all before it."""

import pytest
import torch
from torch.distributions import Categorical, MixtureSameFamily, Normal

from tests.contracts.families.priors import moved
from tests.oracles.densities import integral
from vaekit.latents import StandardNormal
from vaekit.latents.priors import AutoregressivePrior
from vaekit.testing import check_prior


def test_the_autoregressive_prior_is_the_product_of_its_conditionals() -> None:
    prior = moved(AutoregressivePrior(4, 16, 5), 0.5)
    z = torch.randn(9, 4)
    logits, means, scales = prior._conditionals(z)
    theirs = MixtureSameFamily(Categorical(logits=logits), Normal(means, scales.exp())).log_prob(z).sum(1)
    assert torch.allclose(prior().log_prob(z), theirs, atol=1e-5)
    for j in range(4):
        later = z.clone()
        later[:, j:] += torch.randn(9, 4 - j)
        again = prior._conditionals(later)
        assert all(torch.equal(a[:, : j + 1], b[:, : j + 1]) for a, b in zip((logits, means, scales), again, strict=True)), "z_j sees z_<j alone."
        if j < 3:
            earlier = z.clone()
            earlier[:, j] += 1
            assert (prior._conditionals(earlier)[1][:, j + 1 :] != means[:, j + 1 :]).any(-1).all(), "and each of those"
    two = moved(AutoregressivePrior(2, 8, 3), 0.5)
    assert integral(two()).item() == pytest.approx(1, abs=2e-3)
    check_prior(two)


def test_the_autoregressive_prior_sees_every_dimension_with_few_hidden_units() -> None:
    prior = moved(AutoregressivePrior(12, hidden=4), 0.5)
    z = torch.randn(1, 12)
    jacobian = torch.autograd.functional.jacobian(lambda v: prior._conditionals(v)[1].sum(-1), z)[0, :, 0]
    assert torch.equal(jacobian != 0, torch.ones(12, 12).tril(-1).bool())


def test_the_autoregressive_prior_starts_about_the_standard_normal() -> None:
    prior = AutoregressivePrior(5)
    z = prior.sample(40_000)
    assert z.mean().abs() < 0.02 and (z.var() - 1).abs() < 0.03
    assert (StandardNormal([5])().log_prob(z) - prior().log_prob(z)).mean().abs() < 0.1
