"""The nets that feed the symbols: encoders, decoders, and what embeds a condition."""

from vaekit.networks.base import Decoder, Encoder
from vaekit.networks.condition import AttributeCondition, ClassCondition, Condition, OneHotCondition
from vaekit.networks.conv import ConvDecoder, ConvEncoder
from vaekit.networks.mlp import MLPDecoder, MLPEncoder
from vaekit.networks.resnet import ResNetDecoder, ResNetEncoder

__all__ = [
    "AttributeCondition",
    "ClassCondition",
    "Condition",
    "ConvDecoder",
    "ConvEncoder",
    "Decoder",
    "Encoder",
    "MLPDecoder",
    "MLPEncoder",
    "OneHotCondition",
    "ResNetDecoder",
    "ResNetEncoder",
]
