"""Networks whose code is a map: no dense bottleneck, so that they fit any size, and each code speaks for a patch."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from vaekit.networks.base import Decoder, Encoder
from vaekit.networks.blocks import ResidualBlock, cropped, padded


def beside(x: Float[Tensor, "N C h w"], c: Float[Tensor, "N G"] | None) -> Float[Tensor, "N C2 h w"]:
    """The map with the embedded condition as G more channels, the same everywhere."""
    return x if c is None else torch.cat([x, c.to(x.dtype)[:, :, None, None].expand(-1, -1, *x.shape[2:])], dim=1)


class MapEncoder(Encoder):
    """Pixel-unshuffle by 2, then at each width residual blocks and a 2x2 convolution with stride 2 to the next; 1x1 to F channels.

    A map of ceil(H / 2^n) x ceil(W / 2^n) positions for n widths.

    Args:
        shape: (C, H, W) of the input.
        features: F, the channels of the map.
        widths: channels at each resolution, from fine to coarse.
        blocks: residual blocks at each resolution; twice as many at the coarsest.
        norm: group norm before each activation.
        condition: G, the width of the embedded condition, 0 for none.
    """

    def __init__(self, shape: list[int], features: int, widths: list[int], blocks: int = 1, norm: bool = False, condition: int = 0) -> None:
        super().__init__()
        self.features, self.multiple = features, 2 ** len(widths)
        layers: list[nn.Module] = [nn.Conv2d(4 * shape[0] + condition, widths[0], 3, padding=1)]
        for i, width in enumerate(widths):
            if i > 0:
                layers.append(nn.Conv2d(widths[i - 1], width, 2, stride=2))
            layers += [ResidualBlock(width, norm) for _ in range(blocks * (2 if i == len(widths) - 1 else 1))]
        self.convolutions = nn.Sequential(*layers, nn.SiLU(), nn.Conv2d(widths[-1], features, 1))

    def forward(self, x: Float[Tensor, "B C H W"], c: Float[Tensor, "B G"] | None = None) -> Float[Tensor, "B F h w"]:  # type: ignore[override]
        return self.convolutions(beside(F.pixel_unshuffle(padded(x, self.multiple), 2), c))


class MapDecoder(Decoder):
    """The mirror image: 3x3 from the map, residual blocks at each resolution, convolution and pixel-shuffle up; a learned bias for every pixel.

    Args:
        latent: D, the channels of the map.
        output: (P, H, W) of the parameters.
        widths, blocks, norm, condition: as in the encoder.
    """

    undecayed = ("bias",)

    def __init__(self, latent: int, output: list[int], widths: list[int], blocks: int = 1, norm: bool = False, condition: int = 0) -> None:
        super().__init__()
        params, self.height, self.width = output
        layers: list[nn.Module] = [nn.Conv2d(latent + condition, widths[-1], 3, padding=1)]
        for i in reversed(range(len(widths))):
            layers += [ResidualBlock(widths[i], norm) for _ in range(blocks * (2 if i == len(widths) - 1 else 1))]
            if i > 0:
                layers += [nn.Conv2d(widths[i], 4 * widths[i - 1], 1), nn.PixelShuffle(2)]
        self.convolutions = nn.Sequential(*layers, nn.SiLU(), nn.Conv2d(widths[0], 4 * params, 3, padding=1))
        self.bias = nn.Parameter(torch.zeros(*output))

    def forward(  # type: ignore[override]
        self, d: Float[Tensor, "N D h w"], c: Float[Tensor, "N G"] | None = None, target: Tensor | None = None
    ) -> Float[Tensor, "N P H W"]:
        return cropped(F.pixel_shuffle(self.convolutions(beside(d, c)), 2), self.height, self.width) + self.bias

    def initialize(self, bias: Float[Tensor, "P H W"] | None) -> None:
        if bias is not None:
            self.bias.data.copy_(bias)
