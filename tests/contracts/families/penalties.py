"""Penalties, their critics, and the decoder that is held to a Lipschitz constant."""

from vaekit.networks import MLPDecoder
from vaekit.networks.spectral import SpectralDecoder
from vaekit.objectives import Warmup
from vaekit.penalties import (
    DIP,
    MMD,
    MSSSIM,
    Adversarial,
    CodeAdversary,
    CodeCritic,
    CodeDiscriminator,
    CodeNorm,
    Consistency,
    DecoderGradient,
    FactorTC,
    ImageCritic,
    Perceptual,
    SlicedWasserstein,
    TotalCorrelation,
)

EXAMPLES = {
    "TotalCorrelation": lambda: TotalCorrelation(100, weight=Warmup(0.1, 0.0, 5.0)),
    "FactorTC": lambda: FactorTC(10.0),
    "DIP": lambda: DIP("II", 10.0, 5.0),
    "MMD": lambda: MMD("rbf", scales=(0.5, 2.0)),
    "SlicedWasserstein": lambda: SlicedWasserstein(20),
    "CodeNorm": lambda: CodeNorm(0.1),
    "DecoderGradient": lambda: DecoderGradient(None, [0.5, 0.5], [2.0, 2.0]),
    "MSSSIM": lambda: MSSSIM(256, weight=100.0),
    "Perceptual": lambda: Perceptual(256),
    "Adversarial": lambda: Adversarial(256, matching=1.0),
    "CodeAdversary": CodeAdversary,
    "Consistency": lambda: Consistency(0.1),
    "CodeDiscriminator": lambda: CodeDiscriminator(3, 16, 2),
    "ImageCritic": lambda: ImageCritic(2, [4, 8]),
    "CodeCritic": lambda: CodeCritic(3, 16),
    "SpectralDecoder": lambda: SpectralDecoder(MLPDecoder(3, [2, 9, 11], 16, 1)),
}
