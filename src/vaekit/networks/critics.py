"""The networks of critics: plain modules, which `penalties` makes into critics."""

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm

from vaekit.networks.blocks import ceil_div, padded


class CodeNet(nn.Module):
    """Dense layers with leaky ReLUs, from a code to one logit.

    Args:
        latent: D, the width of the code.
        width: of each hidden layer.
        depth: hidden layers.
    """

    def __init__(self, latent: int, width: int, depth: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for i in range(depth):
            layers += [nn.Linear(latent if i == 0 else width, width), nn.LeakyReLU(0.2)]
        self.layers = nn.Sequential(*layers, nn.Linear(width if depth else latent, 1))

    def forward(self, z: Float[Tensor, "N D"]) -> Float[Tensor, "N"]:
        return self.layers(z).squeeze(1)


class PatchNet(nn.Module):
    """Convolutions 3x3 with stride 2, spectral normalization and leaky ReLUs; one logit for each patch that the last map's places see. Any size.

    Spectral normalization keeps a running estimate of each layer's largest singular value, which moves in `forward` in training mode.

    References: Spectral Normalization for GANs (Miyato et al., 2018), https://arxiv.org/abs/1802.05957

    Args:
        channels: of the image.
        widths: channels after each convolution.
    """

    def __init__(self, channels: int, widths: list[int]) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, after in zip([channels, *widths[:-1]], widths, strict=True):
            layers += [spectral_norm(nn.Conv2d(before, after, 3, stride=2, padding=1)), nn.LeakyReLU(0.2)]
        self.trunk = nn.Sequential(*layers)
        self.head = spectral_norm(nn.Conv2d(widths[-1], 1, 1))

    def features(self, x: Float[Tensor, "N C H W"]) -> Float[Tensor, "N F h w"]:
        """The last map before the logits."""
        return self.trunk(x)

    def logits(self, features: Float[Tensor, "N F h w"]) -> Float[Tensor, "N P"]:
        return self.head(features).flatten(1)


class WholeNet(nn.Module):
    """Convolutions 4x4 with stride 2 and leaky ReLUs, then one logit w.f + b from the whole map f; told a condition c, + (V c).f. No norms.

    References: cGANs with Projection Discriminator (Miyato, Koyama, 2018), section 3, https://arxiv.org/abs/1802.05637

    Args:
        shape: (C, H, W) of the images; an odd map gets its last row or column twice.
        widths: channels after each convolution.
        condition: G, the width of the embedded condition, 0 for none.
    """

    def __init__(self, shape: list[int], widths: list[int], condition: int = 0) -> None:
        super().__init__()
        channels, height, width = shape
        self.convolutions = nn.ModuleList()
        for out in widths:
            self.convolutions.append(nn.Conv2d(channels, out, 4, stride=2, padding=1))
            channels, height, width = out, ceil_div(height, 2), ceil_div(width, 2)
        size = channels * height * width
        self.head = nn.Linear(size, 1)
        self.told = nn.Linear(condition, size, bias=False) if condition else None

    def forward(self, x: Float[Tensor, "N C H W"], c: Float[Tensor, "N G"] | None = None) -> Float[Tensor, "N"]:
        for convolution in self.convolutions:
            x = F.leaky_relu(convolution(padded(x, 2)), 0.2)
        f = x.flatten(1)
        logits = self.head(f).squeeze(1)
        return logits if self.told is None or c is None else logits + (self.told(c) * f).sum(1)
