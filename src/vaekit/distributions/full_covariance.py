"""A Gaussian with a full covariance, and its closed-form divergences."""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Independent, MultivariateNormal

from vaekit.distributions.kl import TABLE, UnitNormal


class FullNormal(MultivariateNormal):
    """N(loc, L L^T), a type of its own for the table of divergences.

    Args: loc [N,D], scale_tril L [N,D,D] (lower triangular, with a positive diagonal), validate_args=False.
    """

    _drawn: tuple[Tensor, Tensor] | None = None

    def rsample(self, sample_shape: Sequence[int] = ()) -> Float[Tensor, "... D"]:
        noise = torch.randn(self._extended_shape(torch.Size(sample_shape)), dtype=self.loc.dtype, device=self.loc.device)
        with torch.autocast(self.loc.device.type, enabled=False):
            z = self.loc + (self.scale_tril @ noise.unsqueeze(-1)).squeeze(-1)
        self._drawn = z, noise
        return z

    def log_prob(self, value: Float[Tensor, "... D"]) -> Float[Tensor, "..."]:
        if self._drawn is None or value is not self._drawn[0]:
            return super().log_prob(value)
        # The noise of its last draw is known: to solve for it again loses all digits where L is ill-conditioned.
        noise = self._drawn[1]
        return (-0.5 * noise.square() - self.scale_tril.diagonal(dim1=-2, dim2=-1).log() - 0.5 * math.log(2 * math.pi)).sum(-1)

    def stopped(self) -> "FullNormal":
        """The same with its parameters detached."""
        return FullNormal(self.loc.detach(), scale_tril=self.scale_tril.detach(), validate_args=False)


def _full_unit(q: FullNormal, p: UnitNormal) -> Tensor:
    """KL(N(m, L L^T) || N(0, I)) as the sum over j of (S_jj + m_j^2 - 1)/2 - log L_jj, S = L L^T: S_jj >= L_jj^2, so no part is below 0."""
    spread = q.scale_tril.square().sum(-1)
    return 0.5 * (spread + q.loc.square() - 1) - q.scale_tril.diagonal(dim1=-2, dim2=-1).log()


def _full_full(q: FullNormal, p: FullNormal) -> Tensor:
    """KL of two Gaussians as the sum over j of (A_jj + s_j^2 - 1)/2 - log R_jj, with R = Lp^-1 Lq, A = R R^T, s = Lp^-1 (mq - mp)."""
    both = torch.cat([q.scale_tril, (q.loc - p.loc).unsqueeze(-1)], dim=-1)
    ratio, shift = torch.linalg.solve_triangular(p.scale_tril, both, upper=False).split([q.loc.shape[-1], 1], dim=-1)
    shift = shift.squeeze(-1)
    return 0.5 * (ratio.square().sum(-1) + shift.square() - 1) - ratio.diagonal(dim1=-2, dim2=-1).log()


def _full_independent(q: FullNormal, p: Independent) -> Tensor | None:
    """The standard normal prior is a product of one-dimensional ones, and q is no product: the table is asked about the two as they are."""
    return _full_unit(q, p.base_dist) if type(p.base_dist) is UnitNormal else None


TABLE[(FullNormal, Independent)] = _full_independent  # type: ignore[assignment]
TABLE[(FullNormal, UnitNormal)] = _full_unit  # type: ignore[assignment]
TABLE[(FullNormal, FullNormal)] = _full_full  # type: ignore[assignment]
