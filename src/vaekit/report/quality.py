"""The measures of samples that `vaekit quality` made, where its JSON stands in the run's folder."""

import json
import shlex
from typing import Any

from vaekit.report.content import Block, Command, Prose, Section, Table
from vaekit.report.svg import number
from vaekit.run import Run

NAME = "quality.json"


def quality(run: Run) -> Section:
    """A line for each measure, with its floor; or the command that makes them."""
    title, path = "Quality of samples", run.path / NAME
    command = Command(f"vaekit quality {shlex.quote(str(run.path))}")
    if not path.exists():
        return Section(title, (Prose("Not measured yet. This compares new images with real ones, and the next report shows it:"), command))
    try:
        figures = json.loads(path.read_text(encoding="utf-8"))
        if figures.get("prior") != run.description.get("prior"):
            return Section(title, (Prose("Measured before the prior was fitted that samples now come from; this measures them anew:"), command))
        rows = tuple(_row(name, row) for name, row in figures["measures"].items())
        about = f"{figures['images']:,} samples, {figures['compared']} of {figures['data']}. The floor: {figures['floor']}."
    except (ValueError, KeyError, TypeError, AttributeError):
        return Section(title, (Prose(f"{path.name} is damaged, or not what `vaekit quality` writes; this makes it anew:"), command))
    blocks: list[Block] = [Prose(about), Table(("measure", "value", "floor", "better", "space"), rows)]
    blocks += [Prose(str(note)) for note in figures.get("notes", ())]
    return Section(title, tuple(blocks))


def _row(name: str, row: dict[str, Any]) -> tuple[str, ...]:
    value = _cell(row["value"], row.get("error")) + (f" (p = {row['p_value']:.2g})" if "p_value" in row else "")
    return name.replace("_", " "), value, _cell(row["floor"], row.get("floor_error")), str(row["better"]), str(row["space"])


def _cell(value: float | None, error: float | None) -> str:
    """A figure with its standard error."""
    if value is None:
        return "-"
    return number(value) if error is None else f"{number(value)} ± {number(error, 2)}"
