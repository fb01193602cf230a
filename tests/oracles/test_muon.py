"""Muon: its matrices against the singular value decomposition, its steps against PyTorch's own."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from tests.contracts.examples import spec_of
from vaekit.errors import UserError
from vaekit.likelihoods.causal import MaskedConvolution
from vaekit.networks.blocks import GatedDense
from vaekit.recipes import build_recipe
from vaekit.training import Training
from vaekit.training.checkpoint import Checkpoint
from vaekit.training.muon import Muon, hidden_matrices, orthogonalized
from vaekit.training.optimizer import make_optimizer, set_rate

RATE, DECAY = 0.01, 0.1


def adam(*parameters: nn.Parameter) -> torch.optim.AdamW:
    return torch.optim.AdamW(parameters or [nn.Parameter(torch.zeros(1))], lr=RATE, betas=(0.9, 0.99), weight_decay=DECAY)


def gradients(shape: list[int], count: int = 4) -> list[Tensor]:
    """Some gradients, whose directions have different sizes."""
    torch.manual_seed(3)
    sizes = torch.logspace(0, -1.5, shape[-1])
    return [torch.randn(shape) * sizes for _ in range(count)]


@pytest.mark.parametrize("shape", [(24, 24), (24, 40), (40, 24), (16, 200), (200, 16)])
def test_directions_stay_and_their_sizes_become_alike(shape: tuple[int, int]) -> None:
    """U^T O V is diagonal, and each s of its diagonal what the polynomial makes of the matrix's own, five times over."""
    (m,) = gradients([2, *shape], 1)
    o = orthogonalized(m).double()
    u, s, v = torch.linalg.svd(m.double(), full_matrices=False)
    found = u.mT @ o @ v.mT
    expected = s / s.norm(dim=1, keepdim=True)
    for _ in range(5):
        expected = 3.4445 * expected - 4.7750 * expected**3 + 2.0315 * expected**5
    torch.testing.assert_close(found, torch.diag_embed(expected), atol=2e-4, rtol=0)
    large = s > 0.02 * s.norm(dim=1, keepdim=True)
    assert ((found.diagonal(dim1=1, dim2=2) > 0.6) & (found.diagonal(dim1=1, dim2=2) < 1.25))[large].all()


@pytest.mark.parametrize("shape", [(200, 16), (32, 192)])
def test_a_wide_matrix_keeps_its_small_directions_in_a_run_of_bf16(shape: tuple[int, int]) -> None:
    """Where the sizes of the directions are far apart, rounding to 16 bits, of the Gram matrix or of the last product, makes other directions of the
    small ones.
    """
    torch.manual_seed(3)
    s = torch.logspace(0, -4, min(shape), dtype=torch.float64)
    u, v = (torch.linalg.qr(torch.randn(1, side, min(shape), dtype=torch.float64))[0] for side in shape)
    expected = s / s.norm()
    for _ in range(5):
        expected = 3.4445 * expected - 4.7750 * expected**3 + 2.0315 * expected**5
    found = u.mT @ orthogonalized((u * s @ v.mT).float(), torch.bfloat16).double() @ v
    torch.testing.assert_close(found, torch.diag(expected)[None], atol=2e-3, rtol=0)


@pytest.mark.parametrize("shape", [(24, 24), (16, 200)])
def test_the_scale_is_that_of_the_step_and_nothing_stays_nothing(shape: tuple[int, int]) -> None:
    (m,) = gradients([2, *shape], 1)
    torch.testing.assert_close(orthogonalized(m, scale=0.3), 0.3 * orthogonalized(m))
    assert not orthogonalized(torch.zeros(1, *shape), scale=0.3).any()


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="this PyTorch has no Muon")
@pytest.mark.parametrize("shape", [(24, 24), (24, 40), (40, 24), (16, 200), (200, 16)])
def test_steps_are_those_of_pytorch(shape: tuple[int, int]) -> None:
    """PyTorch's takes bfloat16 for the polynomial, which leaves about a hundredth of a step."""
    torch.manual_seed(1)
    start = torch.randn(shape)
    ours, theirs = nn.Parameter(start.clone()), nn.Parameter(start.clone())
    one = Muon({ours: 1}, adam(), DECAY)
    two = torch.optim.Muon([theirs], lr=RATE, weight_decay=DECAY, adjust_lr_fn="match_rms_adamw")
    for g in gradients(list(shape)):
        ours.grad, theirs.grad = g.clone(), g.clone()
        one.step()
        two.step()
    moved = (theirs - start).norm()
    assert (ours - theirs).norm() < 0.02 * moved and moved > 0


