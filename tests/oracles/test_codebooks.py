"""Vector quantization against brute force and finite differences: the loss, its gradients, moving averages, dead codes and k-means."""

import copy

import pytest
import torch
from scipy.cluster.vq import vq as scipy_vq
from torch import Tensor

from vaekit.latents.quantizers import EMAVectorQuantizer, VectorQuantizer
from vaekit.latents.quantizers.clusters import kmeans, nearest, reborn


def test_nearest_neighbours_by_brute_force() -> None:
    points, codebook = torch.randn(500, 6), torch.randn(40, 6)
    assert torch.equal(nearest(points, codebook), (points[:, None] - codebook).square().sum(2).argmin(1))
    assert (nearest(points, codebook).numpy() == scipy_vq(points.numpy(), codebook.numpy())[0]).all()


def _vq(beta: float = 0.25) -> tuple[VectorQuantizer, Tensor]:
    return VectorQuantizer(3, 8, beta=beta), torch.randn(4, 3, 2, 5, requires_grad=True)


def test_vq_loss_that_grows_with_the_batch() -> None:
    """A sum over the batch beside a mean makes the commitment 64 times heavier at 64 images (pythae)."""
    quantizer, h = _vq()
    expected = torch.stack([1.25 * (quantizer(h).z_q[i] - h[i]).square().sum() for i in range(4)])
    assert torch.allclose(quantizer(h).penalty, expected, rtol=1e-5)
    for copies in (1, 8, 64):
        assert torch.allclose(quantizer(h.repeat(copies, 1, 1, 1)).penalty.mean(), expected.mean(), rtol=1e-5)


def test_vq_loss_is_not_divided_by_dimensions() -> None:
    """An element mean shrinks with the map: twice the map is twice the loss (lucidrains, keras)."""
    quantizer, h = _vq()
    assert torch.allclose(quantizer(h.repeat(1, 1, 2, 1)).penalty, 2 * quantizer(h).penalty, rtol=1e-5)


@pytest.mark.parametrize("beta", [0.0, 0.25, 3.0])
def test_commitment_weight_on_the_wrong_term(beta: float) -> None:
    """beta weighs what pulls the encoder; the codebook's term has weight 1 (taming, diffusers `legacy`)."""
    quantizer, h = _vq(beta)
    made = quantizer(h)
    encoder, codebook = torch.autograd.grad(made.penalty.sum(), [h, quantizer.codebook])
    e = made.z_q.detach()
    assert torch.allclose(encoder, 2 * beta * (h - e), atol=1e-6)
    expected = torch.zeros(8, 3).index_add_(0, made.indices.flatten(), (2 * (e - h)).movedim(1, -1).reshape(-1, 3))
    assert torch.allclose(codebook, expected, atol=1e-5)


def test_the_gradients_of_the_penalty_by_finite_differences() -> None:
    """Each term with the other argument held: sg cannot be differenced, so beta = 0 gives the codebook's and the EMA variant the encoder's."""
    step, (quantizer, h) = 1e-2, _vq(0.0)
    ema = EMAVectorQuantizer(3, 8, beta=0.7)
    ema.codebook.copy_(quantizer.codebook)
    where = (quantizer(h).indices.flatten()[0].item(), 1)
    (codebook,) = torch.autograd.grad(quantizer(h).penalty.sum(), quantizer.codebook)
    (encoder,) = torch.autograd.grad(ema(h).penalty.sum(), h)
    index = quantizer(h).indices
    with torch.no_grad():
        values = []
        for sign in (1, -1):
            moved = quantizer.codebook.clone()
            moved[where] += sign * step
            e = torch.nn.functional.embedding(index[:, 0], moved).movedim(-1, 1)
            values.append(quantizer.penalty(h, e).sum())
        assert codebook[where].item() == pytest.approx(((values[0] - values[1]) / (2 * step)).item(), rel=1e-2, abs=1e-2)
        values = []
        for sign in (1, -1):
            moved = h.clone()
            moved[0, 1, 0, 0] += sign * step
            values.append(ema.penalty(moved, quantizer.lookup(index)).sum())
        assert encoder[0, 1, 0, 0].item() == pytest.approx(((values[0] - values[1]) / (2 * step)).item(), rel=1e-2, abs=1e-2)


