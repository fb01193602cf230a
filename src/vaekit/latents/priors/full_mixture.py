"""A mixture of Gaussians with full covariances, fitted by expectation-maximization."""

import math
import warnings

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vaekit.errors import UserError
from vaekit.latents.base import Prior


class FullMixturePrior(Prior):
    r"""p(z) = sum_k w_k N(z; mu_k, Sigma_k), with any covariances: a few Gaussians that lie along the codes do better than many that do not.

        log N(z; mu, Sigma) = -1/2 |P^T (z - mu)|^2 + log det P - D/2 log 2 pi,   P P^T = Sigma^-1, P lower triangular

    It starts by expectation-maximization on the codes that it is initialized with, and can then be trained by gradient as any prior.

    With classes, each starts with K Gaussians of its own codes, and p(z|y) has weights w_k|y over the Gaussians of all; a code that comes without
    its class has w_k = sum_y p(y) w_k|y.

    References:
        From Variational to Deterministic Autoencoders (Ghosh et al., 2019), section 4 (ex-post density estimation), https://arxiv.org/abs/1903.12436
        Maximum Likelihood from Incomplete Data via the EM Algorithm (Dempster, Laird, Rubin, 1977), https://www.jstor.org/stable/2984875

    Args:
        latent: D, the number of latent dimensions.
        components: K, the number of Gaussians; for each class, where there are any.
        floor: what is added to each variance in expectation-maximization; codes are about standardized (see `Fitted`).
        classes: how many the condition c [N, classes] tells apart, one-hot; a row of zeros is no class.
    """

    exact = True
    undecayed = ("means", "log_diagonals", "below", "by_class")

    def __init__(self, latent: int, components: int = 50, floor: float = 1e-3, classes: int = 0) -> None:
        super().__init__()
        self.latent, self.floor, self.classes = latent, floor, classes
        components *= max(1, classes)
        self.logits = nn.Parameter(torch.zeros(components))
        self.means = nn.Parameter(torch.randn(components, latent))
        self.log_diagonals = nn.Parameter(torch.zeros(components, latent))
        """log of the diagonal of P."""
        self.below = nn.Parameter(torch.zeros(components, latent, latent))
        """P below its diagonal."""
        self.by_class = nn.Parameter(torch.zeros(classes, components)) if classes else None
        """The logits of each class."""

    def _factors(self) -> Float[Tensor, "K D D"]:
        return self.below.tril(-1) + torch.diag_embed(self.log_diagonals.exp())

    def _log_weights(self, c: Float[Tensor, "N classes"] | None) -> Float[Tensor, "#N K"]:
        """log w_k, or log w_k|y."""
        if self.by_class is None or c is None:
            return self.logits.log_softmax(0).unsqueeze(0)
        return torch.where(c.sum(1, keepdim=True) > 0, c @ self.by_class, self.logits).log_softmax(1)

    def loss(self, code: Float[Tensor, "N D"], c: Tensor | None = None) -> Float[Tensor, "N"]:
        """-log p(z) in nats, in single precision whatever the plan: a narrow Gaussian multiplies what rounding does to a code."""
        with torch.autocast(code.device.type, enabled=False):
            factors = self._factors()
            scaled = torch.einsum("nd,kde->nke", code, factors) - torch.einsum("kd,kde->ke", self.means, factors)
            each = self.log_diagonals.sum(1) - 0.5 * (scaled.square().sum(2) + self.latent * math.log(2 * math.pi))
            return -torch.logsumexp(each + self._log_weights(c), dim=1)

    @torch.no_grad()
    def sample(self, n: int, *, c: Tensor | None = None, temperature: float = 1.0) -> Float[Tensor, "n D"]:
        """n codes; `temperature` multiplies the spread of each component about its mean."""
        which = torch.multinomial(self._log_weights(c).exp().expand(n, -1), 1).squeeze(1)
        noise = temperature * torch.randn(n, self.latent, 1, device=self.means.device)
        # Of the covariance P^-T P^-1 a factor is P^-T, one solution for each component's draws.
        z = torch.empty(n, self.latent, device=self.means.device)
        for k, factor in enumerate(self._factors()):
            mine = which == k
            z[mine] = self.means[k] + torch.linalg.solve_triangular(factor.T, noise[mine].squeeze(2).T, upper=True).T
        return z

    @torch.no_grad()
    def initialize(self, code: Float[Tensor, "N D"], c: Float[Tensor, "N classes"] | None = None) -> None:
        """Thirty rounds of expectation-maximization at most, in double precision; fewer codes than components leave it as it is.

        Raises:
            UserError: for a class with fewer codes than Gaussians.
        """
        if self.by_class is None or c is None:
            if len(code) >= max(2, len(self.means)):
                self._fit(code, slice(None))
            return
        each = len(self.means) // self.classes
        self.by_class.fill_(UNLIKELY)
        for y, share in enumerate(c.mean(0).tolist()):
            mine, own = code[c[:, y] > 0], slice(y * each, (y + 1) * each)
            if len(mine) < max(2, each):
                raise UserError(f"Class {y} has {len(mine)} codes, too few for Gaussians of its own: take --prior flow-matching.")
            self._fit(mine, own)
            self.by_class[y, own] = self.logits[own]
            self.logits[own] += math.log(share)

    def _fit(self, code: Float[Tensor, "n D"], own: slice) -> None:
        """Expectation-maximization of the Gaussians `own`; their logits are then the logarithms of weights that sum to 1."""
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.mixture import GaussianMixture

        seed = int(torch.randint(2**31 - 1, (1,)))
        mixture = GaussianMixture(len(self.means[own]), reg_covar=self.floor, max_iter=30, init_params="k-means++", random_state=seed)
        with warnings.catch_warnings():
            # Thirty rounds are enough here, converged or not: what counts is the likelihood of held-out codes.
            warnings.simplefilter("ignore", ConvergenceWarning)
            mixture.fit(code.double().cpu().numpy())
        # scikit-learn's factors are upper triangular: the same precision has a lower one.
        upper = torch.from_numpy(mixture.precisions_cholesky_)
        lower = torch.linalg.cholesky(upper @ upper.mT)
        self.logits[own] = torch.from_numpy(mixture.weights_).clamp_min(1e-12).log().to(self.logits)
        self.means[own] = torch.from_numpy(mixture.means_).to(self.means)
        self.log_diagonals[own] = lower.diagonal(dim1=1, dim2=2).log().to(self.means)
        self.below[own] = lower.tril(-1).to(self.means)


UNLIKELY = -30.0
"""The logit of a Gaussian of another class: as good as none, and not so far that it could not be learned."""


def enough(latent: int, count: int) -> bool:
    """Whether `count` images tell a covariance of D dimensions from noise, and D is one that expectation-maximization can hold."""
    return count >= 20 * latent and latent <= 512


def components_for(latent: int, count: int) -> int:
    """How many Gaussians `count` images can tell apart: one for each 20 D of them, 1 to 50. A covariance has D (D + 1) / 2 values."""
    return max(1, min(50, count // (20 * latent)))
