"""`vaekit quality`."""

import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.box import SIMPLE
from rich.table import Table

from vaekit import api, pictures
from vaekit.commands.options import Device, Guidance, Json, Pixels, Prior, RunFolder, Seed, Temperature, Top, console, out
from vaekit.evaluation.samples import MEASURES, Draws, measure_samples
from vaekit.saving import save_json

Number = Annotated[int, typer.Option("-n", "--number", help="How many samples, and how many real images in each of the two sets beside them.")]
Features = Annotated[
    str | None,
    typer.Option(help="The feature space: fashion, laplacian (no network), inception, or an ONNX file of yours (FILE.onnx); chosen by the data."),
]
Shown = Annotated[Pixels, typer.Option(help="Samples are the mean of p(x|z), or a draw from it.")]


def quality(
    run: RunFolder,
    data: Annotated[str | None, typer.Argument(help="Other data than the run's own.", metavar="[DATA]")] = None,
    n: Number = 10_000,
    pixels: Shown = Pixels.mean,
    prior: Prior = None,
    temperature: Temperature = 1.0,
    guidance: Guidance = 1.0,
    top: Top = None,
    features: Features = None,
    seed: Seed = 0,
    out_: Annotated[
        Path | None, typer.Option("--out", "-o", help="A picture of the samples that lie nearest to training images, each above its neighbour.")
    ] = None,
    device: Device = "auto",
    json_: Json = False,
) -> None:
    """Measure the samples of a model beside real images: fidelity, dropped modes, sharpness, copies.

    For the run's own data, and samples as they come, the figures are kept in RUN/quality.json too, which 'vaekit report' shows.
    """
    pictures.writable(out_)
    loaded = api.with_prior(api.load(run, device), prior)
    draws = Draws(temperature, guidance, top)
    with console.status("measuring samples"):
        figures = measure_samples(loaded, api.reopen(loaded, data), n=n, pixels=pixels.value, features=features, seed=seed, picture=out_, draws=draws)
    kept = data is None and draws == Draws() and prior is None
    if json_:
        print(json.dumps(figures, indent=2, allow_nan=False), flush=True)
    if kept and os.access(loaded.path, os.W_OK):
        save_json(loaded.path / "quality.json", figures)  # for the report
    elif kept:
        print(f"{loaded.path} cannot be written: the figures are not kept for the report.", file=sys.stderr)
    if json_:
        return
    out.print(table(figures))
    print(f"The floor: {figures['floor']}. No model can be better than that but by luck, or by blur.")
    for note in figures["notes"]:
        print(note)
    if out_ is not None:
        print(f"The samples nearest to training images are in {out_}.")


def table(figures: dict[str, Any]) -> Table:
    """A line for each measure, with its space and its floor."""
    title = f"{figures['run']}: {figures['images']:,} samples, {figures['compared']} of {figures['data']}"
    shown = Table("measure", "value", "floor", "better", "space", title=title, box=SIMPLE)
    for name, row in figures["measures"].items():
        value = cell(row["value"], row["error"]) + (f" (p = {row['p_value']:.2g})" if "p_value" in row else "")
        shown.add_row(MEASURES[name].title, value, cell(row["floor"], row["floor_error"]), row["better"], row["space"])
    return shown


def cell(value: float | None, error: float | None = None) -> str:
    """A figure with its standard error."""
    if value is None:
        return "-"
    return f"{value:.4g}" if error is None else f"{value:.4g} ± {error:.2g}"
