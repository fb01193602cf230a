"""Densities in two dimensions, integrated on a grid."""

import torch
from torch import Tensor
from torch.distributions import Distribution

from vaekit.testing.parts import agree


def plane(reach: float, points: int) -> tuple[Tensor, Tensor]:
    """A square grid [points^2, 2] about 0, and the area of one of its cells."""
    line = torch.linspace(-reach, reach, points)
    return torch.cartesian_prod(line, line), (line[1] - line[0]) ** 2


def integral(p: Distribution, reach: float = 12.0, points: int = 801) -> Tensor:
    """The integral of a density in two dimensions on a grid."""
    grid, area = plane(reach, points)
    parts = [p.log_prob(part).double().exp().sum(0) for part in grid.split(200_000)]
    return torch.stack(parts).sum(0) * area


def follows(p: Distribution, z: Tensor, reach: float = 12.0, points: int = 401) -> None:
    """Codes [S, 2] have the density's means, second moments and entropy, integrated on a grid."""
    grid, area = plane(reach, points)
    with torch.no_grad():

        def of(codes: Tensor) -> Tensor:
            return torch.cat((codes, codes**2, codes.prod(1, keepdim=True), (codes[:, :1] + codes[:, 1:]).sin(), p.log_prob(codes)[:, None]), 1)

        values = of(grid)
        exact = (values * values[:, -1:].exp()).double().sum(0) * area
        agree(exact.float(), of(z), "A moment of the density")
