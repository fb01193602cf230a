"""The total correlation by a discriminator: FactorVAE."""

from collections.abc import Mapping
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from vaekit.networks.critics import CodeNet
from vaekit.output import VAEOutput
from vaekit.part import Part
from vaekit.penalties.base import Penalty
from vaekit.penalties.gan import GANCritic
from vaekit.penalties.tools import codes


def permuted(z: Float[Tensor, "B D"]) -> Float[Tensor, "B D"]:
    """Each dimension of the codes in an order of its own: nearly a sample of the product of the marginals (FactorVAE, algorithm 1)."""
    return z.gather(0, torch.rand(z.shape, device=z.device).argsort(0))


class CodeDiscriminator(GANCritic):
    """Tells codes, whose logit rises, from codes with permuted dimensions: D(z) = sigmoid(logit(z)), loss -1/2 E log D(z) - 1/2 E log(1 - D(z')).

    The permuted codes are those of the same batch; the paper takes a second one.

    References: Disentangling by Factorising (Kim, Mnih, 2018), algorithm 2, https://arxiv.org/abs/1802.05983

    Args:
        latent: D, the number of latent dimensions.
        width, depth: of the hidden layers.
        lr: learning rate, None for the run's.
        steps: of the critic for each step of the model.
    """

    joint: ClassVar[bool] = True

    def __init__(self, latent: int, width: int = 256, depth: int = 4, lr: float | None = 1e-4, steps: int = 1) -> None:
        super().__init__(lr, steps)
        self.net = CodeNet(latent, width, depth)

    def logit(self, z: Float[Tensor, "N D"]) -> Float[Tensor, "N"]:
        return self.net(z)

    def forward(self, codes: Float[Tensor, "B D"]) -> Tensor:  # type: ignore[override]
        return 0.5 * (F.softplus(-self.logit(codes)).mean() + F.softplus(self.logit(permuted(codes))).mean())


class FactorTC(Penalty):
    """TC(z) = E[log D(z) - log(1 - D(z))], in nats: the log ratio of q(z) and prod_j q(z_j) as the critic "code" sees it.

    The critic learns on codes of the whole batch; the figure of an image depends on its own code alone.

    References: Disentangling by Factorising (Kim, Mnih, 2018), Eq. 2 and 3, https://arxiv.org/abs/1802.05983

    Raises:
        UserError: where the recipe has no critic "code".
    """

    critic = "code"
    needs: ClassVar[frozenset[str]] = frozenset({"vector"})

    def forward(self, out: VAEOutput, critic: Part | None = None) -> Float[Tensor, "B"]:
        if not isinstance(critic, CodeDiscriminator):
            raise self.missing_critic()
        return critic.logit(codes(out)).float()

    def feeds(self, out: VAEOutput) -> Mapping[str, Tensor]:
        return {"codes": codes(out).detach()}
