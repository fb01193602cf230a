"""A learned mixture of Gaussians."""

import math

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, Normal

from vaekit.distributions.mixture import Mixture
from vaekit.distributions.scale import deviation
from vaekit.latents.base import DensityPrior


class MixturePrior(DensityPrior):
    """p(z) = sum_k w_k N(z; mu_k, diag sigma_k^2), with learned weights, means and log-variances.

    At the start the weights are equal, the means are drawn from N(0, I/2) and the variances are 1/2: the mixture is spread as N(0, I) is, and no two
    components are the same. Log-variances are kept within [-14, 14], as the posterior's are.

    References: VAE with a VampPrior (Tomczak, Welling, 2017), the mixture of Gaussians of section 4, https://arxiv.org/abs/1705.07120

    Args:
        latent: D, the number of latent dimensions.
        components: K, the number of Gaussians.
    """

    needs = frozenset({"density"})

    undecayed = ("means", "log_variances")

    def __init__(self, latent: int, components: int = 500) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(components))
        self.means = nn.Parameter(math.sqrt(0.5) * torch.randn(components, latent))
        self.log_variances = nn.Parameter(torch.full((components, latent), math.log(0.5)))

    def forward(self, c: Tensor | None = None) -> Distribution:
        return self._mixture()

    def _mixture(self) -> Mixture:
        scales = deviation(self.log_variances)
        components = Independent(Normal(self.means, scales, validate_args=False), 1, validate_args=False)
        return Mixture(components, self.logits.log_softmax(0))

    @torch.no_grad()
    def initialize(self, code: Tensor, c: Tensor | None = None) -> None:
        """Means at random codes, and a quarter of each dimension's variance about them."""
        self.means.copy_(code[torch.randint(len(code), (len(self.means),), device=code.device)])
        self.log_variances.copy_((0.25 * code.var(0, correction=0)).clamp_min(1e-6).log().expand_as(self.log_variances))

    def sample(self, n: int, *, c: Tensor | None = None, temperature: float = 1.0) -> Tensor:
        """n codes [n, D]; `temperature` multiplies the spread of each component about its mean."""
        return self._mixture().draw(n, temperature)
