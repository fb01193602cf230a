"""`DataSpec`: all that a model is told of the data."""

from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from vaekit.errors import UserError


@dataclass(frozen=True)
class DataSpec:
    """What the values of a data set are, in their native units.

    `levels` is the number of values that a pixel can take (2 binary, 256 for 8 bits, 65536 for 16), and None for floats. `mean` and `std`
    hold one figure per channel, in raw units, over the training split. `attributes` names the columns of the attribute vector, if there is one.
    """

    kind: Literal["pixels", "values"]
    shape: tuple[int, int, int]
    levels: int | None = 256
    classes: tuple[str, ...] = ()
    attributes: tuple[str, ...] = ()
    count: int = 0
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if len(self.shape) != 3 or min(self.shape) < 1:
            raise UserError(f"An image shape is (channels, height, width), each at least 1, and not {tuple(self.shape)}.")
        if (self.kind == "pixels") != (self.levels is not None):
            raise UserError("Pixels have a number of levels; floating-point values have none.")

    @property
    def dimensions(self) -> int:
        """Channels x height x width: what a figure in nats per image is divided by for a figure per dimension."""
        channels, height, width = self.shape
        return channels * height * width

    def binarized(self) -> "DataSpec":
        """The same images, each pixel drawn as 0 or 1 with its grey value as the probability."""
        scale = (self.levels or 2) - 1
        mean = tuple(m / scale for m in self.mean)
        return replace(self, kind="pixels", levels=2, mean=mean, std=tuple((m * (1 - m)) ** 0.5 or 1.0 for m in mean))

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "DataSpec":
        arguments: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        return cls(**arguments)
