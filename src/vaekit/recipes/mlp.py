"""Dense networks, as in the papers that published likelihoods of small images."""

from vaekit.networks import MLPDecoder, MLPEncoder
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
    latent = s.latent or 40
    width, depth = s.wide(300), s.deep(2)
    model = s.vae(
        latent,
        lambda told: MLPEncoder(list(s.data.shape), width, depth, condition=told),
        lambda output, told: MLPDecoder(latent, output, width, depth, condition=told),
    )
    return Recipe(model, s.objective(warmup=0.1), defaults=Training(epochs=50, batch_size=100, lr=5e-4, ema=0.999, schedule="linear"))
