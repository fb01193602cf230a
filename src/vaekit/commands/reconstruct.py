"""`vaekit reconstruct`."""

from pathlib import Path
from typing import Annotated

import typer

from vaekit import api, pictures
from vaekit.commands.options import Device, Klass, RunFolder
from vaekit.data.files import image_files


def reconstruct(
    run: RunFolder,
    images: Annotated[list[Path], typer.Argument(help="Image files, or folders of them.", metavar="IMAGES...")],
    class_: Klass = None,
    device: Device = "auto",
    out_: Annotated[Path, typer.Option("--out", "-o", help="The picture: each image above its reconstruction.")] = Path("reconstructions.png"),
) -> None:
    """Encode and decode images, and show both."""
    pictures.writable(out_)
    loaded = api.load(run, device)
    paths = [file for path in images for file in image_files(path)]
    x, y = api.reconstruct(loaded, paths, class_)
    pictures.save(out_, pictures.reconstructions(x, y, loaded.spec))
    print(f"{len(x)} images and their reconstructions in {out_}")
