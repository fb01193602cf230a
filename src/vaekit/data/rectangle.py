"""A rectangle in an image, as people write it."""

import torch
from jaxtyping import Bool
from torch import Tensor

from vaekit.data.spec import DataSpec
from vaekit.errors import UserError


def rectangle(text: str, spec: DataSpec, option: str) -> Bool[Tensor, "1 H W"]:
    """True inside "x,y,width,height": its left and upper edges, counted from the upper left corner, and its size, in pixels of the model's images.

    Args:
        option: the name under which it was asked for, for the messages.

    Raises `UserError` for another text, and for a rectangle that does not lie within the image.
    """
    _, height, width = spec.shape
    try:
        left, top, w, h = (int(n) for n in text.split(","))
    except ValueError:
        raise UserError(f"{option} is x,y,width,height in pixels, as 4,8,12,10, and not '{text}'.") from None
    if min(left, top) < 0 or min(w, h) < 1 or left + w > width or top + h > height:
        raise UserError(f"{option} {text} (x,y,width,height) does not lie within the model's images, which are {width} wide and {height} high.")
    inside = torch.zeros(1, height, width, dtype=torch.bool)
    inside[:, top : top + h, left : left + w] = True
    return inside
