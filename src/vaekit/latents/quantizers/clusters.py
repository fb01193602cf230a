"""Nearest neighbours, the tally of a codebook, k-means, and the rebirth of codes that nothing uses."""

from dataclasses import dataclass
from functools import reduce

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

PAIRS = 2**24
"""Of points and codes that are in memory at once: 64 MiB of distances."""


def nearest(points: Float[Tensor, "M F"], codebook: Float[Tensor, "K F"]) -> Int[Tensor, "M"]:
    """argmin_k ||x - e_k||^2, in float32 even under autocast: bf16 keeps 8 bits of a distance. At most `PAIRS` distances are in memory at once."""
    with torch.autocast(points.device.type, enabled=False):
        codebook, rows = codebook.float(), _rows(codebook)
        squares = codebook.square().sum(1)
        parts = [points] if len(points) <= rows else points.split(rows)
        found = [torch.addmm(squares, part.float(), codebook.t(), alpha=-2.0).argmin(1) for part in parts]
        return found[0] if len(found) == 1 else torch.cat(found)


def _rows(codebook: Tensor) -> int:
    """How many points are compared with all codes at once."""
    return max(1, PAIRS // len(codebook))


@dataclass
class Tally:
    """What each code was given by some points."""

    counts: Float[Tensor, "K"]
    sums: Float[Tensor, "K F"]
    """Of the points."""
    errors: Float[Tensor, "K"]
    """Of the squared distances."""


def tally(points: Float[Tensor, "M F"], index: Int[Tensor, "M"], codebook: Float[Tensor, "K F"]) -> Tally:
    """By a matrix product, whose result is the same each time on a GPU too, as that of a scattered sum is not."""
    with torch.autocast(points.device.type, enabled=False):
        rows = _rows(codebook)
        parts = [_tally(some, chosen, codebook) for some, chosen in zip(points.split(rows), index.split(rows), strict=True)]
        return reduce(lambda a, b: Tally(a.counts + b.counts, a.sums + b.sums, a.errors + b.errors), parts)


def _tally(points: Float[Tensor, "M F"], index: Int[Tensor, "M"], codebook: Float[Tensor, "K F"]) -> Tally:
    given = F.one_hot(index, len(codebook)).float()
    errors = (points - codebook[index]).square().sum(1)
    return Tally(given.sum(0), given.t() @ points, errors @ given)


def reborn(codebook: Tensor, usage: Tensor, errors: Tensor, threshold: float, seed: int) -> Tensor:
    """Moves each code whose usage is below `threshold` times the mean beside the code with the largest sum of squared errors, in place.

    The j-th of them goes beside the j-th worst, at a random step of that code's own root mean square error, and the two share usage and
    error. It is a function of its arguments alone, so that every process does the same. Returns which codes were born again [K].

    References: An Algorithm for Vector Quantizer Design (Linde, Buzo, Gray, 1980): splitting.
    """
    dead = usage < threshold * usage.mean()
    if not bool(dead.any()):
        return dead
    children = dead.nonzero().squeeze(1)
    parents = errors.masked_fill(dead, -1.0).argsort(descending=True, stable=True)[: min(len(children), int((~dead).sum()))]
    children = children[: len(parents)]
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(len(children), codebook.shape[1], generator=generator).to(codebook)
    spread = (errors[parents] / (usage[parents] * codebook.shape[1]).clamp_min(1e-12)).sqrt()
    codebook[children] = codebook[parents] + spread.unsqueeze(1) * noise
    for shared in (usage, errors):
        shared[parents] = shared[parents] / 2
        shared[children] = shared[parents]
    return torch.zeros_like(dead).index_fill(0, children, True)


def kmeans(points: Float[Tensor, "M F"], size: int, steps: int = 10, seed: int = 0) -> tuple[Float[Tensor, "K F"], Tally]:
    """Lloyd's algorithm on at most 64 random points for each centre; a centre without points is born again beside the worst one.

    Returns the centres, and their tally over these points. It runs on the processor and is a function of its arguments alone.

    References:
        Least Squares Quantization in PCM (Lloyd, 1982).
        k-means++: The Advantages of Careful Seeding (Arthur, Vassilvitskii, 2007), section 2.2, for where it starts.
    """
    generator = torch.Generator().manual_seed(seed)
    points = points.float().cpu()
    points = points[torch.randperm(len(points), generator=generator)[: 64 * size]]
    centres = _seeds(points, size, generator)
    for step in range(steps):
        t = tally(points, nearest(points, centres), centres)
        centres = torch.where(t.counts.unsqueeze(1) > 0, t.sums / t.counts.clamp_min(1).unsqueeze(1), centres)
        # No rebirth in the last round: what is born must still be moved to its points.
        if step < steps - 1:
            reborn(centres, t.counts, t.errors, 0.01, seed + step)
    return centres, tally(points, nearest(points, centres), centres)


def _seeds(points: Float[Tensor, "M F"], size: int, generator: torch.Generator) -> Float[Tensor, "K F"]:
    """Points drawn one after the other with a probability that grows with the square of the distance from those before."""
    centres = points[:1]
    distance = (points - centres[0]).square().sum(1)
    for _ in range(size - 1):
        new = points[torch.multinomial(distance + 1e-12, 1, generator=generator)]
        centres = torch.cat([centres, new])
        distance = torch.minimum(distance, (points - new).square().sum(1))
    return centres
