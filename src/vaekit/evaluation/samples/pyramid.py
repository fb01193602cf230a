"""Sliced Wasserstein distance on Laplacian pyramids: a distance of images at each scale of detail, with no network."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int, Shaped
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
RESAMPLES = 20
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


@dataclass(frozen=True)
class Level:
    """What is compared of one level of a set's pyramids."""

    patches: Float[Tensor, "N P C A"]
    """P patches of A pixels of each image."""
    mean: Float[Tensor, "C"]
    std: Float[Tensor, "C"]
    """Of all values of the level; 1 where they do not vary."""


def sliced_wasserstein(
    real: Shaped[Tensor, "N C H W"],
    samples: Shaped[Tensor, "M c h w"],
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
    unit: Callable[[Tensor], Tensor] = lambda x: x,
) -> tuple[float, float]:
    """The mean over the levels of the pyramid of SWD(patches of real images, patches of samples), in standard deviations of the real values.

    Of each level, 16 patches of 7 x 7 pixels of each image; each channel's values less their real mean and over their real standard deviation; the
    distance along 128 random directions. The paper standardizes either set by itself, which forgives samples a lack of contrast; here the real
    images' figures hold for both. Errors fall with the number of images, which is the same for both sets. Memory is that of the patches.

    Args:
        resamples: bootstrap resamples of the images of both sets, each with directions of its own; the standard deviation of their distances is the
            standard error, the second value.
        unit: brings a part of the images to the scale where 0 is the darkest and 1 the brightest.

    References: Progressive Growing of GANs for Improved Quality, Stability, and Variation (Karras et al., 2018), section 5,
    https://arxiv.org/abs/1710.10196
    """
    if real.shape != samples.shape:
        raise UserError(f"As many images of one shape are wanted on both sides, and not {tuple(real.shape)} and {tuple(samples.shape)}.")
    generator = torch.Generator().manual_seed(seed)
    ours, theirs = levels(real, generator, unit), levels(samples, generator, unit)
    value = _distance(ours, theirs, None, generator)
    spread = [_distance(ours, theirs, torch.randint(len(real), (2, len(real)), generator=generator), generator) for _ in range(resamples)]
    return value, torch.tensor(spread, dtype=torch.float64).std().item()


def levels(images: Shaped[Tensor, "N C H W"], generator: torch.Generator, unit: Callable[[Tensor], Tensor] = lambda x: x) -> list[Level]:
    """Patches, means and deviations of each level, a part of the images at a time."""
    found: list[list[Tensor]] = []
    sums: list[Tensor] = []
    for part in images.split(BATCH):
        for i, level in enumerate(pyramid(unit(part))):
            if i == len(found):
                found.append([])
                sums.append(torch.zeros(3, level.shape[1], dtype=torch.float64))
            found[i].append(patches(level, PATCHES, generator))
            wide = level.double()
            sums[i] += torch.stack([torch.full((level.shape[1],), level[:, 0].numel()), wide.sum((0, 2, 3)), wide.square().sum((0, 2, 3))])
    made = []
    for parts, (count, total, squares) in zip(found, sums, strict=True):
        mean = total / count
        std = ((squares - count * mean.square()).clamp_min(0) / (count - 1)).sqrt()
        made.append(Level(torch.cat(parts), mean.to(parts[0]), torch.where(std > 0, std, 1.0).to(parts[0])))
    return made


def _distance(real: list[Level], samples: list[Level], rows: Int[Tensor, "2 N"] | None, generator: torch.Generator) -> float:
    """The distance of the images at these rows of either set, of all where none are given."""
    distances = []
    for a, b in zip(real, samples, strict=True):
        chosen = (a.patches, b.patches) if rows is None else (a.patches[rows[0]], b.patches[rows[1]])
        x, y = (((p - a.mean.view(-1, 1)) / a.std.view(-1, 1)).flatten(2).flatten(0, 1) for p in chosen)
        directions = F.normalize(torch.randn(DIRECTIONS, x.shape[1], generator=generator), dim=1)
        distances.append(along(x, y, directions).mean().item())
    return sum(distances) / len(distances)


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
    mode = "reflect" if min(x.shape[-2:]) > 2 else "replicate"  # a reflection by two places needs a third
    return F.conv2d(F.pad(x, (2, 2, 2, 2), mode=mode), kernel, groups=channels)


def patches(x: Float[Tensor, "N C H W"], count: int, generator: torch.Generator) -> Float[Tensor, "N P C A"]:
    """`count` patches of each image at random places (no more than there are places), their A pixels flattened."""
    n, _, height, width = x.shape
    h, w = min(PATCH, height), min(PATCH, width)
    count = min(count, (height - h + 1) * (width - w + 1))
    tops = torch.randint(height - h + 1, (n, count, 1, 1), generator=generator) + torch.arange(h).view(-1, 1)
    lefts = torch.randint(width - w + 1, (n, count, 1, 1), generator=generator) + torch.arange(w)
    found = x[torch.arange(n).view(-1, 1, 1, 1), :, tops, lefts]  # [N, count, h, w, C]
    return found.flatten(2, 3).transpose(2, 3)


__all__ = ["PyramidSpace", "pyramid", "sliced_wasserstein"]
