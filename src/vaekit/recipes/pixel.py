"""A decoder that leaves texture to the pixels themselves."""

from dataclasses import replace

from vaekit.recipes.conv import variant
from vaekit.recipes.recipe import Recipe, Setting, recipe


@recipe(
    "pixel-vae",
    year=2016,
    paper="PixelVAE: A Latent Variable Model for Natural Images (Gulrajani et al.)",
    url="https://arxiv.org/abs/1611.05013",
    good_for="the likelihood of grey and colour images: each pixel knows of those before it, and the code need not hold the texture; slow to sample",
)
def pixel_vae(s: Setting) -> Recipe:
    """What the decoder says of a pixel is corrected by the pixels above it and to its left, a few pixels far. Texture, which is most of the bits of
    an image and which no code can hold, is then told by the image itself, and the code is left with what is large. A draw takes one pass for each
    pixel.
    """
    return variant(replace(s, likelihood=s.likelihood or "causal"))
