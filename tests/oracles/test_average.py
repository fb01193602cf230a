"""The averaged model: what of it is averaged, and by how much, against a recurrence by hand and the features of the averaged network itself."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from tests.contracts.examples import raw, spec_of, vae
from vaekit.model import VAE
from vaekit.networks.spectral import SpectralDecoder
from vaekit.output import Batch
from vaekit.recipes import build_recipe
from vaekit.training.checkpoint import Checkpoint
from vaekit.training.ema import Average

SHAPE = [1, 8, 8]


def tutorial() -> tuple[VAE, nn.Conv2d, nn.BatchNorm2d]:
    """The network with batch norm, its first convolution and the norm behind it, which keeps the statistics of the last batch alone."""
    model = build_recipe("tutorial", spec_of(SHAPE), scale=0.25).model
    first = next(m for m in model.encoder.modules() if isinstance(m, nn.Conv2d))
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0
    return model, first, norms[0]


def test_running_statistics_follow_the_recurrence_of_the_weights() -> None:
    """decay is (1 + n) / (10 + n), up to the 0.2 that was asked for: 2/11 and then 0.2. The count of batches is copied."""
    model, first, norm = tutorial()
    with torch.no_grad():
        for tensor in (first.weight, norm.running_mean, norm.running_var):
            tensor.fill_(1.0)
        average = Average(model, 0.2)
        for value in (12.0, 2.0):
            for tensor in (first.weight, norm.running_mean, norm.running_var):
                tensor.fill_(value)
            norm.num_batches_tracked += 1
            average.update()
    after_one = 1 + 9 / 11 * 11
    expected = after_one + 0.8 * (2.0 - after_one)
    found = average.evaluated()
    mine = next(m for m in found.modules() if isinstance(m, nn.BatchNorm2d))
    weight = next(m for m in found.modules() if isinstance(m, nn.Conv2d)).weight
    for tensor in (weight, mine.running_mean, mine.running_var):
        assert torch.allclose(tensor, torch.full_like(tensor, expected))
    assert mine.num_batches_tracked == 2


def test_the_mean_is_that_of_the_averaged_networks_features() -> None:
    """A convolution is linear in its weights, so that the average of the means is the mean at the averaged weights, exactly."""
    torch.manual_seed(0)
    model, first, norm = tutorial()
    batch = Batch(raw(32, SHAPE))

    def step() -> None:
        with torch.no_grad():
            first.weight += 0.3 * torch.randn_like(first.weight)
            model.train()(batch)

    step()
    average = Average(model, 0.9)
    for _ in range(20):
        step()
        average.update()
    found = average.evaluated()
    mine = next(m for m in found.modules() if isinstance(m, nn.BatchNorm2d))
    convolution = next(m for m in found.modules() if isinstance(m, nn.Conv2d))
    features = convolution(model.likelihood.input(batch.x))
    assert torch.allclose(mine.running_mean, features.mean((0, 2, 3)), atol=1e-5)
    assert not torch.allclose(norm.running_mean, features.mean((0, 2, 3)), atol=1e-2), "copied, it is that of another network"


def test_other_buffers_are_copied() -> None:
    """A codebook that is a moving average, and the vectors of a spectral norm, whose norm is 1."""
    torch.manual_seed(0)
    quantized = build_recipe("vq-ema", spec_of([1, 16, 16]), scale=0.25).model
    spectral = vae("mlp")
    spectral.decoder = SpectralDecoder(spectral.decoder)
    for model in (quantized, spectral):
        average = Average(model, 0.9)
        for _ in range(3):
            with torch.no_grad():
                for buffer in model.buffers():
                    if buffer.is_floating_point():
                        buffer += torch.randn_like(buffer)
            average.update()
        mine, theirs = dict(average.evaluated().named_buffers()), dict(model.named_buffers())
        assert mine and all(torch.equal(mine[name], theirs[name]) for name in theirs)


def test_the_checkpoint_of_a_version_that_copied_them_goes_on(tmp_path: Path) -> None:
    """The names are the same, and the average starts from the copies."""
    model, _, norm = tutorial()
    norm.running_mean.fill_(5.0)
    checkpoint, copied = Checkpoint(tmp_path), Average(model, 0.9).model
    checkpoint.save({"average": copied}, {}, {"averaged": 1000})
    again, _, other = tutorial()
    average = Average(again, 0.9)
    checkpoint.load({"average": average.model}, {})
    average.steps = 1000
    other.running_mean.fill_(6.0)
    average.update()
    mine = next(m for m in average.evaluated().modules() if isinstance(m, nn.BatchNorm2d)).running_mean
    assert isinstance(mine, Tensor) and mine.tolist() == pytest.approx([5.1] * len(mine))
