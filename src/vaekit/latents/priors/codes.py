"""Distributions over grids of codes [Q, h, w]."""

import abc
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.distributions import Categorical, Distribution, Independent
from torch.nn import functional as F

from vaekit.latents.base import Prior


class CodesPrior(Prior):
    """A prior over indices with probabilities, which may stand inside a bound: -log p(codes) is the rate of a quantizer, in nats."""

    support: ClassVar[str] = "indices"
    exact: ClassVar[bool] = True
    shape: tuple[int, ...]
    """[Q, *S], the shape of one code."""
    size: int
    """How many values an index can take."""

    @abc.abstractmethod
    def forward(self, c: Tensor | None = None) -> Distribution:
        """p(codes), or p(codes|c): batch shape [] or [N], event shape [Q, *S]."""

    def loss(self, code: Tensor, c: Tensor | None = None) -> Float[Tensor, "N"]:
        return -self(c).log_prob(code)


class UniformCodes(CodesPrior):
    """p(codes) = size^-(Q h w): every code alike, as while the first VQ-VAE is trained.

    References: Neural Discrete Representation Learning (van den Oord et al., 2017), section 3.1, https://arxiv.org/abs/1711.00937

    Args:
        shape: [Q, h, w], or [Q] for codes that are no map.
        size: how many values an index can take.
    """

    logits: Tensor

    def __init__(self, shape: list[int], size: int) -> None:
        super().__init__()
        self.shape, self.size = tuple(shape), size
        self.register_buffer("logits", torch.zeros(size), persistent=False)

    def forward(self, c: Tensor | None = None) -> Distribution:
        each = Categorical(logits=self.logits.expand(*self.shape, self.size), validate_args=False)
        return Independent(each, len(self.shape), validate_args=False)

    def sample(self, n: int, *, c: Tensor | None = None, temperature: float = 1.0) -> Tensor:
        """A temperature changes nothing: among equals none is likelier."""
        return torch.randint(self.size, (n, *self.shape), device=self.logits.device)


class OrderedCodes(CodesPrior):
    """p(codes) = prod_i p(i | all before it), the logits of all indices in one pass: positions in reading order, the levels of one after the other.

    A draw takes them in turn. `top` keeps the likeliest few of each index; guidance g makes of the logits free + g (told - free), where free are
    those of the condition 0, which training must show now and then: above 1, codes are more typical of their condition and less varied.

    References: Stay on topic with Classifier-Free Guidance (Sanchez et al., 2023), section 2, https://arxiv.org/abs/2306.17806
    """

    takes = frozenset({"top", "guidance"})
    told: nn.Linear | None
    """Takes the embedded condition, if there is one; without a bias, so that the condition 0 is none."""

    def forward(self, c: Tensor | None = None) -> "AutoregressiveCodes":
        return AutoregressiveCodes(self, c if self.told is not None else None)

    @abc.abstractmethod
    def logits(self, codes: Int[Tensor, "N Q h w"], c: Tensor | None = None) -> Float[Tensor, "N Q h w K"]:
        """log p up to a constant of every index given those before it, in one pass."""

    @abc.abstractmethod
    def sample(
        self, n: int, *, c: Tensor | None = None, temperature: float = 1.0, top: int | None = None, guidance: float = 1.0
    ) -> Int[Tensor, "n Q h w"]:
        """n grids, index by index.

        Args:
            temperature: what the log-probabilities are divided by.
            top: only the likeliest few of each index are drawn; None for all.
            guidance: how much the condition counts.
        """

    def log_prob(self, codes: Int[Tensor, "N Q h w"], c: Tensor | None = None) -> Float[Tensor, "N"]:
        """log p(codes) in nats, summed over the grid."""
        logits = self.logits(codes, c)
        return -F.cross_entropy(logits.flatten(0, -2), codes.flatten(), reduction="none").view(len(codes), -1).sum(1)

    def told_and_free(self, c: Tensor | None, guidance: float) -> tuple[Tensor | None, int]:
        """The conditions of the rows that a draw with guidance carries along: those told, then as many free ones; and 2, or 1 without guidance."""
        if c is None or self.told is None or guidance == 1.0:
            return c, 1
        return torch.cat([c, torch.zeros_like(c)]), 2


