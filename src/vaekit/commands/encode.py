"""`vaekit encode`."""

import json
from pathlib import Path
from typing import Annotated

import typer

from vaekit import api
from vaekit.commands.options import Json, RunFolder, Seed, bar
from vaekit.data.source import SPLITS
from vaekit.errors import UserError
from vaekit.export.codes import write_codes


def encode(
    run: RunFolder,
    out_: Annotated[Path, typer.Argument(help="The folder to write.", metavar="OUT")],
    data: Annotated[str | None, typer.Option(help="Other images than the run's own.")] = None,
    split: Annotated[str, typer.Option(help="train, validation, test or all.")] = "all",
    sample: Annotated[bool, typer.Option("--sample", help="Draws of q(z|x), and not its means.")] = False,
    precision: Annotated[str, typer.Option(help="fp32, or bf16, which is faster where the processor has it.")] = "fp32",
    seed: Seed = 0,
    json_: Json = False,
) -> None:
    """Write the codes of images as NumPy arrays, with their labels and file names."""
    if split not in (*SPLITS, "all"):
        raise UserError(f"A split is train, validation, test or all, and not '{split}'.")
    loaded = api.load(run)
    splits = SPLITS if split == "all" else (split,)
    with bar("Encoding", json_) as progress:
        about = write_codes(
            loaded.model, api.reopen(loaded, data), out_, splits=splits, sample=sample, seed=seed, precision=precision, progress=progress
        )
    if json_:
        print(json.dumps(about, indent=2))
        return
    sizes = ", ".join(f"{count:,} of {name}" for name, count in about["splits"].items())
    print(f"{out_} holds the codes of {sizes}.")
    for name, array in about["arrays"].items():
        scale = f", mean {array['mean']:.4g}, standard deviation {array['std']:.4g}" if "std" in array else ""
        print(f"{name}.npy: {' x '.join(map(str, array['shape']))} {array['dtype']} for each image{scale}")
