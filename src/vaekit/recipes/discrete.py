"""Codes that are whole numbers: a map of indices into a codebook, with a prior learned inside the bound."""

import math
from collections.abc import Callable

from vaekit.errors import UserError
from vaekit.latents.discrete import Discrete
from vaekit.latents.priors.codes import CodePrior
from vaekit.latents.quantizers import FSQ, LFQ, EMAVectorQuantizer, GroupedQuantizer, Quantizer, ResidualQuantizer, VectorQuantizer
from vaekit.networks.blocks import ceil_div
from vaekit.networks.maps import MapDecoder, MapEncoder
from vaekit.objectives import ELBO
from vaekit.recipes.conv import training
from vaekit.recipes.recipe import Recipe, Setting, recipe


def halvings(s: Setting) -> int:
    """How often the map is halved: its shorter side is 5 to 10 codes, where the image has 10 pixels or more (28 gives 7, 64 gives 8)."""
    return max(1, math.floor(math.log2(min(s.data.shape[1:]) / 5)))


def codebook(s: Setting) -> int:
    """K, the values of an index."""
    return s.knob("codebook", 256 if s.data.dimensions <= 4096 else 512)


def discrete(s: Setting, latent: int, quantizer: Callable[[int], Quantizer]) -> Recipe:
    """The recipe of this file around a quantizer of D channels.

    The rate has no weight and no warm-up: it teaches the prior alone.
    """
    s.refuse_weight("the rate of its indices teaches the prior alone")
    latent, n, width, blocks = s.latent or latent, halvings(s), s.knob("width", 32), s.deep(1)
    widths = [s.wide(width * min(2**i, 4)) for i in range(n)]
    grid = [ceil_div(side, 2**n) for side in s.data.shape[1:]]
    condition = s.condition_width()

    def code(features: int) -> Discrete:
        q = quantizer(features)
        return Discrete(q, CodePrior([q.levels, *grid], q.size, hidden=s.wide(32), condition=condition))

    model = s.vae(
        latent,
        lambda condition: MapEncoder(list(s.data.shape), latent, widths, blocks, condition=condition),
        lambda output, condition: MapDecoder(latent, output, widths, blocks, condition=condition),
        code,
        sigma="optimal",
    )
    return Recipe(model, ELBO(), defaults=training(s))


