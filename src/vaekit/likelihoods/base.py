"""The interface of p(x|z)."""

import abc
from collections.abc import Mapping
from typing import ClassVar, Literal

from jaxtyping import Float, Shaped
from torch import Tensor
from torch.distributions import Distribution

from vaekit.data.spec import DataSpec
from vaekit.part import Part


class Likelihood(Part):
    """p(x|z): says how raw values become a network's input, what is scored, and how the decoder's output becomes a distribution.

    Nothing else in vaekit rescales pixels. Every log-probability is that of the *raw* values: a density of 8-bit pixels is per grey level
    (range 0 to 255), so that figures of different likelihoods can be compared.

    `kind`: "pmf" (probabilities of integers), "density", "bound" (a lower bound on a pmf), or "energy" (not normalized).
    """

    kind: ClassVar[Literal["pmf", "density", "bound", "energy"]]
    joint: ClassVar[bool] = False
    """Whether a pixel's channels are scored together: then it counts only where all of them are observed."""

    @classmethod
    @abc.abstractmethod
    def for_data(cls, data: DataSpec, **options: object) -> "Likelihood":
        """The likelihood for this data; raises `UserError`, one sentence with the alternatives, if it cannot score it."""

    @abc.abstractmethod
    def channels(self, image_channels: int) -> int:
        """P, the number of decoder channels per pixel that parametrize an image of C channels."""

    @abc.abstractmethod
    def input(self, x: Shaped[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        """Raw values as a network likes them, float32: raw / (levels - 1) in [0,1] for pixels, standardized for floats."""

    @abc.abstractmethod
    def target(self, x: Shaped[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        """Raw values as `log_prob` takes them."""

    @abc.abstractmethod
    def forward(self, params: Float[Tensor, "N P H W"]) -> Distribution:
        """p(x|z) over raw values, with `mean`, `mode`, `sample()` [N,C,H,W].

        Its `log_prob` gives nats per value [N,C,H,W], or per pixel [N,1,H,W] where the channels are joint.
        """

    def stats(self, px: Distribution, target: Tensor, mask: Tensor | None = None) -> Mapping[str, Tensor]:
        """Detached batch means (over what the mask says is observed) that `post_step` needs; reduced over processes in between."""
        return {}

    def initialize(self, x: Shaped[Tensor, "B C H W"]) -> None:
        """Data-dependent start, from one raw batch."""

    def bias(self, x: Shaped[Tensor, "B C H W"]) -> Float[Tensor, "P H W"] | None:
        """The decoder's output for which p(x), without any z, has each pixel's mean over a raw batch: where the output's bias may start.

        None where there is no such map.
        """
        return None

    def post_step(self, stats: Mapping[str, Tensor]) -> None:
        """Updates buffers after an optimizer step."""
