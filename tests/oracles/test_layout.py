"""What makes a step fast without changing what it computes: one memory layout through a network, and the divergence as one node of the graph."""

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Normal
from torch.distributions import kl_divergence as torchs_kl

from tests.contracts.examples import scrambled, spec_of
from vaekit.distributions.kl import kl_divergence
from vaekit.memory import laid_out
from vaekit.networks.blocks import Doubling, ResidualBlock
from vaekit.objectives import ELBO
from vaekit.output import Batch
from vaekit.recipes import build_recipe
from vaekit.testing.ladders import bound_at_the_means
from vaekit.training.plan import Plan
from vaekit.training.task import Task

SHAPES = [((6, 3), (6, 3)), ((6, 3), (3,)), ((6, 1), (3,)), ((6, 3), ())]
"""Of q's and of p's parameters: what is broadcast forward is added up backward."""


def parameters(q: tuple[int, ...], p: tuple[int, ...]) -> list[Tensor]:
    values = [torch.randn(q), torch.rand(q) + 0.3, torch.randn(p), torch.rand(p) + 0.3]
    return [v.double().requires_grad_() for v in values]


def divergence(m: Tensor, s: Tensor, n: Tensor, t: Tensor) -> Tensor:
    kl = kl_divergence(Normal(m, s, validate_args=False), Normal(n, t, validate_args=False))
    assert kl is not None
    return kl


@pytest.mark.parametrize(("q", "p"), SHAPES, ids=str)
def test_the_divergence_of_two_gaussians(q: tuple[int, ...], p: tuple[int, ...]) -> None:
    """Against PyTorch's; its gradient and the gradient of that against finite differences."""
    m, s, n, t = parameters(q, p)
    assert torch.allclose(divergence(m, s, n, t), torchs_kl(Normal(m, s), Normal(n, t)), rtol=1e-12, atol=1e-12)
    assert torch.autograd.gradcheck(divergence, (m, s, n, t))
    assert torch.autograd.gradgradcheck(divergence, (m, s, n, t))


@pytest.mark.parametrize("learned", range(1, 16))
def test_the_divergence_where_some_parameters_are_given(learned: int) -> None:
    """Each subset of (m, s, n, t) that learns gets the gradient that it gets among all of them."""
    values = parameters((5, 2), (2,))
    full = torch.autograd.grad(divergence(*values).sum(), values)
    some = [v.detach().requires_grad_(bool(learned >> i & 1)) for i, v in enumerate(values)]
    wanted = [v for v in some if v.requires_grad]
    for mine, expected in zip(
        torch.autograd.grad(divergence(*some).sum(), wanted), [g for g, v in zip(full, some, strict=True) if v.requires_grad], strict=True
    ):
        assert torch.equal(mine, expected)


def is_last(x: Tensor) -> bool:
    return x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()


def test_a_map_follows_the_kernels() -> None:
    kernel = torch.randn(6, 5, 3, 3)
    x = torch.randn(2, 5, 4, 4)
    assert laid_out(x, kernel) is x
    last = laid_out(x, kernel.contiguous(memory_format=torch.channels_last))
    assert is_last(last) and torch.equal(last, x)


def test_a_map_of_one_channel_is_laid_out_by_its_strides() -> None:
    """It is contiguous in both layouts, and a convolution goes by the strides: its output is a map in the kernels' layout too."""
    x, narrow = torch.randn(2, 1, 6, 6), torch.randn(8, 1, 3, 3)
    last = laid_out(x, torch.randn(8, 5, 3, 3).to(memory_format=torch.channels_last))
    assert last.stride() == (36, 1, 6, 1) and torch.equal(last, x)
    assert not is_last(nn.functional.conv2d(x, narrow)) and is_last(nn.functional.conv2d(last, narrow))


@pytest.mark.parametrize("name", ["ladder", "conv"])
def test_no_residual_block_meets_two_layouts(name: str) -> None:
    """In a channels-last plan each block's convolutions read and write channels-last maps, and gradients come back in the same layout.

    The bound and the gradients are those of the other layout, but for rounding.
    """
    results = []
    for last in (False, True):
        torch.manual_seed(0)
        recipe = build_recipe(name, spec_of([1, 28, 28], levels=2), scale=0.5)
        task = Task(scrambled(recipe.model), ELBO())
        Plan(channels_last=last).apply(task)
        x = Batch(torch.bernoulli(torch.full((4, 1, 28, 28), 0.3), generator=torch.Generator().manual_seed(1)).to(torch.uint8))
        bound = bound_at_the_means(task.model, x)
        layouts: dict[str, list[bool]] = {"forward": [], "backward": []}

        def saw(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor, layouts: dict[str, list[bool]] = layouts) -> None:
            layouts["forward"] += [is_last(inputs[0]), is_last(output)]
            output.register_hook(lambda g: layouts["backward"].append(is_last(g)))

        blocks = [m for m in task.modules() if isinstance(m, ResidualBlock)]
        assert len(blocks) >= 4
        for block in blocks:
            block.conv1.register_forward_hook(saw)
            block.conv2.register_forward_hook(saw)
        torch.manual_seed(2)
        task(x).loss.backward()
        assert layouts["forward"] == [last] * 4 * len(blocks)
        if not last:
            assert not any(layouts["backward"])
        results.append((bound.detach(), [p.grad for p in task.parameters() if p.grad is not None], layouts["backward"]))
    (one, gradients, _), (two, others, backward) = results
    assert sum(backward) >= len(backward) - 2
    assert torch.allclose(one, two, rtol=1e-5)
    for a, b in zip(gradients, others, strict=True):
        assert torch.allclose(a, b, rtol=1e-3, atol=1e-4 * float(a.abs().max()) + 1e-6)


@pytest.mark.parametrize("channels", [1, 2])
def test_a_transposed_convolution_to_one_channel(channels: int) -> None:
    """Against PyTorch's own; its gradient and the gradient of that against finite differences."""
    layer = Doubling(3, channels).double()
    x = torch.randn(2, 3, 2, 3, dtype=torch.double, requires_grad=True)
    plain = nn.functional.conv_transpose2d(x, layer.weight, layer.bias, stride=2, padding=1)
    torch.testing.assert_close(layer(x), plain)
    inputs = (x, layer.weight, layer.bias)

    def run(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return torch.func.functional_call(layer, {"weight": weight, "bias": bias}, (x,))

    assert torch.autograd.gradcheck(run, inputs) and torch.autograd.gradgradcheck(run, inputs)


def test_a_transposed_convolution_to_one_channel_in_half_precision() -> None:
    layer, x = Doubling(16, 1), torch.randn(4, 16, 5, 6, requires_grad=True)
    plain = layer(x)
    plain.square().sum().backward()
    wanted, layer.weight.grad = layer.weight.grad, None
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = layer(x.to(torch.bfloat16))
    rounded.square().sum().backward()
    assert rounded.dtype == layer.weight.grad.dtype == torch.float32
    torch.testing.assert_close(rounded, plain, rtol=0.02, atol=0.02)
    torch.testing.assert_close(layer.weight.grad, wanted, rtol=0.05, atol=0.05 * wanted.abs().max().item())
