"""Directions: the von Mises-Fisher distribution and the uniform one on the sphere S^(D-1) in R^D. Densities are per unit of its surface.

A direction z is told by its angle t to the mean direction, with density proportional to f(t) = exp(kappa cos t) sin^(D-2) t on [0, pi], and
by a uniform direction across. f is smooth up to both ends for every D >= 2 and has one peak, so that Gauss-Legendre quadrature around the peak
gives its integral (a Bessel function) to the precision of float64, for any D and kappa, on any device, with its derivatives.
"""

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Distribution

from vaekit.distributions.kl import TABLE
from vaekit.distributions.precision import double

_NODES, _WEIGHTS = (torch.as_tensor(values) for values in np.polynomial.legendre.leggauss(64))
_REACH = 12.0
"""How many widths of the peak are integrated over: what is beyond has less than 1e-16 of the mass."""
_ROUNDS = 32
"""Proposals for each draw: one is accepted with probability 0.65 or more, so that none is with less than 1e-14."""


def log_surface(d: int) -> float:
    """The log of the surface of S^(d-1) in R^d, 2 pi^(d/2) / Gamma(d/2)."""
    return math.log(2) + 0.5 * d * math.log(math.pi) - math.lgamma(0.5 * d)


def _peak(kappa: Tensor, d: int) -> tuple[Tensor, Tensor]:
    """Where f has its peak, and its width there (the inverse root of -(log f)'')."""
    if d == 2:
        return torch.zeros_like(kappa), kappa.rsqrt()
    cosine = 2 * kappa / ((d - 2) + ((d - 2) ** 2 + 4 * kappa.square()).sqrt())
    return torch.acos(cosine), (kappa * (cosine + 1 / cosine)).rsqrt()


