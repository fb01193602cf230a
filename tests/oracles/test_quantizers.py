"""What every quantizer keeps to, and those that are made of others, by hand."""

import pytest
import torch

from tests.contracts.families.discrete import EXAMPLES
from vaekit.latents.quantizers import EMAVectorQuantizer, GroupedQuantizer, Quantizer, ResidualQuantizer
from vaekit.latents.quantizers.clusters import nearest
from vaekit.part import registered
from vaekit.testing.quantizers import check_quantizer

# ---- all quantizers

QUANTIZERS = [cls.__name__ for cls in registered(Quantizer)]


@pytest.mark.parametrize("places", [(), (3, 5)], ids=str)
@pytest.mark.parametrize("name", QUANTIZERS)
def test_quantizers(name: str, places: tuple[int, ...]) -> None:
    quantizer = EXAMPLES[name]()
    h = torch.randn(6, quantizer.channels, *places)
    check_quantizer(quantizer, h)
    quantizer.initialize(h)
    check_quantizer(quantizer, h)


@pytest.mark.parametrize("name", [n for n in QUANTIZERS if n != "FSQ"])
def test_the_gradient_passes_straight_through(name: str) -> None:
    """By hand: what reaches the features is what reached the codes, and the codebook gets nothing of it."""
    quantizer = EXAMPLES[name]()
    h = torch.randn(4, quantizer.channels, 2, 3, requires_grad=True)
    made = quantizer(h)
    weights = torch.randn_like(made.z_q)
    gradients = torch.autograd.grad((made.z_q * weights).sum(), [h, *quantizer.parameters()], allow_unused=True)
    assert torch.equal(gradients[0], weights) and all(g is None for g in gradients[1:])


@pytest.mark.parametrize("name", QUANTIZERS)
def test_codes_are_found_in_float32_under_autocast(name: str) -> None:
    quantizer = EXAMPLES[name]()
    h = torch.randn(64, quantizer.channels, 4, 4)
    exact = quantizer(h)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        lower = quantizer(h)
    assert torch.equal(lower.indices, exact.indices) and torch.equal(lower.z_q, exact.z_q) and lower.z_q.dtype == torch.float32
    assert torch.allclose(lower.penalty, exact.penalty, rtol=1e-5) and all(torch.allclose(v, exact.stats[k]) for k, v in lower.stats.items())


# ---- composites


def test_residuals_are_quantized_in_turn() -> None:
    """By hand; the penalty of level l is that of the features less the sum of the first l codes (RQ-VAE, Eq. 8)."""
    quantizer = ResidualQuantizer([EMAVectorQuantizer(4, 9) for _ in range(3)])
    h = torch.randn(5, 4, 2, 2, requires_grad=True)
    quantizer.initialize(h.detach())
    made, points = quantizer(h), h.detach().movedim(1, -1).reshape(-1, 4)
    total, penalty = torch.zeros_like(points), torch.zeros(5)
    errors = []
    for level, part in enumerate(quantizer.parts):
        index = nearest(points - total, part.codebook)
        assert torch.equal(made.indices[:, level].flatten(), index)
        total = total + part.codebook[index]
        errors.append((points - total).square().sum().item())
        penalty = penalty + 0.25 * (points - total).view(5, -1).square().sum(1)
    assert torch.allclose(made.z_q.movedim(1, -1).reshape(-1, 4), total, atol=1e-5) and torch.allclose(made.penalty, penalty, rtol=1e-4)
    assert errors[0] > errors[1] > errors[2]
    (gradient,) = torch.autograd.grad(made.penalty.sum(), h)
    assert torch.isfinite(gradient).all() and (gradient != 0).any()


def test_groups_are_quantized_each_by_itself() -> None:
    quantizer = GroupedQuantizer([EMAVectorQuantizer(1, 6), EMAVectorQuantizer(3, 6)])
    h = torch.randn(4, 4, 3)
    made = quantizer(h)
    for i, (part, some) in enumerate(zip(quantizer.parts, h.split([1, 3], dim=1), strict=True)):
        assert torch.equal(made.indices[:, i : i + 1], part(some).indices)
    assert set(made.stats) == {f"{i}.{k}" for i in (0, 1) for k in ("counts", "sums", "errors")}
