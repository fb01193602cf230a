"""`vaekit compare`."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.box import SIMPLE
from rich.table import Table

from vaekit import api, pictures
from vaekit.commands.options import Device, Json, Pixels, Seed, console, out
from vaekit.commands.quality import Features, Number, Shown, cell
from vaekit.evaluation.samples import MEASURES
from vaekit.evaluation.samples import compare as compare_runs
from vaekit.run import Run


def compare(
    runs: Annotated[
        list[str],
        typer.Argument(
            help="Two run folders or more. RUN@own is the run with the prior it was trained with, RUN@KIND with one of those in RUN/priors.",
            metavar="RUN RUN...",
        ),
    ],
    data: Annotated[str | None, typer.Option(help="Other data than the runs' own.")] = None,
    n: Number = 10_000,
    pixels: Shown = Pixels.mean,
    features: Features = None,
    seed: Seed = 0,
    out_: Annotated[Path | None, typer.Option("--out", "-o", help="A picture: samples of all runs side by side, beside the data.")] = None,
    device: Device = "auto",
    json_: Json = False,
) -> None:
    """Score runs on the same held-out images: one table, and one picture."""
    pictures.writable(out_)
    loaded = [_opened(run, device) for run in runs]
    with console.status("measuring samples"):
        found = compare_runs(loaded, [api.reopen(run, data) for run in loaded], n=n, pixels=pixels.value, features=features, seed=seed, out=out_)
    if json_:
        print(json.dumps(found, indent=2, allow_nan=False))
        return
    out.print(table(found))
    print(f"{'; '.join(found['compared'])}. The floor: {found['floor']}.")
    scored = sorted({row["scored_images"] for row in found["runs"] if row["scored_images"] is not None})
    if scored:
        print(f"Likelihoods are of {' or '.join(f'{n:,}' for n in scored)} of these images.")
    if len({row["levels"] for row in found["runs"]}) > 1:
        print("The likelihoods are of pixels with different numbers of levels: do not compare them.")
    elif len({row["likelihood_kind"] for row in found["runs"] if row["elbo_nats"] is not None}) > 1:
        print("Some of the likelihoods are probabilities of whole numbers, at most 1, and some densities per grey level, which have no such limit.")
    for note in dict.fromkeys(note for row in found["runs"] for note in row["notes"]):
        print(note)
    if out_ is not None:
        print(f"Samples side by side are in {out_}.")


def _opened(name: str, device: str) -> Run:
    path, at, prior = name.rpartition("@")
    if not at or Path(name).exists():
        return api.load(name, device)
    return api.with_prior(api.load(path, device), prior)


def table(found: dict[str, Any]) -> Table:
    """A line for each figure and a column for each run; every measure of samples says its floor and its space."""
    rows = found["runs"]
    title = f"{found['images']:,} samples of each run ({found['pixels']}s of p(x|z)) beside {found['images']:,} {found['real']} of {found['data']}"
    shown = Table("", *(Path(row["run"]).name for row in rows), "floor", "better", "space", title=title, box=SIMPLE)
    for name, about in MEASURES.items():
        having = [row["measures"][name] for row in rows if name in row["measures"]]
        if not having:
            continue
        # The floor of the codes' test is each run's own: it is shown for the first.
        values = [cell(m["value"], m["error"]) if (m := row["measures"].get(name)) else "-" for row in rows]
        shown.add_row(about.title, *values, cell(having[0]["floor"], having[0]["floor_error"]), about.better, having[0]["space"])
    shown.add_section()
    shown.add_row("ELBO, nats", *(cell(row["elbo_nats"], row["elbo_nats_se"]) for row in rows), "", "higher", "likelihood")
    shown.add_row("bits per dimension", *(cell(row["bits_per_dim"]) for row in rows), "", "lower", "likelihood")
    shown.add_row("kind of likelihood", *("probability" if row["likelihood_kind"] == "pmf" else row["likelihood_kind"] for row in rows))
    shown.add_row("levels of a pixel", *(str(row["levels"] or "continuous") for row in rows))
    shown.add_row("latent dimensions", *("-" if row["latent_dim"] is None else f"{row['latent_dim']:,}" for row in rows))
    shown.add_row("minutes of training", *("-" if row["minutes"] is None else f"{row['minutes']:.1f}" for row in rows))
    shown.add_row("parameters", *(f"{row['parameters']:,}" for row in rows))
    return shown
