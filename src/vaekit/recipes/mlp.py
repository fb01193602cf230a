"""Dense networks, as in the papers that published likelihoods of small images."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from vaekit.errors import UserError
from vaekit.latents import Latent
from vaekit.model import VAE
from vaekit.networks import MLPDecoder, MLPEncoder
from vaekit.recipes.conv import conv_vae, dimensions
from vaekit.recipes.recipe import Recipe, Setting, recipe
from vaekit.training.options import Training


@recipe(
    "mlp",
    year=2017,
    paper="VAE with a VampPrior (Tomczak, Welling): the baseline with two gated layers of 300",
    url="https://arxiv.org/abs/1705.07120",
    good_for="small images, published likelihoods, and the most images per second",
)
def mlp(s: Setting) -> Recipe:
    """Two gated dense layers of 300 on either side, as in the papers that published likelihoods of small binary images. Nothing knows that pixels
    have neighbours, which limits it, and a step takes a fraction of a millisecond. It is the network to compare a published number with.
    """
    model = mlp_vae(replace(s, latent=s.latent or 40))
    return Recipe(model, s.objective(warmup=0.1), defaults=Training(epochs=50, batch_size=100, lr=5e-4, ema=0.999, schedule="linear"))


def mlp_vae(s: Setting, code: Callable[[int, int], Latent] | None = None, width: int | None = None, units: int = 300) -> VAE:
    """Two gated dense layers on either side of a latent, as `conv_vae` has convolutions."""
    latent, units, depth = dimensions(s), s.wide(units), s.deep(2)
    return s.vae(
        latent,
        lambda condition: MLPEncoder(list(s.data.shape), units, depth, condition=condition),
        lambda output, condition: MLPDecoder(width or latent, output, units, depth, condition=condition),
        None if code is None else lambda features: code(features, latent),
    )


def nets(s: Setting) -> Callable[..., VAE]:
    """The networks of a recipe with the knob `nets`: convolutions, or dense layers, which see ten times as many small images in the same time."""
    kinds: dict[str, Callable[..., VAE]] = {"conv": conv_vae, "mlp": partial(mlp_vae, units=600)}
    asked = s.knob("nets", "conv")
    if asked not in kinds:
        raise UserError(f"nets is {' or '.join(kinds)}, and not '{asked}'.")
    return kinds[asked]
