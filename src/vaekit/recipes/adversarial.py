"""A second network that learns to tell what is real, of images or of codes."""

import math
from dataclasses import replace
from typing import NamedTuple

from vaekit.errors import UserError
from vaekit.latents import PriorOnly, StandardNormal
from vaekit.model import VAE
from vaekit.objectives import NoBound, Warmup
from vaekit.penalties import Adversarial, CodeAdversary, CodeCritic, Discriminator, GeneratorLoss, ImageCritic, pixel_units
from vaekit.recipes.autoencoders import autoencoder, noise
from vaekit.recipes.conv import conv_vae, converged, dimensions, steady_rate, variant
from vaekit.recipes.recipe import Recipe, Setting, recipe
from vaekit.training.options import Training


class Rules(NamedTuple):
    """What goes with a loss: where the critic's gradient is penalized, the knob of that and its value, its steps, and the images of a batch."""

    gradient_penalty: str
    knob: str
    strength: float
    steps: int
    batch: int


LOSSES = {
    "non-saturating": Rules("real", "gamma", 0.5, steps=1, batch=64),
    "wasserstein": Rules("between", "lambda", 10.0, steps=5, batch=5 * 32),
}
"""By the critic's loss: R1, and WGAN-GP with the five steps of its paper (algorithm 1)."""
SHARE = 0.25
"""Of the images at which a discriminator's gradient is penalized."""


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


@recipe(
    "gan",
    year=2018,
    paper="Which Training Methods for GANs do actually Converge? (Mescheder et al.)",
    url="https://arxiv.org/abs/1801.04406",
    good_for="sharp new images where no code of a given image and no likelihood is needed: a GAN on the decoder of conv",
)
def gan(s: Setting) -> Recipe:
    """The decoder of `conv` without its encoder, against a discriminator that learns to tell its images from real ones: a GAN, by the same loop as
    the VAEs beside it. Nothing is averaged over codes, so that its images are sharp; nothing counts what it leaves out, so that it may drop whole
    kinds of images. It has no codes of given images, and no likelihood to speak of.

    The loss is non-saturating with R1; --set loss=wasserstein is WGAN-GP, whose critic makes five steps for one of the generator, each on its own
    fifth of a larger batch.
    """
    s.refuse_weight("a gan has no divergence")
    whole = conv_vae(s.with_sigma(noise(s)))
    model = VAE(None, PriorOnly(StandardNormal([dimensions(s)])), whole.decoder, whole.likelihood, whole.condition)
    # Attributes are told to both in the same units; a class is learned by each for itself.
    embedding = s.embedding() if s.condition == "class" else model.condition
    loss, shape = s.knob("loss", "non-saturating"), list(s.data.shape)
    # Down to a map of 4 x 4 or less, so that the last logits see the whole image.
    widths = [s.wide(min(32 * 2**i, 256)) for i in range(max(1, math.ceil(math.log2(max(shape[1:]) / 4))))]
    if loss not in LOSSES:
        raise UserError(f"A gan has the loss {' or '.join(LOSSES)}, and not '{loss}'.")
    rules = LOSSES[loss]
    critic = Discriminator(shape, widths, loss, rules.gradient_penalty, s.knob(rules.knob, rules.strength), embedding, SHARE, steps=rules.steps)
    penalty = GeneratorLoss(**pixel_units(s.data), weight=1.0 * s.data.dimensions)
    return Recipe(model, NoBound(), (penalty,), {"image": critic}, adversarial_training(s, rules.batch), select="last")


def adversarial_training(s: Setting, batch: int) -> Training:
    """How a generator is trained: without momentum, since its target moves with the critic, and with averaged weights."""
    rate = steady_rate(5e-4, s.data.dimensions)
    return replace(converged(s), optimizer="adam", lr=rate, betas=(0.0, 0.99), batch_size=batch, weight_decay=0.0, clip=None)
