"""Codes that match the prior as a whole, and autoencoders without noise."""

import math
from dataclasses import replace

from vaekit.latents import Flat, StandardNormal
from vaekit.latents.base import Latent
from vaekit.networks.spectral import SpectralDecoder
from vaekit.objectives import ELBO
from vaekit.penalties import MMD, CodeNorm, DecoderGradient, Penalty, SlicedWasserstein, pixel_units
from vaekit.recipes.conv import training, variant
from vaekit.recipes.recipe import Recipe, Setting, recipe

SIGMA = 0.283
"""Gaussian noise in standard deviations of the data (0.1 of the range for Fashion-MNIST): without a divergence nothing holds a learned sigma back, so
that the weights of the penalties would mean nothing."""


def noise(s: Setting) -> float:
    """sigma in unit range: what reconstruction can earn, std^2 / (2 sigma^2) for each value, is the same for dark, bright and continuous images."""
    if s.data.levels is None:  # floats have a deviation of 1 in unit range
        return SIGMA
    if s.data.count == 0 or not s.data.std:  # built before any data
        return 0.1
    variance = sum(std**2 for std in s.data.std) / len(s.data.std)
    return SIGMA * max(math.sqrt(variance), 0.5) / (s.data.levels - 1)


def point(features: int, latent: int) -> Latent:
    """A code without noise; the prior is what it is compared with, and what is sampled."""
    from vaekit.latents.posteriors.point import PointPosterior

    return Flat(PointPosterior(features, latent), StandardNormal([latent]))


def autoencoder(s: Setting, *penalties: Penalty, **more: object) -> Recipe:
    """Reconstruction and penalties: the objective has no divergence, since a point has none."""
    s.refuse_weight("its codes are points, which have no divergence")
    return variant(s.with_sigma(noise(s)), point, ELBO(), *penalties, select="last", **more)


@recipe(
    "info-mmd",
    year=2017,
    paper="InfoVAE: Balancing Learning and Inference in Variational Autoencoders (Zhao et al.)",
    url="https://arxiv.org/abs/1706.02262",
    good_for="codes that carry more of the image than a VAE's and still fill the prior as a whole; where a VAE ignores its code",
)
def info_mmd(s: Setting) -> Recipe:
    """The pull of each posterior to the prior is loosened, and the aggregate of all codes is held to the prior instead, by the distance of their
    kernel means. A code may then say as much of its image as it needs. The space stays filled as a whole, so that samples stay good.

    -E log p(x|z) + (1 - alpha) KL + (alpha + lambda - 1) MMD(q(z), p(z)); lambda is the nats per image of a discrepancy of 1.
    The discrepancy of a batch is noisy: with a lambda far above what the code saves in reconstruction the noise drowns that, and the code is
    lost. The paper has 1000 for 28 x 28; here it grows with the image.
    """
    alpha, scale = s.knob("alpha", 0.5), s.knob("lambda", 0.3 * s.data.dimensions)
    beta = (1 - alpha) * (1.0 if s.beta is None else s.beta)
    return variant(s, None, replace(s, beta=beta).objective(warmup=0.1), MMD("rbf", weight=alpha + scale - 1), select="last")


@recipe(
    "wae-mmd",
    year=2017,
    paper="Wasserstein Auto-Encoders (Tolstikhin et al.)",
    url="https://arxiv.org/abs/1711.01558",
    good_for="sharp reconstructions from codes without noise that can still be sampled from a Gaussian; no likelihood",
)
def wae_mmd(s: Setting) -> Recipe:
    """An autoencoder without noise in its codes, whose codes as a whole are held to N(0, I) by a kernel distance. Reconstructions are sharper than a
    VAE's, since no two images share a code. There is no likelihood; the distance tells how far sampling can be trusted.

    lambda is the nats per image of a discrepancy of 1: one for each value of the image as it stands.
    """
    return autoencoder(s, MMD("imq", weight=s.knob("lambda", 1.0 * s.data.dimensions)))


@recipe(
    "sliced-wasserstein",
    year=2018,
    paper="Sliced-Wasserstein Autoencoder (Kolouri et al.)",
    url="https://arxiv.org/abs/1804.01947",
    good_for="the aim of wae-mmd without a kernel to choose: codes without noise that follow the prior along every direction",
)
def sliced_wasserstein(s: Setting) -> Recipe:
    """As `wae-mmd`, with another distance: codes and prior draws are projected on random directions and compared there after sorting. There is no
    kernel and no width to choose. Many directions cost little.

    lambda is the nats per image of a squared distance of 1: one for each value of the image as it stands.
    """
    penalty = SlicedWasserstein(s.knob("projections", 50), weight=s.knob("lambda", 1.0 * s.data.dimensions))
    return autoencoder(s, penalty)


def _rae(name: str, good_for: str):  # type: ignore[no-untyped-def]
    return recipe(
        name,
        year=2019,
        paper="From Variational to Deterministic Autoencoders (Ghosh et al.)",
        url="https://arxiv.org/abs/1903.12436",
        good_for=good_for,
    )


def norm(s: Setting) -> CodeNorm:
    """beta / 2 |z|^2."""
    return CodeNorm(weight=s.knob("code", 0.1))


@_rae("rae-l2", "the plainest autoencoder that can be sampled, once a density is fitted to its codes; regularized by weight decay")
def rae_l2(s: Setting) -> Recipe:
    """An autoencoder whose codes are kept small and whose decoder is kept smooth by weight decay. Regularization replaces the noise of a VAE; what
    makes it generative is a density fitted to the codes afterwards. N(0, I) draws, before that, are not expected to look good.

    The decoder's L2 norm is held by the optimizer's decoupled weight decay, on the encoder too.
    """
    decay = s.knob("decay", 0.05)
    return autoencoder(s, norm(s), defaults=replace(training(s), weight_decay=decay))


@_rae("rae-gp", "as rae-l2, with a decoder that changes slowly with the code (gradient penalty): smoother interpolations, slower")
def rae_gp(s: Setting) -> Recipe:
    """As `rae-l2`, with a decoder whose output changes slowly with the code: its gradient's norm is added to the loss. Nearby codes then give nearby
    images. It costs a second pass backwards.

    The weight is the nats per image of a squared gradient of 1, which sums over the image.
    """
    return autoencoder(s, norm(s), DecoderGradient(**pixel_units(s.data), weight=s.knob("gradient", 1.0)))


@_rae("rae-sn", "as rae-l2, with a decoder whose layers are held to a norm of 1 (spectral normalization): smooth at almost no cost")
def rae_sn(s: Setting) -> Recipe:
    """As `rae-l2`, with a decoder whose layers are held to a spectral norm of 1 (of a convolution's kernel as a matrix, as published: its map
    stretches no direction by more than the kernel's side). The decoder is smooth at almost no cost; gated layers, a product of two, keep no bound.
    """
    built = autoencoder(s, norm(s))
    built.model.decoder = SpectralDecoder(built.model.decoder)  # type: ignore[arg-type]
    return built
