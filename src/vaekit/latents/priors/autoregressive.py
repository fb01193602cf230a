"""An autoregressive prior."""

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Normal
from zuko.nn import MaskedMLP

from vaekit.distributions.autoregressive import AutoregressiveMixture
from vaekit.latents.base import DensityPrior


class AutoregressivePrior(DensityPrior):
    """p(z) = prod_j p(z_j | z_<j), each a mixture of Gaussians whose parameters come from one masked network: exact in one pass.

    A sample takes D passes. At the start each conditional is spread as N(0, 1) is: means at its quantiles, shrunk, and the variance that is left.
    Log-variances are kept within [-14, 14], as the posterior's are.

    References:
        RNADE: The real-valued neural autoregressive density-estimator (Uria et al., 2013), Eq. 3 to 9, https://arxiv.org/abs/1306.0186
        MADE: Masked Autoencoder for Distribution Estimation (Germain et al., 2015), section 3, https://arxiv.org/abs/1502.03509
        Variational Lossy Autoencoder (Chen et al., 2016), section 3.2, https://arxiv.org/abs/1611.02731

    Args:
        latent: D, the number of latent dimensions.
        hidden: width of the two hidden layers; at least D (with fewer units the masks would cut dimensions off).
        components: the number of Gaussians of each conditional.
    """

    needs = frozenset({"density"})
    zero: Tensor

    def __init__(self, latent: int, hidden: int = 256, components: int = 8) -> None:
        super().__init__()
        self.components = components
        self.register_buffer("zero", torch.zeros(latent), persistent=False)
        # The first input is the constant 1: the output of dimension j sees the inputs 0 to j, which are z_<j, and no dimension is a special case.
        sees = torch.ones(latent, latent).tril().bool().repeat_interleave(3 * components, 0)
        self.net = MaskedMLP(sees, [max(hidden, latent)] * 2, activation=nn.SiLU)
        self._start()

    @torch.no_grad()
    def _start(self) -> None:
        last = self.net[-1]
        nn.init.zeros_(last.weight)
        quantiles = Normal(0.0, 1.0).icdf((torch.arange(self.components) + 0.5) / self.components)
        means = 0.7 * quantiles
        variances = (1 - (means * means).mean()).expand(self.components)
        last.bias.copy_(torch.stack((torch.zeros_like(means), means, variances.log())).expand(len(self.zero), -1, -1).flatten())

    def _conditionals(self, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        given = torch.cat((torch.ones_like(z[:, :1]), z[:, :-1]), 1)
        logits, means, log_variances = self.net(given).view(len(z), z.shape[1], 3, self.components).unbind(2)
        return logits.log_softmax(-1), means, 0.5 * log_variances.clamp(-14, 14)

    def forward(self, c: Tensor | None = None) -> Distribution:
        return self._distribution()

    def _distribution(self) -> AutoregressiveMixture:
        return AutoregressiveMixture(self._conditionals, self.zero)

    def sample(self, n: int, *, c: Tensor | None = None, temperature: float = 1.0) -> Tensor:
        """n codes [n, D]; `temperature` multiplies the scale of each Gaussian of each conditional."""
        return self._distribution().draw(n, temperature)
