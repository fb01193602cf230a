"""A second network that learns to tell what is real, of images or of codes."""

from vaekit.objectives import Warmup
from vaekit.penalties import Adversarial, CodeAdversary, CodeCritic, ImageCritic, pixel_units
from vaekit.recipes.autoencoders import autoencoder
from vaekit.recipes.conv import dimensions, variant
from vaekit.recipes.recipe import Recipe, Setting, recipe


@recipe(
    "vae-gan",
    year=2015,
    paper="Autoencoding beyond pixels using a learned similarity metric (Larsen et al.)",
    url="https://arxiv.org/abs/1512.09300",
    good_for="sharper images at the price of likelihood: a critic learns to tell them from real ones; grey or colour, not binary",
)
def vae_gan(s: Setting) -> Recipe:
    """A critic learns to tell images from what the decoder makes, and the decoder learns to deceive it, beside the ELBO. What a squared error
    forgives, a missing texture, the critic does not. Likelihood falls, and pictures gain detail.

    -ELBO + the critic's verdict (nats per image for a unit of its logit: 0.2 for each value as it stands) + the distance of its features.
    Both set in over the first fifth of the run, while the critic learns from the first step.
    """
    penalty = Adversarial(
        **pixel_units(s.data),
        adversarial=s.knob("adversarial", 0.2 * s.data.dimensions),
        matching=s.knob("matching", 1.0),
        weight=Warmup(0.2),
    )
    critic = ImageCritic(s.data.shape[0], [s.wide(w) for w in (32, 64, 128)])
    return variant(s, None, None, penalty, critics={"image": critic}, select="last")


@recipe(
    "aae",
    year=2015,
    paper="Adversarial Autoencoders (Makhzani et al.)",
    url="https://arxiv.org/abs/1511.05644",
    good_for="codes without noise that a critic cannot tell from draws of the prior: any prior that can be sampled will do",
)
def aae(s: Setting) -> Recipe:
    """An autoencoder without noise, whose codes a critic cannot tell from draws of the prior. The critic replaces the divergence, so that any prior
    that can be sampled will do. There is no likelihood.

    The weight is in nats per image for one nat of the critic: 0.1 for each value of the image as it stands.
    """
    penalty = CodeAdversary(weight=s.knob("adversarial", 0.1 * s.data.dimensions))
    return autoencoder(s, penalty, critics={"code": CodeCritic(dimensions(s), width=s.wide(256))})
