"""Dense networks."""

from jaxtyping import Float
from torch import Tensor, nn

from vaekit.networks.base import Decoder, Encoder
from vaekit.networks.blocks import GatedDense, conditioned


def _layers(inputs: int, width: int, depth: int, gated: bool) -> nn.Sequential:
    layers: list[nn.Module] = []
    for i in range(depth):
        fan_in = inputs if i == 0 else width
        layers += [GatedDense(fan_in, width)] if gated else [nn.Linear(fan_in, width), nn.ReLU()]
    return nn.Sequential(*layers)


class MLPEncoder(Encoder):
    """Flatten, then `depth` dense layers of `width`, gated or with ReLU.

    Args:
        shape: (C, H, W) of the input.
        condition: G, the width of the embedded condition, 0 for none.
    """

    def __init__(self, shape: list[int], width: int = 300, depth: int = 2, gated: bool = True, condition: int = 0) -> None:
        super().__init__()
        self.features = width
        self.layers = _layers(shape[0] * shape[1] * shape[2] + condition, width, depth, gated)

    def forward(self, x: Float[Tensor, "B C H W"], c: Float[Tensor, "B G"] | None = None) -> Float[Tensor, "B F"]:
        return self.layers(conditioned(x.flatten(1), c))


class MLPDecoder(Decoder):
    """`depth` dense layers of `width`, gated or with ReLU, then one to the parameters of every pixel.

    Args:
        latent: D, the width of the code.
        output: (P, H, W) of the parameters.
        condition: G, the width of the embedded condition, 0 for none.
    """

    def __init__(self, latent: int, output: list[int], width: int = 300, depth: int = 2, gated: bool = True, condition: int = 0) -> None:
        super().__init__()
        self.output = tuple(output)
        self.layers = _layers(latent + condition, width, depth, gated)
        self.head = nn.Linear(width, output[0] * output[1] * output[2])

    def forward(self, d: Float[Tensor, "N D"], c: Float[Tensor, "N G"] | None = None, target: Tensor | None = None) -> Float[Tensor, "N P H W"]:
        return self.head(self.layers(conditioned(d, c))).view(-1, *self.output)

    def initialize(self, bias: Float[Tensor, "P H W"] | None) -> None:
        if bias is not None:
            self.head.bias.data.copy_(bias.flatten())
