"""Laplace codes and their closed-form divergences."""

import math

from torch import Tensor
from torch.distributions import Laplace, Normal

from vaekit.distributions.kl import TABLE, UnitNormal


class DiagonalLaplace(Laplace):
    """p(z) = exp(-|z - loc| / scale) / (2 scale) in each dimension, a type of its own for the table of divergences."""

    def stopped(self) -> "DiagonalLaplace":
        """The same with its parameters detached."""
        return DiagonalLaplace(self.loc.detach(), self.scale.detach(), validate_args=False)


class UnitLaplace(DiagonalLaplace):
    """Laplace(0, 1)."""


def _laplace_laplace(q: Laplace, p: Laplace) -> Tensor:
    """KL(L(m,b) || L(n,c)) = log(c/b) + |m-n|/c + (b/c) exp(-|m-n|/b) - 1."""
    far = (q.loc - p.loc).abs()
    ratio = q.scale / p.scale
    return far / p.scale + ratio * (-far / q.scale).exp() - 1 - ratio.log()


def _laplace_normal(q: Laplace, p: Normal) -> Tensor:
    """KL(L(m,b) || N(n,t)) = (2 b^2 + (m-n)^2) / (2 t^2) + log(t sqrt(2 pi)) - log(2 b) - 1, from the entropy and the second moment of q."""
    second = 2 * q.scale.square() + (q.loc - p.loc).square()
    return 0.5 * second / p.scale.square() + p.scale.log() + 0.5 * math.log(2 * math.pi) - (2 * q.scale).log() - 1


TABLE[(DiagonalLaplace, UnitLaplace)] = _laplace_laplace  # type: ignore[assignment]
TABLE[(DiagonalLaplace, DiagonalLaplace)] = _laplace_laplace  # type: ignore[assignment]
TABLE[(DiagonalLaplace, UnitNormal)] = _laplace_normal  # type: ignore[assignment]
TABLE[(DiagonalLaplace, Normal)] = _laplace_normal  # type: ignore[assignment]
