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
    it that come before it, the decoder's context beside them, then residual 1x1 convolutions, then residual masked ones. Through the first it sees r
    pixels far, and through each masked one farther by that one's step. Texture is left to it, and all else to the code (the "lossy" autoencoder of
    Chen et al.). The correction starts at zero.

    Raises:
        UserError: for a size below its least, and for a pixel likelihood with the optimal sigma, which is a mean over pixels on their own.

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
        blocks: residual blocks of 1x1 convolutions.
        layers: residual masked convolutions after them (`MaskedConvolution`), with steps of 1 and 2 in turn.
    """

    kind: ClassVar[Literal["pmf", "density", "bound", "energy"]] = "pmf"
    """That of the pixel."""
    sizes: ClassVar[dict[str, tuple[int, int]]] = {"context": (8, 0), "reach": (3, 1), "width": (32, 1), "blocks": (1, 0), "layers": (0, 0)}
    """What its network may be given, by `for_data` too: what is usual, and the least."""

    def __init__(self, pixel: Likelihood, channels: int, context: int = 8, reach: int = 3, width: int = 32, blocks: int = 1, layers: int = 0) -> None:
        super().__init__()
        if isinstance(pixel, (Gaussian, Laplace)) and pixel.noise.mode == "optimal":
            raise UserError("Pixels that know of each other go with a learned or a fixed sigma, and not with the optimal one.")
        self.kind = pixel.kind  # type: ignore[misc]
        if reach < 1:
            raise UserError(f"The reach is at least one pixel, and not {reach}.")
        if width < 1 or min(context, blocks, layers) < 0:
            sizes = f"context ({context}), blocks ({blocks}) or layers ({layers})"
            raise UserError(f"The causal network has a width of at least 1, not {width}, and no negative {sizes}.")
        self.pixel, self.image_channels, self.context, self.reach = pixel, channels, context, reach
        self.own = pixel.channels(channels)
        self.before = nn.Parameter(torch.empty(width, channels, reach + 1, 2 * reach + 1))
        nn.init.kaiming_uniform_(self.before, a=5**0.5)
        self.told = nn.Conv2d(self.own + context, width, 1)
        self.blocks = nn.ModuleList([nn.Sequential(nn.Conv2d(width, width, 1), nn.SiLU(), nn.Conv2d(width, width, 1)) for _ in range(blocks)])
        self.layers = nn.ModuleList([MaskedConvolution(width, 1 + i % 2) for i in range(layers)])
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
        n, _, height, width = params.shape
        shape = (n, self.image_channels, height, width)
        return CausalPixels(lambda x: self._everywhere(params, x), lambda: _Walk(self, params), shape, params.device)

    def _everywhere(self, params: Float[Tensor, "N P H W"], x: Float[Tensor, "N C H W"]) -> torch.distributions.Distribution:
        """The distribution of every pixel of an image, given those before it."""
        told = self.told(params.float())
        known = laid_out(F.pad(self.input(x), (self.reach, self.reach, self.reach, 0)), told)
        h = self.mixed(told, F.conv2d(known, self.before * self.mask))
        for layer in self.layers:
            h = h + layer(F.silu(h))
        return self.pixels(params, h)

    def mixed(self, told: Float[Tensor, "N K h w"], seen: Float[Tensor, "N K h w"]) -> Float[Tensor, "N K h w"]:
        """What the decoder says and what is seen of the pixels before, through the blocks, in which each place is on its own."""
        h = told + seen
        for block in self.blocks:
            h = h + block(F.silu(h))
        return h

    def pixels(self, params: Float[Tensor, "N P h w"], h: Float[Tensor, "N K h w"]) -> torch.distributions.Distribution:
        """The pixels' own distribution, corrected by the network's last channels."""
        return self.pixel(params[:, : self.own].float() + self.head(F.silu(h)).float())

    def initialize(self, x: Shaped[Tensor, "B C H W"]) -> None:
        self.pixel.initialize(x)

    @torch.no_grad()
    def bias(self, x: Shaped[Tensor, "B C H W"]) -> Float[Tensor, "P H W"] | None:
        """The pixel's own, and zero for the context."""
        own = self.pixel.bias(x)
        return None if own is None else torch.cat([own, own.new_zeros(self.context, *own.shape[1:])])


class MaskedConvolution(nn.Module):
    """A convolution without bias of a place, the one on its left, and the three above them, `step` places apart; zero at the start.

    It is a `Conv2d` of 2 x 3 with the last of its places masked: `Muon` moves its kernel, of whose matrix the masked columns stay zero.

    References: Pixel Recurrent Neural Networks (van den Oord et al., 2016), section 3.4, https://arxiv.org/abs/1601.06759; the steps are those of
        Multi-Scale Context Aggregation by Dilated Convolutions (Yu, Koltun, 2015), https://arxiv.org/abs/1511.07122
    """

    mask: Tensor

    def __init__(self, width: int, step: int) -> None:
        super().__init__()
        self.step = step
        self.conv = nn.Conv2d(width, width, (2, 3), bias=False)
        nn.init.zeros_(self.conv.weight)
        self.register_buffer("mask", torch.tensor([[1.0, 1.0, 1.0], [1.0, 1.0, 0.0]]), persistent=False)

    @property
    def weight(self) -> Float[Tensor, "K K 2 3"]:
        return self.conv.weight * self.mask

    def forward(self, h: Float[Tensor, "N K H W"]) -> Float[Tensor, "N K H W"]:
        return F.conv2d(F.pad(h, (self.step, self.step, self.step, 0)), self.weight, dilation=self.step)


class _Walk:
    """The causal network at one pixel after the other: what its layers take of the rows before is kept.

    Args:
        network: of K channels.
        params: [N,P,H,W], of the decoder.
    """

    def __init__(self, network: Causal, params: Float[Tensor, "N P H W"]) -> None:
        self.network, self.params, r = network, params, network.reach
        n, _, height, width = params.shape
        self.known = params.new_zeros(n, network.image_channels, height + r, width + 2 * r)
        self.before = network.before * network.mask
        # Of each layer its step s, its kernel, and the s + 1 last rows of its input [N,K,s+1,W+2s], row i at i modulo s + 1.
        self.layers: list[tuple[int, Tensor, Tensor]] = []
        for layer in network.layers:
            assert isinstance(layer, MaskedConvolution)
            rows = params.new_zeros(n, len(layer.weight), layer.step + 1, width + 2 * layer.step)
            self.layers.append((layer.step, layer.weight, rows))

    def at(self, i: int, j: int) -> torch.distributions.Distribution:
        network, r = self.network, self.network.reach
        params = self.params[:, :, i : i + 1, j : j + 1]
        seen = F.conv2d(self.known[:, :, i : i + r + 1, j : j + 2 * r + 1], self.before)
        h = network.mixed(network.told(params.float()), seen)
        for s, weight, rows in self.layers:
            rows[:, :, i % (s + 1), j + s] = F.silu(h)[:, :, 0, 0]
            h = h + F.conv2d(rows[:, :, [(i + 1) % (s + 1), i % (s + 1)], j : j + 2 * s + 1 : s], weight)
        return network.pixels(params, h)

    def put(self, i: int, j: int, value: Float[Tensor, "N C 1 1"]) -> None:
        r = self.network.reach
        self.known[:, :, i + r, j + r] = self.network.input(value)[:, :, 0, 0]
