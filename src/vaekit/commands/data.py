"""`vaekit data`."""

import json
from typing import Annotated

import typer

from vaekit.commands.options import Json, bar
from vaekit.data import scan


def data_(
    data: Annotated[str, typer.Argument(help="As for 'train'.", metavar="DATA")],
    size: Annotated[str | None, typer.Option(help="As for 'train'.")] = None,
    fit: Annotated[str | None, typer.Option(help="As for 'train'.")] = None,
    channels: Annotated[int | None, typer.Option(help="As for 'train'.")] = None,
    json_: Json = False,
) -> None:
    """Say what DATA holds, what cannot be read, and what 'train' would do with it."""
    with bar("reading", quiet=json_) as progress:
        report = scan(data, size=size, fit=fit, channels=channels, progress=progress)
    print(json.dumps(report.to_json(), indent=2, allow_nan=False) if json_ else "\n".join(report.lines()))
