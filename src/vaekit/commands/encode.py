"""`vaekit encode`."""

import json
from pathlib import Path
from typing import Annotated

import typer

from vaekit import api
from vaekit.commands.options import Device, Json, RunFolder, Seed, bar


def encode(
    run: RunFolder,
    out_: Annotated[Path, typer.Argument(help="The folder to write.", metavar="OUT")],
    data: Annotated[str | None, typer.Option(help="Other images than the run's own.")] = None,
    split: Annotated[str, typer.Option(help="train, validation, test or all.")] = "all",
    sample: Annotated[bool, typer.Option("--sample", help="Draws of q(z|x), and not its means.")] = False,
    precision: Annotated[str, typer.Option(help="fp32, or bf16, which is faster where the device has it.")] = "fp32",
    seed: Seed = 0,
    device: Device = "auto",
    json_: Json = False,
) -> None:
    """Write the codes of images as NumPy arrays, with their labels and file names."""
    with bar("Encoding", json_) as progress:
        about = api.encode(api.load(run, device), out_, data, split=split, sample=sample, seed=seed, precision=precision, progress=progress)
    if json_:
        print(json.dumps(about, indent=2))
        return
    sizes = ", ".join(f"{count:,} of {name}" for name, count in about["splits"].items())
    print(f"{out_} holds the codes of {sizes}.")
    for name, array in about["arrays"].items():
        scale = f", mean {array['mean']:.4g}, standard deviation {array['std']:.4g} ({next(iter(about['splits']))})" if "std" in array else ""
        print(f"{name}.npy: {' x '.join(map(str, array['shape']))} {array['dtype']} for each image{scale}")
