"""The interfaces of encoders and decoders."""

import abc

from jaxtyping import Float
from torch import Tensor

from vaekit.part import Part


class Encoder(Part):
    """From a network input [B,C,H,W] (and an embedded condition [B,F]) to features. Any height and width: padding is inside."""

    features: int
    """F, the width of the output [B, F]."""

    @abc.abstractmethod
    def forward(self, x: Float[Tensor, "B C H W"], c: Float[Tensor, "B G"] | None = None) -> Float[Tensor, "B F"]:
        """The features that the latent reads."""


class Decoder(Part):
    """From codes [N, D] to the likelihood's parameters [N,P,H,W], exactly the image's height and width: cropping is inside."""

    @abc.abstractmethod
    def forward(self, d: Float[Tensor, "N D"], c: Float[Tensor, "N G"] | None = None, target: Tensor | None = None) -> Float[Tensor, "N P H W"]:
        """The parameters of p(x|z); `target` is for teacher forcing."""

    def initialize(self, bias: Float[Tensor, "P H W"] | None) -> None:
        """Starts from the parameters that fit the data without any code, where the decoder has a place for them."""
