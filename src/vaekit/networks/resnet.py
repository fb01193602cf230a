"""Residual networks: patches in, residual blocks at each resolution, a dense bottleneck, and the mirror image of it."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from vaekit.networks.base import Decoder, Encoder
from vaekit.networks.blocks import GatedDense, ResidualBlock, ceil_div, conditioned, cropped, padded


class ResNetEncoder(Encoder):
    """Pixel-unshuffle by `patch`, then at each width residual blocks and a 2x2 convolution with stride 2 to the next; gated dense to F.

    `shortcut` adds a gated dense path straight from the pixels, whose features stand beside the others: cheap, and it learns the
    coarse of small images at once.

    Args:
        shape: (C, H, W) of the input.
        widths: channels at each resolution, from fine to coarse.
        blocks: residual blocks at each resolution.
        patch: side of the patches that become channels, 1 for none: the finest convolution runs at H / patch.
        dense: width of the dense bottleneck.
        shortcut: width of the dense path from the pixels, 0 for none.
        norm: group norm before each activation.
        condition: G, the width of the embedded condition, 0 for none.
    """

    def __init__(
        self,
        shape: list[int],
        widths: list[int],
        blocks: int = 1,
        patch: int = 2,
        dense: int = 256,
        shortcut: int = 0,
        norm: bool = False,
        condition: int = 0,
    ) -> None:
        super().__init__()
        channels, height, width = shape
        self.patch, self.multiple = patch, patch * 2 ** (len(widths) - 1)
        layers: list[nn.Module] = [nn.Conv2d(channels * patch**2, widths[0], 3, padding=1)]
        for i, out in enumerate(widths):
            if i > 0:
                layers.append(nn.Conv2d(widths[i - 1], out, 2, stride=2))
            layers += [ResidualBlock(out, norm) for _ in range(blocks)]
        self.convolutions = nn.Sequential(*layers)
        size = widths[-1] * ceil_div(height, self.multiple) * ceil_div(width, self.multiple)
        self.dense = GatedDense(size + condition, dense)
        pixels = channels * height * width
        self.shortcut = nn.Sequential(GatedDense(pixels, shortcut), GatedDense(shortcut, shortcut)) if shortcut else None
        self.features = dense + shortcut

    def forward(self, x: Float[Tensor, "B C H W"], c: Float[Tensor, "B G"] | None = None) -> Float[Tensor, "B F"]:
        h = F.silu(self.convolutions(F.pixel_unshuffle(padded(x, self.multiple), self.patch)))
        features = self.dense(conditioned(h.flatten(1), c))
        return features if self.shortcut is None else torch.cat([features, self.shortcut(x.flatten(1))], dim=1)


class ResNetDecoder(Decoder):
    """The mirror image: gated dense to the coarsest map, residual blocks, convolution and pixel-shuffle up; a learned bias for every pixel.

    The bias starts at the data's own mean, and `shortcut` adds a gated dense path from the code to every pixel.

    Args:
        latent: D, the width of the code.
        output: (P, H, W) of the parameters.
        widths, blocks, patch, dense, shortcut, norm, condition: as in the encoder.
    """

    undecayed = ("bias",)

    def __init__(
        self,
        latent: int,
        output: list[int],
        widths: list[int],
        blocks: int = 1,
        patch: int = 2,
        dense: int = 256,
        shortcut: int = 0,
        norm: bool = False,
        condition: int = 0,
    ) -> None:
        super().__init__()
        params, self.height, self.width = output
        self.patch, multiple = patch, patch * 2 ** (len(widths) - 1)
        self.map = (widths[-1], ceil_div(self.height, multiple), ceil_div(self.width, multiple))
        self.dense = nn.Sequential(GatedDense(latent + condition, dense), nn.Linear(dense, self.map[0] * self.map[1] * self.map[2]))
        layers: list[nn.Module] = []
        for i in reversed(range(len(widths))):
            layers += [ResidualBlock(widths[i], norm) for _ in range(blocks)]
            if i > 0:
                layers += [nn.Conv2d(widths[i], widths[i - 1] * 4, 1), nn.PixelShuffle(2)]
        self.convolutions = nn.Sequential(*layers)
        self.head = nn.Conv2d(widths[0], params * patch**2, 3, padding=1)
        self.bias = nn.Parameter(torch.zeros(*output))
        self.shortcut = None
        if shortcut:
            hidden = [GatedDense(latent + condition, shortcut), GatedDense(shortcut, shortcut)]
            self.shortcut = nn.Sequential(*hidden, nn.Linear(shortcut, self.bias.numel()))

    def forward(self, d: Float[Tensor, "N D"], c: Float[Tensor, "N G"] | None = None, target: Tensor | None = None) -> Float[Tensor, "N P H W"]:
        d = conditioned(d, c)
        h = F.silu(self.convolutions(self.dense(d).view(-1, *self.map)))
        params = cropped(F.pixel_shuffle(self.head(h), self.patch), self.height, self.width) + self.bias
        return params if self.shortcut is None else params + self.shortcut(d).view(-1, *self.bias.shape)

    def initialize(self, bias: Float[Tensor, "P H W"] | None) -> None:
        if bias is not None:
            self.bias.data.copy_(bias)
