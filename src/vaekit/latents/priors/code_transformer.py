"""An autoregressive transformer over grids of codes [Q, h, w]."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from vaekit.errors import UserError
from vaekit.latents.priors.codes import OrderedCodes, drawn


class CodeTransformer(OrderedCodes):
    """p(codes) = prod_i p(i | all before it), by attention to all before it: a token for each index, positions in reading order, levels innermost.

    The token before index i is the embedded index i - 1 (a learned start for the first) with the place and the level of index i and the condition
    added, so that the network knows what it is asked for. It starts as the uniform distribution. A draw keeps the keys and values of the tokens
    that went before: Q h w steps of one token each.

    References:
        Attention Is All You Need (Vaswani et al., 2017), section 3.2, https://arxiv.org/abs/1706.03762
        Taming Transformers for High-Resolution Image Synthesis (Esser et al., 2020), section 3.2, https://arxiv.org/abs/2012.09841
        On Layer Normalization in the Transformer Architecture (Xiong et al., 2020), Fig. 1b, https://arxiv.org/abs/2002.04745

    Args:
        shape: [Q, h, w].
        size: how many values an index can take.
        width: of a token, a multiple of `heads`.
        blocks, heads: of the network.
        condition: G, the width of the embedded condition, 0 for none.

    Raises:
        UserError: for a width that the heads cannot share.
    """

    undecayed = ("start", "place", "level", "bias", "codes")

    def __init__(self, shape: list[int], size: int, width: int = 128, blocks: int = 4, heads: int = 4, condition: int = 0) -> None:
        super().__init__()
        if width % heads != 0:
            raise UserError(f"The width is shared by the heads of attention, and {width} is not a multiple of {heads}.")
        levels, rows, columns = shape
        self.shape, self.size, self.heads = (levels, rows, columns), size, heads
        self.codes = nn.Embedding(levels * size, width)
        self.start = nn.Parameter(0.1 * torch.randn(width))
        self.place = nn.Parameter(0.1 * torch.randn(rows * columns, width))
        self.level = nn.Parameter(0.1 * torch.randn(levels, width))
        self.told = nn.Linear(condition, width, bias=False) if condition else None
        self.blocks = nn.ModuleList(_Block(width, heads) for _ in range(blocks))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Parameter(torch.zeros(levels, size, width))
        self.bias = nn.Parameter(torch.zeros(levels, size))

    def logits(self, codes: Int[Tensor, "N Q h w"], c: Tensor | None = None) -> Float[Tensor, "N Q h w K"]:
        levels, rows, columns = self.shape
        before = self._embedded(codes.permute(0, 2, 3, 1).flatten(1)[:, :-1])
        x = torch.cat([self.start.expand(len(codes), 1, -1), before], dim=1) + self._asked(c)
        for block in self.blocks:
            x = block(x)
        x = self.norm(x).unflatten(1, (rows, columns, levels))
        return torch.stack([F.linear(x[:, :, :, q], self.head[q], self.bias[q]) for q in range(levels)], dim=1).float()

    def _embedded(self, sequence: Int[Tensor, "N m"], first: int = 0) -> Float[Tensor, "N m W"]:
        """The indices of a sequence from its place `first` on, as vectors; each level has its own."""
        level = torch.arange(first, first + sequence.shape[1], device=sequence.device) % self.shape[0]
        return self.codes(sequence + self.size * level)

    def _asked(self, c: Tensor | None) -> Float[Tensor, "N L W"]:
        """What each token asks for: place and level, and the condition."""
        asked = (self.place.unsqueeze(1) + self.level).flatten(0, 1).unsqueeze(0)
        return asked if self.told is None or c is None else asked + self.told(c).unsqueeze(1)

    @torch.no_grad()
    def sample(
        self, n: int, *, c: Tensor | None = None, temperature: float = 1.0, top: int | None = None, guidance: float = 1.0
    ) -> Int[Tensor, "n Q h w"]:
        levels, rows, columns = self.shape
        c, copies = self.told_and_free(c, guidance)
        asked, length = self._asked(c), levels * rows * columns
        memories = [self._memory(copies * n) for _ in self.blocks]
        codes = torch.empty(copies * n, length, dtype=torch.long, device=self.start.device)
        for i in range(length):
            logits = self._step(codes[:, i - 1 : i] if i > 0 else None, asked, memories, i)
            codes[:, i] = drawn(logits, temperature, top, guidance, copies).repeat(copies)
        return codes[:n].view(n, rows, columns, levels).permute(0, 3, 1, 2).contiguous()

    def _memory(self, rows: int) -> Float[Tensor, "2 N H L d"]:
        """Room for the keys and values of one block."""
        length, width = self.place.shape[0] * self.shape[0], self.start.numel()
        return self.start.new_empty(2, rows, self.heads, length, width // self.heads)

    def _step(
        self, before: Int[Tensor, "N 1"] | None, asked: Float[Tensor, "M L W"], memories: list[Float[Tensor, "2 N H L d"]], i: int
    ) -> Float[Tensor, "N K"]:
        """The logits of index i given the one before it, None for the first; what came earlier is in the memories."""
        known = self.start.expand(memories[0].shape[1], 1, -1) if before is None else self._embedded(before, i - 1)
        x = known + asked[:, i : i + 1]
        for block, memory in zip(self.blocks, memories, strict=True):
            x = block(x, memory, i)
        q = i % self.shape[0]
        return F.linear(self.norm(x[:, 0]), self.head[q], self.bias[q]).float()


class _Block(nn.Module):
    """h + attention(norm(h)), then h + dense(norm(h))."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.mix = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.dense = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, h: Float[Tensor, "N m W"], memory: Float[Tensor, "2 N H L d"] | None = None, i: int = 0) -> Float[Tensor, "N m W"]:
        """All tokens at once, each seeing those up to itself; or token i alone, which leaves its key and value in the memory."""
        q, k, v = self.qkv(self.norm1(h)).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        if memory is None:
            seen = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        else:
            memory[0, :, :, i], memory[1, :, :, i] = k[:, :, 0], v[:, :, 0]
            seen = F.scaled_dot_product_attention(q, memory[0, :, :, : i + 1], memory[1, :, :, : i + 1])
        h = h + self.mix(seen.transpose(1, 2).flatten(2))
        return h + self.dense(self.norm2(h))
