"""What the eye sees beside what the likelihood counts, and codes that a small shift does not move."""

from vaekit.errors import UserError
from vaekit.objectives import ELBO, Warmup
from vaekit.penalties import MSSSIM, Consistency, Perceptual, pixel_units
from vaekit.recipes.conv import variant
from vaekit.recipes.recipe import Recipe, Setting, recipe


@recipe(
    "ms-ssim",
    year=2015,
    paper="Learning to Generate Images with Perceptual Similarity Metrics (Snell et al.)",
    url="https://arxiv.org/abs/1511.06409",
    good_for="textures and edges kept where the likelihood alone blurs them; images of 28 x 28 and more",
)
def ms_ssim(s: Setting) -> Recipe:
    """Structural similarity at several scales is added to the likelihood: contrast and structure in a window, not pixel by pixel. Edges and texture
    come out where a squared error alone would blur. The weight is in nats for an image that has lost all similarity.

    The weight is the nats per image of a similarity of 0: one for each value of the image as it stands.
    """
    penalty = MSSSIM(**pixel_units(s.data), weight=s.knob("ms_ssim", 1.0 * s.data.dimensions))
    return variant(s, None, None, penalty, select="last")


@recipe(
    "perceptual",
    year=2017,
    paper="Optimizing the Latent Space of Generative Networks (Bojanowski et al.)",
    url="https://arxiv.org/abs/1707.05776",
    good_for="reconstructions nearer to the eye: a Laplacian pyramid without any network, LPIPS, or features of your own (--set features=net.pt)",
)
def perceptual(s: Setting) -> Recipe:
    """A distance between features is added to the likelihood. Without a network it is that of Laplacian pyramids, which compares edges at every
    scale; LPIPS, where it is installed, or a network of your own (TorchScript, or ONNX with onnx2torch) can stand in its place. The features are
    frozen, and the decoder gets their gradient.

    The weight is in nats for one unit of the distance, which is a sum over values.
    """
    features = s.knob("features", None)
    penalty = Perceptual(**pixel_units(s.data), features=features, weight=s.knob("perceptual", 1.0))
    return variant(s, None, None, penalty, select="last")


@recipe(
    "consistency",
    year=2021,
    paper="Consistency Regularization for Variational Auto-Encoders (Sinha, Dieng)",
    url="https://arxiv.org/abs/2105.14859",
    good_for="codes as features: an image and the same image a few pixels on get nearly the same code; twice the time per step",
)
def consistency(s: Setting) -> Recipe:
    """An image and the same image moved by a few pixels should have nearly the same code: their posteriors' divergence is added to the two bounds.
    The code is freed of what does not matter, and fits less noise. It costs twice a step of `conv`.
    """
    bound = s.objective(warmup=0.1)
    if not isinstance(bound, ELBO):
        raise UserError("The recipe consistency adds the ELBO of the moved image: leave out what makes another objective of it.")
    penalty = Consistency(s.knob("strength", 0.1), bound, weight=Warmup(0.1))
    return variant(s, None, s.objective(warmup=0.1), penalty, select="last")
