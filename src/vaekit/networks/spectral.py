"""A decoder whose layers are held to a spectral norm of 1."""

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from vaekit.networks.base import Decoder


class SpectralDecoder(Decoder):
    """Any decoder, each of whose weight matrices W is W / sigma(W), with sigma its largest singular value; a kernel counts as the matrix [out, rest].

    sigma is tracked by a step of power iteration in each training pass: like batch norm's, these buffers move in `forward`. A layer whose weights
    start at zero has no direction to normalize, and starts from random weights instead.

    References:
        From Variational to Deterministic Autoencoders (Ghosh et al., 2019), section 3.2, https://arxiv.org/abs/1903.12436
        Spectral Normalization for GANs (Miyato et al., 2018), https://arxiv.org/abs/1802.05957
    """

    def __init__(self, decoder: Decoder) -> None:
        super().__init__()
        self.decoder = decoder
        for layer in list(decoder.modules()):
            if isinstance(layer, (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)):
                if not layer.weight.any():
                    layer.reset_parameters()
                spectral_norm(layer)

    def forward(self, d: Float[Tensor, "N D"], c: Float[Tensor, "N G"] | None = None, target: Tensor | None = None) -> Float[Tensor, "N P H W"]:
        return self.decoder(d, c, target)

    def initialize(self, bias: Float[Tensor, "P H W"] | None) -> None:
        self.decoder.initialize(bias)
