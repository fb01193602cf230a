"""A ladder of latents: a vector with a mixture prior at the top, groups of maps below it."""

from dataclasses import replace

from vaekit.latents import DensityPrior, DiagonalGaussian, Flat, StandardNormal
from vaekit.latents.ladder import Ladder, Step, TopDownBlock, Upsampling
from vaekit.latents.priors.mixture import MixturePrior
from vaekit.networks.pyramid import PyramidDecoder, PyramidEncoder, coarsest
from vaekit.recipes.conv import converged, dimensions, stages, steady_rate
from vaekit.recipes.recipe import Recipe, Setting, recipe

PATCH = 2


@recipe(
    "ladder",
    year=2016,
    paper="Ladder Variational Autoencoders (Sonderby et al.), with the residual posteriors of NVAE (Vahdat, Kautz, 2020)",
    url="https://arxiv.org/abs/1602.02282",
    good_for="a better likelihood, given ten minutes: layers of latents from coarse to fine, for about twice the time of conv",
)
def ladder(s: Setting) -> Recipe:
    """A vector at the top, then maps of latents below it, each told what is above. The top decides what the image is of, the maps where its details
    lie, and each layer has its own divergence.
    """
    binary = s.data.levels == 2
    groups, channels = s.knob("groups", 2), s.knob("channels", 8)
    widths = [s.wide(24 * 2**i) for i in range(stages(s, patch=PATCH, smallest=4))]
    # Latents at the second resolution collapse on binary images, cost more than they give where pixels know their neighbours, else carry much.
    resolutions = min(s.knob("resolutions", 1 if binary or s.likelihood == "causal" else 2), len(widths))
    latent, dense, blocks = dimensions(s), s.wide(256), s.deep(1)
    shortcut = s.wide(300) if s.data.dimensions <= 4096 else 0
    prior = _prior(latent, s.knob("components", 500))
    condition, shape = s.condition_width(), list(s.data.shape)
    model = s.vae(
        latent,
        lambda condition: PyramidEncoder(shape, widths, resolutions, blocks, PATCH, dense, shortcut, condition),
        lambda output, condition: PyramidDecoder(latent, output, widths[: len(widths) - resolutions + 1], blocks, PATCH, shortcut, condition),
        lambda features: Ladder(
            Flat(DiagonalGaussian(features, latent), prior),
            latent,
            [widths[-1], *coarsest(shape, PATCH, len(widths))],
            _steps(widths, resolutions, groups, channels, blocks),
            dense,
            condition,
        ),
        sigma="optimal",
    )
    # Norms of some 1,000 nats are usual in the first steps, and are clipped; what is far beyond comes of a broken batch.
    skip = 20_000.0 * max(1.0, s.data.dimensions / 1024)
    defaults = replace(converged(s), lr=steady_rate(2.5e-3, s.data.dimensions), skip=skip)
    return Recipe(model, s.objective(warmup=0.1 if binary else 0.03), defaults=defaults)


def _prior(latent: int, components: int) -> DensityPrior:
    return MixturePrior(latent, components) if components > 1 else StandardNormal([latent])


def _steps(widths: list[int], resolutions: int, groups: int, channels: int, blocks: int) -> list[Step]:
    """`groups` blocks at each of the coarsest resolutions, and the way up between them."""
    steps: list[Step] = []
    for level in range(1, resolutions + 1):
        width = widths[-level]
        if level > 1:
            steps.append(Upsampling(widths[-level + 1], width, blocks))
        steps += [TopDownBlock(width, width, channels, level) for _ in range(groups)]
    return steps
