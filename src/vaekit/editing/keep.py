"""The model's image inside a mask, and the original, untouched, outside."""

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor
from torch.nn import functional as F

from vaekit.errors import UserError


def blend_weights(inside: Bool[Tensor, "B C H W"], feather: int) -> Float[Tensor, "B C H W"]:
    """How much of each pixel is the model's: 0 outside the mask, i / (feather + 1) at the i-th pixel from its edge, 1 further in.

    The distance is that of the king in chess; the border of the image is no edge.
    """
    weight, left = inside.float(), inside.float()
    for _ in range(feather):
        # One pixel is eaten away from the edge: a pixel stays if all its neighbours within the image are inside.
        left = 1 - F.max_pool2d(F.pad(1 - left, (1, 1, 1, 1)), 3, stride=1)
        weight = weight + left
    return weight / (feather + 1)


def keep_rest(
    original: Shaped[Tensor, "B C H W"], edited: Float[Tensor, "B *S C H W"], inside: Bool[Tensor, "B C H W"], feather: int = 0
) -> Float[Tensor, "B *S C H W"]:
    """Edited images inside the mask and the original outside of it, where every value stays the same to the bit; raw values.

    Args:
        edited: one or several for each original.
        inside: where the edited image is shown.
        feather: over as many pixels at the inner side of the mask's edge the original passes into the edited image in even steps.

    Raises `UserError` for a mask in which nothing is inside, and a feather below 0.
    """
    if feather < 0:
        raise UserError(f"The width of the blended edge is at least 0 pixels, and it is {feather}.")
    if not inside.any():
        raise UserError("The mask is empty: no pixel is to be edited.")
    x = original.float().cpu()
    w = blend_weights(inside.cpu(), feather)
    if edited.dim() == 5:
        x, w = x.unsqueeze(1), w.unsqueeze(1)
    new = edited.float().cpu()
    mixed = w * new + (1 - w) * x
    return torch.where(w == 0, x, torch.where(w == 1, new, mixed))
