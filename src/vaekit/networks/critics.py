"""The networks of critics: plain modules, which `penalties` makes into critics."""

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm


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
