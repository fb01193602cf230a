"""Sharpness and diversity beside the data's."""

import torch
from jaxtyping import Float
from torch import Tensor

from vaekit.errors import UserError
from vaekit.evaluation.samples.neighbours import CHUNK, squared_distances
from vaekit.evaluation.sharpness import SMALLEST, laplacian_variance


def sharpness(images: Float[Tensor, "N C H W"]) -> float:
    """The mean over images of `laplacian_variance`: blur lowers it and noise raises it."""
    if min(images.shape[-2:]) < SMALLEST:
        raise UserError(f"Sharpness is measured on images of at least 3 x 3 pixels, and these are {images.shape[-2]} x {images.shape[-1]}.")
    return sum(laplacian_variance(part).sum().item() for part in images.split(CHUNK)) / len(images)


def diversity(x: Float[Tensor, "N F"]) -> float:
    """The mean Euclidean distance between the features of two different images, in units of the features."""
    if len(x) < 2:
        raise UserError("Diversity is measured on at least two images.")
    x = x.double() - x.double().mean(0)
    total = 0.0
    for start in range(0, len(x), CHUNK):
        distance = squared_distances(x[start : start + CHUNK], x).sqrt()
        rows = torch.arange(len(distance))
        distance[rows, start + rows] = 0.0
        total += distance.sum().item()
    return total / (len(x) * (len(x) - 1))


__all__ = ["diversity", "sharpness"]