def drawn(logits: Float[Tensor, "M K"], temperature: float, top: int | None, guidance: float = 1.0, copies: int = 1) -> Int[Tensor, "N"]:
    """An index from each row of logits; with two copies the rows are those told and then the free ones (`OrderedCodes.told_and_free`)."""
    if copies == 2:
        # Normalized first: only probabilities are comparable between the two.
        told, free = logits.log_softmax(1).chunk(2)
        logits = free + guidance * (told - free)
    if top is not None and top < logits.shape[1]:
        least = logits.topk(top, dim=1).values[:, -1:]
        logits = logits.masked_fill(logits < least, -torch.inf)
    return torch.multinomial((logits / max(temperature, 1e-6)).softmax(1), 1).squeeze(1)


class _GatedLayer(nn.Module):
    """Two stacks: `v` sees the rows above and its own, `r` its own row up to its own place, and `v`.

    References: Conditional Image Generation with PixelCNN Decoders (van den Oord et al., 2016), Fig. 2, https://arxiv.org/abs/1606.05328
    """

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.column = nn.Conv2d(hidden, 2 * hidden, (2, 3))
        self.row = nn.Conv2d(hidden, 2 * hidden, (1, 2))
        self.across = nn.Conv2d(2 * hidden, 2 * hidden, 1)
        self.out = nn.Conv2d(hidden, hidden, 1)

    def forward(self, v: Float[Tensor, "N H h w"], r: Float[Tensor, "N H h w"]) -> tuple[Float[Tensor, "N H h w"], Float[Tensor, "N H h w"]]:
        above = self.column(F.pad(v, (1, 1, 1, 0)))
        beside = self.row(F.pad(r, (1, 0, 0, 0))) + self.across(above)
        return v + F.glu(above, 1), r + self.out(F.glu(beside, 1))


