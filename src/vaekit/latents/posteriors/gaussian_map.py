"""The Gaussian posterior of a code that is a map."""

from typing import ClassVar

from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, Normal

from vaekit.distributions.scale import deviation
from vaekit.latents.base import Posterior


class GaussianMap(Posterior):
    """q(z|x) = N(z; mu(h), diag sigma^2(h)) for a code [D,h,w], with one 1x1 convolution to the means and the log-variances.

    The log-variance is kept within [-14, 14]: beyond it, float32 has nothing left to tell.

    References: High-Resolution Image Synthesis with Latent Diffusion Models (Rombach et al., 2022), section 3.1 and appendix G (KL-reg.),
    https://arxiv.org/abs/2112.10752

    Args:
        features: F, the channels of the encoder's map [N, F, h, w].
        shape: [D, h, w], the shape of one code.
    """

    gives: ClassVar[frozenset[str]] = frozenset({"density", "stopped", "anywhere", "factorized", "moments", "comparable", "divergence"})

    def __init__(self, features: int, shape: list[int]) -> None:
        super().__init__()
        self.shape = tuple(shape)
        self.head = nn.Conv2d(features, 2 * shape[0], 1)

    @property
    def event_shape(self) -> tuple[int, ...]:
        return self.shape

    def forward(self, h: Float[Tensor, "N F h w"]) -> Distribution:  # type: ignore[override]
        mean, log_variance = self.head(h).float().chunk(2, dim=1)
        return Independent(Normal(mean, deviation(log_variance), validate_args=False), 3, validate_args=False)
