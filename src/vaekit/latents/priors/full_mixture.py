"""A mixture of Gaussians with full covariances, fitted by expectation-maximization."""

import math
import warnings

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vaekit.latents.base import Prior


class FullMixturePrior(Prior):
    r"""p(z) = sum_k w_k N(z; mu_k, Sigma_k), with any covariances: a few Gaussians that lie along the codes do better than many that do not.

        log N(z; mu, Sigma) = -1/2 |P^T (z - mu)|^2 + log det P - D/2 log 2 pi,   P P^T = Sigma^-1, P lower triangular

    It starts by expectation-maximization on the codes that it is initialized with, and can then be trained by gradient as any prior.

    References:
        From Variational to Deterministic Autoencoders (Ghosh et al., 2019), section 4 (ex-post density estimation), https://arxiv.org/abs/1903.12436
        Maximum Likelihood from Incomplete Data via the EM Algorithm (Dempster, Laird, Rubin, 1977), https://www.jstor.org/stable/2984875

    Args:
        latent: D, the number of latent dimensions.
        components: K, the number of Gaussians.
        floor: what is added to each variance in expectation-maximization; codes are about standardized (see `Fitted`).
    """

    undecayed = ("means", "log_diagonals", "below")

    def __init__(self, latent: int, components: int = 50, floor: float = 1e-3) -> None:
        super().__init__()
        self.latent, self.floor = latent, floor
        self.logits = nn.Parameter(torch.zeros(components))
        self.means = nn.Parameter(torch.randn(components, latent))
        self.log_diagonals = nn.Parameter(torch.zeros(components, latent))
        """log of the diagonal of P."""
        self.below = nn.Parameter(torch.zeros(components, latent, latent))
        """P below its diagonal."""

    def _factors(self) -> Float[Tensor, "K D D"]:
        return self.below.tril(-1) + torch.diag_embed(self.log_diagonals.exp())

    def loss(self, code: Float[Tensor, "N D"], c: Tensor | None = None) -> Float[Tensor, "N"]:
        """-log p(z) in nats, in single precision whatever the plan: a narrow Gaussian multiplies what rounding does to a code."""
        with torch.autocast(code.device.type, enabled=False):
            factors = self._factors()
            scaled = torch.einsum("nd,kde->nke", code, factors) - torch.einsum("kd,kde->ke", self.means, factors)
            each = self.log_diagonals.sum(1) - 0.5 * (scaled.square().sum(2) + self.latent * math.log(2 * math.pi))
            return -torch.logsumexp(each + self.logits.log_softmax(0), dim=1)

    @torch.no_grad()
    def sample(self, n: int, *, c: Tensor | None = None, temperature: float = 1.0) -> Float[Tensor, "n D"]:
        """n codes; `temperature` multiplies the spread of each component about its mean."""
        which = torch.multinomial(self.logits.softmax(0), n, replacement=True)
        noise = temperature * torch.randn(n, self.latent, 1, device=self.means.device)
        # Of the covariance P^-T P^-1 a factor is P^-T, one solution for each component's draws.
        z = torch.empty(n, self.latent, device=self.means.device)
        for k, factor in enumerate(self._factors()):
            mine = which == k
            z[mine] = self.means[k] + torch.linalg.solve_triangular(factor.T, noise[mine].squeeze(2).T, upper=True).T
        return z

    @torch.no_grad()
    def initialize(self, code: Float[Tensor, "N D"]) -> None:
        """Thirty rounds of expectation-maximization at most, in double precision; fewer codes than components leave it as it is."""
        if len(code) < max(2, len(self.means)):
            return
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.mixture import GaussianMixture

        seed = int(torch.randint(2**31 - 1, (1,)))
        mixture = GaussianMixture(len(self.means), reg_covar=self.floor, max_iter=30, init_params="k-means++", random_state=seed)
        with warnings.catch_warnings():
            # Thirty rounds are enough here, converged or not: what counts is the likelihood of held-out codes.
            warnings.simplefilter("ignore", ConvergenceWarning)
            mixture.fit(code.double().cpu().numpy())
        # scikit-learn's factors are upper triangular: the same precision has a lower one.
        upper = torch.from_numpy(mixture.precisions_cholesky_)
        lower = torch.linalg.cholesky(upper @ upper.mT)
        self.logits.copy_(torch.from_numpy(mixture.weights_).clamp_min(1e-12).log())
        self.means.copy_(torch.from_numpy(mixture.means_))
        self.log_diagonals.copy_(lower.diagonal(dim1=1, dim2=2).log())
        self.below.copy_(lower.tril(-1))


def enough(latent: int, count: int) -> bool:
    """Whether `count` images tell a covariance of D dimensions from noise, and D is one that expectation-maximization can hold."""
    return count >= 20 * latent and latent <= 512


def components_for(latent: int, count: int) -> int:
    """How many Gaussians `count` images can tell apart: one for each 20 D of them, 1 to 50. A covariance has D (D + 1) / 2 values."""
    return max(1, min(50, count // (20 * latent)))