class CodePrior(OrderedCodes):
    """p(codes) = prod over rows, columns and levels of p(i | all before it), by masked convolutions: a small gated PixelCNN.

    Positions come in reading order, the levels of one position one after the other. It starts as the uniform distribution. The codes
    are indices, so that its gradient stays in the prior.

    References: Conditional Image Generation with PixelCNN Decoders (van den Oord et al., 2016), Eq. 1 and 2, https://arxiv.org/abs/1606.05328

    Args:
        shape: [Q, h, w].
        size: how many values an index can take.
        hidden: channels of the convolutions.
        layers: each one sees one row and one column further.
        condition: G, the width of the embedded condition, 0 for none.
    """

    undecayed = ("place", "level", "bias", "codes", "before")

    def __init__(self, shape: list[int], size: int, hidden: int = 32, layers: int = 3, condition: int = 0) -> None:
        super().__init__()
        levels, height, width = shape
        self.shape, self.size, self.hidden = (levels, height, width), size, hidden
        self.codes = nn.Embedding(levels * size, hidden)
        self.place = nn.Parameter(0.1 * torch.randn(hidden, height, width))
        self.told = nn.Linear(condition, hidden, bias=False) if condition else None
        self.layers = nn.ModuleList(_GatedLayer(hidden) for _ in range(layers))
        self.mix = nn.Linear(hidden, hidden)
        self.level = nn.Parameter(0.1 * torch.randn(levels, hidden))
        # What the levels of the same position before this one add; the first has none.
        self.before = nn.Embedding((levels - 1) * size, hidden) if levels > 1 else None
        self.head = nn.Parameter(torch.zeros(levels, size, hidden))
        self.bias = nn.Parameter(torch.zeros(levels, size))

    def _shifted(self, codes: Int[Tensor, "N Q r w"], levels: int) -> Int[Tensor, "N Q r w"]:
        """Each level's indices among the rows of one table for all."""
        return codes + self.size * torch.arange(levels, device=codes.device).view(-1, 1, 1)

    def context(self, codes: Int[Tensor, "N Q r w"], c: Tensor | None = None, top: int = 0) -> Float[Tensor, "N r w H"]:
        """What is known of each position from those before it; `codes` are the rows from `top` on."""
        rows, width = codes.shape[2:]
        x = self.codes(self._shifted(codes, self.shape[0])).sum(1).permute(0, 3, 1, 2)
        place = self.place[:, top : top + rows]
        if self.told is not None and c is not None:
            place = place + self.told(c)[:, :, None, None]
        # One row down and one column to the right: from here on, every convolution may see its own place.
        v = F.pad(x, (0, 0, 1, 0))[:, :, :rows] + place
        r = F.pad(x, (1, 0))[:, :, :, :width] + place
        for layer in self.layers:
            v, r = layer(v, r)
        return r.permute(0, 2, 3, 1)

    def logits(self, codes: Int[Tensor, "N Q r w"], c: Tensor | None = None) -> Float[Tensor, "N Q r w K"]:
        x = self.context(codes, c).unsqueeze(1).expand(-1, self.shape[0], -1, -1, -1)
        if self.before is not None:
            known = self.before(self._shifted(codes[:, :-1], self.shape[0] - 1)).cumsum(1)
            x = x + F.pad(known, (0, 0, 0, 0, 0, 0, 1, 0))
        return self._head(x, self.level, self.head, self.bias)

    def _head(self, x: Float[Tensor, "N q r w H"], level: Tensor, head: Tensor, bias: Tensor) -> Float[Tensor, "N q r w K"]:
        x = F.silu(x + level[:, None, None])
        x = F.silu(x + self.mix(x))
        return torch.stack([F.linear(x[:, i], head[i], bias[i]) for i in range(len(head))], dim=1).float()

    @torch.no_grad()
    def sample(
        self, n: int, *, c: Tensor | None = None, temperature: float = 1.0, top: int | None = None, guidance: float = 1.0
    ) -> Int[Tensor, "n Q h w"]:
        levels, height, width = self.shape
        c, copies = self.told_and_free(c, guidance)
        codes = torch.zeros(copies * n, *self.shape, dtype=torch.long, device=self.place.device)
        for row in range(height):
            # No further up does the last layer see.
            first = max(0, row - len(self.layers) - 1)
            for column in range(width):
                x = self.context(codes[:, :, first : row + 1], c, first)[:, -1:, column : column + 1].unsqueeze(1)
                for q in range(levels):
                    logits = self._head(x, self.level[q : q + 1], self.head[q : q + 1], self.bias[q : q + 1])[:, 0, 0, 0]
                    codes[:, q, row, column] = drawn(logits, temperature, top, guidance, copies).repeat(copies)
                    if self.before is not None and q < levels - 1:
                        x = x + self.before(codes[:, q, row, column] + q * self.size)[:, None, None, None]
        return codes[:n]


class AutoregressiveCodes(Distribution):
    """The distribution of an `OrderedCodes`, given a condition [N, G] or none: batch shape [N] or [], event shape [Q, h, w]."""

    arg_constraints: ClassVar[dict[str, Any]] = {}

    def __init__(self, prior: OrderedCodes, c: Tensor | None) -> None:
        super().__init__(torch.Size() if c is None else c.shape[:1], torch.Size(prior.shape), validate_args=False)
        self.prior, self.c = prior, c

    def log_prob(self, value: Tensor) -> Tensor:
        lead = value.shape[:-3]
        codes = value.reshape(-1, *self.event_shape)
        c = None if self.c is None else self.c.expand(*lead, self.c.shape[-1]).reshape(-1, self.c.shape[-1])
        return self.prior.log_prob(codes, c).view(lead)

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        lead = (*sample_shape, *self.batch_shape)
        n = torch.Size(lead).numel()
        c = None if self.c is None else self.c.expand(*lead, self.c.shape[-1]).reshape(n, -1)
        return self.prior.sample(n, c=c).view(*lead, *self.event_shape)
