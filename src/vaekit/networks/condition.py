"""What the model is told, as a vector."""

import abc

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn
from torch.nn import functional as F

from vaekit.errors import UserError
from vaekit.part import Part


class Condition(Part):
    """From raw conditions to vectors [B, G]."""

    features: int
    """G."""

    @abc.abstractmethod
    def forward(self, condition: Shaped[Tensor, "B *F"]) -> Float[Tensor, "B G"]:
        """The embedded condition."""

    def initialize(self, condition: Shaped[Tensor, "B *F"]) -> None:
        """Data-dependent start, from one batch."""

    @abc.abstractmethod
    def draw(self, n: int) -> Shaped[Tensor, "n *F"]:
        """Raw conditions for n images when none are asked for."""


class ClassCondition(Condition):
    """A learned vector for each class."""

    undecayed = ("embedding",)

    def __init__(self, classes: int, features: int = 16) -> None:
        super().__init__()
        self.classes, self.features = classes, features
        self.embedding = nn.Embedding(classes, features)

    def forward(self, condition: Int[Tensor, "B"]) -> Float[Tensor, "B G"]:
        return self.embedding(condition)

    def draw(self, n: int) -> Int[Tensor, "n"]:
        """Each class in turn."""
        return torch.arange(n, device=self.embedding.weight.device) % self.classes


class OneHotCondition(Condition):
    """One where the class is, else zero: for what has a row of its own for each class."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.features = classes

    def forward(self, condition: Int[Tensor, "B"]) -> Float[Tensor, "B G"]:
        return F.one_hot(condition, self.features).float()

    def draw(self, n: int) -> Int[Tensor, "n"]:
        """Each class in turn."""
        return torch.arange(n) % self.features


class AttributeCondition(Condition):
    """The attribute vector, standardized by the mean and standard deviation of the first batch that it saw (up to 1,024 training images).

    Args:
        attributes: F.
        marked: one more column, of ones: so that zeros, which stand for no attributes where some go without, are not attributes of the mean.
        names: of the attributes, where they may be others than those of the data that the model was trained on.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, attributes: int, marked: bool = False, names: list[str] | None = None) -> None:
        super().__init__()
        self.features, self.marked, self.names = attributes + marked, marked, None if names is None else tuple(names)
        self.register_buffer("mean", torch.zeros(attributes))
        self.register_buffer("std", torch.ones(attributes))

    def forward(self, condition: Float[Tensor, "B F"]) -> Float[Tensor, "B G"]:
        c = (condition - self.mean) / self.std
        return F.pad(c, (0, 1), value=1.0) if self.marked else c

    def initialize(self, condition: Float[Tensor, "B F"]) -> None:
        """Measures mean and standard deviation on one batch; an attribute that is the same in all of it is not scaled."""
        self.mean.copy_(condition.mean(0))
        std = condition.std(0, correction=0)
        self.std.copy_(torch.where(std > 1e-6, std, 1.0))

    def draw(self, n: int) -> Tensor:
        raise UserError(f"This model is conditioned on {len(self.mean)} attributes: say which values the new images should have.")
