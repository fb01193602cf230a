"""Measures of samples against closed forms, hand-computed cases, plain loops and scipy."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from vaekit.errors import UserError
from vaekit.evaluation.samples import (
    classifier_test,
    diversity,
    frechet_distance,
    frechet_error,
    kernel_distance,
    learnt,
    memorized,
    nearest,
    neighbours,
    sharpness,
    sliced_wasserstein,
    train_on_synthetic,
)
from vaekit.evaluation.samples.frechet import gaussian_distance
from vaekit.evaluation.samples.kernel import squared_mmd
from vaekit.evaluation.samples.pyramid import along, expand, levels, patches, pyramid, reduce
from vaekit.evaluation.samples.two_sample import chance


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# -- Frechet distance


def test_frechet_is_that_of_scipy() -> None:
    """tr (S T)^(1/2) by scipy's Schur method, for covariances that do not commute."""
    from scipy.linalg import sqrtm

    x, y = normal(50, 6) @ normal(6, 6, seed=1), 0.3 + normal(70, 6, seed=2) @ normal(6, 6, seed=3)
    m, n = x.mean(0).numpy(), y.mean(0).numpy()
    s, t = np.cov(x.numpy().T), np.cov(y.numpy().T)
    expected = ((m - n) ** 2).sum() + np.trace(s + t - 2 * sqrtm(s @ t).real)
    assert frechet_distance(x, y) == pytest.approx(expected, rel=1e-9)
    assert frechet_distance(y, x) == pytest.approx(expected, rel=1e-9)


def test_frechet_of_gaussians() -> None:
    """Diagonal covariances commute: |m - n|^2 + sum (s - t)^2 of the standard deviations; also where one of them is 0."""
    m, n, s, t = normal(4), normal(4, seed=1), torch.tensor([1.0, 2.0, 0.0, 3.0]).double(), torch.tensor([0.5, 2.0, 1.0, 0.0]).double()
    expected = (m - n).square().sum() + (s - t).square().sum()
    assert gaussian_distance(m, s.square().diag(), n, t.square().diag()) == pytest.approx(expected.item(), rel=1e-12)
    rotation = torch.linalg.qr(normal(4, 4, seed=5))[0]
    turned = [rotation @ v.square().diag() @ rotation.T for v in (s, t)]
    assert gaussian_distance(rotation @ m, turned[0], rotation @ n, turned[1]) == pytest.approx(expected.item(), rel=1e-6)


def test_frechet_of_one_set() -> None:
    """0 for a set and itself, |v|^2 for a shift by v; fewer images than dimensions are no trouble."""
    x, v = normal(5, 9), normal(9, seed=4)
    assert frechet_distance(x, x) == pytest.approx(0, abs=1e-6)
    assert frechet_distance(x, x + v) == pytest.approx(v.square().sum().item(), rel=1e-6)
    with pytest.raises(UserError, match="two in each"):
        frechet_distance(x[:1], x)
    with pytest.raises(UserError, match="not finite"):
        frechet_distance(x, x * math.nan)


def test_frechet_error_is_its_spread() -> None:
    """The bootstrap's error against the deviation over fresh sets, where the distance is far above its bias."""
    sets = [(normal(400, 3, seed=2 * i), 2 + normal(400, 3, seed=2 * i + 1)) for i in range(40)]
    spread = np.std([frechet_distance(x, y) for x, y in sets], ddof=1)
    error = np.mean([frechet_error(x, y, seed=i, resamples=20) for i, (x, y) in enumerate(sets[:10])])
    assert error == pytest.approx(spread, rel=0.3)
    assert frechet_error(*sets[0], seed=1) == frechet_error(*sets[0], seed=1) != frechet_error(*sets[0], seed=2)


# -- kernel distance


def test_squared_mmd_by_hand() -> None:
    """One dimension, x = (0, 1), y = (1, 2), k = (ab + 1)^3: k(0, 1) + k(1, 2) - (k(0,1) + k(0,2) + k(1,1) + k(1,2)) / 2 = 1 + 27 - 37 / 2."""
    x, y = torch.tensor([[0.0], [1.0]]), torch.tensor([[1.0], [2.0]])
    assert squared_mmd(x, y) == pytest.approx(1 + 27 - (1 + 1 + 8 + 27) / 2)


