"""Penalties of what the eye sees: MS-SSIM against torchmetrics, and distances between features."""

import copy
import sys
import types

import pytest
import torch
from torch import nn
from torchmetrics.functional.image import multiscale_structural_similarity_index_measure, structural_similarity_index_measure

from tests.contracts.examples import SHAPE, batch, scrambled, vae
from vaekit.errors import UserError
from vaekit.objectives import ELBO
from vaekit.output import Batch
from vaekit.penalties import MSSSIM, DecoderGradient, Penalty, Perceptual
from vaekit.penalties.ms_ssim import EXPONENTS, ms_ssim, scales_for
from vaekit.training.task import Task

# ---- MS-SSIM


def test_ms_ssim_is_that_of_torchmetrics_on_a_large_image() -> None:
    x = torch.rand(3, 2, 192, 178)
    y = (x + 0.2 * torch.randn_like(x)).clamp(0, 1)
    theirs = multiscale_structural_similarity_index_measure(y, x, data_range=1.0, reduction="none")
    assert scales_for(192, 178) == 5
    assert torch.allclose(ms_ssim(y, x), theirs, atol=1e-5)


def test_product_over_scales_with_the_luminance_only_at_the_last() -> None:
    """A brighter image has a lower luminance term and the same contrast and structure: it counts once, at the last scale, with its exponent."""
    x = torch.rand(2, 1, 30, 28) * 0.5
    y = x + 0.2
    value, scales = ms_ssim(y, x), scales_for(30, 28)
    assert scales == 3
    small_x, small_y = (nn.functional.avg_pool2d(v, 4) for v in (x, y))
    last = structural_similarity_index_measure(small_y, small_x, sigma=[0.9, 0.9], data_range=1.0, reduction="none")
    assert torch.allclose(value, last ** (EXPONENTS[2] / sum(EXPONENTS[:3])), atol=2e-3)


@pytest.mark.parametrize("shape", [[1, 28, 28], [2, 9, 11], [3, 17, 30], [5, 1, 3], [1, 64, 7]], ids=str)
def test_ms_ssim_of_any_size_is_per_image(shape: list[int]) -> None:
    x = torch.rand(4, *shape)
    y = torch.rand(4, *shape)
    value = ms_ssim(y, x)
    assert torch.allclose(ms_ssim(x, x), torch.ones(4), atol=1e-5)
    assert torch.allclose(value, torch.cat([ms_ssim(y[i : i + 1], x[i : i + 1]) for i in range(4)]), atol=1e-5), "not a mean over the batch"
    y = (1 - x).requires_grad_()
    (gradient,) = torch.autograd.grad(ms_ssim(y, x).sum(), y)
    assert torch.isfinite(gradient).all(), "a similarity below 0 has a power without gradient"


# ---- features


@pytest.mark.parametrize("penalty", [MSSSIM(256), Perceptual(256), DecoderGradient(256)], ids=lambda p: type(p).__name__)
def test_the_perceptual_loss_gives_the_decoder_a_gradient(penalty: Penalty) -> None:
    model = scrambled(vae("mlp"))
    penalty(model(batch(4))).mean().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for n, p in model.decoder.named_parameters() if "weight" in n)


def test_a_network_of_ones_own_passes_the_gradient_and_stays_as_it_is(tmp_path) -> None:  # type: ignore[no-untyped-def]
    net = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.Tanh()).eval()
    path = tmp_path / "net.pt"
    torch.jit.save(torch.jit.trace(net, torch.rand(1, *SHAPE)), path)
    penalty = Perceptual(256, features=str(path))
    model = scrambled(vae("mlp"))
    task = Task(model, ELBO(), (penalty,)).train()
    before = {k: v.clone() for k, v in penalty._distance[0].state_dict().items()}
    x = batch(4)
    out = model(x)
    penalty(out).mean().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for n, p in model.decoder.named_parameters() if "weight" in n)
    assert all(torch.equal(v, before[k]) for k, v in penalty._distance[0].state_dict().items()), "batch norm is frozen too"
    assert not any("net" in k for k in task.state_dict()) and not any(p is q for p in task.parameters() for q in penalty._distance[0].parameters())
    expected = 0.5 * (net(out.px.mean / 255) - net(x.x / 255)).square().sum((1, 2, 3))
    assert torch.allclose(penalty(out), expected, rtol=1e-4)
    copied = copy.deepcopy(task)
    assert torch.isfinite(copied(x).loss)


