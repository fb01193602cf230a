"""The uniform prior of indices and the small PixelCNN, by counting: normalized, causal, and without a blind spot."""

import math

import pytest
import torch

from tests.contracts.examples import scrambled
from tests.oracles.test_code_priors import strong
from vaekit.latents.priors.codes import CodePrior, UniformCodes
from vaekit.testing.quantizers import check_codes_prior

PRIORS = {
    "uniform": lambda: UniformCodes([2, 1, 2], 3),
    "one-level": lambda: scrambled(CodePrior([1, 2, 3], 3, hidden=8, layers=2)),
    "levels": lambda: scrambled(CodePrior([3, 1, 2], 3, hidden=8, layers=2)),
    "both": lambda: scrambled(CodePrior([2, 2, 2], 2, hidden=8, layers=2)),
}


@pytest.mark.parametrize("name", PRIORS)
def test_probabilities_sum_to_one_and_samples_have_them(name: str) -> None:
    check_codes_prior(PRIORS[name]())


def test_probabilities_far_from_uniform_and_with_a_condition() -> None:
    prior = strong(CodePrior([2, 2, 2], 2, hidden=8, layers=3, condition=3))
    a, b = torch.randn(1, 3), torch.randn(1, 3)
    check_codes_prior(prior, c=a)
    codes = torch.randint(2, (20, 2, 2, 2))
    assert not torch.allclose(prior(a.expand(20, -1)).log_prob(codes), prior(b.expand(20, -1)).log_prob(codes))


def test_the_uniform_rate_is_a_count() -> None:
    assert UniformCodes([2, 4, 5], 7)().log_prob(torch.zeros(3, 2, 4, 5)).tolist() == pytest.approx([-40 * math.log(7)] * 3)
    fresh = CodePrior([2, 4, 5], 7)
    assert torch.allclose(fresh().log_prob(torch.randint(7, (3, 2, 4, 5))), torch.tensor(-40 * math.log(7))), "it starts uniform"


def test_later_codes_never_change_earlier_logits() -> None:
    """Each index in turn: no logits up to and with its own move; and those of all later rows and levels may."""
    levels, height, width, size = 2, 3, 4, 5
    prior = strong(CodePrior([levels, height, width], size, hidden=8, layers=4))
    codes = torch.randint(size, (1, levels, height, width))
    logits = prior.logits(codes).detach()
    order = [(q, i, j) for i in range(height) for j in range(width) for q in range(levels)]
    reached = torch.zeros(len(order), len(order), dtype=torch.bool)
    for n, (q, i, j) in enumerate(order):
        other = codes.clone()
        other[0, q, i, j] = (other[0, q, i, j] + 1) % size
        moved = (prior.logits(other) - logits).abs().amax(-1)[0]
        reached[n] = torch.tensor([moved[q2, i2, j2].item() > 1e-6 for q2, i2, j2 in order])
    assert not reached.tril().any(), "an index knows itself or what comes after it"
    assert reached.triu(1).sum() == len(order) * (len(order) - 1) / 2, "and there is no blind spot"


def test_sampling_sees_what_one_pass_sees() -> None:
    """The window of rows that sampling looks at gives the same contexts as the whole grid."""
    prior = strong(CodePrior([1, 7, 3], 4, hidden=8, layers=2))
    codes = torch.randint(4, (2, 1, 7, 3))
    whole = prior.context(codes)
    for row in range(7):
        first = max(0, row - 3)
        window = prior.context(codes[:, :, first : row + 1], None, first)
        assert torch.allclose(window[:, -1], whole[:, row], atol=1e-5)


def test_temperature_and_top_k() -> None:
    prior = strong(CodePrior([1, 2, 2], 6, hidden=8, layers=2))
    entropy = {t: -prior().log_prob(prior.sample(2000, temperature=t)).mean().item() for t in (0.3, 1.0)}
    assert entropy[0.3] < entropy[1.0]
    greedy = prior.sample(50, temperature=0.0)
    assert (greedy == greedy[:1]).all() and torch.equal(greedy, prior.sample(50, top=1))
    first = prior.sample(2000, top=2)[:, 0, 0, 0]
    assert len(first.unique()) == 2
