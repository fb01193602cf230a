"""Sharpness and diversity beside the data's."""

import torch
from jaxtyping import Float
from torch import Tensor

from vaekit.errors import UserError
from vaekit.evaluation.samples.neighbours import CHUNK, squared_distances


def sharpness(images: Float[Tensor, "N C H W"]) -> float:
    """The mean over images and channels of the variance of the discrete Laplacian, x_up + x_down + x_left + x_right - 4 x, over the inner pixels.

    Blur lowers it and noise raises it. In squared units of the pixels: only the ratio to the data's is a figure of its own.

    References: Diatom autofocusing in brightfield microscopy: a comparative study (Pech-Pacheco et al., 2000), section 2,
    https://doi.org/10.1109/ICPR.2000.903548
    """
    if min(images.shape[-2:]) < 3:
        raise UserError(f"Sharpness is measured on images of at least 3 x 3 pixels, and these are {images.shape[-2]} x {images.shape[-1]}.")
    total = 0.0
    for part in images.split(CHUNK):
        x = part.double()
        laplacian = x[..., :-2, 1:-1] + x[..., 2:, 1:-1] + x[..., 1:-1, :-2] + x[..., 1:-1, 2:] - 4 * x[..., 1:-1, 1:-1]
        total += laplacian.flatten(2).var(2, correction=0).sum().item()
    return total / (images.shape[0] * images.shape[1])


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
