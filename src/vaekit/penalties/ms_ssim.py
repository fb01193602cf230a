"""Structural similarity at several scales."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from vaekit.distributions.precision import full_precision
from vaekit.objectives.schedules import Schedule
from vaekit.output import VAEOutput, fold
from vaekit.part import Part
from vaekit.penalties.tools import ImagePenalty, per_image

EXPONENTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Of the scales, from fine to coarse, as measured on people (Wang et al., 2003, section 3.2)."""
WINDOW, SIGMA = 11, 1.5
SMALLEST = 7
"""The shorter side of the coarsest image that still counts as a scale."""
FLOOR = 1e-4
"""Below it a similarity counts as this much: a power of 0 has no gradient."""


def scales_for(height: int, width: int) -> int:
    """How many scales an image of this size has, 1 to 5."""
    scales = 1
    while scales < len(EXPONENTS) and min(height, width) // 2**scales >= SMALLEST:
        scales += 1
    return scales


def ms_ssim(x: Float[Tensor, "N C H W"], y: Float[Tensor, "N C H W"]) -> Float[Tensor, "N"]:
    """l_S^a_S prod_s (c_s)^a_s for each image: contrast and structure at every scale, luminance at the coarsest alone. Values in [0,1].

    A Gaussian window of 11 pixels (sigma 1.5); along a side below 11 the largest odd one that fits, with a smaller sigma. Small images have fewer
    scales, whose exponents are scaled to sum to 1. Where both fit it is the figure of torchmetrics.

    References: Multi-scale Structural Similarity for Image Quality Assessment (Wang et al., 2003), Eq. 7,
    https://doi.org/10.1109/ACSSC.2003.1292216
    """
    from torchmetrics.functional.image import structural_similarity_index_measure  # takes seconds

    scales = scales_for(*x.shape[2:])
    exponents = [e / sum(EXPONENTS[:scales]) for e in EXPONENTS[:scales]] if scales < len(EXPONENTS) else list(EXPONENTS)
    product = torch.ones(len(x), device=x.device)
    for s, exponent in enumerate(exponents):
        last = s == scales - 1
        value = structural_similarity_index_measure(
            x, y, sigma=sigmas(*x.shape[2:]), data_range=1.0, reduction="none", return_contrast_sensitivity=not last
        )
        similarity = value if isinstance(value, Tensor) else value[1]
        product = product * similarity.view(-1).clamp_min(FLOOR) ** exponent
        if not last:
            x, y = F.avg_pool2d(x, 2), F.avg_pool2d(y, 2)
    return product


def sigmas(*sides: int) -> list[float]:
    """Of the Gaussian window along each side: 1.5 for 11 pixels, less for the largest odd window that fits a smaller side.

    torchmetrics derives a window's size from its sigma, 2 floor(3.5 sigma + 0.5) + 1, and pays no heed to `kernel_size`.
    """
    return [max(SIGMA * (min(WINDOW, side - 1 + side % 2) // 2) / (WINDOW // 2), 0.1) for side in sides]


class MSSSIM(ImagePenalty):
    """1 - MS-SSIM(x, m) with m the mean of p(x|z), from 0 to 1 for each image: its weight is the nats that an image has for it.

    Pixels in [0,1]; floats so that 0 and 1 are three standard deviations from the mean. Values that are not observed count as equal.

    References: Learning to Generate Images with Perceptual Similarity Metrics (Snell et al., 2015), https://arxiv.org/abs/1511.06409
    """

    def __init__(
        self, levels: int | None, mean: Sequence[float] | None = None, std: Sequence[float] | None = None, weight: float | Schedule = 1.0
    ) -> None:
        super().__init__(levels, mean, std, weight)

    def forward(self, out: VAEOutput, critic: Part | None = None) -> Float[Tensor, "B"]:
        x, y = self.shown(fold(self.images(out), out.k)), self.shown(self.means(out))
        with full_precision(x):
            return per_image(1 - ms_ssim(y.float(), x.float()), out)
