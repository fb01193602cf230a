"""Pixels that know of the pixels before them."""

from typing import ClassVar, Literal

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn
from torch.nn import functional as F

from vaekit.data.spec import DataSpec
from vaekit.distributions.causal import CausalPixels
from vaekit.errors import UserError
from vaekit.likelihoods.base import Likelihood
from vaekit.likelihoods.bernoulli import Bernoulli
from vaekit.likelihoods.gaussian import Gaussian
from vaekit.likelihoods.laplace import Laplace
from vaekit.likelihoods.mixture import Mixture
from vaekit.likelihoods.options import given
from vaekit.memory import laid_out


class Causal(Likelihood):
    r"""p(x|z) = prod_i p(x_i | z, x_<i): what the decoder says of a pixel is corrected by what the pixels above it and to its left turned out to be.

    The pixel's own likelihood takes the sum of the decoder's parameters and of a small network's: a convolution of the (2r+1) x (r+1) pixels around
    it that come before it, the decoder's context beside them, then residual 1x1 convolutions. It sees r pixels far and no farther, so that texture
    is left to it, and all else to the code (the "lossy" autoencoder of Chen et al.). The correction starts at zero.

    Raises:
        UserError: for a reach below 1, and for a pixel likelihood with the optimal sigma, which is a mean over pixels on their own.

    References:
        PixelVAE: A Latent Variable Model for Natural Images (Gulrajani et al., 2016), section 3, https://arxiv.org/abs/1611.05013
        Variational Lossy Autoencoder (Chen et al., 2016), section 3.2, https://arxiv.org/abs/1611.02731
        Pixel Recurrent Neural Networks (van den Oord et al., 2016), section 3.4 (masks), https://arxiv.org/abs/1601.06759

    Args:
        pixel: p of one pixel: a `Bernoulli`, a `Mixture`, a `Gaussian`.
        channels: C, the number of image channels.
        context: channels that the decoder hands to the network, beside the pixel's own parameters.
        reach: r.
        width: channels of the network.
        blocks: residual blocks of it.
    """

    kind: ClassVar[Literal["pmf", "density", "bound", "energy"]] = "pmf"
    """That of the pixel."""
    sizes: ClassVar[dict[str, int]] = {"context": 8, "reach": 3, "width": 32, "blocks": 1}
    """What its network may be given, by `for_data` too: what is usual."""

    def __init__(self, pixel: Likelihood, channels: int, context: int = 8, reach: int = 3, width: int = 32, blocks: int = 1) -> None:
        super().__init__()
        if isinstance(pixel, (Gaussian, Laplace)) and pixel.noise.mode == "optimal":
            raise UserError("Pixels that know of each other go with a learned or a fixed sigma, and not with the optimal one.")
        self.kind = pixel.kind  # type: ignore[misc]
        if reach < 1:
            raise UserError(f"The reach is at least one pixel, and not {reach}.")
        if width < 1 or context < 0 or blocks < 0:
            raise UserError(f"The causal network has a width of at least 1, not {width}, and no negative context ({context}) or blocks ({blocks}).")
        self.pixel, self.image_channels, self.context, self.reach = pixel, channels, context, reach
        self.own = pixel.channels(channels)
        self.before = nn.Parameter(torch.empty(width, channels, reach + 1, 2 * reach + 1))
        nn.init.kaiming_uniform_(self.before, a=5**0.5)
        self.told = nn.Conv2d(self.own + context, width, 1)
        self.blocks = nn.ModuleList([nn.Sequential(nn.Conv2d(width, width, 1), nn.SiLU(), nn.Conv2d(width, width, 1)) for _ in range(blocks)])
        self.head = nn.Conv2d(width, self.own, 1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)  # type: ignore[arg-type]
        mask = torch.ones(reach + 1, 2 * reach + 1)
        mask[reach, reach:] = 0.0
        self.register_buffer("mask", mask, persistent=False)

    mask: Tensor

    @classmethod
    def for_data(cls, data: DataSpec, **options: object) -> "Causal":
        chosen = given("causal", options, ("components", *cls.sizes))
        sizes = {name: chosen.pop(name) for name in cls.sizes if name in chosen}
        own = Gaussian if data.levels is None else Bernoulli if data.levels == 2 else Mixture
        return cls(own.for_data(data, **chosen), data.shape[0], **sizes)

    def channels(self, image_channels: int) -> int:
        """P: the pixel's own parameters, then the context."""
        return self.pixel.channels(image_channels) + self.context

    def input(self, x: Shaped[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        return self.pixel.input(x)

    def target(self, x: Shaped[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        return self.pixel.target(x)

    def forward(self, params: Float[Tensor, "N P H W"]) -> CausalPixels:
        return CausalPixels(params, self._conditional, self.input, self.reach, self.image_channels)

    def _conditional(self, params: Float[Tensor, "N P h w"], known: Float[Tensor, "N C h2 w2"]) -> torch.distributions.Distribution:
        told = self.told(params.float())
        h = told + F.conv2d(laid_out(known, told), self.before * self.mask)
        for block in self.blocks:
            h = h + block(F.silu(h))
        return self.pixel(params[:, : self.own].float() + self.head(F.silu(h)).float())

    def initialize(self, x: Shaped[Tensor, "B C H W"]) -> None:
        self.pixel.initialize(x)

    @torch.no_grad()
    def bias(self, x: Shaped[Tensor, "B C H W"]) -> Float[Tensor, "P H W"] | None:
        """The pixel's own, and zero for the context."""
        own = self.pixel.bias(x)
        return None if own is None else torch.cat([own, own.new_zeros(self.context, *own.shape[1:])])
