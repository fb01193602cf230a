"""Pictures of edits: strips with a caption above each column, and animations."""

import os
from pathlib import Path as FilePath

import torch
from jaxtyping import Shaped
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from vaekit import pictures
from vaekit.data.spec import DataSpec
from vaekit.errors import UserError
from vaekit.saving import write_atomically

BAND = 16
"""Pixels above the tiles for captions."""
FRAME = 128
"""Pixels: the images of an animation are not enlarged beyond this, since each frame is kept whole."""


def strip(images: Shaped[Tensor, "R S C H W"], spec: DataSpec, captions: list[str] | None = None) -> Image.Image:
    """R rows of S images, with a caption above each column where captions are given."""
    columns = images.shape[1]
    picture = pictures.grid(images.flatten(0, 1), spec, columns=columns)
    if captions is None:
        return picture
    if len(captions) != columns:
        raise UserError(f"There are {columns} columns and {len(captions)} captions.")
    shown = Image.new("RGB", (picture.width, picture.height + BAND), "white")
    shown.paste(picture, (0, BAND))
    pen, font = ImageDraw.Draw(shown), ImageFont.load_default()
    for i, text in enumerate(captions):
        centre = (i + 0.5) * picture.width / columns
        pen.text((centre - pen.textlength(text, font=font) / 2, 2), text, fill="black", font=font)
    return shown


def save_animation(
    path: str | os.PathLike[str], images: Shaped[Tensor, "S C H W"], spec: DataSpec, seconds: float = 2.0, back: bool = True
) -> FilePath:
    """Writes a GIF that runs through the images for ever, and back again unless told not to.

    Args:
        images: raw values.
        seconds: of one way.
    """
    target = FilePath(path)
    if target.suffix.lower() != ".gif":
        raise UserError(f"An animation's name ends in .gif, and not in '{target.suffix}'.")
    if seconds <= 0:
        raise UserError(f"An animation lasts longer than {seconds:g} seconds.")
    # One grid of all images gives them one scale of brightness; it is cut into frames again.
    frames = _tiles(images, spec)
    order = frames + frames[-2:0:-1] if back else frames
    each = max(20, round(1000 * seconds / len(frames)))

    def write(temporary: FilePath) -> None:
        # PIL joins equal frames into one that lasts longer: the time stays.
        order[0].save(temporary, format="GIF", save_all=True, append_images=order[1:], duration=each, loop=0)

    write_atomically(target, write)
    return target


def _tiles(images: Tensor, spec: DataSpec) -> list[Image.Image]:
    scale = max(1, FRAME // max(images.shape[2:]))
    column = pictures.grid(images, spec, columns=1, scale=scale, padding=0)
    height = column.height // len(images)
    return [column.crop((0, i * height, column.width, (i + 1) * height)) for i in range(len(images))]


def spread(strengths: list[float]) -> list[str]:
    """Captions of strengths: with their sign, in as few digits as they need."""
    return [f"{s:+g}" if s else "0" for s in strengths]


def save_strip(path: str | os.PathLike[str], images: Shaped[Tensor, "R S C H W"], spec: DataSpec, captions: list[str] | None = None) -> FilePath:
    """Writes the strip, or, where the name ends in .gif, an animation of the columns with all rows below each other."""
    target = FilePath(path)
    if target.suffix.lower() != ".gif":
        return pictures.save(target, strip(images, spec, captions))
    stacked = torch.cat(list(images.unbind(0)), dim=2)
    return save_animation(target, stacked, spec)
