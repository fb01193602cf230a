"""Gaussian noise on raw values."""

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Distribution

from vaekit.distributions.precision import full_precision

_HALF_LOG_TWO_PI = 0.5 * math.log(2 * math.pi)


class _SigmoidGaussian(torch.autograd.Function):
    """sum log N(value; size sigmoid(logits), (size exp(log_scale))^2) over an image, as one node: it runs in every step of most trainings.

    Args: logits [N,C,H,W], value [N,C,H,W] without gradient, log_scale [C] or [1], size. Returns [N].
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, value: Tensor, log_scale: Tensor, size: float) -> Tensor:
        made = _errors(logits, value, log_scale, size)
        _, _, squared, precision = made
        ctx.pixels, ctx.size = logits.shape[2] * logits.shape[3], size
        ctx.save_for_backward(logits, value, log_scale, *made)
        constant = -ctx.pixels * (log_scale + (_HALF_LOG_TWO_PI + math.log(size)))
        return torch.addcmul(constant, squared, precision, value=-0.5).sum(1)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, Tensor, None]:  # type: ignore[override]
        logits, value, log_scale, *made = ctx.saved_tensors
        # Under create_graph the derivative needs one of its own, which what was made in the forward pass does not carry.
        unit, error, squared, precision = _errors(logits, value, log_scale, ctx.size) if torch.is_grad_enabled() else made
        grad = grad.unsqueeze(1)
        slope = error * (-grad * precision)[:, :, None, None]
        scale = (grad * (squared * precision - ctx.pixels)).sum_to_size(1, len(precision)).view(-1)
        return slope * (unit - unit * unit), None, scale, None


def _errors(logits: Tensor, value: Tensor, log_scale: Tensor, size: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """sigmoid, error and squared error of each map in its units, and 1 / scale^2."""
    unit = torch.sigmoid(logits)
    error = torch.sub(unit, value, alpha=1 / size)
    flat = error.flatten(2)
    with full_precision(flat):
        squared = torch.linalg.vecdot(flat, flat)
    return unit, error, squared, torch.exp(-2 * log_scale)


class PixelGaussian(Distribution):
    """N(loc, exp(log_scale)^2) over raw values, with one scale for all values or one for each channel.

    Its support is the whole line: a draw of 8-bit pixels may lie outside 0 to 255.

    Args:
        loc: [N,C,H,W], raw units.
        log_scale: [1,1,1] or [C,1,1], the log of the standard deviation in raw units.
    """

    arg_constraints: ClassVar[dict[str, Any]] = {}
    has_rsample = True

    def __init__(self, loc: Float[Tensor, "N C H W"], log_scale: Float[Tensor, "#C 1 1"]) -> None:
        super().__init__(loc.shape, validate_args=False)
        self._params, self._log_scale, self._size = loc, log_scale, 0.0

    @classmethod
    def of_logits(cls, logits: Float[Tensor, "N C H W"], size: float, log_scale: Float[Tensor, "#C 1 1"]) -> "PixelGaussian":
        """The one whose location is size sigmoid(logits) and whose scale is size exp(log_scale)."""
        self = cls(logits, log_scale)
        self._size = size
        return self

    @property
    def log_scale(self) -> Float[Tensor, "#C 1 1"]:
        return self._log_scale + math.log(self._size) if self._size else self._log_scale

    @property
    def loc(self) -> Float[Tensor, "N C H W"]:
        return self._size * torch.sigmoid(self._params) if self._size else self._params

    @property
    def mean(self) -> Float[Tensor, "N C H W"]:
        return self.loc

    @property
    def mode(self) -> Float[Tensor, "N C H W"]:
        return self.loc

    @property
    def stddev(self) -> Float[Tensor, "N C H W"]:
        return self.log_scale.exp().expand_as(self._params)

    @property
    def variance(self) -> Float[Tensor, "N C H W"]:
        return self.stddev.square()

    def rsample(self, sample_shape: Sequence[int] = ()) -> Float[Tensor, "... C H W"]:
        noise = torch.randn(self._extended_shape(torch.Size(sample_shape)), dtype=self._params.dtype, device=self._params.device)
        return self.loc + self.log_scale.exp() * noise

    def log_prob(self, value: Float[Tensor, "... C H W"]) -> Float[Tensor, "... C H W"]:
        """log p(x) = -(x - loc)^2 / (2 scale^2) - log scale - log(2 pi) / 2, in nats per value, a density per raw unit."""
        # The fused squared error and factors that are computed once for all values: this runs in every step.
        loc, value = torch.broadcast_tensors(self.loc, value)
        squared_error = F.mse_loss(loc, value, reduction="none")
        return squared_error * (-0.5 * torch.exp(-2 * self.log_scale)) + (-_HALF_LOG_TWO_PI - self.log_scale)

    def total_log_prob(self, value: Float[Tensor, "N C H W"]) -> Float[Tensor, "N"]:
        """The sum of `log_prob` over each image, in nats: the errors are summed before anything else is done with them."""
        if self._size and not value.requires_grad:
            return _SigmoidGaussian.apply(self._params, value, self._log_scale.view(-1), self._size)  # type: ignore[no-any-return]
        squared_error = F.mse_loss(self.loc, value, reduction="none").flatten(2).sum(2)
        scale = self.log_scale.flatten()
        pixels = value.shape[2] * value.shape[3]
        return (squared_error * (-0.5 * torch.exp(-2 * scale)) - pixels * (_HALF_LOG_TWO_PI + scale)).sum(1)