def test_features_that_are_not_there_are_refused(tmp_path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setitem(sys.modules, "lpips", None)
    with pytest.raises(UserError, match="no file"):
        Perceptual(256, features=str(tmp_path / "none.pt"))
    (tmp_path / "text.pt").write_text("text")
    with pytest.raises(UserError, match="TorchScript"):
        Perceptual(256, features=str(tmp_path / "text.pt"))
    with pytest.raises(UserError, match=r"pip install 'vaekit\[perceptual\]'"):
        Perceptual(256, features="lpips")


def test_lpips_sees_both_images_in_its_own_range(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a network in its place that takes what lpips' takes, RGB on [-1, 1], and gives what it gives, [N, 1, 1, 1]."""

    class Halves(torch.nn.Module):
        def __init__(self, net: str, verbose: bool) -> None:
            super().__init__()
            self.scale = torch.nn.Parameter(torch.tensor(0.5))

        def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            assert x.shape[1:] == y.shape[1:] == (3, 8, 8) and -1 <= x.min() < -0.5 and x.max() <= 1
            return self.scale * (x - y).square().mean((1, 2, 3), keepdim=True)

    lpips = types.ModuleType("lpips")
    lpips.LPIPS = Halves  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "lpips", lpips)
    torch.manual_seed(0)
    penalty, model = Perceptual(256, features="lpips"), scrambled(vae("mlp", [1, 8, 8]))
    x = batch(3, [1, 8, 8])
    out = model(x)
    # 0.5 mean (2 (x - m) / 255)^2, times 64 values
    torch.testing.assert_close(penalty(out), 64 * 0.5 * (2 * (out.px.mean - x.x) / 255).square().mean((1, 2, 3)), rtol=1e-4, atol=1e-4)
    penalty(out).sum().backward()
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in model.decoder.parameters()), "it teaches the decoder"
    assert all(not p.requires_grad for p in penalty._distance[0].parameters()), "and learns nothing itself"
    with pytest.raises(UserError, match="these have 4 channels"):
        penalty._distance[0](torch.rand(1, 4, 8, 8), torch.rand(1, 4, 8, 8))


def test_laplacian_distance() -> None:
    """A sum over values: 0 for equal images, homogeneous, a constant counts by its last band alone; two images side by side count twice."""
    distance = Perceptual(256)._distance[0]
    x, y = torch.rand(3, 2, 16, 16), torch.rand(3, 2, 16, 16)
    assert distance(x, x).abs().max() == 0
    assert torch.allclose(distance(3 * x, 3 * y), 3 * distance(x, y), rtol=1e-4)
    assert torch.allclose(distance(x + 0.5, x), torch.tensor(0.5 * 2 * 16 * 16), rtol=1e-3), "4^j undoes the smaller number of values"
    assert torch.allclose(distance(torch.cat([x, x], 1), torch.cat([y, y], 1)), 2 * distance(x, y), rtol=1e-4)


def test_images_stand_in_network_units_and_what_is_missing_is_equal() -> None:
    x = batch(3)
    model = scrambled(vae("mlp"))
    out = model(x)
    penalty = Perceptual(256)
    assert torch.allclose(penalty.images(out), x.x / 255) and torch.allclose(penalty.means(out), out.px.mean / 255)
    none = model(Batch(x.x, mask=torch.zeros(x.x.shape, dtype=torch.bool)))
    assert penalty(none).abs().max() == 0 and MSSSIM(256)(none).abs().max() < 1e-5
    floats = Perceptual(None, [1.0, 2.0], [0.5, 4.0])
    assert torch.allclose(floats.units.to_unit(torch.full((1, 2, 1, 1), 3.0)).flatten(), torch.tensor([4.0, 0.25]))
    assert torch.allclose(floats.shown(torch.tensor([-3.0, 3.0]).view(2, 1, 1, 1)).flatten(), torch.tensor([0.0, 1.0]))
