"""`vaekit traverse`."""

import json
from pathlib import Path
from typing import Annotated

import typer

from vaekit import api, pictures
from vaekit.commands.options import Device, Json, Klass, RunFolder


def traverse(
    run: RunFolder,
    data: Annotated[str | None, typer.Argument(help="Other data than the run's own.", metavar="[DATA]")] = None,
    image: Annotated[Path | None, typer.Option(help="The image to start from; one of the validation split if not given.")] = None,
    row: Annotated[int, typer.Option(help="Which one of the validation split.")] = 0,
    span: Annotated[float, typer.Option(help="From minus to plus this many standard deviations of the prior.")] = 2.0,
    steps: Annotated[int, typer.Option(help="Images in a row.")] = 9,
    class_: Klass = None,
    out_: Annotated[Path, typer.Option("--out", "-o", help="The picture: a row for each dimension in use.")] = Path("traversal.png"),
    device: Device = "auto",
    json_: Json = False,
) -> None:
    """Show what each latent dimension means: an image as one dimension at a time goes through the prior."""
    pictures.writable(out_)
    loaded = api.load(run, device)
    images, active = api.traverse(loaded, data, image=image, row=row, span=span, steps=steps, condition=class_)
    pictures.save(out_, pictures.grid(images.flatten(0, 1), loaded.spec, columns=steps))
    if json_:
        rates = None if active.rates is None else [round(rate, 4) for rate in active.rates]
        print(json.dumps({"dimensions": active.dims, "rates_nats": rates, "span": span, "steps": steps, "picture": str(out_)}))
        return
    rows = [f"{d}" if active.rates is None else f"{d} ({active.rates[i]:.2f} nats)" for i, d in enumerate(active.dims)]
    print(f"{len(rows)} dimensions in {out_}, from the top: {', '.join(rows)}")
