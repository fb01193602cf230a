"""Pixels one after the other: each given the code and the pixels above it and to its left."""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Protocol

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Distribution


class Walk(Protocol):
    """The way through the pixels of N images in the order of reading."""

    def at(self, i: int, j: int) -> Distribution:
        """Of the pixel [N,C,1,1] in row i and column j, given the values that were put before it."""

    def put(self, i: int, j: int, value: Float[Tensor, "N C 1 1"]) -> None:
        """The raw value that this pixel has."""


class CausalPixels(Distribution):
    """p(x|z) = prod_i p(x_i | z, x_<i), in the order of reading.

    A log-probability takes one pass for all pixels, a draw one for each pixel. There is no closed form of the mean: `mean` is E[x_i | z, x_<i] along
    one draw of the pixels, an unbiased estimate of it, and two calls differ.

    Args:
        given: raw values [N,C,H,W] -> the distribution of every pixel, given those before it.
        walk: begins a walk through the pixels.
        shape: N, C, H and W.
        device: of what is drawn.
    """

    arg_constraints: ClassVar[dict[str, Any]] = {}
    ordered: ClassVar[bool] = True
    """A pixel's probability needs the pixels before it: none may be missing."""

    def __init__(
        self, given: Callable[[Float[Tensor, "N C H W"]], Distribution], walk: Callable[[], Walk], shape: Sequence[int], device: torch.device
    ) -> None:
        super().__init__(torch.Size(shape), validate_args=False)
        self._given, self._begin, self._device = given, walk, device

    def log_prob(self, value: Float[Tensor, "N C H W"]) -> Float[Tensor, "N #C H W"]:
        return self._given(value).log_prob(value)

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
        x = torch.zeros(self.batch_shape, device=self._device)
        kept, walk = torch.zeros_like(x), self._begin()
        for i in range(x.shape[2]):
            for j in range(x.shape[3]):
                value, keep = choose(walk.at(i, j))
                x[:, :, i, j], kept[:, :, i, j] = value[:, :, 0, 0], keep[:, :, 0, 0]
                walk.put(i, j, value)
        return x, kept
