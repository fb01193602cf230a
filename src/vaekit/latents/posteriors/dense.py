"""What posteriors of a location and a scale have in common."""

from jaxtyping import Float
from torch import Tensor, nn

from vaekit.latents.base import Posterior


class DensePosterior(Posterior):
    """One dense layer from the features to two numbers for each dimension: a place, and the log of a width.

    Args:
        features: F, the width of the encoder's output [N, F].
        latent: D, the number of latent dimensions.
    """

    def __init__(self, features: int, latent: int) -> None:
        super().__init__()
        self.latent = latent
        self.head = nn.Linear(features, 2 * latent)

    @property
    def event_shape(self) -> tuple[int, ...]:
        return (self.latent,)

    def two(self, h: Float[Tensor, "N F"]) -> tuple[Float[Tensor, "N D"], Float[Tensor, "N D"]]:
        """The place and the log of the width, before any limit."""
        place, log_width = self.head(h).float().chunk(2, dim=-1)
        return place, log_width
