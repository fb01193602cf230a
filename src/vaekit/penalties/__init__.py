"""Additions to the bound, and their critics."""

from vaekit.penalties.adversarial import Adversarial, CodeAdversary, CodeCritic, ImageCritic
from vaekit.penalties.base import Critic, Penalty
from vaekit.penalties.consistency import Consistency
from vaekit.penalties.dip import DIP
from vaekit.penalties.factor import CodeDiscriminator, FactorTC
from vaekit.penalties.generator import Discriminator, GeneratorLoss
from vaekit.penalties.mmd import MMD, SlicedWasserstein
from vaekit.penalties.ms_ssim import MSSSIM
from vaekit.penalties.patch import Onset, PatchAdversarial
from vaekit.penalties.perceptual import Perceptual
from vaekit.penalties.rae import CodeNorm, DecoderGradient
from vaekit.penalties.tools import ImagePenalty, pixel_units
from vaekit.penalties.total_correlation import TotalCorrelation

__all__ = [
    "DIP",
    "MMD",
    "MSSSIM",
    "Adversarial",
    "CodeAdversary",
    "CodeCritic",
    "CodeDiscriminator",
    "CodeNorm",
    "Consistency",
    "Critic",
    "DecoderGradient",
    "Discriminator",
    "FactorTC",
    "GeneratorLoss",
    "ImageCritic",
    "ImagePenalty",
    "Onset",
    "PatchAdversarial",
    "Penalty",
    "Perceptual",
    "SlicedWasserstein",
    "TotalCorrelation",
    "pixel_units",
]
