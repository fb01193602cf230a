"""Raw values and the unit range of the likelihoods."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from vaekit.data.spec import DataSpec
from vaekit.errors import UserError


def to_float(x: Shaped[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """The same raw values as float32: exact for up to 24 bits."""
    return x.float()


class Units(nn.Module):
    """Unit values are raw / (levels - 1) in [0,1] for pixels, and (raw - mean) / std of each channel for floats.

    Args:
        levels: the number of pixel levels, or None for floats.
        mean, std: one figure per channel in raw units, for floats alone; left out, they are 0 and 1. A channel that is constant keeps its raw
            width.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, levels: int | None, mean: Sequence[float] | None = None, std: Sequence[float] | None = None) -> None:
        super().__init__()
        if levels is not None and levels < 2:
            raise UserError(f"Pixels have at least 2 levels, and not {levels}.")
        self.levels = levels
        self.size = float((levels or 2) - 1)
        if levels is None:
            # Not in the saved weights: the constructor's arguments hold them already.
            self.register_buffer("mean", torch.tensor(mean or [0.0], dtype=torch.float32).view(-1, 1, 1), persistent=False)
            widths = [s if s > 0 else 1.0 for s in std or [1.0]]
            self.register_buffer("std", torch.tensor(widths, dtype=torch.float32).view(-1, 1, 1), persistent=False)

    def to_unit(self, x: Shaped[Tensor, "*B C H W"]) -> Float[Tensor, "*B C H W"]:
        """Raw values in unit range, as float32."""
        if self.levels is None:
            return (x.float() - self.mean) / self.std
        if self.levels == 2:
            return x.float()
        return x.float() * (1 / self.size)

    def location(self, params: Float[Tensor, "*B C H W"]) -> Float[Tensor, "*B C H W"]:
        """A network's output as a location in raw units: (levels - 1) sigmoid(params) for pixels, mean + std params for floats."""
        if self.levels is None:
            return self.mean + self.std * params
        return torch.sigmoid(params) * self.size

    def bias(self, x: Shaped[Tensor, "B C H W"]) -> Float[Tensor, "C H W"]:
        """What `location` maps to each pixel's mean over the batch (for pixels, that mean kept away from the ends of the range).

        By 1 % of it, or a quarter of the deviation of images that are darker than that (12 bits in 16, say).
        """
        unit = self.to_unit(x)
        mean = unit.mean(0)
        if self.levels is None:
            return mean
        away = min(0.01, max(0.25 * float(unit.std()), 0.5 / self.size))
        return torch.logit(mean.clamp(away, 1 - away))

    def width(self) -> float | Float[Tensor, "C 1 1"]:
        """The raw width of one unit."""
        return self.std if self.levels is None else self.size

    def log_width(self) -> float | Float[Tensor, "C 1 1"]:
        """Log of the raw width of one unit: what turns a density per unit into one per raw value."""
        return self.std.log() if self.levels is None else math.log(self.size)

    def noise_range(self) -> dict[str, float]:
        """`floor` and `start` of the scale of additive noise: 1/4 of a grey level and 1/4 of the range for pixels, 0.001 and 1 for floats."""
        return {"floor": 0.001, "start": 1.0} if self.levels is None else {"floor": 0.25 / self.size, "start": 0.25}


def noise_arguments(data: DataSpec) -> dict[str, Any]:
    """What a likelihood of additive noise is told of the data."""
    arguments: dict[str, Any] = {"channels": data.shape[0], "levels": data.levels}
    return arguments if data.levels is not None else {**arguments, "mean": list(data.mean) or None, "std": list(data.std) or None}
