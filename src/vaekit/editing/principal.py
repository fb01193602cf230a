"""The principal directions of the aggregate posterior, and walks along them."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from vaekit.editing.codes import decoded, need, vectors
from vaekit.errors import UserError
from vaekit.model import VAE
from vaekit.output import Batch


@dataclass(frozen=True)
class Principal:
    """What varies most between the codes of images."""

    mean: Float[Tensor, "D"]
    directions: Float[Tensor, "R D"]
    """Orthonormal, the one with the most variance first; the largest entry of each is positive."""
    deviations: Float[Tensor, "R"]
    """The standard deviation of the codes along each."""
    share: Float[Tensor, "R"]
    """Of the total variance."""


def principal_directions(z: Float[Tensor, "n D"], count: int) -> Principal:
    """The first principal components of the posterior's means.

    Raises `UserError` for more components than the codes have dimensions, and for fewer than 2 codes.

    References: GANSpace: Discovering Interpretable GAN Controls (Harkonen et al., 2020), https://arxiv.org/abs/2004.02546
    """
    n, size = z.shape
    most = min(n - 1, size)
    if not 1 <= count <= most:
        raise UserError(f"{n} codes of {size} dimensions have 1 to {max(most, 0)} principal directions, and {count} were asked for.")
    mean = z.double().mean(0)
    _, s, v = torch.linalg.svd(z.double() - mean, full_matrices=False)
    variance = s.square() / (n - 1)
    sign = v.gather(1, v.abs().argmax(1, keepdim=True)).sign()
    return Principal(mean.to(z), (v * sign)[:count].to(z), variance[:count].sqrt().to(z), (variance / variance.sum().clamp_min(1e-30))[:count].to(z))


@torch.no_grad()
def walk(model: VAE, x: Batch | Tensor, found: Principal, span: float = 2.0, steps: int = 9) -> Float[Tensor, "B R S C H W"]:
    """Images as their code goes along one principal direction at a time: the mean of p(x | z with u (z - mean) = t s), t from -span to +span.

    Args:
        x: B images; of each code only the part along the direction is replaced, as in `traverse` one dimension is.
        span: in standard deviations of the codes along the direction.

    Raises `UserError` for codes that are not real numbers, and a span or steps that show nothing.
    """
    need(model, "A principal direction")
    if span <= 0 or steps < 2:
        raise UserError(f"A walk has a span above 0 and at least 2 steps, and not {span:g} and {steps}.")
    batch = Batch.of(x).to(model.device)
    z, layout = vectors(model, batch)
    mean, directions, deviations = (v.to(z) for v in (found.mean, found.directions, found.deviations))
    t = torch.linspace(-span, span, steps, device=z.device)
    rows = []
    for u, deviation in zip(directions, deviations, strict=True):
        place = t * deviation - ((z - mean) @ u).unsqueeze(1)
        rows.append(decoded(model, z.unsqueeze(1) + place.unsqueeze(2) * u, layout, batch.condition))
    return torch.stack(rows, 1)
