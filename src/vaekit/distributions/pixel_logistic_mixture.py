"""A mixture of discretized logistics over a whole pixel, its channels joint."""

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Distribution

from vaekit.distributions import discretized_logistic as logistic


class PixelLogisticMixture(Distribution):
    """P(x) = sum_k pi_k prod_c Logistic(x_c; loc_kc + sum_{j<c} a_kcj (x_j - middle), scale_kc), for each pixel x of C channels.

    One component is drawn for the whole pixel; the location of a channel then shifts linearly with the channels before it. This is the
    published form for red, green and blue, for any number of channels.

    Args:
        logits: [N,K,H,W], of the weights pi.
        loc: [N,K,C,H,W], raw units.
        log_scale: [N,K,C,H,W], raw units.
        coefficients: [N,K,C(C-1)/2,H,W], a, those of channel c at c(c-1)/2 to c(c-1)/2 + c - 1.
        levels: the number of levels.

    Reference: "PixelCNN++: Improving the PixelCNN with Discretized Logistic Mixture Likelihood and Other Modifications", Salimans et al., 2017,
    eq. 2 and 3, https://arxiv.org/abs/1701.05517.
    """

    arg_constraints: ClassVar[dict[str, Any]] = {}

    def __init__(
        self,
        logits: Float[Tensor, "N K H W"],
        loc: Float[Tensor, "N K C H W"],
        log_scale: Float[Tensor, "N K C H W"],
        coefficients: Float[Tensor, "N K pairs H W"],
        levels: int,
    ) -> None:
        n, _, channels, height, width = loc.shape
        super().__init__(torch.Size((n, channels, height, width)), validate_args=False)
        self.logits = logits
        self.loc = loc
        self.log_scale = log_scale
        self.coefficients = coefficients
        self.levels = levels

    @property
    def mean(self) -> Float[Tensor, "N C H W"]:
        """sum_k pi_k E_k[x], where the expected channels stand in for the earlier channels of a component.

        Exact but for the rounding (see `clipped_mean`) where no channel is clipped at the ends of the range.
        """
        channels: list[Tensor] = []
        for c in range(self.loc.shape[2]):
            loc = _shifted(self.loc, self.coefficients, channels, self.levels)
            channels.append(logistic.clipped_mean(loc, self.log_scale[:, :, c], self.levels))
        weights = torch.softmax(self.logits, 1).unsqueeze(2)
        return (weights * torch.stack(channels, 2)).sum(1).clamp(0.0, self.levels - 1.0)

    @property
    def mode(self) -> Float[Tensor, "N C H W"]:
        """The rounded location of the likeliest component: the mode where components do not overlap, a close guess elsewhere."""
        loc, _, coefficients = self._of(self.logits.argmax(1, keepdim=True), self.batch_shape[:1])
        channels: list[Tensor] = []
        for _ in range(self.loc.shape[2]):
            channels.append(logistic.rounded(_shifted(loc, coefficients, channels, self.levels), self.levels))
        return torch.stack(channels, -3).squeeze(-4)

    def sample(self, sample_shape: Sequence[int] = ()) -> Float[Tensor, "... C H W"]:
        with torch.no_grad():
            lead = self._extended_shape(torch.Size(sample_shape))[:-3]
            logits = self.logits.expand(*lead, *self.logits.shape[1:])
            # The largest of p / Exp(1) is a draw from p.
            k = (torch.softmax(logits, -3) / torch.empty_like(logits, memory_format=torch.contiguous_format).exponential_()).argmax(-3, keepdim=True)
            loc, log_scale, coefficients = self._of(k, lead)
            channels: list[Tensor] = []
            for c in range(self.loc.shape[2]):
                channels.append(logistic.draw(_shifted(loc, coefficients, channels, self.levels), log_scale[..., c, :, :], self.levels))
            return torch.stack(channels, -3).squeeze(-4)

    def log_prob(self, value: Float[Tensor, "... C H W"]) -> Float[Tensor, "... 1 H W"]:
        """log P(x) of all channels of a pixel together, in nats per pixel."""
        true = list(value.unsqueeze(-4).unbind(-3))
        log_component = torch.log_softmax(self.logits, -3)
        for c, x in enumerate(true):
            loc = _shifted(self.loc, self.coefficients, true[:c], self.levels)
            log_component = log_component + logistic.log_probability(x, loc, self.log_scale[..., c, :, :], self.levels)
        return torch.logsumexp(log_component, -3, keepdim=True)

    def _of(self, k: Tensor, lead: torch.Size) -> tuple[Tensor, Tensor, Tensor]:
        """Location, log scale and coefficients of component k [*lead,1,H,W] of each pixel, [*lead,1,...,H,W]."""

        def pick(x: Tensor) -> Tensor:
            return x.expand(*lead, *x.shape[1:]).gather(-4, k.unsqueeze(-3).expand(*lead, 1, *x.shape[2:]))

        return pick(self.loc), pick(self.log_scale), pick(self.coefficients)


def _shifted(loc: Tensor, coefficients: Tensor, earlier: list[Tensor], levels: int) -> Tensor:
    """The location [...,K,H,W] of the channel that follows the `earlier` ones."""
    c = len(earlier)
    first = c * (c - 1) // 2
    shifted = loc[..., c, :, :]
    for j, x in enumerate(earlier):
        shifted = shifted + coefficients[..., first + j, :, :] * (x - 0.5 * (levels - 1))
    return shifted
