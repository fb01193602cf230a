"""`vaekit report`: a run as one page."""

import json
import os
import time
from typing import Annotated

import typer

from vaekit import api
from vaekit.commands.options import Device, RunFolder
from vaekit.report import write_report


def report(
    run: RunFolder,
    data: Annotated[str | None, typer.Argument(help="Other data than the run's own.", metavar="[DATA]")] = None,
    images: Annotated[int | None, typer.Option(help="How many validation images to look at; 2,000 if not given, 400 with --quick.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Fewer images, samples and traversals.")] = False,
    device: Device = "auto",
    json_: Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout and nothing else there.")] = False,
) -> None:
    """Write RUN/report.html: curves, samples, reconstructions, the latent, likelihood, and what to do next."""
    loaded = api.load(run, device)
    began = time.perf_counter()
    path = write_report(loaded, api.reopen(loaded, data), images=images, quick=quick)
    size, seconds = os.path.getsize(path), time.perf_counter() - began
    if json_:
        print(json.dumps({"run": str(run), "report": str(path), "bytes": size, "seconds": round(seconds, 2)}))
        return
    print(f"{path}: {size / 1e6:.1f} MB, made in {seconds:.0f} s. Open it in a browser.")
