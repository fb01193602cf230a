"""`vaekit evaluate`."""

import json
from typing import Annotated

import typer
from rich.table import Table

from vaekit import api
from vaekit.commands.options import Device, Json, RunFolder, bar, out


def evaluate(
    run: RunFolder,
    data: Annotated[str | None, typer.Argument(help="Other data than the run's own.", metavar="[DATA]")] = None,
    samples: Annotated[int, typer.Option(help="K, the samples of the importance-weighted bound; 0 for none.")] = 64,
    split: Annotated[
        str | None, typer.Option(help="train, validation, test or all; if not given, test, or all of other data that has no split.")
    ] = None,
    limit: Annotated[int | None, typer.Option(help="Only so many images, the same ones each time.")] = None,
    precision: Annotated[str, typer.Option(help="fp32, or bf16, which is faster where the device has it.")] = "fp32",
    disentanglement: Annotated[
        bool, typer.Option("--disentanglement", help="Also whether single dimensions stand for the known factors of the images ('shapes').")
    ] = False,
    device: Device = "auto",
    json_: Json = False,
) -> None:
    """Measure a model: bounds on log p(x), the use of its latent, and the fidelity of its reconstructions."""
    loaded = api.load(run, device)
    with bar("evaluating", quiet=json_) as progress:
        figures = api.evaluate(
            loaded,
            data,
            samples=samples,
            split=split,
            limit=limit,
            precision=precision,
            disentanglement=disentanglement,
            progress=progress,
        )
    if json_:
        print(json.dumps(figures, indent=2, allow_nan=False))
        return
    table = Table(title=f"{figures['data']}, {figures['split']} split, {figures['images']:,} images", show_header=False)
    for name, value in figures.items():
        if isinstance(value, (int, float, str)) and name not in ("data", "split", "images"):
            table.add_row(name, f"{value:.4f}" if isinstance(value, float) else str(value))
    out.print(table)
