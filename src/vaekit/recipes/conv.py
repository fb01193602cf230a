"""Convolutions on patches beside a dense path, no batch norm, trained to converge."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from vaekit.latents import Latent
from vaekit.model import VAE
from vaekit.networks import ResNetDecoder, ResNetEncoder
from vaekit.objectives import Objective
from vaekit.penalties import Penalty
from vaekit.recipes.recipe import Recipe, Setting, recipe
from vaekit.training.options import Training


@recipe(
    "conv",
    year=2016,
    paper="Residual VAE in the manner of Improving Variational Inference with IAF (Kingma et al.)",
    url="https://arxiv.org/abs/1606.04934",
    good_for="a plain VAE, trained well: any folder of images up to about 128 x 128, with codes that are to be standard normal",
)
def conv(s: Setting) -> Recipe:
    """Convolutions on patches learn texture, and a dense path beside them learns the coarse of a small image at once. There is no batch norm, whose
    noise the likelihood pays for, and the run ends with a falling rate and averaged weights. This is the network on which most other recipes
    change one thing.
    """
    return variant(s)


def variant(
    s: Setting,
    code: Callable[[int, int], Latent] | None = None,
    objective: Objective | None = None,
    *penalties: Penalty,
    **more: Any,
) -> Recipe:
    """The recipe of this file with another latent, another objective, or penalties: what most variants are.

    Args:
        code: (F, D) -> the latent, given the width of the encoder's features and the number of latent dimensions.
        more: `critics`, `defaults` and `select` of the recipe; `width`, what the decoder takes, if that is not D; `networks`, in the place of
            `conv_vae`.
    """
    width, networks = more.pop("width", None), more.pop("networks", conv_vae)
    defaults = more.pop("defaults", training(s))
    objective = s.objective(warmup=0.1) if objective is None else objective
    return Recipe(networks(s, code, width), objective, penalties, defaults=defaults, **more)


def dimensions(s: Setting) -> int:
    """D, the number of latent dimensions of these networks."""
    return s.latent or (40 if s.data.dimensions <= 1024 else 128)


def conv_vae(s: Setting, code: Callable[[int, int], Latent] | None = None, width: int | None = None, shortcut: bool = True) -> VAE:
    """These networks around a latent (a flat Gaussian if none is given); `width` is what the decoder takes, if that is not D, and `shortcut` whether
    small images have a dense path beside the convolutions.
    """
    pixels, latent = s.data.dimensions, dimensions(s)
    options: dict[str, Any] = {
        "widths": [s.wide(24 * 2**i) for i in range(stages(s, patch=2, smallest=4))],
        "blocks": s.deep(1),
        "patch": 2,
        "dense": s.wide(256),
        "shortcut": s.wide(300) if shortcut and pixels <= 4096 else 0,
    }
    return s.vae(
        latent,
        lambda condition: ResNetEncoder(list(s.data.shape), condition=condition, **options),
        lambda output, condition: ResNetDecoder(width or latent, output, condition=condition, **options),
        None if code is None else lambda features: code(features, latent),
        sigma="optimal",
    )


def training(s: Setting) -> Training:
    """How these networks are trained."""
    return replace(converged(s), lr=steady_rate(2e-3, s.data.dimensions))


def converged(s: Setting) -> Training:
    """How a network is trained to the end: in smaller batches and more passes where there are few images, since it is steps that it needs."""
    if not 0 < s.data.count < 20_000:
        return CONVERGED
    return replace(CONVERGED, epochs=round(min(100.0, STEPS * 32 / s.data.count), 1), batch_size=32)


STEPS = 12_000
"""Of the default training: 30 passes over the 50,000 images of Fashion-MNIST are 11,700."""


CONVERGED = Training(
    epochs=30,
    batch_size=128,
    optimizer="adamw",
    lr=2e-3,
    betas=(0.9, 0.99),
    weight_decay=0.01,
    schedule="linear",
    lr_warmup=0.02,
    ema=0.999,
    clip=200.0,
)


def steady_rate(rate: float, dimensions: int) -> float:
    """The learning rate for images of this many dimensions: with more of them the dense layers are wider, and what is steady at 28 x 28 diverges."""
    return rate * min(1.0, (1024 / dimensions) ** 0.5)


def stages(s: Setting, patch: int, smallest: int) -> int:
    """How many resolutions there are between the patches and a map whose shorter side is at least `smallest`, at most 5."""
    side, count = min(s.data.shape[1:]) / patch, 1
    while side / 2 >= smallest and count < 5:
        side, count = side / 2, count + 1
    return count
