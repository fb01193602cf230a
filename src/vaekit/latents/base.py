"""The interfaces of the latent side: a latent owns both q(z|x) and p(z)."""

import abc
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from jaxtyping import Bool, Float
from torch import Tensor
from torch.distributions import Distribution

from vaekit.output import LatentTerm
from vaekit.part import Part

Features = Tensor | dict[int, Tensor]
"""[N, F], [N, F, h, w], or a pyramid {level: [N, F_l, h_l, w_l]}."""


class Posterior(Part):
    """q(z|x): a module whose forward returns a distribution."""

    support: ClassVar[str] = "reals"
    """Where its codes are: "reals", "sphere", "ball", "categories"; it stands beside priors of the same support alone."""
    gives: ClassVar[frozenset[str]] = frozenset({"density", "divergence", "vector"})
    """What it can do, in the words of `compatibility`."""

    @property
    @abc.abstractmethod
    def event_shape(self) -> tuple[int, ...]:
        """*E, the shape of one code."""

    @abc.abstractmethod
    def forward(self, h: Features) -> Distribution:
        """The distribution of the code given the encoder's features; its `log_prob` is summed over the event, and it has a `mean`."""


class Prior(Part):
    """All that a stage-two prior needs: to sample codes, and to learn from them."""

    support: ClassVar[str] = "reals"
    takes: ClassVar[frozenset[str]] = frozenset()
    """What `sample` takes beside n, c and temperature: "guidance", "top"."""
    exact: ClassVar[bool] = False
    """Whether `loss` is -log p(code), and no bound or other criterion."""

    @abc.abstractmethod
    def sample(self, n: int, *, c: Tensor | None = None, temperature: float = 1.0) -> Tensor:
        """n codes [n, *E]; `temperature` scales the spread (1 is the prior itself)."""

    @abc.abstractmethod
    def loss(self, code: Tensor, c: Tensor | None = None) -> Float[Tensor, "N"]:
        """[N] nats to minimize when the prior is fitted to codes."""

    def initialize(self, code: Tensor, c: Tensor | None = None) -> None:
        """Data-dependent start from codes, and what it is told of each, where the prior is fitted to them."""


class DensityPrior(Prior):
    """A prior with a density, which may stand inside a bound."""

    exact: ClassVar[bool] = True
    needs: ClassVar[frozenset[str]] = frozenset()
    """What the posterior beside it must give (see `compatibility`)."""

    @abc.abstractmethod
    def forward(self, c: Tensor | None = None) -> Distribution:
        """p(z), or p(z|c): batch shape [] or [N]."""

    def loss(self, code: Tensor, c: Tensor | None = None) -> Float[Tensor, "N"]:
        return -self(c).log_prob(code)


@dataclass
class Anchors:
    """Images whose posteriors make up the prior, after the encoder."""

    h: Features
    """The encoder's features of M images."""
    same: Bool[Tensor, "N M"] | None = None
    """Where image n is itself anchor m, which then does not count for it."""


@dataclass
class AnchorImages:
    """Images whose posteriors make up the prior, before the encoder."""

    x: Tensor
    """[M,C,H,W]: raw values, or a network input."""
    raw: bool
    condition: Tensor | None = None
    """Raw ([M] or [M,F]) beside raw images, embedded [M,G] beside a network input."""
    index: Tensor | None = None
    """[M] rows in the data set."""


class AnchoredPrior(Part):
    """A prior that is a mixture of the posteriors of certain images (VampPrior, exemplars): it stands where a `DensityPrior` does."""

    support: ClassVar[str] = "reals"
    needs: ClassVar[frozenset[str]] = frozenset({"anywhere"})

    @abc.abstractmethod
    def images(self) -> AnchorImages:
        """The images of this pass."""

    @abc.abstractmethod
    def forward(self, q: Distribution, same: Tensor | None = None) -> Distribution:
        """p(z): batch shape [], or [N] where `same` says which anchors do not count for image n.

        Args:
            q: the posterior of the anchors, batch shape [M].
            same: [N, M].
        """

    @abc.abstractmethod
    def sample(self, n: int, q: Distribution, *, temperature: float = 1.0) -> Tensor:
        """n codes [n, *E] of the mixture."""

    def initialize(self, x: Tensor, condition: Tensor | None, index: Tensor | None, network_input: Tensor) -> None:
        """Data-dependent start, from one large raw batch and the same as a network input."""


class Latent(Part):
    """q and p together, and how codes reach the decoder."""

    blind: ClassVar[bool] = False
    """Whether its posterior looks at nothing: the model has no encoder then, and `infer` gets features of width 0."""

    @property
    @abc.abstractmethod
    def gives(self) -> frozenset[str]:
        """What it can do, in the words of `compatibility`."""

    @property
    def anchored(self) -> AnchoredPrior | None:
        """The prior that needs anchors, if there is one."""
        return None

    @abc.abstractmethod
    def infer(
        self,
        h: Features,
        *,
        anchors: Anchors | None = None,
        c: Tensor | None = None,
        label: Tensor | None = None,
        mean: bool = False,
    ) -> tuple[Any, tuple[LatentTerm, ...]]:
        """Draws codes from the posterior (its mean when `mean`): what the decoder takes [N, ...], and one term for each stochastic layer.

        `label` [N] (-1 where unknown) is what a semi-supervised latent may look at in training.
        """

    @abc.abstractmethod
    def generate(
        self, n: int, *, code: tuple[Tensor, ...] = (), anchors: Anchors | None = None, temperature: float = 1.0, c: Tensor | None = None
    ) -> Any:
        """What the decoder takes for n new images; `code` fixes the first layers, the rest is drawn from the prior."""

    def prior_codes(self, n: int, *, anchors: Anchors | None = None, c: Tensor | None = None) -> Tensor:
        """n codes [n, *E] of the prior of the first layer, for penalties that compare them with the posterior's."""
        raise NotImplementedError(f"{type(self).__name__} has no single prior to draw codes from.")

    def initialize(self, h: Features) -> None:
        """Data-dependent start."""

    def post_step(self, stats: Mapping[str, Tensor]) -> None:
        """Updates buffers after an optimizer step; the names are those of the terms' `stats`, after "<layer>."."""
