"""Which part of an image is meant: a rectangle, or a picture that is white there."""

from pathlib import Path
from typing import Any

from jaxtyping import Bool
from torch import Tensor

from vaekit.data import read_images
from vaekit.data.rectangle import rectangle
from vaekit.data.spec import DataSpec
from vaekit.errors import UserError


def hidden_part(spec: DataSpec, options: dict[str, Any], *, mask: Path | None = None, hide: str | None = None) -> Bool[Tensor, "1 C H W"]:
    """True in the part of an image that a mask or a rectangle names.

    Args:
        spec, options: of the data (`run.spec` and its options).
        mask: an image file, white in the part and black elsewhere; it gets the size of the model's images in the same way as they do.
        hide: "x,y,width,height" in pixels of the model's images, from their upper left corner.

    Raises `UserError` unless exactly one is given, for a rectangle outside the image, and where the part is empty.
    """
    if (mask is None) == (hide is None):
        raise UserError("Name the part of the image in one way: --mask FILE (white there), or --hide x,y,width,height.")
    part = rectangle(str(hide), spec, "--hide").unsqueeze(0) if mask is None else _white(mask, options)
    if not part.any():
        raise UserError(f"The mask {mask} is black everywhere: make the part white that is meant.")
    return part.expand(1, *spec.shape)


def _white(mask: Path, options: dict[str, Any]) -> Bool[Tensor, "1 1 H W"]:
    height, width = options["size"]
    grey = DataSpec("pixels", (1, height, width), 256)
    plain = {"size": options["size"], "fit": options["fit"], "fill": "black", "channels": 1, "levels": 256, "binarize": False}
    return read_images([mask], grey, plain) >= 128
