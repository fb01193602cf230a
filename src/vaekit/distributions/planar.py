"""Planar maps."""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from vaekit.distributions.flowed import Map

_SHIFT = math.log(math.e - 1)
_LEAST = 1e-3
"""The least determinant: at 0 the map would fold."""


class Planar(Map):
    """f(e) = e + v tanh(w.e + b), with |det| = 1 + (w.v) (1 - tanh^2).

    It is invertible where w.v > -1, which holds for v = u + (m(w.u) - w.u) w / |w|^2 with m(a) = softplus(a + log(e - 1)) - 1 > -1: the
    paper's m, shifted so that m(0) = 0 and v is not torn away from u where w is small, and here kept above -0.999. The inverse is the root of
    a monotone function of one number, w.e, found by bisection and Newton's method; one last step of Newton gives it its gradient.

    Args:
        u, w: [N,D].
        b: [N].

    References: Variational Inference with Normalizing Flows (Rezende, Mohamed, 2015), Eq. 10-12 and A.1, https://arxiv.org/abs/1505.05770
    """

    def __init__(self, u: Float[Tensor, "N D"], w: Float[Tensor, "N D"], b: Float[Tensor, "N"]) -> None:
        self.u, self.w, self.b = u, w, b
        along = (w * u).sum(-1)
        self.room = _LEAST + (1 - _LEAST) * F.softplus(along + _SHIFT)
        """1 + w.v, the least value of the determinant, above 0."""
        self.v = u + (((self.room - 1) - along) / w.square().sum(-1).clamp_min(1e-12)).unsqueeze(-1) * w

    def forth(self, e: Float[Tensor, "... D"]) -> tuple[Float[Tensor, "... D"], Float[Tensor, "..."]]:
        bend = torch.tanh((self.w * e).sum(-1) + self.b)
        return e + self.v * bend.unsqueeze(-1), self._determinant(bend).log()

    def back(self, z: Float[Tensor, "... D"]) -> tuple[Float[Tensor, "... D"], Float[Tensor, "..."]]:
        target = (self.w * z).sum(-1)
        with torch.no_grad():
            root = self._root(target)
        bend = torch.tanh(root + self.b)
        along = root - (root + (self.room - 1) * bend - target) / self._determinant(bend)
        bend = torch.tanh(along + self.b)
        return z - self.v * bend.unsqueeze(-1), self._determinant(bend).log()

    def _determinant(self, bend: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        # 1 + (w.v) (1 - t^2) without the cancellation that takes its positivity away.
        square = bend.square()
        return square + self.room * (1 - square)

    def _root(self, target: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """The a with a + (w.v) tanh(a + b) = target, without gradient."""
        slope = self.room - 1
        low, high = target - slope.abs(), target + slope.abs()
        for _ in range(16):
            middle = 0.5 * (low + high)
            above = middle + slope * torch.tanh(middle + self.b) > target
            low, high = torch.where(above, low, middle), torch.where(above, middle, high)
        root = 0.5 * (low + high)
        for _ in range(4):
            bend = torch.tanh(root + self.b)
            root = torch.clamp(root - (root + slope * bend - target) / self._determinant(bend), low, high)
        return root

    def stopped(self) -> "Planar":
        return Planar(self.u.detach(), self.w.detach(), self.b.detach())
