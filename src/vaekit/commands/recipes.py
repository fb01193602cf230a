"""`vaekit recipes`."""

import json
from typing import Annotated

import typer
from rich.table import Table

from vaekit import api
from vaekit.commands.options import Json, out
from vaekit.recipes import DEFAULT, RECIPES


def recipes(name: Annotated[str | None, typer.Argument(help="A recipe, for its paper and its knobs.")] = None, json_: Json = False) -> None:
    """List the recipes with their papers, or tell of one of them."""
    if name is not None:
        entry, own = api.about(name)
        if json_:
            print(json.dumps({**entry.to_json(), "knobs": own}, indent=2))
            return
        print(f"{entry.name} ({entry.year}): {entry.good_for}", entry.paper, entry.url, sep="\n")
        shown = [f"--set {k}={v}" if v is not None else f"--set {k}=..." for k, v in own.items()]
        print("Knobs: " + (", ".join(shown) or "none of its own"))
        return
    if json_:
        print(json.dumps([entry.to_json() for entry in RECIPES.values()], indent=2))
        return
    table = Table("name", "year", "paper", "data", "good for")
    for entry in RECIPES.values():
        table.add_row(entry.name + (" (default)" if entry.name == DEFAULT else ""), str(entry.year), entry.paper, entry.data, entry.good_for)
    out.print(table)
