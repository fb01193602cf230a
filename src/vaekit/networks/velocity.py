"""Velocity fields of codes: what flow matching learns."""

import abc
import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from vaekit.part import Part

TIMES = 64
"""Fourier features of the time."""


class Velocity(Part):
    """v(x, t, c), a field over codes [*E] at times from 0 to 1; at the start it is 0 everywhere."""

    shape: tuple[int, ...]
    """*E."""
    condition: int
    """G, the width of the embedded condition that it is told, 0 for none."""

    @abc.abstractmethod
    def forward(self, x: Float[Tensor, "N *E"], t: Float[Tensor, "#N"], c: Float[Tensor, "N G"] | None = None) -> Float[Tensor, "N *E"]:
        """v at x, in float32; one time for all codes, or one for each; without a condition the same as with the condition 0."""


class TimeAndCondition(nn.Module):
    """Time and condition as one vector of width W, MLP(fourier_features(t)) + M c."""

    def __init__(self, width: int, condition: int) -> None:
        super().__init__()
        self.time = nn.Sequential(nn.Linear(TIMES, width), nn.SiLU(), nn.Linear(width, width))
        self.condition = nn.Linear(condition, width, bias=False) if condition else None

    def forward(self, t: Float[Tensor, "#N"], c: Float[Tensor, "N G"] | None = None) -> Float[Tensor, "M W"]:
        time = self.time(fourier_features(t))
        return time if self.condition is None or c is None else time + self.condition(c)


def fourier_features(t: Float[Tensor, "N"]) -> Float[Tensor, "N 64"]:
    """sin and cos of the time at periods from a tenth of the unit to four units."""
    angles = t.unsqueeze(1) * 2 * math.pi * torch.logspace(math.log10(0.25), 1.0, TIMES // 2, device=t.device)
    return torch.cat([angles.sin(), angles.cos()], dim=1)


class VelocityMLP(Velocity):
    """For vectors [D]: residual dense blocks h + W2 act(W1 act(norm(h) (1 + scale) + shift)), told time and condition by scale and shift.

    Args:
        latent: D.
        width, blocks: of the network.
        condition: G, the width of the embedded condition, 0 for none.
    """

    def __init__(self, latent: int, width: int = 512, blocks: int = 4, condition: int = 0) -> None:
        super().__init__()
        self.shape, self.condition = (latent,), condition
        self.into = nn.Linear(latent, width)
        self.told = TimeAndCondition(width, condition)
        self.blocks = nn.ModuleList(_Block(width) for _ in range(blocks))
        self.out = zeroed(nn.Linear(width, latent))

    def forward(self, x: Float[Tensor, "N D"], t: Float[Tensor, "#N"], c: Float[Tensor, "N G"] | None = None) -> Float[Tensor, "N D"]:
        told = self.told(t, c)
        h = self.into(x)
        for block in self.blocks:
            h = block(h, told)
        return self.out(F.silu(h)).float()


class _Block(nn.Module):
    """One of the residual blocks; it starts as the identity."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.told = nn.Linear(width, 2 * width)
        self.first, self.second = nn.Linear(width, width), zeroed(nn.Linear(width, width))

    def forward(self, h: Float[Tensor, "N W"], told: Float[Tensor, "#N W"]) -> Float[Tensor, "N W"]:
        scale, shift = self.told(F.silu(told)).chunk(2, dim=1)
        return h + self.second(F.silu(self.first(F.silu(self.norm(h) * (1 + scale) + shift))))


def zeroed(layer: nn.Linear | nn.Conv2d) -> nn.Module:
    """The layer with all of its weights 0."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer
