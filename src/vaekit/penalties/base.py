"""Whatever a paper adds to the bound, and the critics that it needs."""

import abc
from collections.abc import Iterator, Mapping
from typing import ClassVar

from torch import Tensor

from vaekit.errors import UserError
from vaekit.objectives.schedules import Constant, Schedule
from vaekit.output import VAEOutput
from vaekit.part import Part


class Penalty(Part):
    """An addition to the objective: [B] or a scalar, in nats, times the weight of its schedule.

    `critic` names the critic that it asks, or None. `feeds` gives, detached, what that critic learns from.
    """

    critic: str | None = None
    needs: ClassVar[frozenset[str]] = frozenset()
    """What the latent must give (see `compatibility`)."""
    asks: ClassVar[frozenset[str]] = frozenset()
    """What it wants to find in `out.asked`, from `training.task.ANSWERS`: "prior_codes", "prior_images", "moved"."""

    def __init__(self, weight: float | Schedule = 1.0) -> None:
        super().__init__()
        self.schedule = weight if isinstance(weight, Schedule) else Constant(weight)

    @abc.abstractmethod
    def forward(self, out: VAEOutput, critic: Part | None = None) -> Tensor:
        """[B] or a scalar, before the weight."""

    def feeds(self, out: VAEOutput) -> Mapping[str, Tensor]:
        """Detached tensors for the critic's forward."""
        return {}

    def missing_critic(self) -> UserError:
        """What to raise where there is no critic to ask."""
        return UserError(f"{type(self).__name__} asks the critic '{self.critic}', and the recipe has none of that name: add it to its `critics`.")


class Critic(Part):
    """A network that learns beside the model, with an optimizer of its own. Its parameters are frozen while the model steps."""

    steps: int = 1
    """Steps of the critic for each step of the model."""
    lr: float | None = None
    """Its own learning rate, constant over the run; None for the rate at which the run begins to train its model."""
    betas: tuple[float, float] | None = None
    """Adam's betas; None for those of the run."""
    joint: ClassVar[bool] = False
    """Whether its loss relates the items of a batch to each other: with several processes it then learns from the joined batch."""

    def parts(self, feed: Mapping[str, Tensor]) -> Iterator[Mapping[str, Tensor]]:
        """What each of its steps learns from: all of the feed, as a rule."""
        return (feed for _ in range(self.steps))

    @abc.abstractmethod
    def forward(self, **feeds: Tensor) -> Tensor:
        """The critic's own loss, a scalar."""
