"""The tutorial's network: convolutions with batch norm and dense layers, and transposed convolutions back."""

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from vaekit.networks.base import Decoder, Encoder
from vaekit.networks.blocks import Doubling, ceil_div, conditioned, cropped


class BatchNorm(nn.BatchNorm2d):
    """Takes its running averages where a batch has one value of each channel, which has no variance: one image with a map of 1 x 1."""

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        if self.training and x.numel() == x.shape[1]:
            return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps)
        return super().forward(x)


class ConvEncoder(Encoder):
    """For each width: convolution 3x3 with stride 2, batch norm, ReLU; then flatten, dense, ReLU.

    Args:
        shape: (C, H, W) of the input.
        widths: channels of each convolution.
        dense: F, the width of the dense layer.
        condition: G, the width of the embedded condition, which joins at the dense layer; 0 for none.
    """

    def __init__(self, shape: list[int], widths: list[int], dense: int = 256, condition: int = 0) -> None:
        super().__init__()
        channels, height, width = shape
        layers: list[nn.Module] = []
        for out in widths:
            layers += [nn.Conv2d(channels, out, 3, stride=2, padding=1), BatchNorm(out), nn.ReLU(inplace=True)]
            channels, height, width = out, ceil_div(height, 2), ceil_div(width, 2)
        self.convolutions = nn.Sequential(*layers)
        self.dense = nn.Sequential(nn.Linear(channels * height * width + condition, dense), nn.ReLU(inplace=True))
        self.features = dense

    def forward(self, x: Float[Tensor, "B C H W"], c: Float[Tensor, "B G"] | None = None) -> Float[Tensor, "B F"]:
        return self.dense(conditioned(self.convolutions(x).flatten(1), c))


class ConvDecoder(Decoder):
    """Dense, ReLU; dense to a small map, ReLU; transposed convolutions 4x4 with stride 2, batch norm and ReLU between them; cropped.

    Args:
        latent: D, the width of the code.
        output: (P, H, W) of the parameters.
        widths: the encoder's, from the image down.
        dense: the width of the first dense layer.
        condition: G, the width of the embedded condition, which joins the code; 0 for none.
    """

    def __init__(self, latent: int, output: list[int], widths: list[int], dense: int = 256, condition: int = 0) -> None:
        super().__init__()
        params, self.height, self.width = output
        self.map = (widths[-1], ceil_div(self.height, 2 ** len(widths)), ceil_div(self.width, 2 ** len(widths)))
        size = self.map[0] * self.map[1] * self.map[2]
        self.dense = nn.Sequential(nn.Linear(latent + condition, dense), nn.ReLU(inplace=True), nn.Linear(dense, size), nn.ReLU(inplace=True))
        layers: list[nn.Module] = []
        for i in reversed(range(1, len(widths))):
            layers += [Doubling(widths[i], widths[i - 1]), BatchNorm(widths[i - 1]), nn.ReLU(inplace=True)]
        self.convolutions = nn.Sequential(*layers, Doubling(widths[0], params))

    def forward(self, d: Float[Tensor, "N D"], c: Float[Tensor, "N G"] | None = None, target: Tensor | None = None) -> Float[Tensor, "N P H W"]:
        return cropped(self.convolutions(self.dense(conditioned(d, c)).view(-1, *self.map)), self.height, self.width)
