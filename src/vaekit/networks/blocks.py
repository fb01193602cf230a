"""Pieces that several networks share."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F


def conditioned(x: Tensor, c: Tensor | None) -> Tensor:
    """[N, F] with the embedded condition [N, G] beside it."""
    return x if c is None else torch.cat([x, c.to(x.dtype)], dim=1)


def padded(x: Float[Tensor, "N C H W"], multiple: int) -> Float[Tensor, "N C H2 W2"]:
    """Repeats the last row and column until height and width are multiples."""
    height, width = -x.shape[2] % multiple, -x.shape[3] % multiple
    return x if height == width == 0 else F.pad(x, (0, width, 0, height), mode="replicate")


def cropped(x: Float[Tensor, "N C H2 W2"], height: int, width: int) -> Float[Tensor, "N C H W"]:
    """The top left corner; what has the size already is left alone, since a slice costs two copies on the way back."""
    return x if tuple(x.shape[2:]) == (height, width) else x[:, :, :height, :width]


def laid_out(x: Float[Tensor, "N C H W"], kernel: Float[Tensor, "O I k l"]) -> Float[Tensor, "N C H W"]:
    """The map in the memory layout of the kernels (`Plan.apply`), which dense layers, views and `pixel_unshuffle` lose.

    An operation between maps of two layouts takes several times as long, and hands one of them on: backward, nearly every activation met its gradient
    in the other layout.
    """
    last = kernel.is_contiguous(memory_format=torch.channels_last) and not kernel.is_contiguous()
    return x.contiguous(memory_format=torch.channels_last) if last else x


def ceil_div(n: int, by: int) -> int:
    return -(-n // by)


class GatedDense(nn.Module):
    """h = (W x + b) * sigmoid(V x + c).

    References: Language Modeling with Gated Convolutional Networks (Dauphin et al., 2016), Eq. 1, https://arxiv.org/abs/1612.08083
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, 2 * outputs)

    def forward(self, x: Float[Tensor, "N I"]) -> Float[Tensor, "N O"]:
        return F.glu(self.linear(x), dim=1)


class ResidualBlock(nn.Module):
    """x + conv(act(conv(act(x)))), with a group norm before each activation if asked for; the last convolution starts at zero.

    References: Identity Mappings in Deep Residual Networks (He et al., 2016), Fig. 1b, https://arxiv.org/abs/1603.05027
    """

    def __init__(self, channels: int, norm: bool = False) -> None:
        super().__init__()
        groups = max(g for g in range(1, 9) if channels % g == 0)
        self.norm1 = nn.GroupNorm(groups, channels) if norm else nn.Identity()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.norm2 = nn.GroupNorm(groups, channels) if norm else nn.Identity()
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        nn.init.zeros_(self.conv2.weight)
        nn.init.zeros_(self.conv2.bias)  # type: ignore[arg-type]

    def forward(self, x: Float[Tensor, "N C H W"]) -> Float[Tensor, "N C H W"]:
        x = laid_out(x, self.conv1.weight)
        h = self.conv1(F.silu(self.norm1(x)))
        return x + self.conv2(F.silu(self.norm2(h)))
