"""A decoder that leaves texture to the pixels themselves."""

from dataclasses import replace
from functools import partial

from vaekit.errors import UserError
from vaekit.latents import DiagonalGaussian, Flat
from vaekit.latents.priors.mixture import MixturePrior
from vaekit.recipes.conv import conv_vae, converged, steady_rate, variant
from vaekit.recipes.recipe import Recipe, Setting, recipe


@recipe(
    "pixel-vae",
    year=2016,
    paper="PixelVAE: A Latent Variable Model for Natural Images (Gulrajani et al.)",
    url="https://arxiv.org/abs/1611.05013",
    good_for="the best likelihood, given ten minutes: each pixel knows of those before it, and the code need not hold the texture; slow to sample",
)
def pixel_vae(s: Setting) -> Recipe:
    """What the decoder says of a pixel is corrected by the pixels above it and to its left. Texture, which is most of the bits of an image and which
    no code can hold, is then told by the image itself, and the code, with a mixture as its prior, is left with what is large. Dense paths from pixel
    to pixel are for those who cannot see their neighbours: there are none here. A draw takes one pass for each pixel.
    """
    if s.likelihood not in (None, "causal"):
        raise UserError(f"The pixels of pixel-vae know of those before them, and those of --likelihood {s.likelihood} do not: choose conv for it.")
    s = replace(s, likelihood="causal", own={"causal_layers": 4})
    return variant(
        s,
        lambda features, latent: Flat(DiagonalGaussian(features, latent), MixturePrior(latent, s.knob("components", 500))),
        networks=partial(conv_vae, shortcut=False),
        defaults=replace(converged(s), optimizer="muon", lr=steady_rate(4e-3, s.data.dimensions)),
    )
