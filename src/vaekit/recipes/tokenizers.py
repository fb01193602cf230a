"""The autoencoders of latent diffusion: maps of numbers, or of indices, for another model to learn."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from vaekit.data.spec import DataSpec
from vaekit.errors import UserError
from vaekit.latents import Flat, Latent, StandardNormal
from vaekit.latents.discrete import Discrete
from vaekit.latents.posteriors.gaussian_map import GaussianMap
from vaekit.latents.priors.codes import UniformCodes
from vaekit.latents.quantizers import EMAVectorQuantizer
from vaekit.networks.blocks import ceil_div
from vaekit.networks.diffusers import DiffusersDecoder, DiffusersEncoder
from vaekit.penalties import MSSSIM, ImageCritic, Onset, PatchAdversarial, Penalty, Perceptual, pixel_units
from vaekit.recipes.conv import converged
from vaekit.recipes.recipe import Recipe, Setting, recipe
from vaekit.training.options import Training

MULTIPLES = {2: (1, 2), 4: (1, 2, 4), 8: (1, 2, 4, 4), 16: (1, 1, 2, 2, 4), 32: (1, 1, 2, 2, 4, 4)}
"""Widths at each resolution as multiples of the first, for each factor of downsampling: those of the paper."""
WIDTH = 16
"""The first width at scale 1; the paper's 128 is scale 8."""
STRENGTHS = {"pyramid": 3.0, "ms-ssim": 1.0, "focal-frequency": 200.0, "lpips": 20.0}
"""Nats for one unit of each distance, for each value of the image with ms-ssim; of features of one's own: 1."""


def symmetric(data: DataSpec) -> DataSpec:
    """Pixels as numbers on [-1,1], as latent diffusion has them: the network's output is the mean itself, without a sigmoid. Floats as they are."""
    if data.levels is None:
        return data
    half = ((data.levels - 1) / 2,) * data.shape[0]
    return replace(data, kind="values", levels=None, mean=half, std=half)


