"""Where codes are: what a density is integrated over, and the prior that a posterior is held against."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.distributions import Independent, StudentT

from vaekit.latents import DensityPrior, Posterior, StandardNormal
from vaekit.latents.priors.categories import UniformCategories
from vaekit.latents.priors.hyperbolic import HyperbolicNormal
from vaekit.latents.priors.sphere import UniformSphere
from vaekit.part import Part

REFERENCES: dict[str, Callable[[Posterior], DensityPrior]] = {
    "reals": lambda q: StandardNormal(list(q.event_shape)),
    "sphere": lambda q: UniformSphere(q.event_shape[0]),
    "ball": lambda q: HyperbolicNormal(q.event_shape[0]),
    "categories": lambda q: UniformCategories(*_sizes(q)),
}
"""The simplest prior of each support. A part whose codes are categories has `variables` and `classes`."""


def _sizes(part: Part) -> tuple[int, int]:
    return part.variables, part.classes  # type: ignore[return-value]


def outside(part: Posterior | DensityPrior, z: Tensor) -> str | None:
    """What is wrong with codes [..., *E] that do not lie where this part says, or None."""
    if not torch.isfinite(z).all():
        return "A code is not finite."
    if part.support == "sphere" and (z.norm(dim=-1) - 1).abs().max() > 1e-4:
        return "A code is not on the unit sphere."
    if part.support == "ball" and z.norm(dim=-1).max() >= 1:
        return "A code is not within the unit ball."
    if part.support == "categories":
        each = z.unflatten(-1, _sizes(part))
        if not torch.equal(each.sum(-1), torch.ones_like(each[..., 0])) or not ((each == 0) | (each == 1)).all():
            return "A code is not made of one-hot vectors: in eval mode it is to be hard."
    return None


def total(part: Posterior | DensityPrior, log_prob: Callable[[Tensor], Tensor], draws: Tensor, event: int) -> Tensor | None:
    """Importance weights [S, *B] whose mean is the integral of exp(log_prob) over the part's support; None where that cannot be told.

    Args:
        log_prob: of codes [S, *B, *E].
        draws: codes [S, *B, *E] that show where the density is.
        event: the number of dimensions of E.
    """
    if draws.shape[draws.dim() - event :].numel() > 12:
        return None
    if part.support == "reals":
        # Heavier tails than those of any density here.
        loc, scale = draws.mean(0), 1.3 * draws.std(0) + 1e-6
        wide = Independent(StudentT(4.0, loc, scale), event)
        z = wide.sample((len(draws),))
        return (log_prob(z) - wide.log_prob(z)).exp()
    if part.support == "sphere":
        flat = UniformSphere(draws.shape[-1])()
        z = flat.sample(draws.shape[:-1])
        return (log_prob(z) - flat.log_prob(z)).exp()
    if part.support == "ball":
        # From a tangent space at the origin, x -> tanh(|x| / 2) x / |x|, to densities per unit of hyperbolic volume (2 / (1 - |z|^2))^D dz.
        d = draws.shape[-1]
        wide = Independent(StudentT(4.0, torch.zeros(d), torch.full((d,), 2.0)), 1)
        x = wide.sample(draws.shape[:-1]).double()
        r = x.norm(dim=-1)
        norm = torch.tanh(0.5 * r).clamp_max(1 - 1e-7)
        volume = d * (2 / (1 - norm**2)).log() + (0.5 * (1 - norm**2)).log() + (d - 1) * (norm / r).log()
        return (log_prob(((norm / r).unsqueeze(-1) * x).float()) + volume - wide.log_prob(x)).exp()
    if part.support == "categories":
        variables, classes = _sizes(part)
        codes = torch.cartesian_prod(*[torch.arange(classes)] * variables).view(-1, variables)
        z = torch.nn.functional.one_hot(codes, classes).flatten(1).float()
        z = z.view(len(z), *[1] * (draws.dim() - 2), -1).expand(len(z), *draws.shape[1:])
        return log_prob(z).exp().sum(0, keepdim=True).expand(2, *draws.shape[1:-1])
    return None
