"""Are samples copies of training images? Each one's nearest training neighbour tells."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vaekit.errors import UserError
from vaekit.evaluation.samples.neighbours import CHUNK, squared_distances

QUANTILE = 0.01


@dataclass(frozen=True)
class Nearest:
    """The nearest training image of each image."""

    distance: Float[Tensor, "N"]
    """Euclidean, between features."""
    place: Int[Tensor, "N"]
    """Its number among the training images."""


def nearest(features: Float[Tensor, "N F"], training: Iterable[Float[Tensor, "_ F"]]) -> Nearest:
    """The nearest of the training images, which come in batches: they need not be in memory together.

    Raises `UserError` if there are none.
    """
    x = features.float()
    best, place = torch.full((len(x),), torch.inf, dtype=torch.float64), torch.zeros(len(x), dtype=torch.long)
    done = 0
    for part in training:
        y = part.float()
        found = torch.cat([squared_distances(rows, y).argmin(1) for rows in x.split(CHUNK)])
        # Which one is nearest is found in float32, which is faster; how near, in float64 and without cancellation.
        distance = (x.double() - y[found].double()).norm(dim=1)
        closer = distance < best
        best, place = torch.where(closer, distance, best), torch.where(closer, found + done, place)
        done += len(part)
    if done == 0:
        raise UserError("There are no training images to look for copies of.")
    return Nearest(best, place)


def memorized(samples: Float[Tensor, "N"], held_out: Float[Tensor, "M"], quantile: float = QUANTILE) -> float:
    """The share of samples whose nearest training image is nearer than it is for all but the `quantile` nearest held-out images.

    It is near `quantile` for samples that are as far from the training images as new images of the same kind; more says copies. Blurred images lie
    nearer to everything in most spaces: look at the picture of the nearest neighbours before you believe it.

    References: A Non-Parametric Test to Detect Data-Copying in Generative Models (Meehan et al., 2020), section 3, whose idea of held-out images as
    the measure this keeps, https://arxiv.org/abs/2004.05675
    """
    return (samples < held_out.double().quantile(quantile)).double().mean().item()


__all__ = ["QUANTILE", "Nearest", "memorized", "nearest"]
