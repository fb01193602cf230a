"""A velocity field of maps of codes: a transformer over their positions."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from vaekit.networks.velocity import Told, Velocity, zeroed


class VelocityTransformer(Velocity):
    """For maps [D, h, w]: the positions are the tokens, each block is told time and condition by scale, shift and gate (adaLN-zero).

    One dense layer makes the scales, shifts and gates of all blocks, to which each block adds its own. A map of one position is a vector: attention
    then hands on what it gets.

    References:
        Scalable Diffusion Models with Transformers (Peebles, Xie, 2022), section 3.2, https://arxiv.org/abs/2212.09748
        PixArt-alpha (Chen et al., 2023), section 2.3 (adaLN-single), https://arxiv.org/abs/2310.00426

    Args:
        shape: [D, h, w].
        width: W of a token, a multiple of `heads`.
        blocks, heads: of the network.
        condition: G, the width of the embedded condition, 0 for none.
    """

    undecayed = ("place",)

    def __init__(self, shape: list[int], width: int = 128, blocks: int = 4, heads: int = 4, condition: int = 0) -> None:
        super().__init__()
        channels, height, across = shape
        self.shape, self.condition = (channels, height, across), condition
        self.into = nn.Linear(channels, width)
        self.place = nn.Parameter(0.1 * torch.randn(height * across, width))
        self.told = Told(width, condition)
        self.modulation = zeroed(nn.Linear(width, 6 * width))
        self.blocks = nn.ModuleList(_Block(width, heads) for _ in range(blocks))
        self.norm = nn.LayerNorm(width)
        self.out = zeroed(nn.Linear(width, channels))

    def forward(self, x: Float[Tensor, "N D h w"], t: Float[Tensor, "#N"], c: Float[Tensor, "N G"] | None = None) -> Float[Tensor, "N D h w"]:
        told = self.modulation(F.silu(self.told(t, c))).view(-1, 6, 1, self.place.shape[1])
        h = self.into(x.flatten(2).transpose(1, 2)) + self.place
        for block in self.blocks:
            h = block(h, told)
        return self.out(self.norm(h)).float().transpose(1, 2).reshape(x.shape)


class _Block(nn.Module):
    """Attention and a dense network, each h + gate * f(norm(h) (1 + scale) + shift)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.own = nn.Parameter(torch.zeros(6, 1, width))
        self.qkv, self.mix = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.dense = nn.Sequential(nn.Linear(width, 4 * width), nn.SiLU(), nn.Linear(4 * width, width))

    def forward(self, h: Float[Tensor, "N P W"], told: Float[Tensor, "#N 6 1 W"]) -> Float[Tensor, "N P W"]:
        scale1, shift1, gate1, scale2, shift2, gate2 = (told + self.own).unbind(1)
        h = h + gate1 * self._attention(self.norm(h) * (1 + scale1) + shift1)
        return h + gate2 * self.dense(self.norm(h) * (1 + scale2) + shift2)

    def _attention(self, h: Float[Tensor, "N P W"]) -> Float[Tensor, "N P W"]:
        q, k, v = self.qkv(h).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return self.mix(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
