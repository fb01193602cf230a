"""What regularizes an autoencoder without noise."""

from collections.abc import Sequence
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from vaekit.objectives.schedules import Schedule
from vaekit.output import VAEOutput
from vaekit.part import Part
from vaekit.penalties.base import Penalty
from vaekit.penalties.tools import ImagePenalty, per_image


class CodeNorm(Penalty):
    """1/2 |z|^2, summed over the code: -log N(z; 0, I) but for its constant, in nats.

    References: From Variational to Deterministic Autoencoders (Ghosh et al., 2019), Eq. 8, https://arxiv.org/abs/1903.12436
    """

    needs: ClassVar[frozenset[str]] = frozenset({"vector"})

    def forward(self, out: VAEOutput, critic: Part | None = None) -> Float[Tensor, "B"]:
        return per_image(0.5 * out.terms[0].z.flatten(1).square().sum(1), out)


class DecoderGradient(ImagePenalty):
    """||dm/dz||_F^2 = E_v |v^T dm/dz|^2, v of random signs: how fast the mean image m (in network units) moves with the code, exact in expectation.

    One draw of v for each image. The images of a batch are taken to be decoded each on its own, which batch norm does not do. It differentiates
    twice, which a compiled network does not allow; where there is no gradient at all (a pass that only measures) it is 0.

    References:
        From Variational to Deterministic Autoencoders (Ghosh et al., 2019), section 3.1, https://arxiv.org/abs/1903.12436
        A Stochastic Estimator of the Trace of the Influence Matrix (Hutchinson, 1990), https://doi.org/10.1080/03610919008812866
    """

    needs: ClassVar[frozenset[str]] = frozenset({"vector"})

    def __init__(
        self, levels: int | None, mean: Sequence[float] | None = None, std: Sequence[float] | None = None, weight: float | Schedule = 1.0
    ) -> None:
        super().__init__(levels, mean, std, weight)

    def forward(self, out: VAEOutput, critic: Part | None = None) -> Float[Tensor, "B"]:
        z, image = out.terms[0].z, self.means(out)
        if not (z.requires_grad and image.requires_grad):
            return torch.zeros(len(out.batch), device=image.device)
        signs = torch.randint(0, 2, image.shape, device=image.device).to(image.dtype) * 2 - 1
        (moved,) = torch.autograd.grad((image * signs).sum(), z, create_graph=True)
        return per_image(moved.flatten(1).square().sum(1), out)
