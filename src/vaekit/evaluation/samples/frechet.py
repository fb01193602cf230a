"""The Frechet distance: both sets of features are taken as Gaussians."""

import torch
from jaxtyping import Float
from torch import Tensor

from vaekit.errors import UserError

RESAMPLES = 20


def frechet_distance(x: Float[Tensor, "N F"], y: Float[Tensor, "M F"]) -> float:
    """|m - n|^2 + tr(S + T - 2 (S T)^(1/2)) of the means m, n and the (unbiased) covariances S, T of two sets of features.

    The squared Wasserstein-2 distance of the two Gaussians, in squared units of the features. It grows by itself when there are fewer images:
    compare it at the same number alone, and beside the distance of two sets of real images (the floor).

    Raises `UserError` for fewer than two images, and for features that are not finite.

    References: GANs Trained by a Two Time-Scale Update Rule Converge to a Local Nash Equilibrium (Heusel et al., 2017), Eq. 6,
    https://arxiv.org/abs/1706.08500
    """
    return gaussian_distance(*moments(x), *moments(y))


def frechet_error(x: Float[Tensor, "N F"], y: Float[Tensor, "M F"], *, seed: int = 0, resamples: int = RESAMPLES) -> float:
    """The standard error of the distance: its standard deviation over bootstrap resamples of the images of both sets.

    The images are drawn with replacement, `resamples` times. The copies shift the distances up, all alike, which the deviation does not see.

    References: An Introduction to the Bootstrap (Efron, Tibshirani, 1993), algorithm 6.1
    """
    generator = torch.Generator().manual_seed(seed)
    distances = []
    for _ in range(resamples):
        picks = [torch.randint(len(f), (len(f),), generator=generator) for f in (x, y)]
        distances.append(frechet_distance(x[picks[0]], y[picks[1]]))
    return torch.tensor(distances, dtype=torch.float64).std().item()


def moments(x: Float[Tensor, "N F"]) -> tuple[Float[Tensor, "F"], Float[Tensor, "F F"]]:
    """The mean and the unbiased covariance, in float64."""
    if len(x) < 2:
        raise UserError(f"A distance between sets of images needs at least two in each, and here is {len(x)}.")
    x = x.double()
    if not torch.isfinite(x).all():
        raise UserError("Some features are not finite: the model has diverged, or the feature space does not suit its images.")
    mean = x.mean(0)
    centred = x - mean
    return mean, centred.T @ centred / (len(x) - 1)


def gaussian_distance(m: Float[Tensor, "F"], s: Float[Tensor, "F F"], n: Float[Tensor, "F"], t: Float[Tensor, "F F"]) -> float:
    """|m - n|^2 + tr(S + T) - 2 tr (S^(1/2) T S^(1/2))^(1/2).

    The last matrix has the eigenvalues of S T, but is symmetric: the trace of the root is the sum of their roots, which are real and not below 0,
    also where S and T are singular.
    """
    values, vectors = torch.linalg.eigh(s)
    root = vectors * values.clamp(min=0).sqrt() @ vectors.T
    cross = torch.linalg.eigvalsh(root @ t @ root).clamp(min=0).sqrt().sum()
    return float((m - n).square().sum() + s.trace() + t.trace() - 2 * cross)


__all__ = ["RESAMPLES", "frechet_distance", "frechet_error", "gaussian_distance"]
