"""Ladders and products."""

import torch

from vaekit.latents import DiagonalGaussian, Flat, StandardNormal
from vaekit.latents.ladder import Ladder, TopDownBlock, Upsampling
from vaekit.latents.product import Product
from vaekit.model import VAE
from vaekit.networks.pyramid import PyramidDecoder, PyramidEncoder, coarsest
from vaekit.objectives import Warmup
from vaekit.objectives.joint import JointCapacity
from vaekit.part import Part
from vaekit.recipes import joint, ladder  # noqa: F401 (registers them)

WIDTHS = [4, 8]


def ladder_vae(shape: list[int], likelihood: Part, condition: Part | None = None, resolutions: int = 2, latent: int = 3) -> VAE:
    """A small ladder: a top, and one group at each resolution."""
    told = 0 if condition is None else condition.features
    encoder = PyramidEncoder(shape, WIDTHS, resolutions, dense=8, shortcut=6, condition=told)
    steps = [TopDownBlock(8, 8, 2, 1), Upsampling(8, 4), TopDownBlock(4, 4, 2, 2)][: 2 * resolutions - 1]
    top = Flat(DiagonalGaussian(encoder.features, latent), StandardNormal([latent]))
    code = Ladder(top, latent, [8, *coarsest(shape, 2, 2)], steps, dense=8, condition=told)
    output = [likelihood.channels(shape[0]), *shape[1:]]
    decoder = PyramidDecoder(latent, output, WIDTHS[: 3 - resolutions], shortcut=6, condition=told)
    return VAE(encoder, code, decoder, likelihood, condition)


def small_ladder(steps: int = 3) -> Ladder:
    top = Flat(DiagonalGaussian(8, 3), StandardNormal([3]))
    below = [TopDownBlock(8, 5, 2, 1), Upsampling(8, 4), TopDownBlock(4, 6, 3, 2)]
    return Ladder(top, 3, [8, 2, 3], below[:steps], dense=8)


def features(n: int = 6) -> dict[int, torch.Tensor]:
    """What `small_ladder` reads."""
    return {0: torch.randn(n, 8), 1: torch.randn(n, 5, 2, 3), 2: torch.randn(n, 6, 4, 6)}


def product() -> Product:
    return Product([Flat(DiagonalGaussian(8, 3), StandardNormal([3])), Flat(DiagonalGaussian(8, 2), StandardNormal([2]))])


FEATURES = {"Ladder": features}
"""What a latent reads, where that is not [6, 8]."""

EXAMPLES = {
    "Ladder": small_ladder,
    "TopDownBlock": lambda: TopDownBlock(8, 4, 2),
    "Upsampling": lambda: Upsampling(8, 4),
    "Product": product,
    "PyramidEncoder": lambda: PyramidEncoder([2, 9, 11], WIDTHS, 2, dense=8, shortcut=6),
    "PyramidDecoder": lambda: PyramidDecoder(3, [2, 9, 11], WIDTHS, shortcut=6),
    "JointCapacity": lambda: JointCapacity([Warmup(0.25, 0.0, 5.0), 2.0], 30.0, balance=1.0),
}