def step(weight: Tensor, gradient: Tensor, count: int = 1) -> Tensor:
    """What a first step takes away from the weight."""
    w = nn.Parameter(weight.clone())
    w.grad = gradient.clone()
    Muon({w: count}, adam()).step()
    return weight - w.detach()


def test_a_kernel_is_the_matrix_of_its_outputs() -> None:
    (g,) = gradients([20, 16, 3, 3], 1)
    for layout in (torch.contiguous_format, torch.channels_last):
        moved = step(torch.zeros_like(g).to(memory_format=layout), g.to(memory_format=layout))
        torch.testing.assert_close(moved.reshape(20, -1), step(torch.zeros(20, 144), g.reshape(20, -1)))


def test_the_step_has_the_size_of_adams() -> None:
    """A root mean square of about 0.2 times the rate, whatever the size of the gradient, where all directions have the same size."""
    for scale in (1e-3, 1e3):
        moved = step(torch.zeros(32, 64), scale * torch.linalg.qr(torch.randn(64, 32))[0].mT)
        assert 0.1 * RATE < moved.square().mean().sqrt() < 0.25 * RATE


def test_a_gated_layer_is_two_matrices() -> None:
    gated = GatedDense(24, 20)
    assert hidden_matrices(gated) == {gated.linear.weight: 2}
    (g,) = gradients([40, 24], 1)
    halves = torch.cat([step(torch.zeros(20, 24), h) for h in g.split(20)])
    torch.testing.assert_close(step(torch.zeros(40, 24), g, count=2), halves)
    assert (step(torch.zeros(40, 24), g) - halves).abs().max() > 1e-4


def test_what_is_not_between_hidden_features_is_adams() -> None:
    """The convolution of the image's channels, the head that writes the pixels, places, biases; each parameter is in one group."""
    model = build_recipe("ladder", spec_of([1, 28, 28]), likelihood="causal").model
    names = {id(p): name for name, p in model.named_parameters()}
    hidden = {names[id(w)] for w in hidden_matrices(model)}
    assert {"encoder.dense.linear.weight", "latent.first.conv1.weight", "decoder.shortcut.1.linear.weight"} <= hidden
    others = {"encoder.stages.0.0.weight", "decoder.shortcut.2.weight", "likelihood.head.weight", "latent.top.prior.means", "decoder.bias"}
    assert others <= set(names.values()) - hidden
    optimizer = make_optimizer(model, Training(optimizer="muon", weight_decay=0.1))
    grouped = [id(p) for group in optimizer.param_groups for p in group["params"]]
    assert sorted(grouped) == sorted(names)
    assert {names[id(p)] for p in optimizer.param_groups[0]["params"]} == hidden
    kernels = make_optimizer(model, Training(optimizer="muon-kernels")).param_groups[0]["params"]
    assert {names[id(p)] for p in kernels} == {name for name in hidden if dict(model.named_parameters())[name].dim() == 4}


