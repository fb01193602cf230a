"""The interfaces of the latent side: a latent owns both q(z|x) and p(z)."""

import abc
from collections.abc import Mapping
from typing import Any

from jaxtyping import Float
from torch import Tensor
from torch.distributions import Distribution

from vaekit.output import LatentTerm
from vaekit.part import Part

Features = Tensor | dict[int, Tensor]
"""[N, F], [N, F, h, w], or a pyramid {level: [N, F_l, h_l, w_l]}."""


class Posterior(Part):
    """q(z|x): a module whose forward returns a distribution."""

    @property
    @abc.abstractmethod
    def event_shape(self) -> tuple[int, ...]:
        """*E, the shape of one code."""

    @abc.abstractmethod
    def forward(self, h: Features) -> Distribution:
        """The distribution of the code given the encoder's features; its `log_prob` is summed over the event."""


class Prior(Part):
    """All that a stage-two prior needs: to sample codes, and to learn from them."""

    @abc.abstractmethod
    def sample(self, n: int, *, c: Tensor | None = None, temperature: float = 1.0) -> Tensor:
        """n codes [n, *E]; `temperature` scales the spread (1 is the prior itself)."""

    @abc.abstractmethod
    def loss(self, code: Tensor, c: Tensor | None = None) -> Float[Tensor, "N"]:
        """[N] nats to minimize when the prior is fitted to codes."""


class DensityPrior(Prior):
    """A prior with a density, which may stand inside a bound."""

    @abc.abstractmethod
    def forward(self, c: Tensor | None = None) -> Distribution:
        """p(z), or p(z|c): batch shape [] or [N]."""

    def loss(self, code: Tensor, c: Tensor | None = None) -> Float[Tensor, "N"]:
        return -self(c).log_prob(code)


class Latent(Part):
    """q and p together, and how codes reach the decoder."""

    @abc.abstractmethod
    def infer(self, h: Features, *, anchors: Any = None, c: Tensor | None = None, mean: bool = False) -> tuple[Tensor, tuple[LatentTerm, ...]]:
        """Draws codes from the posterior (its mean when `mean`): what the decoder takes [N, ...], and one term for each stochastic layer."""

    @abc.abstractmethod
    def generate(self, n: int, *, code: tuple[Tensor, ...] = (), anchors: Any = None, temperature: float = 1.0, c: Tensor | None = None) -> Tensor:
        """What the decoder takes for n new images; `code` fixes the first layers, the rest is drawn from the prior."""

    def initialize(self, h: Features) -> None:
        """Data-dependent start."""

    def post_step(self, stats: Mapping[str, Tensor]) -> None:
        """Updates buffers after an optimizer step."""