def even(total: int, parts: int) -> list[int]:
    """`total` things in `parts` shares that differ by one at most."""
    return [total // parts + (i < total % parts) for i in range(parts)]


@recipe(
    "vq",
    year=2017,
    paper="Neural Discrete Representation Learning (van den Oord et al.)",
    url="https://arxiv.org/abs/1711.00937",
    good_for="images as a small grid of whole numbers, for compression or for a language model; the codebook is learned by gradient",
)
def vq(s: Setting) -> Recipe:
    """The encoder's map is replaced, position by position, with the nearest of a few hundred learned vectors. An image becomes a small grid of whole
    numbers, and an autoregressive prior learns which grids there are. The bound is exact: what the grid costs under the prior is the rate.
    """
    size, beta = codebook(s), s.knob("commitment", 0.25)
    return discrete(s, 8, lambda features: VectorQuantizer(features, size, beta))


@recipe(
    "vq-ema",
    year=2017,
    paper="Neural Discrete Representation Learning (van den Oord et al.), appendix A.1",
    url="https://arxiv.org/abs/1711.00937",
    good_for="the VQ-VAE to start from: the codebook follows the features by moving averages, which learns faster and steadier than by gradient",
)
def vq_ema(s: Setting) -> Recipe:
    """As `vq`, with a codebook that follows the mean of what is assigned to it instead of a gradient. That is k-means on a moving window: it is
    steadier, and has one weight fewer to set. Codes that nobody uses are born again beside the one with the largest error.
    """
    size, beta = codebook(s), s.knob("commitment", 0.25)
    return discrete(s, 8, lambda features: EMAVectorQuantizer(features, size, beta))


@recipe(
    "rvq",
    year=2022,
    paper="Autoregressive Image Generation using Residual Quantization (Lee et al.)",
    url="https://arxiv.org/abs/2203.01941",
    good_for="sharper reconstructions from the same small codebook: several codes for each place, each for what the last left over",
)
def rvq(s: Setting) -> Recipe:
    """Each position is coded in several rounds: each codebook codes what the ones before it left over. A few codebooks of 256 reach the fidelity of
    one of millions. The first round is coarse, and the rest refine it.
    """
    size, levels, beta = codebook(s), s.knob("levels", 3), s.knob("commitment", 0.25)
    return discrete(s, 8, lambda features: ResidualQuantizer([EMAVectorQuantizer(features, size, beta) for _ in range(levels)]))


@recipe(
    "grouped-vq",
    year=2011,
    paper="Product Quantization for Nearest Neighbor Search (Jegou et al.)",
    url="https://inria.hal.science/inria-00514462",
    good_for="many more combinations from small codebooks: each group of channels has a code of its own",
)
def grouped_vq(s: Setting) -> Recipe:
    """The channels are split into groups, each with a codebook of its own. The combinations multiply while the codebooks stay small. It suits
    features whose groups mean different things.
    """
    size, groups, beta = codebook(s), s.knob("groups", 2), s.knob("commitment", 0.25)
    return discrete(s, 8, lambda features: GroupedQuantizer([EMAVectorQuantizer(n, size, beta) for n in even(features, min(groups, features))]))


@recipe(
    "fsq",
    year=2023,
    paper="Finite Scalar Quantization: VQ-VAE Made Simple (Mentzer et al.)",
    url="https://arxiv.org/abs/2309.15505",
    good_for="discrete codes without trouble: channels are rounded, so that there is no codebook to collapse and nothing to tune",
)
def fsq(s: Setting) -> Recipe:
    """Each channel is bounded and rounded to one of a few values: the codebook is a grid, and there is nothing to learn or to collapse. It has no
    extra loss at all. With a handful of channels it matches a learned codebook of the same size.
    """
    size = codebook(s)
    return discrete(s, 3, lambda features: rounded(features, size))


def rounded(channels: int, size: int) -> Quantizer:
    """FSQ with about `size` codes, as evenly over the channels as can be; equal groups where one would have fewer than 3 values to a channel."""
    most = max(1, math.floor(math.log(size, 3) + 1e-9))
    groups = next(g for g in range(1, channels + 1) if channels % g == 0 and channels // g <= most)
    if most > 1 and groups == channels > 1:  # a prime: each channel would have all values for itself
        raise UserError(
            f"Groups of 2 to {most} channels are rounded together, and {channels} cannot be split so: choose {channels - 1} or {channels + 1}."
        )
    values = values_of(channels // groups, size)
    return FSQ(values) if groups == 1 else GroupedQuantizer([FSQ(values) for _ in range(groups)])


def values_of(channels: int, size: int) -> list[int]:
    """Values for each channel, alike but for one, whose product is at most `size` (but 3 each at least)."""
    low = max(3, math.floor(size ** (1 / channels) + 1e-9))
    values = [low] * channels
    for i in range(channels):
        if math.prod(values) // low * (low + 1) <= size:
            values[i] = low + 1
    return values


@recipe(
    "lfq",
    year=2023,
    paper="Language Model Beats Diffusion: Tokenizer is Key to Visual Generation (Yu et al.)",
    url="https://arxiv.org/abs/2310.05737",
    good_for="binary codes: the sign of each channel, with an entropy term that keeps all combinations in use; --latent is the number of bits",
)
def lfq(s: Setting) -> Recipe:
    """Each channel is reduced to its sign, so that F channels make 2^F codes without a codebook. An entropy term makes each choice sure and the
    choices many. It scales to very large vocabularies.
    """
    entropy, beta = s.knob("entropy", 0.1), s.knob("commitment", 0.25)

    def signs(features: int) -> Quantizer:
        groups = next(g for g in range(1, features + 1) if features % g == 0 and features // g <= 10)
        parts = [LFQ(features // groups, entropy, beta) for _ in range(groups)]
        return parts[0] if groups == 1 else GroupedQuantizer(list(parts))

    return discrete(s, 8, signs)
