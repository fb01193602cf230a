"""Codes for what the codes before them left over."""

from collections.abc import Mapping

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from vaekit.errors import UserError
from vaekit.latents.quantizers.base import Quantized, Quantizer, joined_stats, stats_of, straight_through


class ResidualQuantizer(Quantizer):
    """z_q = e_1 + ... + e_Q, where quantizer l takes the features less the codes of those before it.

    Each one's penalty is that of its own residual, so that every partial sum is drawn to the features.

    References:
        SoundStream: An End-to-End Neural Audio Codec (Zeghidour et al., 2021), Alg. 1, https://arxiv.org/abs/2107.03312
        Autoregressive Image Generation using Residual Quantization (Lee et al., 2022), Eq. 6-8, https://arxiv.org/abs/2203.01941

    Args:
        quantizers: of one size and the same channels, the coarse one first.
    """

    def __init__(self, quantizers: list[Quantizer]) -> None:
        super().__init__()
        if len({(q.size, q.channels) for q in quantizers}) != 1:
            raise UserError("The quantizers of a residual quantizer take the same channels and have codebooks of one size.")
        self.parts = nn.ModuleList(quantizers)
        self._parts = tuple(quantizers)
        self.channels, self.size = quantizers[0].channels, quantizers[0].size
        self.levels = sum(q.levels for q in quantizers)

    def forward(self, h: Float[Tensor, "N F *S"]) -> Quantized:
        h = h.float()
        residual, parts = h, []
        for part in self._parts:
            parts.append(part(residual))
            residual = residual - parts[-1].z_q.detach()
        indices = torch.cat([p.indices for p in parts], dim=1)
        total = torch.stack([p.z_q.detach() for p in parts]).sum(0)
        return Quantized(straight_through(total, h), indices, torch.stack([p.penalty for p in parts]).sum(0), joined_stats(parts))

    def lookup(self, indices: Int[Tensor, "N Q *S"]) -> Float[Tensor, "N F *S"]:
        some = indices.split([q.levels for q in self._parts], dim=1)
        return torch.stack([q.lookup(i) for q, i in zip(self._parts, some, strict=True)]).sum(0)

    @torch.no_grad()
    def initialize(self, h: Float[Tensor, "N F *S"]) -> None:
        residual = h.float()
        for part in self._parts:
            part.initialize(residual)
            residual = residual - part(residual).z_q

    def post_step(self, stats: Mapping[str, Tensor]) -> None:
        for i, part in enumerate(self._parts):
            part.post_step(stats_of(i, stats))
