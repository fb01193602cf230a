"""The same code for an image that is shifted a little: CR-VAE."""

from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from vaekit.distributions.kl import kl_divergence
from vaekit.objectives.elbo import ELBO
from vaekit.objectives.schedules import Schedule
from vaekit.output import VAEOutput
from vaekit.part import Part
from vaekit.penalties.base import Penalty
from vaekit.penalties.tools import per_image


class Consistency(Penalty):
    """-ELBO(x~) + strength KL(q(z|x~) || q(z|x)), in nats, with x~ the image shifted at random by up to an eighth of its side.

    References: Consistency Regularization for Variational Auto-Encoders (Sinha, Dieng, 2021), Eq. 5 and 6, https://arxiv.org/abs/2105.14859

    Args:
        strength: lambda, the weight of the divergence between the two posteriors.
        bound: the objective of x~, as that of x.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"comparable"})
    asks: ClassVar[frozenset[str]] = frozenset({"moved"})

    def __init__(self, strength: float = 0.1, bound: ELBO | None = None, weight: float | Schedule = 1.0) -> None:
        super().__init__(weight)
        self.strength, self.bound = strength, ELBO() if bound is None else bound

    def forward(self, out: VAEOutput, critic: Part | None = None) -> Float[Tensor, "B"]:
        moved: VAEOutput = out.asked["moved"]
        return self.bound(moved) + self.strength * per_image(self.divergence(out, moved), out)

    def divergence(self, out: VAEOutput, moved: VAEOutput) -> Float[Tensor, "N"]:
        """KL(q(z|x~) || q(z|x)), summed over dimensions and layers."""
        total = torch.zeros(out.k * len(out.batch), device=out.log_px.device)
        for term, other in zip(out.terms, moved.terms, strict=True):
            kl = None if term.q is None or other.q is None else kl_divergence(other.q, term.q)
            if kl is None:
                raise TypeError("Two posteriors that are comparable have a divergence in closed form.")
            total = total + kl.flatten(1).sum(1)
        return total
