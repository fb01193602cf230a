"""Fidelity and variety apart: are samples among the data, and is the data among the samples?"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from vaekit.errors import UserError

K = 5
CHUNK = 1000


@dataclass(frozen=True)
class Coverage:
    """How two sets of features lie among each other."""

    precision: float
    """The share of samples within the k-neighbour ball of some real image."""
    recall: float
    """The share of real images within the k-neighbour ball of some sample: below the floor, modes are dropped."""
    density: float
    """The mean number of real balls that a sample lies in, over k; 1 is expected of real images, and more is possible."""
    coverage: float
    """The share of real images with a sample in their ball: dropped modes again, but not moved by samples that lie far out."""


def neighbours(real: Float[Tensor, "N F"], samples: Float[Tensor, "M F"], k: int = K, chunk: int = CHUNK) -> Coverage:
    """Precision, recall, density and coverage by balls that reach from each point to its k-th nearest neighbour in its own set.

    With B(r) the ball of r: precision = mean_s 1[s in some B(r)], recall = mean_r 1[r in some B(s)], density = sum_{s,r} 1[s in B(r)] / (k M),
    coverage = mean_r 1[some s in B(r)]. The balls are closed and the distance is Euclidean, in float64; memory grows with `chunk` times N or M.

    Raises `UserError` unless both sets have more than k points.

    References: Improved Precision and Recall Metric for Assessing Generative Models (Kynkaanniemi et al., 2019), Eq. 1 and 2,
    https://arxiv.org/abs/1904.06991; Reliable Fidelity and Diversity Metrics for Generative Models (Naeem et al., 2020), Eq. 3 and 5,
    https://arxiv.org/abs/2002.09797
    """
    if min(len(real), len(samples)) <= k:
        raise UserError(f"Precision and coverage with {k} neighbours need more than {k} images on each side.")
    centre = real.double().mean(0)  # a common shift costs nothing, and the distances lose fewer digits
    real, samples = real.double() - centre, samples.double() - centre
    around_real, around_samples = radii(real, k, chunk), radii(samples, k, chunk)
    inside = 0
    balls = 0
    covered, recalled = torch.zeros(len(real), dtype=torch.bool), torch.zeros(len(real), dtype=torch.bool)
    for part, radius in zip(samples.split(chunk), around_samples.split(chunk), strict=True):
        distance = squared_distances(part, real)
        within = distance <= around_real
        inside += int(within.any(1).sum())
        balls += int(within.sum())
        covered |= within.any(0)
        recalled |= (distance <= radius.unsqueeze(1)).any(0)
    m = len(samples)
    return Coverage(inside / m, recalled.double().mean().item(), balls / (k * m), covered.double().mean().item())


def radii(x: Float[Tensor, "N F"], k: int, chunk: int = CHUNK) -> Float[Tensor, "N"]:
    """The squared distance of each point to its k-th nearest neighbour, itself not counted."""
    found = []
    for start in range(0, len(x), chunk):
        distance = squared_distances(x[start : start + chunk], x)
        rows = torch.arange(len(distance))
        distance[rows, start + rows] = torch.inf
        found.append(distance.kthvalue(k, dim=1).values)
    return torch.cat(found)


def squared_distances(x: Float[Tensor, "N F"], y: Float[Tensor, "M F"]) -> Float[Tensor, "N M"]:
    """|x_i - y_j|^2 = |x_i|^2 + |y_j|^2 - 2 x_i'y_j."""
    return torch.addmm(y.square().sum(1), x, y.T, alpha=-2).add_(x.square().sum(1, keepdim=True)).clamp_(min=0)


__all__ = ["CHUNK", "Coverage", "K", "neighbours", "radii", "squared_distances"]
