"""A code for each group of channels."""

from collections.abc import Mapping

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from vaekit.errors import UserError
from vaekit.latents.quantizers.base import Quantized, Quantizer, joined_stats, stats_of


class GroupedQuantizer(Quantizer):
    """The channels are split, and each group has a quantizer of its own: K^G combinations from G codebooks of K (a product code).

    References: Product Quantization for Nearest Neighbor Search (Jegou et al., 2011), Eq. 8, https://inria.hal.science/inria-00514462

    Args:
        quantizers: of one size; their channels add up to F.
    """

    def __init__(self, quantizers: list[Quantizer]) -> None:
        super().__init__()
        if len({q.size for q in quantizers}) != 1:
            raise UserError("The quantizers of the groups have codebooks of one size.")
        self.parts = nn.ModuleList(quantizers)
        self._parts = tuple(quantizers)
        self.size = quantizers[0].size
        self.channels, self.levels = sum(q.channels for q in quantizers), sum(q.levels for q in quantizers)

    def _split(self, h: Tensor) -> tuple[Tensor, ...]:
        return h.split([q.channels for q in self._parts], dim=1)

    def forward(self, h: Float[Tensor, "N F *S"]) -> Quantized:
        parts = [q(some) for q, some in zip(self._parts, self._split(h), strict=True)]
        z_q, indices = (torch.cat([getattr(p, name) for p in parts], dim=1) for name in ("z_q", "indices"))
        return Quantized(z_q, indices, torch.stack([p.penalty for p in parts]).sum(0), joined_stats(parts))

    def lookup(self, indices: Int[Tensor, "N Q *S"]) -> Float[Tensor, "N F *S"]:
        some = indices.split([q.levels for q in self._parts], dim=1)
        return torch.cat([q.lookup(i) for q, i in zip(self._parts, some, strict=True)], dim=1)

    @torch.no_grad()
    def initialize(self, h: Float[Tensor, "N F *S"]) -> None:
        for part, some in zip(self._parts, self._split(h), strict=True):
            part.initialize(some)

    def post_step(self, stats: Mapping[str, Tensor]) -> None:
        for i, part in enumerate(self._parts):
            part.post_step(stats_of(i, stats))