def _quadrature(low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """Nodes and weights [..., 64] on the interval."""
    half = 0.5 * (high - low).unsqueeze(-1)
    return low.unsqueeze(-1) + half * (1 + _NODES.to(low)), half * _WEIGHTS.to(low)


def angular(kappa: Float[Tensor, "..."], d: int) -> tuple[Float[Tensor, "..."], Float[Tensor, "..."]]:
    """log of the integral of exp(kappa (cos t - 1)) sin^(d-2) t over [0, pi], and E[1 - cos t], both with gradient for kappa.

    The integral is sqrt(pi) Gamma((d-1)/2) (2 / kappa)^(d/2-1) I_(d/2-1)(kappa) exp(-kappa), with I the modified Bessel function.
    """
    with torch.no_grad():
        peak, width = _peak(kappa, d)
        nodes, weights = _quadrature((peak - _REACH * width).clamp_min(0), (peak + _REACH * width).clamp_max(math.pi))
        gap = 2 * torch.sin(0.5 * nodes).square()
        fixed = weights.log() + (d - 2) * torch.sin(nodes).log()
    log_f = fixed - kappa.unsqueeze(-1) * gap
    return log_f.logsumexp(-1), (log_f.softmax(-1) * gap).sum(-1)


def _angle_slope(t: Tensor, kappa: Tensor, d: int) -> Tensor:
    """dt/dkappa at a fixed value of the distribution function F, -(dF/dkappa) / f(t), by quadrature on that side of t which has no cancellation.

    -(dF/dkappa) / f = -(integral of f(s) (cos s - E cos) over [0, t]) / f(t) = (the same integral over [t, pi]) / f(t).
    """
    _, mean_gap = angular(kappa, d)
    _, width = _peak(kappa, d)
    left = 2 * torch.sin(0.5 * t).square() < mean_gap
    low = torch.where(left, (t - _REACH * width).clamp_min(0), t)
    high = torch.where(left, t, (t + _REACH * width).clamp_max(math.pi))
    nodes, weights = _quadrature(low, high)
    t, kappa = t.unsqueeze(-1), kappa.unsqueeze(-1)
    rise = -2 * kappa * torch.sin(0.5 * (nodes + t)) * torch.sin(0.5 * (nodes - t)) + (d - 2) * (torch.sin(nodes) / torch.sin(t)).log()
    excess = mean_gap.unsqueeze(-1) - 2 * torch.sin(0.5 * nodes).square()
    return torch.where(left, -1.0, 1.0) * (weights * rise.exp() * excess).sum(-1)


class VonMisesFisher(Distribution):
    """q(z) = C_D(kappa) exp(kappa mu.z) on the unit sphere in R^D, C_D(kappa) = kappa^(D/2-1) / ((2 pi)^(D/2) I_(D/2-1)(kappa)).

    A draw has an unbiased gradient for mu (the direction across is drawn beside mu and turned with it) and for kappa (implicit: dt/dkappa is
    -(dF/dkappa) / f, whatever way t was drawn). `mean` is the mean direction mu, which is a code; E[z] = A(kappa) mu lies within the sphere.

    Args:
        mu: [N,D], unit vectors.
        kappa: [N], above 0.

    References:
        Hyperspherical Variational Auto-Encoders (Davidson et al., 2018), Eq. 1-4 and algorithm 1, https://arxiv.org/abs/1804.00891
        Simulation of the von Mises Fisher distribution (Wood, 1994), https://doi.org/10.1080/03610919408813161
        Implicit Reparameterization Gradients (Figurnov et al., 2018), Eq. 5, https://arxiv.org/abs/1805.08498
    """

    arg_constraints: ClassVar[dict[str, Any]] = {}
    has_rsample = True

    def __init__(self, mu: Float[Tensor, "N D"], kappa: Float[Tensor, "N"]) -> None:
        super().__init__(mu.shape[:1], mu.shape[1:], validate_args=False)
        self.mu, self.kappa = mu, kappa
        self.d = mu.shape[-1]

    @property
    def mean(self) -> Float[Tensor, "N D"]:
        return self.mu

    @property
    def mean_length(self) -> Float[Tensor, "N"]:
        """A(kappa) = I_(D/2)(kappa) / I_(D/2-1)(kappa), the length of E[z]."""
        return (1 - angular(double(self.kappa), self.d)[1]).to(self.mu)

    def rsample(self, sample_shape: Sequence[int] = ()) -> Float[Tensor, "... N D"]:
        shape = self._extended_shape(torch.Size(sample_shape))
        angle = self._angle(shape[:-1]).to(self.mu).unsqueeze(-1)
        across = torch.randn(shape, dtype=self.mu.dtype, device=self.mu.device)
        across = across - (across * self.mu).sum(-1, keepdim=True) * self.mu
        across = torch.nn.functional.normalize(across, dim=-1)
        return torch.cos(angle) * self.mu + torch.sin(angle) * across

    def _angle(self, shape: torch.Size) -> Float[Tensor, "..."]:
        """Angles to mu, with their gradient for kappa."""
        kappa = double(self.kappa).expand(shape)
        with torch.no_grad():
            angle = 2 * torch.asin((0.5 * self._gap(kappa)).sqrt().clamp_max(1.0))
            # The ends have no chance, but float32 may round to them, and the density of D > 2 is 0 there.
            angle = angle.clamp(1e-7, math.pi - 1e-7)
        if not (torch.is_grad_enabled() and self.kappa.requires_grad):
            return angle
        with torch.no_grad():
            slope = _angle_slope(angle, kappa, self.d)
        return angle + slope * (kappa - kappa.detach())

    def _gap(self, kappa: Tensor) -> Tensor:
        """1 - cos t by Wood's rejection: the first of several proposals that is accepted. (Written in 1 - cos t, which keeps its digits near 0.)"""
        n = self.d - 1
        b = n / (2 * kappa + (4 * kappa.square() + n**2).sqrt())
        near, middle = 2 * b / (1 + b), (1 - b) / (1 + b)  # 1 - x0 and x0
        gamma = torch._standard_gamma(torch.full((2, _ROUNDS, *kappa.shape), 0.5 * n, dtype=kappa.dtype, device=kappa.device))
        beta = (gamma[0] / (gamma[0] + gamma[1])).nan_to_num(0.5)
        gap = 2 * b * beta / (1 - (1 - b) * beta)
        log_ratio = kappa * (near - gap) + n * ((near + middle * gap) / (near * (1 + middle))).log()
        accepted = log_ratio >= torch.rand_like(gap).log()
        return gap.gather(0, accepted.to(torch.uint8).argmax(0, keepdim=True)).squeeze(0)

    def log_prob(self, value: Float[Tensor, "... D"]) -> Float[Tensor, "..."]:
        """kappa (mu.z - 1) - log of the integral over the angle - log of the surface across; mu.z - 1 = -|z - mu|^2 / 2."""
        log_integral, _ = angular(double(self.kappa), self.d)
        return -0.5 * self.kappa * (value - self.mu).square().sum(-1) - log_integral.to(self.mu) - log_surface(self.d - 1)

    def entropy(self) -> Float[Tensor, "N"]:
        kappa = double(self.kappa)
        log_integral, gap = angular(kappa, self.d)
        return (kappa * gap + log_integral + log_surface(self.d - 1)).to(self.mu)

    def stopped(self) -> "VonMisesFisher":
        """The same with its parameters detached."""
        return VonMisesFisher(self.mu.detach(), self.kappa.detach())


class UniformOnSphere(Distribution):
    """The same density everywhere on the unit sphere in R^D, Gamma(D/2) / (2 pi^(D/2)).

    Args:
        like: [D], whose device and size it has.
    """

    arg_constraints: ClassVar[dict[str, Any]] = {}

    def __init__(self, like: Float[Tensor, "D"]) -> None:
        super().__init__(torch.Size(), like.shape, validate_args=False)
        self.like = like

    def sample(self, sample_shape: Sequence[int] = ()) -> Float[Tensor, "... D"]:
        return torch.nn.functional.normalize(torch.randn(self._extended_shape(torch.Size(sample_shape)), device=self.like.device), dim=-1)

    def log_prob(self, value: Float[Tensor, "... D"]) -> Float[Tensor, "..."]:
        return torch.full(value.shape[:-1], -log_surface(value.shape[-1]), dtype=value.dtype, device=value.device)


def _vmf_uniform(q: VonMisesFisher, p: UniformOnSphere) -> Tensor:
    """KL = log|S^(D-1)| - entropy of q, [N,1]: kappa A(kappa) + log C_D(kappa) + log|S^(D-1)|."""
    kappa = double(q.kappa)
    log_integral, gap = angular(kappa, q.d)
    # The surfaces in front of the two integrals are the same, and what is left of the uniform one is the integral of sin^(D-2).
    flat = 0.5 * math.log(math.pi) + math.lgamma(0.5 * (q.d - 1)) - math.lgamma(0.5 * q.d)
    return (flat - kappa * gap - log_integral).to(q.mu).unsqueeze(-1)


def _vmf_vmf(q: VonMisesFisher, p: VonMisesFisher) -> Tensor:
    """KL = kappa_q A - log Z(kappa_q) + log Z(kappa_p) - kappa_p A mu_q.mu_p with A = A(kappa_q), [N,1]; everything is written as a gap from 1."""
    kappa, other = double(q.kappa), double(p.kappa)
    log_integral, gap = angular(kappa, q.d)
    log_other, _ = angular(other, p.d)
    apart = 0.5 * double(q.mu - p.mu).square().sum(-1)
    # 1 - A mu_q.mu_p = gap + A apart
    return (other * (gap + (1 - gap) * apart) + log_other - kappa * gap - log_integral).to(q.mu).unsqueeze(-1)


TABLE[(VonMisesFisher, UniformOnSphere)] = _vmf_uniform  # type: ignore[assignment]
TABLE[(VonMisesFisher, VonMisesFisher)] = _vmf_vmf  # type: ignore[assignment]
