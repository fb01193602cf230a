"""The VampPrior: a mixture of the posteriors of images that are learned."""

import math

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn
from torch.distributions import Distribution

from vaekit.distributions.mixture import Mixture
from vaekit.latents.base import AnchoredPrior, AnchorImages


class VampPrior(AnchoredPrior):
    """p(z) = 1/K sum_k q(z|u_k), the aggregate posterior of K pseudo-inputs u_k that are learned with the model.

    Pseudo-inputs start as images of the first batch. Those of pixels are the sigmoid of what is learned, so that they stay between black and white
    and the gradient never stops at an end (the paper clips them); those of floats are free. In a conditional model each has a condition of its own,
    learned as an embedded vector: the prior itself is told nothing.

    A step of training encodes K images beside the batch.

    References: VAE with a VampPrior (Tomczak, Welling, 2017), Eq. 9, https://arxiv.org/abs/1705.07120

    Args:
        shape: [C, H, W] of a network input.
        components: K, the number of pseudo-inputs.
        condition: G, the width of the embedded condition; 0 for an unconditional model.
        levels: of the pixels; None for floats.
    """

    undecayed = ("inputs", "conditions")

    def __init__(self, shape: list[int], components: int = 500, condition: int = 0, levels: int | None = 256) -> None:
        super().__init__()
        self.levels = levels
        self.inputs = nn.Parameter(0.5 * torch.randn(components, *shape))
        self.conditions = nn.Parameter(torch.randn(components, condition)) if condition else None

    def images(self) -> AnchorImages:
        """The pseudo-inputs [K, C, H, W], in the range of a network input."""
        return AnchorImages(self.inputs if self.levels is None else self.inputs.sigmoid(), raw=False, condition=self.conditions)

    def forward(self, q: Distribution, same: Tensor | None = None) -> Distribution:
        """p(z), batch shape []; `same` is of no account here, for no pseudo-input is an image of the data."""
        return _equal(q)

    def sample(self, n: int, q: Distribution, *, temperature: float = 1.0) -> Tensor:
        """n codes [n, *E]; `temperature` multiplies the spread of each posterior about its mean."""
        return _equal(q).draw(n, temperature)

    @torch.no_grad()
    def initialize(
        self,
        x: Shaped[Tensor, "B C H W"],
        condition: Shaped[Tensor, "B *F"] | None,
        index: Shaped[Tensor, "B"] | None,
        network_input: Float[Tensor, "B C H W"],
    ) -> None:
        """The first K images of the batch; where there are fewer, they are repeated with a little noise, so that no two stay the same."""
        rows = torch.arange(len(self.inputs), device=network_input.device)
        images = network_input[rows % len(network_input)]
        start = images if self.levels is None else images.clamp(0.02, 0.98).logit()
        repeated = (rows >= len(network_input)).view(-1, 1, 1, 1)
        self.inputs.copy_(start + 0.1 * repeated * torch.randn_like(start))


def _equal(q: Distribution) -> Mixture:
    (count,) = q.batch_shape
    return Mixture(q, torch.full((count,), -math.log(count), device=q.mean.device))
