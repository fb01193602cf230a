"""`vaekit fit-prior`: a prior for the codes of a trained model."""

from typing import Annotated

import typer

from vaekit import api
from vaekit.commands.options import RunFolder, knobs
from vaekit.recipes.second_stage import KINDS
from vaekit.training import Bar, Silent

_WAYS = [f"{name}: {kind.about}" for name, kind in KINDS.items()]


def fit_prior(
    run: RunFolder,
    prior: Annotated[str | None, typer.Option(help=f"Left out: what suits the codes. {'; '.join(_WAYS)}.", show_default=False)] = None,
    data: Annotated[str | None, typer.Option(help="The images to encode; the run's own if left out.")] = None,
    condition: Annotated[
        str | None, typer.Option(help="class, attributes or a CSV file with attributes: the prior is told, and sample takes, them.")
    ] = None,
    epochs: Annotated[float | None, typer.Option(help="Passes over the codes; the prior's own number if left out.")] = None,
    minutes: Annotated[float | None, typer.Option(help="A budget instead of epochs.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Codes of one step.")] = None,
    lr: Annotated[float | None, typer.Option(help="Learning rate.")] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            help="What this prior alone has (docs/priors.md), NAME=VALUE; may be repeated. A wrong name is answered with those that there are.",
        ),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of everything random.")] = None,
    device: Annotated[
        str, typer.Option(help="Where the images are encoded: cpu, cuda, ...; auto for a CUDA GPU where there is one. The fit goes where train goes.")
    ] = "auto",
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but errors.")] = False,
) -> None:
    """Fit a prior to the codes of a trained model. From then on 'sample' draws codes from it.

    What a VAE's codes are distributed as is not quite the prior that it was trained with, and what lies between makes its worst samples. A prior
    fitted to the codes cures that; the model itself is not changed. The same command resumes a fit that was stopped. A
    report.html that is there is written anew, as short as at the end of a training: 'vaekit report' writes the longer one.
    """
    watcher = Silent() if quiet else Bar()
    given = {"epochs": epochs, "minutes": minutes, "batch_size": batch_size, "lr": lr, "seed": seed}
    options = {k: v for k, v in given.items() if v is not None}
    fitted = api.fit_prior(api.load(run, device), prior, data, condition=condition, knobs=knobs(set_ or []), watcher=watcher, page=True, **options)
    losses = [-row["val_elbo_nats"] for row in fitted.metrics() if row["val_elbo_nats"] is not None]
    loss = f" Its loss on held-out codes: {min(losses):.2f} ({fitted.path})." if losses else ""
    watcher.say(f"{run} now samples from this prior: {run}/samples-fitted.png.{loss}")