def test_squared_mmd_is_that_of_a_loop() -> None:
    x, y = normal(7, 3), normal(5, 3, seed=1)
    k = lambda a, b: float((a @ b / 3 + 1) ** 3)  # noqa: E731
    xx = sum(k(x[i], x[j]) for i in range(7) for j in range(7) if i != j) / 42
    yy = sum(k(y[i], y[j]) for i in range(5) for j in range(5) if i != j) / 20
    xy = sum(k(a, b) for a in x for b in y) / 35
    assert squared_mmd(x, y) == pytest.approx(xx + yy - 2 * xy, rel=1e-12)


def test_kernel_distance_is_unbiased() -> None:
    """Near 0 within its error for two sets of one kind, whatever their size; far from it for others."""
    for n in (100, 1000):
        scores = [value / error for value, error in (kernel_distance(normal(n, 4, seed=2 * i), normal(n, 4, seed=2 * i + 1)) for i in range(30))]
        assert abs(np.mean(scores)) < 0.6 and np.std(scores) < 2.0
    value, error = kernel_distance(normal(1000, 4), 1.5 * normal(1000, 4, seed=1))
    assert value > 5 * error > 0
    blocks = [squared_mmd(normal(40, 2)[i : i + 4], normal(40, 2, seed=1)[i : i + 4]) for i in range(0, 40, 4)]
    value, error = kernel_distance(normal(40, 2), normal(40, 2, seed=1))
    assert value == pytest.approx(np.mean(blocks)) and error == pytest.approx(np.std(blocks, ddof=1) / math.sqrt(10))
    with pytest.raises(UserError, match="at least 20 images"):
        kernel_distance(normal(19, 2), normal(19, 2))


# -- precision, recall, density, coverage


def test_neighbours_by_hand() -> None:
    """On a line with k = 1: real 0, 1, 10 with the radii 1, 1, 9; samples 0.5, 1.6, 100 with the radii 1.1, 1.1, 98.4."""
    real, samples = torch.tensor([[0.0], [1.0], [10.0]]), torch.tensor([[0.5], [1.6], [100.0]])
    found = neighbours(real, samples, k=1)
    assert found.precision == pytest.approx(2 / 3)
    assert found.density == pytest.approx((2 + 2 + 0) / 3)  # 0.5 lies in the balls of 0 and 1, and 1.6 in those of 1 and 10
    assert found.recall == pytest.approx(3 / 3)  # 10 lies in the wide ball of 100: what recall is known for
    assert found.coverage == pytest.approx(3 / 3)
    assert neighbours(real, samples[[0, 0, 0]], k=1).recall == 0.0


@pytest.mark.parametrize("chunk", [7, 1000])
def test_neighbours_are_those_of_a_loop(chunk: int) -> None:
    real, samples, k = normal(40, 3), 0.7 * normal(30, 3, seed=1) + 0.3, 4
    a, b = real.numpy(), samples.numpy()
    reach = lambda points: [sorted(np.linalg.norm(p - q) for q in points)[k] for p in points]  # noqa: E731 (the first one is itself)
    around_a, around_b = reach(a), reach(b)
    inside = np.array([[np.linalg.norm(q - p) <= r for p, r in zip(a, around_a, strict=True)] for q in b])
    back = np.array([[np.linalg.norm(q - p) <= r for q, r in zip(b, around_b, strict=True)] for p in a])
    found = neighbours(real, samples, k, chunk)
    assert found.precision == pytest.approx(inside.any(1).mean())
    assert found.recall == pytest.approx(back.any(1).mean())
    assert found.density == pytest.approx(inside.sum() / (k * 30))
    assert found.coverage == pytest.approx(inside.any(0).mean())


def test_dropped_modes_lower_coverage_alone() -> None:
    """Samples of one of two modes are all among the data, and cover half of it."""
    centres = torch.tensor([0.0, 50.0]).repeat_interleave(200).unsqueeze(1)
    real, samples = normal(400, 2) + centres, normal(400, 2, seed=1)
    found = neighbours(real, samples)
    assert found.precision > 0.9 and found.coverage < 0.55 and found.recall < 0.55
    whole = neighbours(real, normal(400, 2, seed=2) + centres)
    assert whole.coverage == pytest.approx(1 - 1 / 2**5, abs=0.03)  # 1 - 1 / 2^k for two large sets of one kind (Naeem et al., Eq. 9)
    assert whole.density == pytest.approx(1.0, abs=0.1)


