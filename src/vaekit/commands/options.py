"""What commands share: options, the two consoles, and the bar."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from vaekit.errors import UserError

console = Console(stderr=True)
out = Console()

RunFolder = Annotated[Path, typer.Argument(help="A run folder, as made by 'train'.", metavar="RUN")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout and nothing else there.")]
Seed = Annotated[int, typer.Option(help="Seed of everything random.")]
Device = Annotated[str, typer.Option(help="Where the model computes: cpu, cuda, cuda:1, mps, ...; auto for a CUDA GPU where there is one.")]
Klass = Annotated[
    str | None,
    typer.Option(
        "--class",
        "--attributes",
        help="What the images are told: a class, by name or number, or attributes, as name=value,name=value: what the model or its prior knows.",
    ),
]
Temperature = Annotated[float, typer.Option(help="Spread of the prior: below 1, safer images; above, stranger ones.")]
Guidance = Annotated[float, typer.Option(help="How much the class or attributes count, for a prior fitted to them: above 1, more typical images.")]
Prior = Annotated[
    str | None,
    typer.Option(help="own for the model's, or one of those in RUN/priors; the one that was fitted last if there is one.", show_default=False),
]
Top = Annotated[int | None, typer.Option(help="Draw each index of a codebook from its likeliest few alone, with a fitted prior.")]


class Pixels(StrEnum):
    """What is shown of p(x|z)."""

    mean = "mean"
    draw = "draw"


def choice(values: Any) -> str:
    return ", ".join(values)


def number(value: str | None) -> float | str | None:
    try:
        return None if value is None else float(value)
    except ValueError:
        return value


def knobs(pairs: list[str]) -> dict[str, float | str]:
    """What --set was given: NAME=VALUE, NAME=VALUE, ..."""
    for pair in pairs:
        if "=" not in pair:
            raise UserError(f"--set takes NAME=VALUE, and not '{pair}'.")
    return {name: number(value) for name, _, value in (pair.partition("=") for pair in pairs)}  # type: ignore[misc]


def first() -> bool:
    """Whether this is the process that speaks."""
    return os.environ.get("RANK", "0") == "0"


@contextmanager
def bar(title: str, quiet: bool) -> Iterator[Callable[[int, int | None], None] | None]:
    """A progress bar on a terminal, nothing elsewhere."""
    if quiet or not console.is_terminal:
        yield None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(title, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)
