"""A velocity field of maps of codes: a small U-Net."""

from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from vaekit.networks.velocity import TimeAndCondition, Velocity, zeroed


class VelocityUNet(Velocity):
    """For maps [D, h, w]: residual blocks at each resolution on the way down, and on the way up beside what the way down has seen.

    Each block is told time and condition by scale and shift. A resolution halves the one before, rounded up; there are as many as there are widths,
    and no more than it takes to come to one position. A map of one position is a vector.

    References:
        Denoising Diffusion Probabilistic Models (Ho et al., 2020), appendix B, https://arxiv.org/abs/2006.11239
        Diffusion Models Beat GANs on Image Synthesis (Dhariwal, Nichol, 2021), section 3.1 (scale and shift), https://arxiv.org/abs/2105.05233

    Args:
        shape: [D, h, w].
        widths: channels at each resolution, from fine to coarse; multiples of 8.
        blocks: at each resolution, on either way.
        condition: G, the width of the embedded condition, 0 for none.
    """

    def __init__(self, shape: list[int], widths: list[int], blocks: int = 2, condition: int = 0) -> None:
        super().__init__()
        channels, height, across = shape
        self.shape, self.condition = (channels, height, across), condition
        # n halvings, rounded up, of a side s come to one position if 2^n >= s.
        widths = widths[: 1 + (max(height, across) - 1).bit_length()]
        vector = 2 * widths[-1]
        self.told = TimeAndCondition(vector, condition)
        # Each position has a bias of its own, since convolutions do not know where they are.
        self.place = nn.Parameter(torch.zeros(widths[0], height, across))
        self.into = nn.Conv2d(channels, widths[0], 3, padding=1)
        self.down = nn.ModuleList(_Stage(w, w, vector, blocks) for w in widths)
        self.coarser = nn.ModuleList(nn.Conv2d(a, b, 3, stride=2, padding=1) for a, b in pairwise(widths))
        self.up = nn.ModuleList(_Stage(2 * w, w, vector, blocks) for w in widths)
        self.finer = nn.ModuleList(nn.Conv2d(b, a, 3, padding=1) for a, b in pairwise(widths))
        self.norm = nn.GroupNorm(widths[0] // 8, widths[0])
        self.out = zeroed(nn.Conv2d(widths[0], channels, 3, padding=1))

    def forward(self, x: Float[Tensor, "N D h w"], t: Float[Tensor, "#N"], c: Float[Tensor, "N G"] | None = None) -> Float[Tensor, "N D h w"]:
        told = F.silu(self.told(t, c))
        h, seen = self.into(x) + self.place, []
        for i, stage in enumerate(self.down):
            h = stage(self.coarser[i - 1](h) if i > 0 else h, told)
            seen.append(h)
        for i in reversed(range(len(seen))):
            if i < len(self.finer):
                h = self.finer[i](F.interpolate(h, size=seen[i].shape[2:]))
            h = self.up[i](torch.cat([h, seen[i]], dim=1), told)
        return self.out(F.silu(self.norm(h))).float()


class _Stage(nn.Module):
    """The blocks of one resolution, on one of the ways."""

    def __init__(self, inputs: int, width: int, vector: int, blocks: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(_Block(inputs if i == 0 else width, width, vector) for i in range(blocks))

    def forward(self, h: Float[Tensor, "N I h w"], told: Float[Tensor, "#N T"]) -> Float[Tensor, "N W h w"]:
        for block in self.blocks:
            h = block(h, told)
        return h


class _Block(nn.Module):
    """skip(h) + conv(act(norm(conv(act(norm(h)))) (1 + scale) + shift)); without a change of width it starts as the identity."""

    def __init__(self, inputs: int, width: int, vector: int) -> None:
        super().__init__()
        self.skip = nn.Conv2d(inputs, width, 1) if inputs != width else nn.Identity()
        self.first = nn.Sequential(nn.GroupNorm(inputs // 8, inputs), nn.SiLU(), nn.Conv2d(inputs, width, 3, padding=1))
        self.norm, self.told = nn.GroupNorm(width // 8, width), nn.Linear(vector, 2 * width)
        self.second = zeroed(nn.Conv2d(width, width, 3, padding=1))

    def forward(self, h: Float[Tensor, "N I h w"], told: Float[Tensor, "#N T"]) -> Float[Tensor, "N W h w"]:
        scale, shift = self.told(told)[:, :, None, None].chunk(2, dim=1)
        return self.skip(h) + self.second(F.silu(self.norm(self.first(h)) * (1 + scale) + shift))
