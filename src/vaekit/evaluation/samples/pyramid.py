"""Sliced Wasserstein distance on Laplacian pyramids: a distance of images at each scale of detail, with no network."""

import torch
from jaxtyping import Float, Shaped
from torch import Tensor
from torch.nn import functional as F

from vaekit.data.spec import DataSpec
from vaekit.errors import UserError
from vaekit.evaluation.samples.space import BATCH
from vaekit.pictures import unit

PATCH = 7
"""Pixels: the side of the patches; a pyramid stops before its images are smaller."""
PATCHES = 16
"""Of each image at each level."""
DIRECTIONS = 128
REPEATS = 5
SIDE = 32
"""Pixels: what is finer does not count among neighbours."""
KERNEL = (1 / 16, 4 / 16, 6 / 16, 4 / 16, 1 / 16)

Pyramid = list[Tensor]


class PyramidSpace:
    """The levels of an image's Laplacian pyramid after one another, from the first that is at most 32 pixels high and wide; no network.

    Values are on the scale where 0 is the darkest and 1 the brightest. Neighbours in it are images that are alike pixel by pixel.

    References: The Laplacian Pyramid as a Compact Image Code (Burt, Adelson, 1983), https://doi.org/10.1109/TCOM.1983.1095851
    """

    name = "laplacian"

    def __call__(self, images: Shaped[Tensor, "N C H W"], spec: DataSpec) -> Float[Tensor, "N F"]:
        parts = []
        for part in images.cpu().split(BATCH):
            x = unit(part, spec).float()
            while max(x.shape[-2:]) > SIDE:
                x = reduce(x)
            parts.append(torch.cat([level.flatten(1) for level in pyramid(x)], dim=1))
        return torch.cat(parts)


def sliced_wasserstein(real: Float[Tensor, "N C H W"], samples: Float[Tensor, "M c h w"], *, seed: int = 0) -> float:
    """The mean over the levels of the pyramid of SWD(patches of real images, patches of samples), in standard deviations of the real values.

    Of each level, 16 patches of 7 x 7 pixels of each image; each channel's values less their real mean and over their real standard deviation; the
    distance along 128 random directions. The paper standardizes either set by itself, which forgives samples a lack of contrast; here the real
    images' figures hold for both. Errors fall with the number of images, which is the same for both sets.

    References: Progressive Growing of GANs for Improved Quality, Stability, and Variation (Karras et al., 2018), section 5,
    https://arxiv.org/abs/1710.10196
    """
    if real.shape != samples.shape:
        raise UserError(f"As many images of one shape are wanted on both sides, and not {tuple(real.shape)} and {tuple(samples.shape)}.")
    generator = torch.Generator().manual_seed(seed)
    distances = []
    for a, b in zip(pyramid(real), pyramid(samples), strict=True):
        mean, std = a.mean((0, 2, 3), keepdim=True), a.std((0, 2, 3), keepdim=True)
        std = torch.where(std > 0, std, 1.0)
        x, y = (patches((level - mean) / std, PATCHES, generator) for level in (a, b))
        directions = F.normalize(torch.randn(DIRECTIONS, x.shape[1], generator=generator), dim=1)
        distances.append(along(x, y, directions).mean().item())
    return sum(distances) / len(distances)


def sliced_error(real: Float[Tensor, "N C H W"], samples: Float[Tensor, "M c h w"], *, seed: int = 0, resamples: int = REPEATS) -> float:
    """Its standard error: the standard deviation over bootstrap resamples of the images of both sets, each with its own patches and directions."""
    generator = torch.Generator().manual_seed(seed)
    values = []
    for i in range(resamples):
        rows = [torch.randint(len(images), (len(images),), generator=generator) for images in (real, samples)]
        values.append(sliced_wasserstein(real[rows[0]], samples[rows[1]], seed=seed + 1 + i))
    return torch.tensor(values, dtype=torch.float64).std().item()


def along(x: Float[Tensor, "N F"], y: Float[Tensor, "N F"], directions: Float[Tensor, "D F"]) -> Float[Tensor, "D"]:
    """The Wasserstein-1 distance of the projections on each direction: the mean |difference| of the sorted values."""
    return torch.stack([((x @ d).sort().values - (y @ d).sort().values).abs().mean() for d in directions])


def pyramid(x: Float[Tensor, "N C H W"]) -> Pyramid:
    """Levels from the finest on: L_i = G_i - expand(G_{i+1}) with G_0 = x and G_{i+1} = reduce(G_i); the last one is what is left."""
    levels = []
    while (min(x.shape[-2:]) + 1) // 2 >= PATCH:
        smaller = reduce(x)
        levels.append(x - expand(smaller, x.shape[-2], x.shape[-1]))
        x = smaller
    return [*levels, x]


def reduce(x: Float[Tensor, "N C H W"]) -> Float[Tensor, "N C h w"]:
    """Every second pixel of the blurred image."""
    return _blur(x)[:, :, ::2, ::2]


def expand(x: Float[Tensor, "N C h w"], height: int, width: int) -> Float[Tensor, "N C H W"]:
    """The image at twice the size, the new pixels interpolated."""
    wide = x.new_zeros(*x.shape[:2], height, width)
    wide[:, :, ::2, ::2] = x
    return 4 * _blur(wide)


def _blur(x: Float[Tensor, "N C H W"]) -> Float[Tensor, "N C H W"]:
    channels = x.shape[1]
    kernel = torch.tensor(KERNEL, dtype=x.dtype).outer(torch.tensor(KERNEL, dtype=x.dtype)).expand(channels, 1, 5, 5)
    return F.conv2d(F.pad(x, (2, 2, 2, 2), mode="reflect"), kernel, groups=channels)


def patches(x: Float[Tensor, "N C H W"], count: int, generator: torch.Generator) -> Float[Tensor, "M F"]:
    """`count` patches of each image at random places (no more than there are places), M = N count in all, flattened."""
    n, _, height, width = x.shape
    h, w = min(PATCH, height), min(PATCH, width)
    count = min(count, (height - h + 1) * (width - w + 1))
    tops = torch.randint(height - h + 1, (n, count, 1, 1), generator=generator) + torch.arange(h).view(-1, 1)
    lefts = torch.randint(width - w + 1, (n, count, 1, 1), generator=generator) + torch.arange(w)
    found = x[torch.arange(n).view(-1, 1, 1, 1), :, tops, lefts]  # [N, count, h, w, C]
    return found.flatten(2).flatten(0, 1)


__all__ = ["PyramidSpace", "pyramid", "sliced_error", "sliced_wasserstein"]
