"""A learned codebook: moved by gradient, or by moving averages."""

import abc
from collections.abc import Mapping

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from vaekit.latents.quantizers.base import Quantized, Quantizer, per_image, straight_through
from vaekit.latents.quantizers.clusters import kmeans, nearest, reborn, tally


class CodebookQuantizer(Quantizer):
    """The nearest of K vectors. Its codebook starts from the k-means of one large batch, and codes that nothing uses are born again."""

    codebook: Tensor
    """[K, F]."""
    usage: Tensor
    """[K] moving average: how often a code is used in an image."""
    errors: Tensor
    """[K] moving average: the sum of a code's squared errors in an image."""
    steps: Tensor

    def __init__(self, channels: int, size: int, beta: float, decay: float, revive: float) -> None:
        super().__init__()
        self.channels, self.size = channels, size
        self.beta, self.decay, self.revive = beta, decay, revive
        self.register_buffer("usage", torch.ones(size))
        self.register_buffer("errors", torch.zeros(size))
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))

    @abc.abstractmethod
    def penalty(self, h: Float[Tensor, "N F *S"], e: Float[Tensor, "N F *S"]) -> Float[Tensor, "N"]:
        """The penalty of features `h` whose nearest codes are `e`."""

    def forward(self, h: Float[Tensor, "N F *S"]) -> Quantized:
        h = h.float()
        points = h.detach().movedim(1, -1).flatten(0, -2)
        index = nearest(points, self.codebook.detach())
        indices = index.view(h.shape[0], 1, *h.shape[2:])
        e = self.lookup(indices)
        return Quantized(straight_through(e, h), indices, self.penalty(h, e), self._stats(points, index, h.shape[0]) if self.training else {})

    @torch.no_grad()
    def _stats(self, points: Tensor, index: Tensor, images: int) -> dict[str, Tensor]:
        t = tally(points, index, self.codebook)
        return {"counts": t.counts / images, "sums": t.sums / images, "errors": t.errors / images}

    def lookup(self, indices: Int[Tensor, "N Q *S"]) -> Float[Tensor, "N F *S"]:
        return F.embedding(indices[:, 0], self.codebook).movedim(-1, 1)

    @torch.no_grad()
    def initialize(self, h: Float[Tensor, "N F *S"]) -> None:
        points = h.float().movedim(1, -1).flatten(0, -2)
        centres, t = kmeans(points, self.size)
        self.codebook.copy_(centres)
        # From the points that k-means took to all of an image's.
        scale = len(points) / len(h) / float(t.counts.sum())
        self.usage.copy_(t.counts * scale)
        self.errors.copy_(t.errors * scale)

    @torch.no_grad()
    def post_step(self, stats: Mapping[str, Tensor]) -> None:
        self.usage.lerp_(stats["counts"], 1 - self.decay)
        self.errors.lerp_(stats["errors"], 1 - self.decay)
        self._move(stats)
        self.steps += 1
        if self.revive > 0:
            reborn(self.codebook, self.usage, self.errors, self.revive, int(self.steps))

    def _move(self, stats: Mapping[str, Tensor]) -> None:
        """Moves the codebook, where the gradient does not."""


class VectorQuantizer(CodebookQuantizer):
    r"""The nearest code, and per image sum ||sg[h] - e||^2 + beta ||h - sg[e]||^2: the first pulls the codebook, the second the encoder.

    Sums over channels and positions, in squared units of the features, beside a distortion in nats: sg is the stopped gradient.

    References: Neural Discrete Representation Learning (van den Oord et al., 2017), Eq. 3, https://arxiv.org/abs/1711.00937

    Args:
        channels: F.
        size: K, the number of codes.
        beta: weight of the commitment.
        decay: of the averages that tell which codes are used.
        revive: a code with less than this share of the mean usage is born again; 0 for never.
    """

    undecayed = ("codebook",)

    def __init__(self, channels: int, size: int, beta: float = 0.25, decay: float = 0.99, revive: float = 0.02) -> None:
        super().__init__(channels, size, beta, decay, revive)
        self.codebook = nn.Parameter(torch.randn(size, channels))

    def penalty(self, h: Float[Tensor, "N F *S"], e: Float[Tensor, "N F *S"]) -> Float[Tensor, "N"]:
        return per_image((h.detach() - e).square()) + self.beta * per_image((h - e.detach()).square())


class EMAVectorQuantizer(CodebookQuantizer):
    r"""The nearest code; the codebook follows the mean of what it is given, and per image beta sum ||h - sg[e]||^2 pulls the encoder.

    N_k <- g N_k + (1-g) n_k, and N_k e_k <- g N_k e_k + (1-g) sum of the features that chose k: one step of k-means on a moving window.

    References: Neural Discrete Representation Learning (van den Oord et al., 2017), Eq. 6-8, https://arxiv.org/abs/1711.00937

    Args:
        channels: F.
        size: K, the number of codes.
        beta: weight of the commitment.
        decay: g.
        revive: a code with less than this share of the mean usage is born again; 0 for never.
    """

    def __init__(self, channels: int, size: int, beta: float = 0.25, decay: float = 0.99, revive: float = 0.02) -> None:
        super().__init__(channels, size, beta, decay, revive)
        self.register_buffer("codebook", torch.randn(size, channels))

    def penalty(self, h: Float[Tensor, "N F *S"], e: Float[Tensor, "N F *S"]) -> Float[Tensor, "N"]:
        return self.beta * per_image((h - e).square())

    def _move(self, stats: Mapping[str, Tensor]) -> None:
        gap = stats["sums"] - stats["counts"].unsqueeze(1) * self.codebook
        self.codebook += (1 - self.decay) * gap / self.usage.clamp_min(1e-12).unsqueeze(1)
