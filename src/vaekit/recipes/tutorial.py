"""The classic convolutional VAE of the textbooks."""

from vaekit.networks import ConvDecoder, ConvEncoder
from vaekit.recipes.recipe import Recipe, Setting, recipe
from vaekit.training.options import Training


@recipe(
    "tutorial",
    year=2013,
    paper="Auto-Encoding Variational Bayes (Kingma, Welling)",
    url="https://arxiv.org/abs/1312.6114",
    good_for="learning, and a baseline that everyone knows: convolutions with batch norm, one dense layer, 10 epochs of Adam",
)
def tutorial(s: Setting) -> Recipe:
    latent = s.latent or 16
    widths, dense = [s.wide(16 * 2**i) for i in range(s.deep(2))], s.wide(256)
    model = s.vae(
        latent,
        lambda told: ConvEncoder(list(s.data.shape), widths, dense, told),
        lambda output, told: ConvDecoder(latent, output, widths, dense, told),
    )
    return Recipe(model, s.objective(), defaults=Training(epochs=10, batch_size=64, optimizer="adam", lr=1e-3))
