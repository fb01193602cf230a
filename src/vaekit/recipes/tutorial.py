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
    """The first variational autoencoder with convolutions: an encoder says where in a small space an image may lie, and a decoder draws the image
    from there. Noise in the code and a pull towards N(0, I) keep that space filled, so that a draw from N(0, I) gives a new image. Reconstruction
    error and pull are two halves of one bound on log p(x); here the error's scale is learned, so that neither has to be weighed by hand.
    """
    latent = s.latent or 16
    widths, dense = [s.wide(16 * 2**i) for i in range(s.deep(2))], s.wide(256)
    model = s.vae(
        latent,
        lambda condition: ConvEncoder(list(s.data.shape), widths, dense, condition),
        lambda output, condition: ConvDecoder(latent, output, widths, dense, condition),
    )
    return Recipe(model, s.objective(), defaults=Training(epochs=10, batch_size=64, optimizer="adam", lr=1e-3))
