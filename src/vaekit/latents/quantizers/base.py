"""The interface of quantizers."""

import abc
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from jaxtyping import Float, Int
from torch import Tensor

from vaekit.part import Part


@dataclass
class Quantized:
    """What a quantizer makes of features [N, F, *S] (*S the positions of a map, or nothing)."""

    z_q: Float[Tensor, "N F *S"]
    """The codes' vectors, with the gradient of the features (straight-through)."""
    indices: Int[Tensor, "N Q *S"]
    """Which codes: Q for each position, from 0 to `size` - 1."""
    penalty: Float[Tensor, "N"]
    """What is added to the loss of each image, summed over channels and positions."""
    stats: Mapping[str, Tensor] = field(default_factory=dict)
    """Detached means over the images, for `post_step`: the mean over processes is that of the joined batch. Empty outside of training."""


class Quantizer(Part):
    """From features to codes. The forward pass changes no state."""

    channels: int
    """F, the channels of the features."""
    size: int
    """How many values an index can take."""
    levels: int = 1
    """Q, the indices of one position."""

    @abc.abstractmethod
    def forward(self, h: Float[Tensor, "N F *S"]) -> Quantized:
        """The codes of features, in float32 whatever the precision around it."""

    @abc.abstractmethod
    def lookup(self, indices: Int[Tensor, "N Q *S"]) -> Float[Tensor, "N F *S"]:
        """The vectors of these codes: what `forward` gave with them."""

    def initialize(self, h: Float[Tensor, "N F *S"]) -> None:
        """Data-dependent start."""

    def post_step(self, stats: Mapping[str, Tensor]) -> None:
        """Updates what has a state of its own after an optimizer step."""


def straight_through(value: Float[Tensor, "*S"], like: Float[Tensor, "*S"]) -> Float[Tensor, "*S"]:
    """`value` to the last bit, with the gradient of `like`.

    References: Estimating or Propagating Gradients Through Stochastic Neurons (Bengio et al., 2013), section 4, https://arxiv.org/abs/1308.3432
    """
    return value.detach() + (like - like.detach())


def per_image(values: Float[Tensor, "N *S"]) -> Float[Tensor, "N"]:
    """The sum over all but the images."""
    return values.flatten(1).sum(1)


def joined_stats(parts: Iterable[Quantized]) -> dict[str, Tensor]:
    """The statistics of several quantizers, the i-th one's names after "i."."""
    return {f"{i}.{name}": value for i, part in enumerate(parts) for name, value in part.stats.items()}


def stats_of(i: int, stats: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The statistics of the i-th part."""
    return {name.removeprefix(f"{i}."): value for name, value in stats.items() if name.startswith(f"{i}.")}
