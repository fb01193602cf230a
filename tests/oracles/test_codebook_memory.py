"""Distances from codes are taken in parts: the same result, and never more of them in memory than is allowed."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from vaekit.latents.quantizers import EMAVectorQuantizer
from vaekit.latents.quantizers.clusters import PAIRS, kmeans, nearest, tally


class Largest(TorchDispatchMode):
    """Counts the numbers of the largest tensor that any operation makes."""

    numbers = 0

    def __torch_dispatch__(self, func: Callable, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        self.numbers = max([self.numbers, *(t.numel() for t in tree_leaves(made) if isinstance(t, Tensor))])
        return made


def allow(monkeypatch: pytest.MonkeyPatch, pairs: int) -> None:
    monkeypatch.setattr("vaekit.latents.quantizers.clusters.PAIRS", pairs)


@pytest.mark.parametrize("pairs", [1, 40, 7 * 40, 499 * 40, 500 * 40], ids=str)
def test_parts_come_to_the_same_as_the_whole(pairs: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts of one point (also where not even one has room), of 7 with a rest, of all but one, and one part."""
    torch.manual_seed(0)
    points, codebook = torch.randn(500, 6), torch.randn(40, 6)
    distance = (points[:, None] - codebook).square().sum(2)
    allow(monkeypatch, pairs)
    index = nearest(points, codebook)
    assert torch.equal(index, distance.argmin(1))
    found = tally(points, index, codebook)
    assert torch.equal(found.counts, torch.bincount(index, minlength=40).float())
    assert torch.allclose(found.sums, torch.zeros(40, 6).index_add_(0, index, points), atol=1e-4)
    assert torch.allclose(found.errors, torch.zeros(40).index_add_(0, index, distance.amin(1)), atol=1e-4)


def test_a_quantizer_and_its_start_do_not_know_of_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    quantizer, h = EMAVectorQuantizer(3, 16), torch.randn(8, 3, 5, 4)
    whole, centres = quantizer(h), kmeans(h.movedim(1, -1).flatten(0, -2), 16)[0]
    allow(monkeypatch, 100)
    parts = quantizer(h)
    assert torch.equal(parts.indices, whole.indices) and torch.equal(parts.z_q, whole.z_q) and parts.stats.keys() == whole.stats.keys()
    assert all(torch.allclose(parts.stats[k], v, atol=1e-5) for k, v in whole.stats.items())
    assert torch.allclose(kmeans(h.movedim(1, -1).flatten(0, -2), 16)[0], centres, atol=1e-4)


def test_a_step_never_holds_more_than_is_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    """2,000 places and 64 codes have 128,000 distances; the features themselves are 6,000 numbers."""
    quantizer, h = EMAVectorQuantizer(3, 64), torch.randn(20, 3, 10, 10)
    with Largest() as whole:
        quantizer(h)
    assert whole.numbers == 128_000, "what is counted must see the distances"
    allow(monkeypatch, 1000)
    with Largest() as parts:
        quantizer(h)
        quantizer.initialize(h)
    assert parts.numbers == 6000


def test_the_maps_of_a_large_tokenizer() -> None:
    """64 maps of 64 x 64 places and 8,192 codes, without their numbers: 2 G distances, of which at most `PAIRS` are there at once."""
    with FakeTensorMode(), Largest() as counted:
        points, codebook = torch.empty(64 * 64 * 64, 4), torch.empty(8192, 4)
        index = nearest(points, codebook)
        tally(points, index, codebook)
    assert index.shape == (64 * 64 * 64,) and PAIRS // 2 < counted.numbers <= PAIRS
