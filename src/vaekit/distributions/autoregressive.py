"""A density that goes through its dimensions in order, each a mixture of Gaussians given those before it."""

import math
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Distribution

from vaekit.distributions.precision import full_precision

Conditionals = Callable[[Tensor], tuple[Tensor, Tensor, Tensor]]
"""z [N, D] -> normalized log-weights, means and log-scales [N, D, M], those of dimension j depending on z_<j alone."""


class AutoregressiveMixture(Distribution):
    """p(z) = prod_j sum_m w_jm(z_<j) N(z_j; mu_jm(z_<j), s_jm(z_<j)^2), in nats: one pass for a density, D for a sample.

    Args:
        conditionals: the network.
        like: [D], of the dtype and on the device of the codes.
    """

    arg_constraints: ClassVar[dict[str, Any]] = {}

    def __init__(self, conditionals: Conditionals, like: Float[Tensor, "D"]) -> None:
        super().__init__(torch.Size(), like.shape, validate_args=False)
        self.conditionals, self.like = conditionals, like

    def log_prob(self, value: Float[Tensor, "*N D"]) -> Float[Tensor, "*N"]:
        with full_precision(value):
            flat = value.to(self.like.dtype).reshape(-1, value.shape[-1])
            log_weights, means, log_scales = self.conditionals(flat)
            distance = (flat.unsqueeze(-1) - means) * (-log_scales).exp()
            parts = log_weights - 0.5 * distance * distance - log_scales - 0.5 * math.log(2 * math.pi)
            return parts.logsumexp(-1).sum(-1).view(value.shape[:-1])

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        return self.draw(math.prod(sample_shape)).view(*sample_shape, *self.event_shape)

    @torch.no_grad()
    def draw(self, n: int, temperature: float = 1.0) -> Float[Tensor, "n D"]:
        """n codes, one dimension after the other; `temperature` multiplies the scale of each Gaussian."""
        z = self.like.new_zeros(n, *self.event_shape)
        with full_precision(z):
            for j in range(z.shape[1]):
                log_weights, means, log_scales = (t[:, j] for t in self.conditionals(z))
                which = torch.multinomial(log_weights.exp(), 1)
                noise = torch.randn(n, device=z.device, dtype=z.dtype)
                z[:, j] = means.gather(1, which)[:, 0] + temperature * log_scales.gather(1, which)[:, 0].exp() * noise
        return z
