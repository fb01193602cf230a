"""Normalizing flows as priors."""

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
import zuko
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Distribution

from vaekit.distributions.precision import full_precision
from vaekit.errors import UserError
from vaekit.latents.base import DensityPrior

FLOWS = {"realnvp": zuko.flows.RealNVP, "maf": zuko.flows.MAF, "nsf": zuko.flows.NSF}


class FlowPrior(DensityPrior):
    """p(z) = N(f(z); 0, I) |det df/dz|, with f a learned invertible map, or p(z|c) if f is told the embedded condition c.

    `flow` is "realnvp" (affine coupling: a sample costs what a density costs), "maf" (affine, autoregressive: sharper, and a sample takes D passes)
    or "nsf" (rational-quadratic splines within [-5, 5], autoregressive: the sharpest and the slowest). f starts as the identity: p(z) = N(0, I).

    References:
        Density estimation using Real NVP (Dinh et al., 2016), Eq. 3 and 7, https://arxiv.org/abs/1605.08803
        Masked Autoregressive Flow for Density Estimation (Papamakarios et al., 2017), Eq. 3, https://arxiv.org/abs/1705.07057
        Neural Spline Flows (Durkan et al., 2019), Eq. 4, https://arxiv.org/abs/1906.04032

    Args:
        latent: D, the number of latent dimensions.
        transforms: how many maps f is made of; each takes the dimensions in another order.
        hidden: width of the two hidden layers of each map; at least D (with fewer units the masks would cut dimensions off).
        condition: G, the width of the embedded condition; 0 for p(z).

    Raises `UserError` for an unknown flow, and for coupling with one dimension.
    """

    needs = frozenset({"density"})

    def __init__(self, latent: int, flow: str = "realnvp", transforms: int = 4, hidden: int = 128, condition: int = 0) -> None:
        super().__init__()
        if flow not in FLOWS:
            raise UserError(f"There is no flow '{flow}'; there are {', '.join(FLOWS)}.")
        if flow == "realnvp" and latent < 2:
            raise UserError("A realnvp prior maps one half of the code given the other, and needs 2 latent dimensions: take maf or nsf for one.")
        self.latent, self.condition = latent, condition
        widths = [max(hidden, latent)] * 2
        self.flow = FLOWS[flow](features=latent, context=condition, transforms=transforms, hidden_features=widths)
        for map_ in self.flow.transform.transforms:
            _start_as_identity(map_)

    def forward(self, c: Tensor | None = None) -> Distribution:
        return self._distribution(c)

    def _distribution(self, c: Tensor | None) -> "FlowDistribution":
        if self.condition and c is None:
            raise UserError("This prior is conditional: give it a condition for each code.")
        return FlowDistribution(self.flow, c if self.condition else None, self.flow.base().mean)

    def sample(self, n: int, *, c: Tensor | None = None, temperature: float = 1.0) -> Tensor:
        """n codes [n, D]; `temperature` multiplies the spread of what goes through the flow."""
        with torch.no_grad():
            p = self._distribution(c)
            return p.draw((n,) if len(p.batch_shape) == 0 else (), temperature)


class FlowDistribution(Distribution):
    """A zuko flow given c, in 32 bits whatever surrounds it.

    Args:
        flow: the module.
        c: [N, G], or None.
        like: [D], of the dtype and on the device of the codes.
    """

    arg_constraints: ClassVar[dict[str, Any]] = {}
    has_rsample = True

    def __init__(self, flow: zuko.lazy.Flow, c: Tensor | None, like: Float[Tensor, "D"]) -> None:
        super().__init__(torch.Size() if c is None else c.shape[:-1], like.shape, validate_args=False)
        self.like = like
        with full_precision(like):
            self.flow = flow(None if c is None else c.to(like.dtype))

    def log_prob(self, value: Float[Tensor, "*N D"]) -> Float[Tensor, "*N"]:
        with full_precision(value):
            return self.flow.log_prob(value.to(self.like.dtype))

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        return self.draw(sample_shape, 1.0)

    def draw(self, sample_shape: Sequence[int], temperature: float) -> Tensor:
        """Codes [*sample_shape, *N, D]: the inverse of the flow at `temperature` times normal noise."""
        noise = torch.randn(self._extended_shape(torch.Size(sample_shape)), device=self.like.device, dtype=self.like.dtype)
        with full_precision(noise):
            return self.flow.transform.inv(temperature * noise)


def _start_as_identity(map_: nn.Module) -> None:
    """With all parameters of the univariate maps 0, each is the identity: shift 0 and log-scale 0, or equal bins with slope 1."""
    hyper = getattr(map_, "hyper", None)
    for parameter in (map_ if hyper is None else hyper[-1]).parameters():
        nn.init.zeros_(parameter)
