"""Loose images with holes: what is missing is told by their transparency, by a mask in a file, or by a rectangle."""

from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Shaped
from torch import Tensor

from vaekit.data.binarize import EVALUATION_SEED, binarize
from vaekit.data.decode import quiet, read_array, reason
from vaekit.data.folder import read_images
from vaekit.data.missing import opaque
from vaekit.data.rectangle import rectangle
from vaekit.data.spec import DataSpec
from vaekit.errors import UserError


def read_holes(
    paths: list[Path], spec: DataSpec, options: dict[str, Any], *, mask: Path | None = None, alpha: bool = False, box: str | None = None
) -> tuple[Shaped[Tensor, "n C H W"], Bool[Tensor, "n C H W"]]:
    """Image files as raw values, brought to the form of the data (see `read_images`), and which of them are observed.

    Args:
        mask: an image file that is white where pixels are missing and black elsewhere; it gets the size of the images in the same way as they do.
        alpha: pixels that are more transparent than opaque are missing.
        box: "x,y,width,height" of what is missing, in pixels of the model's images, from their upper left corner.

    Raises `UserError` unless exactly one of the three is given, and where nothing is missing.
    """
    if (mask is not None) + alpha + (box is not None) != 1:
        raise UserError("Say which pixels are missing in one of three ways: --mask FILE (white where they are), --alpha, or --box x,y,width,height.")
    if alpha:
        x, seen = _by_alpha(paths, spec, options)
    else:
        x = read_images(paths, spec, options)
        hole = rectangle(str(box), spec, "--box") if mask is None else _mask(mask, options)
        seen = (~hole).expand(x.shape)
    if seen.all():
        raise UserError("No pixel of these images is missing: there is nothing to fill in.")
    return x, seen.contiguous()


def _by_alpha(paths: list[Path], spec: DataSpec, options: dict[str, Any]) -> tuple[Tensor, Tensor]:
    channels, levels = spec.shape[0], options.get("levels")
    if channels not in (1, 3) or (levels or 0) > 256:
        raise UserError("--alpha goes with models of grey or RGB images of 8 bits: say what is missing with --mask or --box.")
    both = read_images(paths, spec, {**options, "channels": channels + 1, "binarize": False})
    x, seen = both[:, :channels].contiguous(), torch.from_numpy(opaque(both[:, channels:].numpy(), levels)).expand(-1, channels, -1, -1)
    return binarize(x, torch.arange(len(x)), levels, seed=EVALUATION_SEED, epoch=0) if options.get("binarize") else x, seen


def _mask(path: Path, options: dict[str, Any]) -> Bool[Tensor, "1 H W"]:
    try:
        with quiet():
            values = read_array(Path(path), size=tuple(options["size"]), fit=options["fit"], channels=1, levels=256, fill="black")
    except Exception as error:
        raise UserError(f"The mask {path} cannot be read as an image ({reason(error)}).") from error
    return torch.from_numpy(values >= 128)
