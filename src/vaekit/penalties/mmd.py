"""Distances between the codes of a batch and draws from the prior."""

from collections.abc import Callable, Sequence
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from vaekit.distributions.precision import full_precision
from vaekit.errors import UserError
from vaekit.objectives.schedules import Schedule
from vaekit.output import VAEOutput
from vaekit.part import Part
from vaekit.penalties.base import Penalty
from vaekit.penalties.tools import codes

KERNELS: dict[str, Callable[[Tensor, float], Tensor]] = {"rbf": lambda d2, c: torch.exp(-d2 / c), "imq": lambda d2, c: c / (c + d2)}
"""(squared distance, C) -> similarity, 1 at distance 0. C = 2 D sigma^2 is the mean squared distance of two codes of N(0, sigma^2 I)."""


def squared_distances(a: Float[Tensor, "A D"], b: Float[Tensor, "B D"]) -> Float[Tensor, "A B"]:
    """By differences, not by |a|^2 + |b|^2 - 2 a.b, which loses what is near."""
    return (a.unsqueeze(1) - b.unsqueeze(0)).square().sum(2)


class MMD(Penalty):
    """The squared maximum mean discrepancy of q(z) and p(z), unbiased: E k(z, z') + E k(p, p') - 2 E k(z, p), no code paired with itself.

    k is the mean over the scales s of exp(-d^2 / C) ("rbf") or C / (C + d^2) ("imq"), C = 2 D s sigma^2. Its expectation does not depend on the
    batch size (at least 2), and is 0 where q(z) = p(z): it is a figure of the batch, a scalar from about 0 to 2, and may be below 0.

    References:
        A Kernel Two-Sample Test (Gretton et al., 2012), Eq. 3, https://jmlr.org/papers/v13/gretton12a.html
        Wasserstein Auto-Encoders (Tolstikhin et al., 2017), algorithm 2 and section 4, https://arxiv.org/abs/1711.01558

    Args:
        kernel: "rbf" or "imq".
        sigma: standard deviation of the prior's codes in each dimension.
        scales: factors on the kernel's squared width.

    Raises:
        UserError: for an unknown kernel.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"vector"})
    asks: ClassVar[frozenset[str]] = frozenset({"prior_codes"})

    def __init__(
        self,
        kernel: str = "imq",
        sigma: float = 1.0,
        scales: Sequence[float] = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0),
        weight: float | Schedule = 1.0,
    ) -> None:
        super().__init__(weight)
        if kernel not in KERNELS:
            raise UserError(f"The kernels of the discrepancy are {' and '.join(KERNELS)}, and not '{kernel}'.")
        self.kernel, self.variance, self.scales = KERNELS[kernel], sigma**2, list(scales)

    def forward(self, out: VAEOutput, critic: Part | None = None) -> Float[Tensor, ""]:
        z, prior = codes(out), out.asked["prior_codes"].flatten(1)
        if len(z) < 2:
            return 0 * z.sum()
        return self.between(z.float(), prior.float())

    def between(self, a: Float[Tensor, "A D"], b: Float[Tensor, "B D"]) -> Float[Tensor, ""]:
        """The estimate for two samples, of at least two codes each."""
        return self._within(a) + self._within(b) - 2 * self._similarity(a, b).mean()

    def _within(self, a: Tensor) -> Tensor:
        k = self._similarity(a, a)
        return (k.sum() - k.diagonal().sum()) / (len(a) * (len(a) - 1))

    def _similarity(self, a: Tensor, b: Tensor) -> Tensor:
        distances, width = squared_distances(a, b), 2 * a.shape[1] * self.variance
        return torch.stack([self.kernel(distances, width * scale) for scale in self.scales]).mean(0)


class SlicedWasserstein(Penalty):
    """SW(q(z), p(z))^2 = E_theta (1/B) sum_i (theta.z_(i) - theta.p_(i))^2 over random directions theta, with the projections in order.

    It is a figure of the batch, a scalar: a mean over directions, so that a shift of the codes by v counts |v|^2 / D. Two finite samples of the same
    distribution are a little apart: it is above 0 by about 1/B even where q(z) = p(z).

    References: Sliced-Wasserstein Autoencoder (Kolouri et al., 2018), Eq. 13 and 14, https://arxiv.org/abs/1804.01947

    Args:
        projections: number of directions, drawn anew in each step.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"vector"})
    asks: ClassVar[frozenset[str]] = frozenset({"prior_codes"})

    def __init__(self, projections: int = 50, weight: float | Schedule = 1.0) -> None:
        super().__init__(weight)
        self.projections = projections

    def forward(self, out: VAEOutput, critic: Part | None = None) -> Float[Tensor, ""]:
        z, prior = codes(out).float(), out.asked["prior_codes"].flatten(1).float()
        directions = torch.nn.functional.normalize(torch.randn(z.shape[1], self.projections, device=z.device), dim=0)
        with full_precision(z):
            return ((z @ directions).sort(0).values - (prior @ directions).sort(0).values).square().mean()
