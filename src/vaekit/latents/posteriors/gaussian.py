"""The Gaussian posterior of the first VAE."""

from typing import ClassVar

from jaxtyping import Float
from torch import Tensor
from torch.distributions import Distribution, Independent, Normal

from vaekit.distributions.scale import deviation
from vaekit.latents.posteriors.dense import DensePosterior


class DiagonalGaussian(DensePosterior):
    """q(z|x) = N(z; mu(h), diag sigma^2(h)), with one dense layer to the mean and the log-variance.

    The log-variance is kept within [-14, 14]: beyond it, float32 has nothing left to tell.

    References: Auto-Encoding Variational Bayes (Kingma, Welling, 2013), appendix C.2, https://arxiv.org/abs/1312.6114

    Args:
        features: F, the width of the encoder's output [N, F].
        latent: D, the number of latent dimensions.
    """

    gives: ClassVar[frozenset[str]] = frozenset({"density", "stopped", "anywhere", "factorized", "moments", "comparable", "divergence", "vector"})

    def forward(self, h: Float[Tensor, "N F"]) -> Distribution:  # type: ignore[override]
        mean, log_variance = self.two(h)
        return Independent(Normal(mean, deviation(log_variance), validate_args=False), 1, validate_args=False)