def test_the_rest_moves_as_with_adam_and_all_have_one_rate() -> None:
    w, b, alone = nn.Parameter(torch.zeros(16, 16)), nn.Parameter(torch.ones(5)), nn.Parameter(torch.ones(5))
    muon, plain = Muon({w: 1}, adam(b)), adam(alone)
    moved = []
    for i, g in enumerate(gradients([5])):
        set_rate(muon, RATE / (i + 1))
        set_rate(plain, RATE / (i + 1))
        b.grad, alone.grad, before = g.clone(), g.clone(), w.detach().clone()
        w.grad = torch.eye(16)
        muon.step()
        plain.step()
        assert torch.equal(b, alone)
        moved.append((before - w.detach()) * (i + 1))
    for later in moved[1:]:
        torch.testing.assert_close(later, moved[0])


def test_it_goes_on_from_a_checkpoint_with_the_same_bits(tmp_path: Path) -> None:
    def made() -> tuple[nn.Sequential, torch.optim.Optimizer]:
        torch.manual_seed(0)
        net = nn.Sequential(nn.Conv2d(16, 20, 3), nn.Conv2d(20, 1, 3)).to(memory_format=torch.channels_last)
        return net, make_optimizer(net, Training(optimizer="muon", weight_decay=0.1))

    def train(net: nn.Sequential, optimizer: torch.optim.Optimizer, seeds: range) -> None:
        for seed in seeds:
            torch.manual_seed(seed)
            net(torch.randn(3, 16, 8, 8)).square().sum().backward()
            optimizer.step()
            net.zero_grad()

    net, optimizer = made()
    train(net, optimizer, range(3))
    Checkpoint(tmp_path).save({"net": net}, {"model": optimizer}, {})
    train(net, optimizer, range(3, 6))
    again, other = made()
    Checkpoint(tmp_path).load({"net": again}, {"model": other})
    train(again, other, range(3, 6))
    for a, b in zip(net.parameters(), again.parameters(), strict=True):
        assert torch.equal(a, b)


def test_a_network_without_hidden_matrices_is_refused() -> None:
    with pytest.raises(UserError, match="--optimizer muon finds no matrices"):
        make_optimizer(nn.Linear(4, 4), Training(optimizer="muon"))
    with pytest.raises(UserError, match="--optimizer muon-kernels finds no matrices"):
        make_optimizer(build_recipe("mlp", spec_of([1, 28, 28])).model, Training(optimizer="muon-kernels"))


def test_masked_layers_and_narrow_halves_are_adams() -> None:
    flow = build_recipe("iaf", spec_of([1, 28, 28])).model
    masked = [m.weight for m in flow.modules() if isinstance(m, nn.Linear) and hasattr(m, "mask")]
    assert masked and not set(masked) & set(hidden_matrices(flow))
    assert hidden_matrices(GatedDense(24, 10)) == {}


def test_weights_that_are_computed_or_frozen_are_left_alone_and_there_may_be_nothing_else() -> None:
    normed = nn.utils.parametrizations.spectral_norm(nn.Conv2d(16, 16, 3, bias=False))
    frozen, plain = nn.Linear(16, 16, bias=False).requires_grad_(False), nn.Linear(16, 16, bias=False)
    assert hidden_matrices(nn.Sequential(normed, frozen, plain)) == {plain.weight: 1}
    optimizer = make_optimizer(plain, Training(optimizer="muon"))
    plain(torch.ones(1, 16)).sum().backward()
    before = plain.weight.detach().clone()
    optimizer.step()
    assert not torch.equal(plain.weight, before)


def test_masked_columns_of_a_kernel_stay_zero() -> None:
    """Whole columns of its matrix: their gradient is zero, and an orthogonal step keeps to the space of the others."""
    layer = MaskedConvolution(16, 1)
    assert hidden_matrices(layer) == {layer.conv.weight: 1}
    optimizer = make_optimizer(layer, Training(optimizer="muon", lr=0.1, weight_decay=0.1))
    x = torch.randn(2, 16, 5, 5, generator=torch.Generator().manual_seed(0))
    for _ in range(3):
        (layer(x) - x).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    assert (layer.conv.weight[:, :, 1, 2] == 0).all() and (layer.conv.weight[:, :, 0] != 0).all()
