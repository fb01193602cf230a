"""A Gaussian posterior whose dimensions may be correlated."""

from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vaekit.distributions.full_covariance import FullNormal
from vaekit.latents.base import Posterior


class FullCovariance(Posterior):
    """q(z|x) = N(z; mu(h), L(h) L(h)^T), with one dense layer to mu, the log-diagonal of the Cholesky factor L and what is below it.

    It starts as a diagonal Gaussian: the weights of what is below the diagonal are 0. L has D (D + 1) / 2 entries, so that the head is
    large from a hundred dimensions on. The log-diagonal is kept within [-7, 7].

    References: Auto-Encoding Variational Bayes (Kingma, Welling, 2013), section 2.1 (the remark on full covariances),
    https://arxiv.org/abs/1312.6114; An Introduction to Variational Autoencoders (Kingma, Welling, 2019), section 2.5.1,
    https://arxiv.org/abs/1906.02691

    Args:
        features: F, the width of the encoder's output [N, F].
        latent: D, the number of latent dimensions.
    """

    gives: ClassVar[frozenset[str]] = frozenset({"density", "stopped", "anywhere", "comparable", "divergence", "vector"})
    below: Tensor

    def __init__(self, features: int, latent: int) -> None:
        super().__init__()
        self.latent = latent
        self.head = nn.Linear(features, 2 * latent + latent * (latent - 1) // 2)
        with torch.no_grad():
            self.head.weight[2 * latent :].zero_()
            self.head.bias[2 * latent :].zero_()
        self.register_buffer("below", torch.tril_indices(latent, latent, -1), persistent=False)

    @property
    def event_shape(self) -> tuple[int, ...]:
        return (self.latent,)

    def forward(self, h: Float[Tensor, "N F"]) -> FullNormal:  # type: ignore[override]
        d = self.latent
        mean, log_diagonal, below = self.head(h).float().split([d, d, d * (d - 1) // 2], dim=-1)
        factor = torch.diag_embed(log_diagonal.clamp(-7, 7).exp())
        rows = torch.arange(len(h), device=h.device)[:, None]
        return FullNormal(mean, scale_tril=factor.index_put((rows, self.below[0], self.below[1]), below), validate_args=False)
