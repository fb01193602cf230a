"""Quantizers without a codebook, which round each channel by itself: FSQ and LFQ, by enumeration."""

import itertools
import math

import pytest
import torch
from torch import Tensor

from vaekit.errors import UserError
from vaekit.latents.quantizers import FSQ, LFQ
from vaekit.recipes.discrete import rounded, values_of


@pytest.mark.parametrize("values", [[5], [8, 5, 5, 5], [3, 4], [7, 6, 6]], ids=str)
def test_fsq_reaches_every_code_and_no_other(values: list[int]) -> None:
    quantizer = FSQ(values)
    assert quantizer.size == math.prod(values)
    h = torch.atanh(0.9999 * (2 * torch.rand(100_000, len(values)) - 1))
    made = quantizer(h)
    assert len(made.indices.unique()) == quantizer.size
    every = quantizer.lookup(torch.arange(quantizer.size).view(-1, 1))
    assert len(every.unique(dim=0)) == quantizer.size and every.abs().max() <= 1
    for i, n in enumerate(values):
        expected = (torch.arange(n) - n // 2).float() / (n // 2)
        assert torch.allclose(every[:, i].unique(), expected)
    assert torch.equal(quantizer(torch.zeros(1, len(values))).z_q, torch.zeros(1, len(values))), "0 stays 0, with even numbers too"
    assert (made.penalty == 0).all()


def test_the_gradient_of_fsq_is_that_of_its_bound() -> None:
    """By finite differences of the bounded, unrounded channel."""
    values = [8, 5]
    h = (0.8 * torch.randn(50, 2)).double().float().requires_grad_()
    (gradient,) = torch.autograd.grad(FSQ(values)(h).z_q.sum(), h)

    def bound(x: Tensor) -> Tensor:
        half, offset = torch.tensor([7 * 1.001 / 2, 4 * 1.001 / 2]).double(), torch.tensor([0.5, 0.0]).double()
        return (half * torch.tanh(x.double() + torch.atanh(offset / half)) - offset) / torch.tensor([4.0, 2.0]).double()

    expected = (bound(h.detach() + 1e-3) - bound(h.detach() - 1e-3)) / 2e-3
    assert torch.allclose(gradient.double(), expected, atol=1e-3)


def test_fsq_refuses_two_values() -> None:
    with pytest.raises(UserError, match="lfq"):
        FSQ([5, 2])


@pytest.mark.parametrize(("channels", "size", "values"), [(3, 256, [7, 6, 6]), (4, 256, [4, 4, 4, 4]), (1, 256, [256]), (5, 256, [3] * 5)])
def test_fsq_values_of_a_size(channels: int, size: int, values: list[int]) -> None:
    assert values_of(channels, size) == values
    assert math.prod(values) <= size


def test_fsq_is_grouped_where_channels_are_many() -> None:
    assert rounded(3, 256).levels == 1
    many = rounded(16, 256)
    assert (many.levels, many.channels, many.size) == (4, 16, 256)


def test_the_entropies_of_lfq_by_enumeration() -> None:
    """p(code|h) over all 2^F codes, as a softmax of distances."""
    quantizer = LFQ(3, entropy=0.3, beta=0.0, temperature=2.0)
    h = torch.randn(5, 3, 2, 2)
    codes = torch.tensor(list(itertools.product([-1.0, 1.0], repeat=3)))
    p = (-(h.movedim(1, -1)[..., None, :] - codes).square().sum(-1) / 2.0).softmax(-1)
    own = torch.special.entr(p).sum((1, 2, 3))
    shared = torch.special.entr(p.mean((0, 1, 2))).sum()
    assert torch.allclose(quantizer(h).penalty, 0.3 * (own - 4 * shared), rtol=1e-4, atol=1e-5)


def test_lfq_signs_and_commitment() -> None:
    quantizer = LFQ(4, entropy=0.0, beta=0.5)
    h = torch.randn(6, 4)
    made = quantizer(h)
    assert torch.equal(made.z_q, torch.sign(h))
    assert torch.equal(made.indices[:, 0], ((h > 0).long() * torch.tensor([1, 2, 4, 8])).sum(1))
    assert torch.allclose(made.penalty, 0.5 * (h - h.sign()).square().sum(1), rtol=1e-5)


def test_lfq_entropy_favours_sure_and_many_codes() -> None:
    quantizer = LFQ(2, entropy=1.0, beta=0.0)
    many = 3 * torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
    one, unsure = 3 * torch.ones(4, 2), torch.zeros(4, 2)
    assert quantizer(many).penalty.mean().item() == pytest.approx(-math.log(4), abs=0.01)
    assert quantizer(one).penalty.mean().item() == pytest.approx(0.0, abs=0.01)
    assert quantizer(unsure).penalty.mean().item() == pytest.approx(0.0, abs=1e-5)
