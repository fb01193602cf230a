"""A Laplace posterior."""

from typing import ClassVar

from jaxtyping import Float
from torch import Tensor
from torch.distributions import Distribution, Independent

from vaekit.distributions.laplace_kl import DiagonalLaplace
from vaekit.latents.posteriors.dense import DensePosterior


class LaplacePosterior(DensePosterior):
    """q(z|x) = prod_j exp(-|z_j - mu_j(h)| / b_j(h)) / (2 b_j(h)), with one dense layer to mu and log b (kept within [-7, 7]).

    References: Auto-Encoding Variational Bayes (Kingma, Welling, 2013), section 2.4 (location-scale families), https://arxiv.org/abs/1312.6114

    Args:
        features: F, the width of the encoder's output [N, F].
        latent: D, the number of latent dimensions.
    """

    gives: ClassVar[frozenset[str]] = frozenset({"density", "stopped", "anywhere", "factorized", "moments", "comparable", "divergence", "vector"})

    def forward(self, h: Float[Tensor, "N F"]) -> Distribution:  # type: ignore[override]
        loc, log_scale = self.two(h)
        return Independent(DiagonalLaplace(loc, log_scale.clamp(-7, 7).exp(), validate_args=False), 1, validate_args=False)
