"""Judges of an edit that the model has no part in: logistic regressions on the pixels of real images."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor
from torch.nn import functional as F

from vaekit.errors import UserError

SIDE = 32
"""Pixels: larger images are averaged down to this before they are judged."""
LEAST = 8
"""Real images on each side."""


@dataclass(frozen=True)
class Judge:
    """Says whether an image has an attribute."""

    weight: Float[Tensor, "P"]
    bias: float
    scale: tuple[float, float]
    """Mean and standard deviation of the pixels that it learnt from."""
    accuracy: float
    """The mean of its accuracies on both sides, on real images that it did not learn from."""

    def __call__(self, images: Shaped[Tensor, "n C H W"]) -> Bool[Tensor, "n"]:
        return _pixels(images, self.scale) @ self.weight + self.bias > 0


def judge(yes: Shaped[Tensor, "n C H W"], no: Shaped[Tensor, "m C H W"], strength: float = 0.01) -> Judge:
    """A logistic regression from pixels to an attribute, an equal weight for both sides, from three of four real images; the fourth tests it.

    Args:
        yes, no: real images in raw values, with the attribute and without it.
        strength: inverse of the penalty on the weights, as in scikit-learn, for pixels of variance 1.

    Raises `UserError` for fewer than 8 images on a side.
    """
    if min(len(yes), len(no)) < LEAST:
        raise UserError(f"A judge learns from at least {LEAST} real images on each side, and there are {len(yes)} and {len(no)}.")
    from sklearn.linear_model import LogisticRegression

    both = torch.cat([F.adaptive_avg_pool2d(x.float().cpu(), _size(x)) for x in (yes, no)])
    learnt = torch.cat([_learnt(len(yes)), _learnt(len(no))])
    truth = torch.arange(len(both)) < len(yes)
    scale = float(both[learnt].mean()), max(float(both[learnt].std()), 1e-12)
    x = _pixels(both, scale)
    fitted: Any = LogisticRegression(C=strength, class_weight="balanced", max_iter=500)
    fitted.fit(x[learnt].numpy(), truth[learnt].numpy())
    found = Judge(torch.from_numpy(np.asarray(fitted.coef_[0], np.float32)), float(fitted.intercept_[0]), scale, 0.0)
    right = found(both) == truth
    accuracy = sum(float(right[~learnt & side].float().mean()) for side in (truth, ~truth)) / 2
    return Judge(found.weight, found.bias, scale, accuracy)


def _learnt(n: int) -> Bool[Tensor, "n"]:
    return torch.arange(n) % 4 != 3


def _size(x: Tensor) -> tuple[int, int]:
    return min(SIDE, x.shape[2]), min(SIDE, x.shape[3])


def _pixels(images: Tensor, scale: tuple[float, float]) -> Float[Tensor, "n P"]:
    return (F.adaptive_avg_pool2d(images.float().cpu(), _size(images)).flatten(1) - scale[0]) / scale[1]