def test_moving_averages_of_the_codebook() -> None:
    """The paper's N_k and m_k, kept by hand over several batches of different sizes."""
    quantizer = EMAVectorQuantizer(3, 5, decay=0.9, revive=0.0)
    n, m = quantizer.usage.clone(), quantizer.usage[:, None] * quantizer.codebook
    for images in (4, 7, 2):
        h = torch.randn(images, 3, 2, 2)
        made = quantizer(h)
        index, points = made.indices.flatten(), h.movedim(1, -1).reshape(-1, 3)
        n = 0.9 * n + 0.1 * torch.bincount(index, minlength=5) / images
        m = 0.9 * m + 0.1 * torch.zeros(5, 3).index_add_(0, index, points) / images
        quantizer.post_step(made.stats)
        assert torch.allclose(quantizer.usage, n, rtol=1e-5) and torch.allclose(quantizer.codebook, m / n[:, None], rtol=1e-4, atol=1e-5)


def test_moving_averages_find_the_clusters() -> None:
    truth = torch.tensor([[-3.0, 0.0], [3.0, 0.0], [0.0, 4.0]])
    quantizer = EMAVectorQuantizer(2, 3)
    for _ in range(600):
        h = (truth[torch.randint(3, (64,))] + 0.1 * torch.randn(64, 2)).view(64, 2)
        quantizer.post_step(quantizer(h).stats)
    assert torch.cdist(truth, quantizer.codebook).min(1).values.max() < 0.1


@pytest.mark.parametrize("kind", [VectorQuantizer, EMAVectorQuantizer])
def test_dead_codes_are_born_again_alike_on_all_processes(kind: type) -> None:
    """Codes that start out of reach are in use after a while; two copies do the same, whatever their generators."""
    quantizer = kind(2, 16, decay=0.9)
    with torch.no_grad():
        quantizer.codebook[1:] += 100.0
    other = copy.deepcopy(quantizer)
    h = torch.randn(256, 2)
    for _ in range(200):
        quantizer.post_step(quantizer(h).stats)
        torch.manual_seed(int(torch.randint(1000, ())))
        other.post_step(other(h).stats)
    assert torch.equal(quantizer.codebook, other.codebook)
    assert len(quantizer(h).indices.unique()) >= 14
    frozen = kind(2, 16, decay=0.9, revive=0.0)
    with torch.no_grad():
        frozen.codebook[1:] += 100.0
    for _ in range(200):
        frozen.post_step(frozen(h).stats)
    assert len(frozen(h).indices.unique()) == 1


def test_rebirth_keeps_usage_and_splits_the_worst() -> None:
    codebook, usage, errors = torch.zeros(4, 2), torch.tensor([5.0, 0.0, 3.0, 2.0]), torch.tensor([1.0, 0.0, 6.0, 0.5])
    codebook[2] = 10.0
    dead = reborn(codebook, usage, errors, 0.1, seed=0)
    assert dead.tolist() == [False, True, False, False]
    assert usage.tolist() == [5.0, 1.5, 1.5, 2.0] and errors.tolist() == [1.0, 3.0, 3.0, 0.5]
    assert 0 < (codebook[1] - 10.0).norm() < 6


def test_kmeans_finds_separate_clusters_and_repeats_itself() -> None:
    truth = 20 * torch.randn(10, 3)
    points = (truth[:, None] + 0.1 * torch.randn(10, 50, 3)).view(-1, 3)
    centres, t = kmeans(points, 10, steps=30)
    assert torch.equal(centres, kmeans(points, 10, steps=30)[0])
    assert t.errors.sum() / len(points) < 0.2 and t.counts.sum() == len(points)
    few, _ = kmeans(points[:3], 10)
    assert torch.isfinite(few).all()
