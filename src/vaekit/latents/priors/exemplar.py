"""The exemplar prior: a mixture around the codes of training images."""

import math

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, Normal

from vaekit.distributions.mixture import Mixture
from vaekit.distributions.scale import deviation
from vaekit.latents.base import AnchoredPrior, AnchorImages


class ExemplarPrior(AnchoredPrior):
    """p(z) = 1/M sum_m N(z; mu(x_m), sigma^2 I) for M training images x_m, mu the posterior's mean, and one learned sigma for all.

    A training image never counts as its own exemplar: its mixture is of the others (Eq. 8 of the paper). If there are no others, N(0, I) stands in.
    In training each pass draws `per_step` of the exemplars: by Jensen's inequality the mean of log p over the draws is below log p, so what is
    maximized is still a lower bound. In eval mode all of them count.

    The exemplars are raw images in buffers, filled by `initialize`, and are saved with the model: who has the file has the images. Before that there
    is one blank image.

    References: Exemplar VAE (Norouzi, Fleet, Norouzi, 2020), Eq. 6 and 8, https://arxiv.org/abs/2004.04795

    Args:
        shape: [C, H, W] of a raw image.
        exemplars: the number of images that are kept, at most; the first of those that the start looks at (`Recipe.start`).
        per_step: how many of them a training pass draws.
        levels: of the pixels; None for floats.
        condition: the shape of an image's raw condition: [] for a class, [F] for attributes; None for an unconditional model.
    """

    needs = frozenset({"density", "vector"})
    x: Tensor
    index: Tensor
    filled: Tensor
    condition: Tensor | None

    def __init__(
        self, shape: list[int], exemplars: int = 1000, per_step: int = 256, levels: int | None = 256, condition: list[int] | None = None
    ) -> None:
        super().__init__()
        self.per_step = per_step
        kind = torch.float32 if levels is None else torch.uint8 if levels <= 256 else torch.int32
        self.register_buffer("x", torch.zeros(exemplars, *shape, dtype=kind))
        self.register_buffer("index", torch.full((exemplars,), -1))
        self.register_buffer("filled", torch.tensor(0))
        told = None if condition is None else torch.zeros(exemplars, *condition, dtype=torch.float32 if condition else torch.int64)
        self.register_buffer("condition", told)
        self.log_variance = nn.Parameter(torch.tensor(0.0))

    def images(self) -> AnchorImages:
        """The exemplars of this pass: some of them at random in training, else all that there are."""
        count = max(1, int(self.filled))
        if self.training and self.per_step < count:
            rows = torch.randperm(count, device=self.x.device)[: self.per_step]
            return AnchorImages(self.x[rows], True, None if self.condition is None else self.condition[rows], self.index[rows])
        return AnchorImages(self.x[:count], True, None if self.condition is None else self.condition[:count], self.index[:count])

    def forward(self, q: Distribution, same: Bool[Tensor, "N M"] | None = None) -> Distribution:
        """p(z): batch shape [], or [N] where `same` leaves each image's own exemplar out."""
        loc, scale = self._components(q)
        if same is None:
            return _around(loc, scale, loc.new_full((len(loc),), -math.log(len(loc))))
        # One more component, N(0, I), counts for the images that have no exemplar but themselves: no mixture is ever empty.
        out = torch.cat((same, ~same.all(1, keepdim=True)), 1)
        log_weights = (-(~out).sum(1, keepdim=True).to(loc.dtype).log()).masked_fill(out, -math.inf)
        return _around(torch.cat((loc, torch.zeros_like(loc[:1]))), torch.cat((scale, torch.ones_like(scale[:1]))), log_weights)

    def sample(self, n: int, q: Distribution, *, temperature: float = 1.0) -> Tensor:
        """n codes [n, *E]; `temperature` multiplies the spread about each exemplar's code."""
        loc, scale = self._components(q)
        return _around(loc, scale, loc.new_full((len(loc),), -math.log(len(loc)))).draw(n, temperature)

    def _components(self, q: Distribution) -> tuple[Tensor, Tensor]:
        loc = q.mean
        return loc, deviation(self.log_variance).expand_as(loc)

    @torch.no_grad()
    def initialize(
        self,
        x: Shaped[Tensor, "B C H W"],
        condition: Shaped[Tensor, "B *F"] | None,
        index: Shaped[Tensor, "B"] | None,
        network_input: Float[Tensor, "B C H W"],
    ) -> None:
        """Keeps the first images of a raw batch of training images. Without their rows (`index`) no image can be told from its exemplar."""
        count = min(len(x), len(self.x))
        self.x[:count] = x[:count].to(self.x.dtype)
        self.index.fill_(-1)
        if index is not None:
            self.index[:count] = index[:count]
        if self.condition is not None and condition is not None:
            self.condition[:count] = condition[:count].to(self.condition.dtype)
        self.filled.fill_(count)


def _around(loc: Tensor, scale: Tensor, log_weights: Tensor) -> Mixture:
    return Mixture(Independent(Normal(loc, scale, validate_args=False), loc.dim() - 1, validate_args=False), log_weights)
