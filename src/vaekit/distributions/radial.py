"""Radial maps."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from vaekit.distributions.flowed import Map


class Radial(Map):
    """f(e) = e + beta (e - c) / (alpha + r), r = |e - c|, with alpha > 0 and beta > -alpha, so that it is invertible.

    With s = alpha + beta > 0, the radius becomes r (r + s) / (r + alpha), whose inverse is the root of a quadratic, and

        |det| = ((r + s) / (r + alpha))^(D - 1) (r^2 + 2 alpha r + alpha s) / (r + alpha)^2.

    Args:
        centre: c [N,D].
        raw_alpha, raw_s: [N], the numbers whose softplus is alpha and s.

    References: Variational Inference with Normalizing Flows (Rezende, Mohamed, 2015), Eq. 13-14 and A.2, https://arxiv.org/abs/1505.05770
    """

    def __init__(self, centre: Float[Tensor, "N D"], raw_alpha: Float[Tensor, "N"], raw_s: Float[Tensor, "N"]) -> None:
        self.raw = centre, raw_alpha, raw_s
        self.centre = centre
        # Kept off 0, where the map folds everything into its centre.
        self.alpha, self.s = F.softplus(raw_alpha) + 1e-3, F.softplus(raw_s) + 1e-3

    def forth(self, e: Float[Tensor, "... D"]) -> tuple[Float[Tensor, "... D"], Float[Tensor, "..."]]:
        away = e - self.centre
        r = torch.linalg.vector_norm(away, dim=-1)
        return self.centre + away * ((r + self.s) / (r + self.alpha)).unsqueeze(-1), self._volume(r, e.shape[-1])

    def back(self, z: Float[Tensor, "... D"]) -> tuple[Float[Tensor, "... D"], Float[Tensor, "..."]]:
        away = z - self.centre
        far = torch.linalg.vector_norm(away, dim=-1)
        # r^2 + (s - far) r - alpha far = 0: of the two ways to write its positive root, the one without cancellation.
        gap = self.s - far
        root = (gap.square() + 4 * self.alpha * far).sqrt()
        r = torch.where(gap > 0, 2 * self.alpha * far / (root + gap.abs()), 0.5 * (root + gap.abs()))
        return self.centre + away * ((r + self.alpha) / (r + self.s)).unsqueeze(-1), self._volume(r, z.shape[-1])

    def _volume(self, r: Float[Tensor, "..."], d: int) -> Float[Tensor, "..."]:
        across = (r + self.s).log() - (r + self.alpha).log()
        return (d - 1) * across + (r.square() + 2 * self.alpha * r + self.alpha * self.s).log() - 2 * (r + self.alpha).log()

    def stopped(self) -> "Radial":
        return Radial(*(t.detach() for t in self.raw))
