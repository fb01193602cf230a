"""Distances between codes and draws of the prior: MMD as the textbook's sums and in closed form, sliced Wasserstein against scipy."""

import math

import pytest
import torch
from scipy.stats import wasserstein_distance
from torch import Tensor

from tests.oracles.codes import of_codes
from vaekit.penalties import MMD, SlicedWasserstein
from vaekit.penalties.mmd import KERNELS


def test_mmd_is_the_textbook_double_sum() -> None:
    a, b = torch.randn(6, 3).double(), torch.randn(9, 3).double()
    for kernel in KERNELS:

        def k(u: Tensor, v: Tensor, kernel: str = kernel) -> float:
            d2 = ((u - v) ** 2).sum().item()
            widths = [2 * 3 * 1.5**2 * s for s in (0.5, 2.0)]
            return sum(math.exp(-d2 / c) if kernel == "rbf" else c / (c + d2) for c in widths) / 2

        within = [sum(k(s[i], s[j]) for i in range(len(s)) for j in range(len(s)) if i != j) / (len(s) * (len(s) - 1)) for s in (a, b)]
        across = sum(k(u, v) for u in a for v in b) / (len(a) * len(b))
        assert MMD(kernel, 1.5, (0.5, 2.0)).between(a, b).item() == pytest.approx(sum(within) - 2 * across, abs=1e-6)


def test_rbf_mmd_of_two_gaussians_in_closed_form() -> None:
    """E k of N(0, I) and N(mu, I) for k = exp(-d^2 / C): (C / (C + 4))^(D/2) exp(-|mu|^2 / (C + 4))."""
    d, mu = 2, torch.tensor([1.0, -0.5])
    c = 2 * d
    factor = (c / (c + 4)) ** (d / 2)
    exact = 2 * factor * (1 - math.exp(-(mu @ mu).item() / (c + 4)))
    draws = torch.stack([MMD("rbf", scales=(1.0,)).between(torch.randn(64, d) + mu, torch.randn(64, d)) for _ in range(400)])
    assert abs(draws.mean() - exact) < 5 * draws.std() / math.sqrt(400)


@pytest.mark.parametrize("kernel", ["rbf", "imq"])
def test_weights_divided_by_b_times_b_minus_1_on_top_of_means(kernel: str) -> None:
    """The expectation does not depend on the batch size, and is 0 for codes that follow the prior."""
    penalty = MMD(kernel)
    for shift in (0.0, 1.0):
        means, errors = [], []
        for size in (2, 8, 64):
            draws = torch.stack(
                [penalty(of_codes(torch.zeros(size, 3), torch.ones(size, 3), torch.randn(size, 3) + shift, torch.randn(size, 3))) for _ in range(250)]
            )
            means.append(draws.mean().item())
            errors.append(draws.std().item() / math.sqrt(250))
        for i in (0, 1):
            assert abs(means[i] - means[2]) < 4.5 * math.hypot(errors[i], errors[2]), (means, errors)
        assert (abs(means[2]) < 4.5 * errors[2]) == (shift == 0.0)


def test_sliced_wasserstein_is_the_sorted_distance() -> None:
    """In one dimension there is one direction: scipy's W1 where one sample is the other shifted, and the quantiles' squared distance always."""
    a, b = torch.randn(200, 1), torch.randn(200, 1) * 2 + 1
    value = SlicedWasserstein(3)(of_codes(a, torch.ones_like(a), a, b)).item()
    assert value == pytest.approx(((a.sort(0).values - b.sort(0).values) ** 2).mean().item(), rel=1e-5)
    shifted = SlicedWasserstein(3)(of_codes(a, torch.ones_like(a), a, a + 2)).item()
    assert math.sqrt(shifted) == pytest.approx(wasserstein_distance(a[:, 0].numpy(), a[:, 0].numpy() + 2), rel=1e-4)
    z = torch.randn(300, 5)
    v = torch.tensor([3.0, 0, 0, 0, 0])
    draws = torch.stack([SlicedWasserstein(50)(of_codes(z, torch.ones_like(z), z, z[torch.randperm(300)] + v)) for _ in range(50)])
    assert abs(draws.mean() - 9 / 5) < 5 * draws.std() / math.sqrt(50)