# -- pyramids


def test_pyramid_adds_up() -> None:
    for height, width, count in ((28, 28, 3), (33, 20, 2), (8, 8, 1), (5, 9, 1)):
        x = normal(2, 3, height, width)
        parts = pyramid(x)
        assert len(parts) == count
        whole = parts[-1]
        for part in parts[-2::-1]:
            whole = part + expand(whole, part.shape[-2], part.shape[-1])
        assert torch.allclose(whole, x, atol=1e-12)


def test_pyramid_of_flat_and_fine_images() -> None:
    """A constant image has only the last level; a checkerboard, the highest frequency, only the first."""
    flat = pyramid(torch.full((1, 1, 28, 28), 0.3, dtype=torch.float64))
    assert all(float(level.abs().max()) < 1e-12 for level in flat[:-1]) and torch.allclose(flat[-1], torch.tensor(0.3).double())
    checkers = torch.tensor([[1.0, -1.0], [-1.0, 1.0]]).double().repeat(14, 14).view(1, 1, 28, 28)
    assert float(reduce(checkers).abs().max()) < 1e-12
    assert torch.allclose(pyramid(checkers)[0], checkers)


def test_along_is_that_of_scipy() -> None:
    from scipy.stats import wasserstein_distance

    x, y, directions = normal(60, 5), 1 + 2 * normal(60, 5, seed=1), normal(3, 5, seed=2)
    expected = [wasserstein_distance((x @ d).numpy(), (y @ d).numpy()) for d in directions]
    assert np.allclose(along(x, y, directions).numpy(), expected)
    v = normal(5, seed=3)
    assert torch.allclose(along(x, x + v, directions), (directions @ v).abs())


def test_patches_are_of_the_image() -> None:
    x = torch.arange(2 * 2 * 9 * 8).view(2, 2, 9, 8).float()
    found = patches(x, 5, torch.Generator().manual_seed(0)).view(2, 5, 2, 7, 7)
    starts = found[:, :, 0, 0, 0]
    for i in range(2):
        for j in range(5):
            top, left = divmod(int(starts[i, j]) - i * 144, 8)
            assert torch.equal(found[i, j], x[i, :, top : top + 7, left : left + 7])
    assert len(starts.unique()) > 2


def test_levels_of_parts_are_those_of_the_whole() -> None:
    """More images than pass at once: mean and deviation of each channel of each level are those of all."""
    x = normal(620, 2, 16, 14).float() * 3 + 1
    found = levels(x, torch.Generator().manual_seed(0))
    for level, whole in zip(found, pyramid(x), strict=True):
        assert len(level.patches) == 620
        assert torch.allclose(level.mean, whole.mean((0, 2, 3)), atol=1e-5)
        assert torch.allclose(level.std, whole.std((0, 2, 3)), rtol=1e-5)


def test_sliced_wasserstein_sees_blur() -> None:
    x, y = normal(200, 1, 28, 28).float(), normal(200, 1, 28, 28, seed=1).float()
    blurred = torch.nn.functional.avg_pool2d(y, 3, 1, 1)
    (same, _), (other, error) = sliced_wasserstein(x, y, resamples=2), sliced_wasserstein(x, blurred)
    assert 0 < same < 0.25 * other
    assert 0 < error < 0.2 * other
    assert sliced_wasserstein(x, y, seed=1, resamples=2) == sliced_wasserstein(x, y, seed=1, resamples=2) != sliced_wasserstein(x, y, resamples=2)
    # A lack of contrast is a distance as well: half the contrast, half a deviation of each value's mean size, on every level alike.
    assert sliced_wasserstein(x, 0.5 * x, resamples=2)[0] == pytest.approx(0.5 * math.sqrt(2 / math.pi), rel=0.1)
    with pytest.raises(UserError, match="one shape"):
        sliced_wasserstein(x, y[:100])


# -- appearance, copies, tests


def test_sharpness_by_hand() -> None:
    """A ramp has none; of a single bright pixel the 3 x 3 inner values of the Laplacian are -4, four times 1 and four times 0."""
    ramp = torch.arange(25.0).view(1, 1, 5, 5)
    assert sharpness(ramp) == pytest.approx(0, abs=1e-12)
    dot = torch.zeros(1, 1, 5, 5)
    dot[0, 0, 2, 2] = 1.0
    assert sharpness(dot) == pytest.approx(20 / 9)
    assert sharpness(torch.cat([ramp, 3 * dot])) == pytest.approx(9 * 20 / 9 / 2)
    assert sharpness(normal(50, 2, 32, 32).float()) == pytest.approx(20, rel=0.03)  # 16 + 4 of white noise
    with pytest.raises(UserError, match="3 x 3"):
        sharpness(torch.zeros(1, 1, 2, 5))


