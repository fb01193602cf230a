"""The interface of what is minimized."""

import abc
from collections.abc import Mapping
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from vaekit.output import VAEOutput
from vaekit.part import Part


class Objective(Part):
    """A bound on log p(x), or something like it: nats per image to minimize."""

    samples: int = 1
    """K, the importance samples that a forward pass draws for it."""
    needs: ClassVar[frozenset[str]] = frozenset()
    """What the latent must give (see `compatibility`)."""

    @abc.abstractmethod
    def forward(self, out: VAEOutput) -> Float[Tensor, "B"]:
        """[B] nats per image to minimize."""

    def initialize(self, out: VAEOutput) -> None:
        """Data-dependent start, from the untrained model's output for one large batch."""

    def stats(self, out: VAEOutput) -> Mapping[str, Tensor]:
        """Detached batch means that `post_step` needs; reduced over processes in between."""
        return {}

    def post_step(self, stats: Mapping[str, Tensor]) -> None:
        """Updates buffers after an optimizer step."""
