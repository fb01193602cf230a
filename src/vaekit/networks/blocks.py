"""Pieces that several networks share."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from vaekit.memory import laid_out


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


def ceil_div(n: int, by: int) -> int:
    return -(-n // by)


class _ToOneChannel(torch.autograd.Function):
    """The transposed convolution 4x4 with stride 2 of [N,I,h,w] to [N,1,2h,2w] in float32: a matrix product gives a 4x4 patch for each place, and the
    patches are added up. Backward the common kernels are faster."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        n, _, h, w = x.shape
        patches = torch.matmul(weight.flatten(1).t(), x.flatten(2))
        patches = patches.float() if patches.dtype == torch.bfloat16 else patches
        # The images stand where `fold` expects channels: over these it works on several threads.
        return F.fold(patches.reshape(1, n * 16, h * w), (2 * h, 2 * w), 4, stride=2, padding=1).view(n, 1, 2 * h, 2 * w)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None]:  # type: ignore[override]
        x, weight = ctx.saved_tensors
        grad, kernel = grad.to(x.dtype), weight.to(x.dtype)
        stride, padding, one, none = [2, 2], [1, 1], [1, 1], [0, 0]
        of_x, of_kernel, _ = torch.ops.aten.convolution_backward(
            grad, x, kernel, None, stride, padding, one, True, none, 1, [*ctx.needs_input_grad, False]
        )
        return of_x, of_kernel if of_kernel is None else of_kernel.to(weight.dtype)


class Doubling(nn.ConvTranspose2d):
    """A transposed convolution 4x4 with stride 2: twice the height and width.

    To a single channel a processor's kernel, which is made for many, is slow: there the forward pass is `_ToOneChannel`.
    """

    def __init__(self, before: int, after: int) -> None:
        super().__init__(before, after, 4, stride=2, padding=1)

    def forward(self, x: Float[Tensor, "N I h w"], output_size: list[int] | None = None) -> Float[Tensor, "N O 2*h 2*w"]:
        if self.out_channels > 1 or x.device.type != "cpu":
            return super().forward(x)
        image = _ToOneChannel.apply(x, self.weight)
        return image if self.bias is None else image + self.bias.view(-1, 1, 1)


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
