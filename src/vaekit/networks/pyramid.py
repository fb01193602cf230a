"""Networks around a ladder of latents: features at several resolutions on the way up, and what is left of the way down."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from vaekit.networks.base import Decoder, Encoder
from vaekit.networks.blocks import GatedDense, ResidualBlock, ceil_div, conditioned, cropped, padded


class PyramidEncoder(Encoder):
    """The residual encoder (pixel-unshuffle by `patch`, residual blocks at each width, 2x2 convolution with stride 2 between) with its maps kept.

    Gives {0: [B, F] dense features for the top latent, 1: [B, widths[-1], h, w] the coarsest map, 2: [B, widths[-2], 2h, 2w], ...}: one map for each
    resolution that has latents, counted from coarse to fine.

    Args:
        shape: (C, H, W) of the input.
        widths: channels at each resolution, from fine to coarse.
        maps: how many maps are handed over, from the coarsest on.
        blocks: residual blocks at each resolution.
        patch: side of the patches that become channels, 1 for none: the finest convolution runs at H / patch.
        dense: width of the dense bottleneck before the top latent.
        shortcut: width of a gated dense path straight from the pixels to the dense features, 0 for none.
        condition: G, the width of the embedded condition, 0 for none. The lower latents hear of it from above.
    """

    def __init__(
        self,
        shape: list[int],
        widths: list[int],
        maps: int = 1,
        blocks: int = 1,
        patch: int = 2,
        dense: int = 256,
        shortcut: int = 0,
        condition: int = 0,
    ) -> None:
        super().__init__()
        channels, height, width = shape
        self.maps, self.patch, self.multiple = maps, patch, patch * 2 ** (len(widths) - 1)
        self.stages = nn.ModuleList()
        for i, out in enumerate(widths):
            into = nn.Conv2d(channels * patch**2, out, 3, padding=1) if i == 0 else nn.Conv2d(widths[i - 1], out, 2, stride=2)
            self.stages.append(nn.Sequential(into, *[ResidualBlock(out) for _ in range(blocks)]))
        size = widths[-1] * ceil_div(height, self.multiple) * ceil_div(width, self.multiple)
        self.dense = GatedDense(size + condition, dense)
        pixels = channels * height * width
        self.shortcut = nn.Sequential(GatedDense(pixels, shortcut), GatedDense(shortcut, shortcut)) if shortcut else None
        self.features = dense + shortcut

    def forward(self, x: Float[Tensor, "B C H W"], c: Float[Tensor, "B G"] | None = None) -> dict[int, Tensor]:  # type: ignore[override]
        h = F.pixel_unshuffle(padded(x, self.multiple), self.patch)
        pyramid: list[Tensor] = []
        for stage in self.stages:
            h = stage(h)
            pyramid.append(h)
        # Flat first: what comes back is flat, and would meet the map in another layout.
        top = self.dense(conditioned(F.silu(h.flatten(1)), c))
        if self.shortcut is not None:
            top = torch.cat([top, self.shortcut(x.flatten(1))], dim=1)
        return {0: top} | {1 + i: pyramid[-1 - i] for i in range(self.maps)}


class PyramidDecoder(Decoder):
    """From the last map of a ladder to every pixel: convolution, pixel-shuffle and residual blocks up to full size, and a bias for every pixel.

    Takes {0: [N, D] the top code, 1: [N, widths[-1], h, w] the last map}. The bias starts at the data's own mean, and `shortcut` adds a gated dense
    path from the top code to every pixel.

    Args:
        latent: D, the width of the top code.
        output: (P, H, W) of the parameters.
        widths: channels at each resolution from the finest (H / patch) to that of the last map.
        blocks, patch, shortcut, condition: as in the encoder.
    """

    undecayed = ("bias",)

    def __init__(
        self, latent: int, output: list[int], widths: list[int], blocks: int = 1, patch: int = 2, shortcut: int = 0, condition: int = 0
    ) -> None:
        super().__init__()
        params, self.height, self.width = output
        self.patch = patch
        layers: list[nn.Module] = []
        for i in reversed(range(len(widths) - 1)):
            layers += [nn.Conv2d(widths[i + 1], widths[i] * 4, 1), nn.PixelShuffle(2), *[ResidualBlock(widths[i]) for _ in range(blocks)]]
        self.convolutions = nn.Sequential(*layers)
        self.head = nn.Conv2d(widths[0], params * patch**2, 3, padding=1)
        self.bias = nn.Parameter(torch.zeros(*output))
        self.shortcut = None
        if shortcut:
            hidden = [GatedDense(latent + condition, shortcut), GatedDense(shortcut, shortcut)]
            self.shortcut = nn.Sequential(*hidden, nn.Linear(shortcut, self.bias.numel()))

    def forward(  # type: ignore[override]
        self, d: dict[int, Tensor], c: Float[Tensor, "N G"] | None = None, target: Tensor | None = None
    ) -> Float[Tensor, "N P H W"]:
        h = F.silu(self.convolutions(d[1]))
        params = cropped(F.pixel_shuffle(self.head(h), self.patch), self.height, self.width) + self.bias
        return params if self.shortcut is None else params + self.shortcut(conditioned(d[0], c)).view(-1, *self.bias.shape)

    def initialize(self, bias: Float[Tensor, "P H W"] | None) -> None:
        if bias is not None:
            self.bias.data.copy_(bias)


def coarsest(shape: list[int], patch: int, resolutions: int) -> tuple[int, int]:
    """(h, w) of the coarsest of this many resolutions, the finest of which is an image of `shape` in patches."""
    multiple = patch * 2 ** (resolutions - 1)
    return ceil_div(shape[1], multiple), ceil_div(shape[2], multiple)
