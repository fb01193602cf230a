"""Rounding each channel to a few values."""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vaekit.errors import UserError
from vaekit.latents.quantizers.base import Quantized, Quantizer, straight_through


class FSQ(Quantizer):
    """Channel i is bounded to an interval that holds L_i whole numbers, rounded, and divided by floor(L_i / 2): codes in [-1, 1].

    bound(h) = (L-1)(1+eps)/2 tanh(h + s) - o, with o = 1/2 and s such that bound(0) = 0 where L is even, else o = s = 0. The codebook
    is the grid of all combinations, prod L_i of them: there is nothing to learn, nothing to collapse, and no penalty.

    References: Finite Scalar Quantization: VQ-VAE Made Simple (Mentzer et al., 2023), section 3.1 and appendix A, https://arxiv.org/abs/2309.15505

    Args:
        values: L_i for each channel, 3 or more; the paper's advice is 5 or more.

    Raises:
        UserError: for a channel with fewer than 3 values: its tanh would start saturated. `LFQ` is made for two.
    """

    offset: Tensor
    shift: Tensor
    reach: Tensor
    half_width: Tensor
    basis: Tensor
    counts: Tensor

    def __init__(self, values: list[int]) -> None:
        super().__init__()
        if min(values) < 3:
            raise UserError(f"A channel of FSQ has 3 values or more, and {values} were asked for: take lfq for two, or fewer channels.")
        self.channels, self.size = len(values), math.prod(values)
        reach = [(n - 1) * (1 + 1e-3) / 2 for n in values]
        offset = [0.5 if n % 2 == 0 else 0.0 for n in values]
        buffers = {
            "reach": reach,
            "offset": offset,
            "shift": [math.atanh(o / r) for o, r in zip(offset, reach, strict=True)],
            "half_width": [n // 2 for n in values],
            "basis": [math.prod(values[:i]) for i in range(len(values))],
            "counts": values,
        }
        for name, value in buffers.items():
            self.register_buffer(name, torch.tensor(value), persistent=False)

    def _over(self, buffer: Tensor, x: Tensor) -> Tensor:
        """The buffer [F] against [N, F, *S]."""
        return buffer.view(-1, *[1] * (x.dim() - 2))

    def forward(self, h: Float[Tensor, "N F *S"]) -> Quantized:
        h = h.float()
        reach, offset, shift, half = (self._over(b, h) for b in (self.reach, self.offset, self.shift, self.half_width))
        bounded = reach * torch.tanh(h + shift) - offset
        digits = bounded.detach().round()
        indices = ((digits + half).long() * self._over(self.basis, h)).sum(1, keepdim=True)
        return Quantized(straight_through(digits / half, bounded / half), indices, h.new_zeros(len(h)))

    def lookup(self, indices: Int[Tensor, "N Q *S"]) -> Float[Tensor, "N F *S"]:
        basis, counts, half = (self._over(b, indices) for b in (self.basis, self.counts, self.half_width))
        return ((indices // basis) % counts - half).float() / half