def tokenizer(s: Setting, quantized: bool, moments: int, code: Any) -> Recipe:
    """The recipe of this file around `code(features, latent, grid)`; the encoder gives `moments` channels for each channel of the code."""
    f = s.knob("f", 4)
    if f not in MULTIPLES:
        raise UserError(f"f, the factor of downsampling, is one of {', '.join(map(str, MULTIPLES))}, and it is {f}.")
    if s.likelihood not in (None, "laplace", "gaussian"):
        raise UserError(f"The noise of a tokenizer is laplace or gaussian, around what the network gives, and not {s.likelihood}.")
    latent, first = s.latent or 4, s.wide(WIDTH)
    nets: dict[str, Any] = {"widths": [first * m for m in MULTIPLES[f]], "layers": min(2, s.deep(1)), "groups": first // 4}
    grid = [ceil_div(side, f) for side in s.data.shape[1:]]
    model = replace(s, data=symmetric(s.data), likelihood=s.likelihood or "laplace").vae(
        latent,
        lambda condition: DiffusersEncoder(list(s.data.shape), moments * latent, **nets, quantized=quantized, condition=condition),
        lambda output, condition: DiffusersDecoder(latent, output, **nets, condition=condition),
        lambda features: code(features, latent, grid),
        sigma="optimal",
    )
    penalties, critics = perceptual(s), {}
    pull = s.knob("adversarial", 0.5)
    start, lr = s.knob("start", 0.3), s.knob("critic_lr", 4e-4)
    if not 0 <= start < 1:
        raise UserError(f"start is the fraction of the run at which the critic sets in, at least 0 and below 1, and it is {start}.")
    if pull != 0:
        penalties += (PatchAdversarial(**pixel_units(s.data), pull=pull, weight=Onset(start)),)
        critics = {"image": ImageCritic(s.data.shape[0], [s.wide(w) for w in (32, 64, 128)], lr=lr)}
    return Recipe(model, s.objective(), penalties, critics=critics, defaults=training(s), select="last")


def perceptual(s: Setting) -> tuple[Penalty, ...]:
    """The perceptual term: which distance (`perceptual`), and how strong (`strength`)."""
    kind = s.knob("perceptual", "pyramid")
    own = STRENGTHS.get(kind, 1.0) * (s.data.dimensions if kind == "ms-ssim" else 1.0)
    strength = s.knob("strength", own)
    if kind not in (*STRENGTHS, "none") and not Path(kind).is_file():
        raise UserError(f"perceptual is one of {', '.join(STRENGTHS)}, none, or a TorchScript or ONNX file, and '{kind}' is neither.")
    if strength < 0:
        raise UserError(f"strength multiplies a distance that is to become small, and it is {strength}: give 0 or more.")
    if kind == "none" or strength == 0:
        return ()
    units = pixel_units(s.data)
    return (MSSSIM(**units, weight=strength) if kind == "ms-ssim" else Perceptual(**units, features=kind, weight=strength),)


def training(s: Setting) -> Training:
    """Small batches, since it is steps that these networks need."""
    return replace(converged(s), batch_size=16, lr=1e-3, clip=200.0 * max(1.0, s.data.dimensions / 1024))


@recipe(
    "tokenizer-kl",
    year=2022,
    paper="High-Resolution Image Synthesis with Latent Diffusion Models (Rombach et al.)",
    url="https://arxiv.org/abs/2112.10752",
    good_for="latent diffusion: maps of codes for a diffusion model to learn, with weights that diffusers loads (AutoencoderKL)",
)
def tokenizer_kl(s: Setting) -> Recipe:
    """An image becomes a map of a few channels, four times smaller on each side, from which it can be restored in detail. A small divergence keeps
    the map smooth, a perceptual term and a critic of patches keep texture; new images come of a prior that is fitted afterwards. The networks are
    diffusers' own, so that the weights are an `AutoencoderKL`.

    --latent is the channels of the map, f the factor, --beta the weight of the divergence in nats (0.01; the paper's 1e-6 beside an absolute error
    on [-1,1] is 1e-6 / b, b the scale of the fitted noise: 2e-5 to 5e-5). adversarial is below 1: the share of the likelihood's pull that the critic
    may have, 0 for no critic; it sets in at `start` of the run. --scale 8 --set f=8 is the autoencoder of Stable Diffusion.
    """
    s = replace(s, beta=0.01 if s.beta is None else s.beta)
    return tokenizer(s, False, 2, gaussian)


def gaussian(features: int, latent: int, grid: list[int]) -> Latent:
    return Flat(GaussianMap(features, [latent, *grid]), StandardNormal([latent, *grid]))


@recipe(
    "tokenizer-vq",
    year=2021,
    paper="Taming Transformers for High-Resolution Image Synthesis (Esser et al.)",
    url="https://arxiv.org/abs/2012.09841",
    good_for="maps of indices for a transformer or a discrete diffusion to learn, with weights that diffusers loads (VQModel)",
)
def tokenizer_vq(s: Setting) -> Recipe:
    """As `tokenizer-kl`, with a codebook: each place of the map is an index, as a word is for a language model. Within the run all indices are alike
    likely, so that the rate is what they cost to store; a prior that is fitted afterwards learns which maps there are.

    codebook is K, commitment the weight of what holds the features near their codes; the rest is that of `tokenizer-kl`, without --beta.
    """
    size, beta = s.knob("codebook", 1024), s.knob("commitment", 0.25)
    if size < 2:
        raise UserError(f"codebook is how many values an index can take, at least 2, and it is {size}.")
    s.refuse_weight("its indices cost the same whatever they are")

    def code(features: int, latent: int, grid: list[int]) -> Latent:
        return Discrete(EMAVectorQuantizer(features, size, beta), UniformCodes([1, *grid], size))

    return tokenizer(s, True, 1, code)
