"""`vaekit sample`."""

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from vaekit import api, pictures
from vaekit.commands.options import Device, Guidance, Klass, Pixels, Prior, RunFolder, Seed, Temperature, Top
from vaekit.errors import UserError


def sample(
    run: RunFolder,
    n: Annotated[int, typer.Option("-n", "--number", help="How many images.")] = 64,
    class_: Klass = None,
    prior: Prior = None,
    temperature: Temperature = 1.0,
    guidance: Guidance = 1.0,
    top: Top = None,
    pixels: Annotated[Pixels, typer.Option(help="The mean of p(x|z), or a draw from it.")] = Pixels.mean,
    seed: Seed = 0,
    device: Device = "auto",
    out_: Annotated[str, typer.Option("--out", "-o", help="A picture (grid.png), or a folder (ending in /) for one file per image.")] = "samples.png",
) -> None:
    """Draw new images from a trained model."""
    if not _is_folder(out_):
        if not Path(out_).suffix:
            raise UserError(f"{out_}: a picture's name ends in .png or .jpg, a folder's in /.")
        pictures.writable(out_)
    loaded = api.with_prior(api.load(run, device), prior)
    images = api.sample(loaded, n, condition=class_, temperature=temperature, pixels=pixels.value, seed=seed, guidance=guidance, top=top)
    _write(out_, images, loaded.spec)


def _is_folder(place: str) -> bool:
    return place.endswith(("/", os.sep)) or Path(place).is_dir()


def _write(place: str, images: Any, spec: Any) -> None:
    if _is_folder(place):
        pictures.save_images(place, images, spec)
        print(f"{len(images)} images in {place}")
    else:
        pictures.save_grid(place, images, spec)
        print(f"{len(images)} images in {place}")
