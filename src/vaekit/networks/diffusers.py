"""The autoencoder of latent diffusion with the networks of `diffusers`, so that its weights are those of an `AutoencoderKL` or a `VQModel`."""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vaekit.errors import UserError
from vaekit.networks.base import Decoder, Encoder
from vaekit.networks.blocks import cropped, padded
from vaekit.networks.maps import beside

PIXELS = 2**20
"""Of the images that pass through a network at once where no gradient is wanted: activations of a large batch of large images fill any memory."""


def _networks() -> Any:
    """The module of diffusers that holds both networks: it takes seconds to import, and is an extra."""
    try:
        from diffusers.models.autoencoders import vae
    except ImportError as error:
        raise UserError("The networks of tokenizers are those of diffusers, which is not installed: pip install diffusers.") from error
    return vae


def _options(widths: list[int], layers: int, groups: int, attention: bool) -> dict[str, Any]:
    if any(width % groups for width in widths):
        raise UserError(f"The groups of the normalization divide every width, and {groups} does not divide {widths}.")
    return {"block_out_channels": tuple(widths), "layers_per_block": layers, "norm_num_groups": groups, "mid_block_add_attention": attention}


def _sliced(net: Callable[[Tensor], Tensor], x: Tensor, pixels: int) -> Tensor:
    """`net(x)`, in slices of the batch where no gradient is wanted; `pixels` is the size of an image."""
    size = max(1, PIXELS // pixels)
    return net(x) if torch.is_grad_enabled() or len(x) <= size else torch.cat([net(part) for part in x.split(size)])


class DiffusersEncoder(Encoder):
    """`diffusers`' encoder: residual blocks at each width, halved in between, with attention at the coarsest: [B,C,H,W] -> [B,F,ceil(H/f),ceil(W/f)].

    f = 2^(len(widths) - 1). A size that f does not divide is padded by repeating the edge. A condition stands beside the image as G more channels.

    References: High-Resolution Image Synthesis with Latent Diffusion Models (Rombach et al., 2022), appendix G, https://arxiv.org/abs/2112.10752

    Args:
        shape: (C, H, W) of the input.
        features: F, the channels of the map.
        widths: channels at each resolution, from fine to coarse.
        layers: residual blocks at each resolution.
        groups: of the normalization; they divide each width.
        attention: in the block at the coarsest resolution.
        quantized: a 1x1 convolution ends it, `quant_conv` of a `VQModel` (that of an `AutoencoderKL` is the posterior's).
        condition: G, the width of the embedded condition, 0 for none.

    Raises:
        UserError: where diffusers is not installed, or the groups do not divide the widths.
    """

    def __init__(
        self,
        shape: list[int],
        features: int,
        widths: list[int],
        layers: int = 1,
        groups: int = 4,
        attention: bool = True,
        quantized: bool = False,
        condition: int = 0,
    ) -> None:
        super().__init__()
        self.features, self.factor, self.pixels = features, 2 ** (len(widths) - 1), shape[1] * shape[2]
        options = _options(widths, layers, groups, attention)
        blocks = ("DownEncoderBlock2D",) * len(widths)
        self.net = _networks().Encoder(shape[0] + condition, features, blocks, double_z=False, **options)
        self.quant_conv = nn.Conv2d(features, features, 1) if quantized else nn.Identity()

    def forward(self, x: Float[Tensor, "B C H W"], c: Float[Tensor, "B G"] | None = None) -> Float[Tensor, "B F h w"]:  # type: ignore[override]
        return self.quant_conv(_sliced(self.net, beside(padded(x, self.factor), c), self.pixels))


class DiffusersDecoder(Decoder):
    """`post_quant_conv` (1x1) and `diffusers`' decoder, the mirror image with one block more at each resolution: [N,D,h,w] -> [N,P,H,W].

    What was padded is cropped. It starts from the mean colour of the data.

    References: High-Resolution Image Synthesis with Latent Diffusion Models (Rombach et al., 2022), appendix G, https://arxiv.org/abs/2112.10752

    Args:
        latent: D, the channels of the code.
        output: (P, H, W) of the parameters.
        widths, layers, groups, attention, condition: as in the encoder.

    Raises:
        UserError: where diffusers is not installed, or the groups do not divide the widths.
    """

    def __init__(
        self,
        latent: int,
        output: list[int],
        widths: list[int],
        layers: int = 1,
        groups: int = 4,
        attention: bool = True,
        condition: int = 0,
    ) -> None:
        super().__init__()
        params, self.height, self.width = output
        blocks = ("UpDecoderBlock2D",) * len(widths)
        self.post_quant_conv = nn.Conv2d(latent + condition, latent, 1)
        self.net = _networks().Decoder(latent, params, blocks, **_options(widths, layers, groups, attention))

    def forward(  # type: ignore[override]
        self, d: Float[Tensor, "N D h w"], c: Float[Tensor, "N G"] | None = None, target: Tensor | None = None
    ) -> Float[Tensor, "N P H W"]:
        made = _sliced(self.net, self.post_quant_conv(beside(d, c)), self.height * self.width)
        return cropped(made, self.height, self.width)

    @torch.no_grad()
    def initialize(self, bias: Float[Tensor, "P H W"] | None) -> None:
        """The last convolution has a bias for each channel, and none for each pixel."""
        if bias is not None:
            self.net.conv_out.bias.copy_(bias.mean((1, 2)))
