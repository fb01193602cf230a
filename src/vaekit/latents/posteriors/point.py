"""A code without noise."""

from typing import ClassVar

from jaxtyping import Float
from torch import Tensor, nn

from vaekit.distributions.point import Point
from vaekit.latents.base import Posterior


class PointPosterior(Posterior):
    """q(z|x) = delta(z - f(h)): the code of an autoencoder. It has no density and no divergence from a prior, so a model with it has no ELBO.

    References: Wasserstein Auto-Encoders (Tolstikhin et al., 2017), section 2.2 (deterministic encoders), https://arxiv.org/abs/1711.01558

    Args:
        features: F, the width of the encoder's output [N, F].
        latent: D, the number of latent dimensions.
    """

    gives: ClassVar[frozenset[str]] = frozenset({"vector"})

    def __init__(self, features: int, latent: int) -> None:
        super().__init__()
        self.latent = latent
        self.head = nn.Linear(features, latent)

    @property
    def event_shape(self) -> tuple[int, ...]:
        return (self.latent,)

    def forward(self, h: Float[Tensor, "N F"]) -> Point:  # type: ignore[override]
        return Point(self.head(h).float())
