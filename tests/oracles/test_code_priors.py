"""Autoregressive priors of indices: causal, normalized, and the same index by index as in one pass."""

import itertools
import math

import pytest
import torch
from torch import Tensor

from vaekit.errors import UserError
from vaekit.latents.priors.code_transformer import CodeTransformer
from vaekit.latents.priors.codes import CodePrior, OrderedCodes, drawn
from vaekit.testing.quantizers import check_codes_prior


def strong(prior: OrderedCodes, seed: int = 0) -> OrderedCodes:
    """Far from its uniform start."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in prior.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    return prior


def transformer(shape: list[int], size: int, condition: int = 0) -> OrderedCodes:
    return strong(CodeTransformer(shape, size, width=16, blocks=2, heads=2, condition=condition))


def pixelcnn(shape: list[int], size: int, condition: int = 0) -> OrderedCodes:
    return strong(CodePrior(shape, size, hidden=8, layers=2, condition=condition))


def ordered(codes: Tensor) -> Tensor:
    """[N, Q, h, w, ...] -> [N, L, ...] in the order in which they are drawn."""
    return codes.movedim(1, 3).flatten(1, 3)


@pytest.mark.parametrize("shape", [[1, 2, 3], [3, 1, 2], [2, 2, 1]], ids=str)
def test_probabilities_sum_to_one_and_samples_have_them(shape: list[int]) -> None:
    torch.manual_seed(0)
    check_codes_prior(transformer(shape, 3))


def test_and_so_they_do_given_a_condition() -> None:
    torch.manual_seed(0)
    prior, a, b = transformer([2, 1, 2], 3, condition=3), torch.randn(1, 3), torch.randn(1, 3)
    check_codes_prior(prior, c=a)
    codes = torch.randint(3, (20, 2, 1, 2))
    assert not torch.allclose(prior(a.expand(20, -1)).log_prob(codes), prior(b.expand(20, -1)).log_prob(codes))
    assert torch.equal(prior.logits(codes), prior.logits(codes, torch.zeros(20, 3))), "the condition 0 is none"


def test_it_starts_uniform() -> None:
    fresh = CodeTransformer([2, 4, 5], 7, width=8, heads=2)
    assert torch.allclose(fresh().log_prob(torch.randint(7, (3, 2, 4, 5))), torch.tensor(-40 * math.log(7)))


def test_an_index_knows_all_before_it_and_nothing_else() -> None:
    """Each index in turn is changed: the logits up to its own stay to the last bit, and those of every later one move."""
    shape, size = [2, 3, 2], 5
    prior = transformer(shape, size)
    codes = torch.randint(size, (1, *shape))
    logits = ordered(prior.logits(codes).detach())
    length = math.prod(shape)
    reached = torch.zeros(length, length, dtype=torch.bool)
    for n, (i, j, q) in enumerate(itertools.product(range(3), range(2), range(2))):
        other = codes.clone()
        other[0, q, i, j] = (other[0, q, i, j] + 1) % size
        reached[n] = (ordered(prior.logits(other).detach()) != logits).any(-1)[0]
    assert torch.equal(reached, torch.ones(length, length, dtype=torch.bool).triu(1))


@pytest.mark.parametrize("shape", [[1, 3, 2], [3, 2, 2]], ids=str)
def test_the_memory_gives_the_logits_of_the_full_pass(shape: list[int]) -> None:
    torch.manual_seed(0)
    prior, c = transformer(shape, 4, condition=3), torch.randn(5, 3)
    codes = torch.randint(4, (5, *shape))
    sequence, whole = ordered(codes), ordered(prior.logits(codes, c))
    memories = [prior._memory(5) for _ in prior.blocks]
    for i in range(sequence.shape[1]):
        step = prior._step(sequence[:, i - 1 : i] if i else None, prior._asked(c), memories, i)
        torch.testing.assert_close(step, whole[:, i], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("make", [transformer, pixelcnn])
def test_one_candidate_or_no_temperature_is_greedy(make: object) -> None:
    """The likeliest index each time, as found by whole passes."""
    prior = make([2, 2, 2], 6)
    codes, places = torch.zeros(1, 2, 2, 2, dtype=torch.long), itertools.product(range(2), range(2), range(2))
    for i, j, q in places:
        codes[0, q, i, j] = prior.logits(codes)[0, q, i, j].argmax()
    for draws in (prior.sample(20, top=1), prior.sample(20, temperature=0.0)):
        assert (draws == codes).all()
    assert len(prior.sample(2000, top=2)[:, 0, 0, 0].unique()) == 2
    with torch.no_grad():
        assert prior().log_prob(prior.sample(1000, temperature=0.3)).mean() > prior().log_prob(prior.sample(1000)).mean()


@pytest.mark.parametrize("make", [transformer, pixelcnn])
def test_guidance_goes_on_from_the_free_logits_through_the_told_ones(make: object) -> None:
    """p ~ p(free) (p(told) / p(free))^g at each index: counted for two indices of one grid, all of whose values can be listed."""
    torch.manual_seed(0)
    prior, c, n = make([2, 1, 1], 3, condition=4), torch.randn(1, 4), 20_000
    first = torch.arange(3).repeat_interleave(3)
    every = torch.stack([first, torch.arange(3).repeat(3)], 1)[:, :, None, None]
    with torch.no_grad():
        told, free = (prior.logits(every, x.expand(9, -1)).log_softmax(-1)[:, :, 0, 0] for x in (c, torch.zeros_like(c)))
    assert (told - free).abs().max() > 0.1
    for g in (0.0, 1.0, 3.0):
        guided = (free + g * (told - free)).log_softmax(-1)
        expected = guided.gather(2, every[:, :, 0, 0, None])[..., 0].sum(1).exp()
        codes = prior.sample(n, c=c.expand(n, -1), guidance=g)
        found = torch.bincount(codes[:, 0, 0, 0] * 3 + codes[:, 1, 0, 0], minlength=9) / n
        assert ((found - expected).abs() < 5 * (expected * (1 - expected) / n).sqrt() + 1 / n).all()


def test_logits_are_normalized_before_they_are_compared() -> None:
    """A constant added to either row of logits is no news."""
    torch.manual_seed(0)
    told, free = torch.tensor([[0.0, 2.0, 9.0]]), torch.tensor([[1.0, 0.0, 8.5]])
    a = drawn(torch.cat([told, free]).repeat_interleave(4000, 0), 1.0, None, 2.0, 2)
    b = drawn(torch.cat([told + 7, free - 5]).repeat_interleave(4000, 0), 1.0, None, 2.0, 2)
    expected = (2 * told - free).softmax(1)[0]
    for draws in (a, b):
        assert (torch.bincount(draws, minlength=3) / 4000 - expected).abs().max() < 0.03


@pytest.mark.parametrize("kind", ["pixelcnn", "transformer"])
def test_it_learns_a_pattern(kind: str) -> None:
    """Codes whose second row repeats the first cost the first row alone."""
    torch.manual_seed(0)
    pixelcnn = kind == "pixelcnn"
    prior = CodePrior([1, 2, 3], 4, hidden=16, layers=2) if pixelcnn else CodeTransformer([1, 2, 3], 4, width=32, blocks=2, heads=2)
    optimizer = torch.optim.Adam(prior.parameters(), lr=0.02 if pixelcnn else 0.01)
    for _ in range(200):
        row = torch.randint(4, (64, 1, 1, 3))
        loss = prior.loss(torch.cat([row, row], dim=2)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() == pytest.approx(3 * math.log(4), abs=0.2)


def test_heads_share_the_width() -> None:
    with pytest.raises(UserError, match="30 is not a multiple of 4"):
        CodeTransformer([1, 2, 2], 3, width=30)