def test_diversity_is_the_mean_distance() -> None:
    from scipy.spatial.distance import pdist

    x = normal(1100, 3)
    assert diversity(x) == pytest.approx(pdist(x.numpy()).mean(), rel=1e-9)
    assert diversity(x[:1].repeat(5, 1)) == 0.0


def test_nearest_is_that_of_a_loop() -> None:
    x, training = normal(30, 4), normal(50, 4, seed=1)
    training[17] = x[3]
    distances = np.linalg.norm(x.numpy()[:, None] - training.numpy()[None], axis=2)
    found = nearest(x, training.split(20))
    assert np.allclose(found.distance.numpy(), distances.min(1), atol=1e-6) and np.array_equal(found.place.numpy(), distances.argmin(1))
    assert found.place[3] == 17
    with pytest.raises(UserError, match="no training images"):
        nearest(x, [])


def test_memorized_share() -> None:
    held_out = torch.arange(1001.0).double()
    assert memorized(held_out, held_out) == pytest.approx(10 / 1001)  # those below the 1 % quantile, which is 10
    assert memorized(torch.tensor([0.0, 9.0, 10.5, 500.0]).double(), held_out) == 0.5


def test_copies_are_found() -> None:
    """A third of the samples are training images with a little noise."""
    training, held_out = normal(500, 5), normal(400, 5, seed=1)
    samples = torch.cat([training[:100] + 0.001 * normal(100, 5, seed=2), normal(200, 5, seed=3)])
    share = memorized(nearest(samples, [training]).distance, nearest(held_out, [training]).distance)
    assert share == pytest.approx(1 / 3, abs=0.03)


def test_chance_is_fishers() -> None:
    """The tea of Fisher: 8 cups, 4 called, all right: 1 / 70; three or more right: 17 / 70."""
    assert chance(4, 4, 4) == pytest.approx(1 / 70) and chance(3, 4, 4) == pytest.approx(17 / 70)


def test_classifier_test_is_calibrated() -> None:
    """p-values of sets of one kind are not small more often than they should be; those of another kind are, also where only the shape differs."""
    values = [classifier_test(normal(100, 2, seed=2 * i), normal(100, 2, seed=2 * i + 1), seed=i).p_value for i in range(12)]
    assert sum(p < 0.1 for p in values) <= 5 and max(values) > 0.3
    ring = normal(400, 2, seed=91)
    ring = math.sqrt(2) * ring / ring.norm(dim=1, keepdim=True)  # the mean and the covariance of the normal
    found = classifier_test(ring, normal(400, 2, seed=92))
    assert found.accuracy > 0.8 and found.p_value < 1e-6 and found.tested == 400
    with pytest.raises(UserError, match="at least 20"):
        classifier_test(ring[:10], ring[:10])


def test_train_on_synthetic_needs_right_labels() -> None:
    """Two classes, bright above or below: samples that keep them teach them, samples of random classes do not."""
    labels = torch.arange(400) % 2
    images = 0.1 * torch.rand(400, 1, 6, 6)
    images[labels == 0, :, :3] += 0.5
    images[labels == 1, :, 3:] += 0.5
    assert train_on_synthetic(images[:200], labels[:200], images[200:], labels[200:]) == 1.0
    wrong = torch.randint(2, (200,), generator=torch.Generator().manual_seed(3))
    assert train_on_synthetic(images[:200], wrong, images[200:], labels[200:]) < 0.8
    told = learnt(images[:200], labels[:200])
    assert told(images[200:], labels[200:]) == 1.0 and told(images[200:], 1 - labels[200:]) == 0.0, "images that are not what they were told to be"
    half = labels[:200].clone()
    half[100:] = -1
    assert train_on_synthetic(images[:200], half, images[200:], labels[200:]) == 1.0
    with pytest.raises(UserError, match="two classes"):
        train_on_synthetic(images[:200], torch.zeros(200, dtype=torch.long), images[200:], labels[200:])
