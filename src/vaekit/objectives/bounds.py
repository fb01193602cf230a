"""Tighter bounds from several samples."""

import math

from jaxtyping import Float
from torch import Tensor

from vaekit.objectives.base import Objective
from vaekit.output import VAEOutput


class IWAE(Objective):
    """-log (1/K) sum_k p(x, z_k) / q(z_k|x), in nats per image. K = 1 is the ELBO by samples.

    References: Importance Weighted Autoencoders (Burda et al., 2015), Eq. 8, https://arxiv.org/abs/1509.00519
    """

    def __init__(self, samples: int = 5) -> None:
        super().__init__()
        self.samples = samples

    def forward(self, out: VAEOutput) -> Float[Tensor, "B"]:
        return math.log(out.k) - out.log_w().logsumexp(0)
