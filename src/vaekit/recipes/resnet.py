"""A deep residual network from full resolution down."""

from dataclasses import replace
from typing import Any

from vaekit.networks import ResNetDecoder, ResNetEncoder
from vaekit.recipes.conv import converged, stages, steady_rate
from vaekit.recipes.recipe import Recipe, Setting, recipe


@recipe(
    "resnet",
    year=2016,
    paper="Deep residual autoencoders, as in Lossy VAE (Chen et al.) and PixelVAE, with group norm",
    url="https://arxiv.org/abs/1611.02731",
    good_for="larger or finer images, when there is time: convolutions from full resolution, two blocks at each scale, group norm",
)
def resnet(s: Setting) -> Recipe:
    """Residual blocks from full resolution down, two at each scale, with group norm. The dense bottleneck is as in the other recipes; the depth
    before and after it is what larger or finer images need. It costs several times what `conv` costs per image.
    """
    latent = s.latent or (64 if s.data.dimensions <= 1024 else 256)
    widths = [s.wide(min(16 * 2**i, 128)) for i in range(stages(s, patch=1, smallest=4))]
    options: dict[str, Any] = {"widths": widths, "blocks": s.deep(2), "patch": 1, "dense": s.wide(256), "norm": True}
    model = s.vae(
        latent,
        lambda condition: ResNetEncoder(list(s.data.shape), condition=condition, **options),
        lambda output, condition: ResNetDecoder(latent, output, condition=condition, **options),
        sigma="optimal",
    )
    return Recipe(model, s.objective(warmup=0.1), defaults=replace(converged(s), lr=steady_rate(1e-3, s.data.dimensions)))
