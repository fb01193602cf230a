"""Pixels one after the other: each given the code and the pixels above it and to its left."""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Distribution
from torch.nn import functional as F

Conditional = Callable[[Float[Tensor, "N P h w"], Float[Tensor, "N C h2 w2"]], Distribution]
"""(params at some places, the network input there and r more above, to the left and to the right) -> the distribution of those pixels."""


class CausalPixels(Distribution):
    """p(x|z) = prod_i p(x_i | z, the pixels before i within reach r), in the order of reading.

    A log-probability takes one pass for all pixels, a draw one for each pixel. There is no closed form of the mean: `mean` is E[x_i | z, x_<i] along
    one draw of the pixels, an unbiased estimate of it, and two calls differ.

    Args:
        params: [N,P,H,W], of the decoder.
        conditional: see `Conditional`.
        units: raw values -> network input; 0 stands for what is outside of the image.
        reach: r.
        channels: C.
    """

    arg_constraints: ClassVar[dict[str, Any]] = {}
    ordered: ClassVar[bool] = True
    """A pixel's probability needs the pixels before it: none may be missing."""

    def __init__(
        self, params: Float[Tensor, "N P H W"], conditional: Conditional, units: Callable[[Tensor], Tensor], reach: int, channels: int
    ) -> None:
        n, _, height, width = params.shape
        super().__init__(torch.Size((n, channels, height, width)), validate_args=False)
        self.params, self.conditional, self.units, self.reach = params, conditional, units, reach

    def log_prob(self, value: Float[Tensor, "N C H W"]) -> Float[Tensor, "N #C H W"]:
        return self._given(value).log_prob(value)

    def _given(self, value: Float[Tensor, "N C H W"]) -> Distribution:
        """The distribution of every pixel, given those of `value` before it."""
        return self.conditional(self.params, F.pad(self.units(value), (self.reach, self.reach, self.reach, 0)))

    @property
    def mean(self) -> Float[Tensor, "N C H W"]:
        return self._walk(lambda px: (px.sample(), px.mean))[1]

    @property
    def mode(self) -> Float[Tensor, "N C H W"]:
        """The likeliest value of each pixel given those before it, which need not be the likeliest image."""
        return self._walk(lambda px: (px.mode, px.mode))[0]

    def sample(self, sample_shape: Sequence[int] = ()) -> Float[Tensor, "... C H W"]:
        shape = torch.Size(sample_shape)
        draws = [self._walk(lambda px: ((x := px.sample()), x))[0] for _ in range(shape.numel())]
        return torch.stack(draws).view(*shape, *self.batch_shape) if len(shape) else draws[0]

    @torch.no_grad()
    def _walk(self, choose: Callable[[Any], tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        """Goes through the pixels in order: `choose` gives the value of each and what else is kept of it. Both [N,C,H,W]."""
        x = torch.zeros(self.batch_shape, device=self.params.device)
        kept, r = torch.zeros_like(x), self.reach
        known = F.pad(x, (r, r, r, 0))
        for i in range(x.shape[2]):
            for j in range(x.shape[3]):
                px = self.conditional(self.params[:, :, i : i + 1, j : j + 1], known[:, :, i : i + r + 1, j : j + 2 * r + 1])
                value, keep = choose(px)
                x[:, :, i, j], kept[:, :, i, j] = value[:, :, 0, 0], keep[:, :, 0, 0]
                known[:, :, i + r, j + r] = self.units(value)[:, :, 0, 0]
        return x, kept
