"""From features to the nearest of countably many codes."""

from vaekit.latents.quantizers.base import Quantized, Quantizer
from vaekit.latents.quantizers.finite_scalar import FSQ
from vaekit.latents.quantizers.grouped import GroupedQuantizer
from vaekit.latents.quantizers.lookup_free import LFQ
from vaekit.latents.quantizers.residual import ResidualQuantizer
from vaekit.latents.quantizers.vector import EMAVectorQuantizer, VectorQuantizer

__all__ = ["FSQ", "LFQ", "EMAVectorQuantizer", "GroupedQuantizer", "Quantized", "Quantizer", "ResidualQuantizer", "VectorQuantizer"]
