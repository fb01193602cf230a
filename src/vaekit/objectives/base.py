"""The interface of what is minimized."""

import abc

from jaxtyping import Float
from torch import Tensor

from vaekit.output import VAEOutput
from vaekit.part import Part


class Objective(Part):
    """A bound on log p(x), or something like it: nats per image to minimize."""

    samples: int = 1
    """K, the importance samples that a forward pass draws for it."""

    @abc.abstractmethod
    def forward(self, out: VAEOutput) -> Float[Tensor, "B"]:
        """[B] nats per image to minimize."""

    def progress(self, fraction: float) -> dict[str, float]:
        """Moves the schedules to this fraction of the run, outside of the graph; returns their values for the log."""
        return {}
