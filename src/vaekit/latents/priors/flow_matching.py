"""Flow matching and its diffusion twin: noise is carried to codes along a learned velocity field."""

import math
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from vaekit.errors import UserError
from vaekit.latents.base import Prior

PATHS = ("straight", "cosine")


class FlowMatching(Prior):
    r"""dx/dt = v(x, t, c) carries N(0, I) at t = 0 to codes at t = 1.

        x_t = a(t) e + b(t) z,   loss = |v(x_t, t, c) - (a'(t) e + b'(t) z)|^2,   e ~ N(0, I), t ~ U(0, 1), z a code

    The path is "straight" (a = 1 - t, b = t: flow matching) or "cosine" (a = cos(pi t / 2), b = sin(pi t / 2): the diffusion that preserves variance,
    in its v-parametrization up to a factor of pi / 2). The loss is a sum over the code's dimensions; it is no log-likelihood. Codes should be about
    standardized (see `Fitted`).

    A draw takes `steps` steps of Heun's method. Guidance g replaces v by v(none) + g (v(c) - v(none)): above 1, codes are more typical of their
    condition and less varied. The condition "none" is the zero vector, which training must show it now and then.

    References:
        Flow Matching for Generative Modeling (Lipman et al., 2022), Eq. 22 and 23, https://arxiv.org/abs/2210.02747
        Progressive Distillation for Fast Sampling of Diffusion Models (Salimans, Ho, 2022), appendix D, https://arxiv.org/abs/2202.00512
        Classifier-Free Diffusion Guidance (Ho, Salimans, 2022), Eq. 6, https://arxiv.org/abs/2207.12598

    Args:
        latent: D, the number of latent dimensions.
        path: as above.
        width, blocks: of the residual dense network.
        condition: G, the width of the embedded condition, 0 for none.
        steps: of a draw.

    Raises:
        UserError: for an unknown path.
    """

    takes = frozenset({"guidance"})

    def __init__(self, latent: int, path: str = "straight", width: int = 512, blocks: int = 4, condition: int = 0, steps: int = 40) -> None:
        super().__init__()
        if path not in PATHS:
            raise UserError(f"A path is {' or '.join(PATHS)}, and not '{path}'.")
        self.latent, self.path, self.told, self.steps = latent, path, condition, steps
        self.into = nn.Linear(latent, width)
        self.time = nn.Sequential(nn.Linear(TIMES, width), nn.SiLU(), nn.Linear(width, width))
        self.condition = nn.Linear(condition, width, bias=False) if condition else None
        self.blocks = nn.ModuleList(_Block(width) for _ in range(blocks))
        self.out = nn.Linear(width, latent)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def velocity(self, x: Float[Tensor, "N D"], t: Float[Tensor, "N"], c: Float[Tensor, "N G"] | None = None) -> Float[Tensor, "N D"]:
        """v(x, t, c)."""
        told = self.time(_waves(t))
        if self.condition is not None and c is not None:
            told = told + self.condition(c)
        h = self.into(x)
        for block in self.blocks:
            h = block(h, told)
        return self.out(F.silu(h)).float()

    def loss(self, code: Float[Tensor, "N D"], c: Float[Tensor, "N G"] | None = None) -> Float[Tensor, "N"]:
        """[N], the squared error of the velocity at one random time, summed over dimensions."""
        noise, t = torch.randn_like(code), torch.rand(len(code), device=code.device)
        (a, slope_a), (b, slope_b) = (tuple(x.unsqueeze(1) for x in pair) for pair in self._path(t))
        wanted = slope_a * noise + slope_b * code
        return (self.velocity(a * noise + b * code, t, c) - wanted).square().sum(1)

    def _path(self, t: Tensor) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
        """(a, a') and (b, b') at t."""
        if self.path == "straight":
            one = torch.ones_like(t)
            return (1 - t, -one), (t, one)
        half = math.pi / 2
        sine, cosine = torch.sin(half * t), torch.cos(half * t)
        return (cosine, -half * sine), (sine, half * cosine)

    @torch.no_grad()
    def sample(self, n: int, *, c: Tensor | None = None, temperature: float = 1.0, guidance: float = 1.0) -> Float[Tensor, "n D"]:
        """n codes; `temperature` multiplies the noise that they start from."""
        x = temperature * torch.randn(n, self.latent, device=self.out.weight.device)
        times = torch.linspace(0, 1, self.steps + 1, device=x.device)
        for now, then in pairwise(times):
            slope = self._guided(x, now, c, guidance)
            ahead = self._guided(x + (then - now) * slope, then, c, guidance)
            x = x + 0.5 * (then - now) * (slope + ahead)
        return x

    def _guided(self, x: Tensor, t: Tensor, c: Tensor | None, guidance: float) -> Tensor:
        t = t.expand(len(x))
        if c is None or self.condition is None or guidance == 1.0:
            return self.velocity(x, t, c)
        free = self.velocity(x, t, torch.zeros_like(c))
        return free + guidance * (self.velocity(x, t, c) - free)


TIMES = 64
"""Sines and cosines that tell the time."""


def _waves(t: Float[Tensor, "N"]) -> Float[Tensor, "N 64"]:
    """sin and cos of the time at periods from a tenth of the unit to four units."""
    angles = t.unsqueeze(1) * 2 * math.pi * torch.logspace(math.log10(0.25), 1.0, TIMES // 2, device=t.device)
    return torch.cat([angles.sin(), angles.cos()], dim=1)


class _Block(nn.Module):
    """h + W2 act(W1 act(norm(h) (1 + scale) + shift)), scale and shift told by time and condition; it starts as the identity."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.told = nn.Linear(width, 2 * width)
        self.first, self.second = nn.Linear(width, width), nn.Linear(width, width)
        nn.init.zeros_(self.second.weight)
        nn.init.zeros_(self.second.bias)

    def forward(self, h: Float[Tensor, "N W"], told: Float[Tensor, "N W"]) -> Float[Tensor, "N W"]:
        scale, shift = self.told(F.silu(told)).chunk(2, dim=1)
        return h + self.second(F.silu(self.first(F.silu(self.norm(h) * (1 + scale) + shift))))
