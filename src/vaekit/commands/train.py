"""`vaekit train`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from vaekit import api
from vaekit.commands.options import Seed, choice, console, first, knobs, number
from vaekit.data import BUILT_IN
from vaekit.errors import UserError
from vaekit.likelihoods import LIKELIHOODS
from vaekit.recipes import DEFAULT
from vaekit.training import Bar, Silent
from vaekit.training.options import OPTIMIZERS, PRECISIONS, SCHEDULES


def train(
    data: Annotated[
        str, typer.Argument(help=f"A folder of images, a zip or tar of one, .npy, .npz, IDX, or built in: {choice(BUILT_IN)}.", metavar="DATA")
    ],
    recipe: Annotated[str, typer.Option("--recipe", "-r", help="Which VAE; 'vaekit recipes' lists them.")] = DEFAULT,
    out_: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Run folder; runs/<data>-<recipe>-<hash of the options> if not given. An unfinished run is resumed."),
    ] = None,
    epochs: Annotated[float | None, typer.Option(help="Passes over the training images.")] = None,
    minutes: Annotated[float | None, typer.Option(help="Budget instead of epochs: the speed is measured at the start.")] = None,
    latent: Annotated[int | None, typer.Option(help="Latent dimensions, 2 to 512: the knob of complexity.")] = None,
    scale: Annotated[float | None, typer.Option(help="Width and depth of the networks together; 1 is the recipe's own.")] = None,
    likelihood: Annotated[str | None, typer.Option(help=f"p(x|z): {choice(LIKELIHOODS)}.", rich_help_panel="Model")] = None,
    sigma: Annotated[
        str | None,
        typer.Option(
            help="Noise of a gaussian or laplace likelihood: learned, learned-per-channel, optimal, or a number (1: the textbooks' squared error).",
            rich_help_panel="Model",
        ),
    ] = None,
    condition: Annotated[
        str | None,
        typer.Option(help="What the model is told: 'class' (the sub-folder), or a CSV file with attributes for each image.", rich_help_panel="Model"),
    ] = None,
    beta: Annotated[float | None, typer.Option(help="Weight of the divergence; 1 is the ELBO.", rich_help_panel="Model")] = None,
    free_bits: Annotated[
        float | None, typer.Option(help="Nats of each latent dimension, or channel of a map, that cost nothing.", rich_help_panel="Model")
    ] = None,
    warmup: Annotated[float | None, typer.Option(help="Fraction of the run over which beta rises from 0.", rich_help_panel="Model")] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            help="A knob of this recipe alone, NAME=VALUE; may be repeated ('vaekit recipes NAME' lists them; "
            "with --likelihood causal also causal_width, causal_reach, causal_blocks, causal_context and causal_layers).",
            rich_help_panel="Model",
        ),
    ] = None,
    size: Annotated[
        str | None,
        typer.Option(help="HxW, or one number for squares; chosen from the images, with their proportions, if not given.", rich_help_panel="Data"),
    ] = None,
    fit: Annotated[str | None, typer.Option(help="How images get that size: crop, pad or stretch.", rich_help_panel="Data")] = None,
    channels: Annotated[int | None, typer.Option(help="1 grey, 2 grey + alpha, 3 colour, 4 colour + alpha.", rich_help_panel="Data")] = None,
    binarize: Annotated[
        bool,
        typer.Option(
            "--binarize",
            help="Pixels are bits, drawn from the grey value: for training afresh at each use, for validation and test once.",
            rich_help_panel="Data",
        ),
    ] = False,
    augment: Annotated[
        str | None, typer.Option(help="Of training images: any of crop, rotate, flip, colour, with commas.", rich_help_panel="Data")
    ] = None,
    augment_until: Annotated[
        float | None, typer.Option(help="Fraction of the run after which training images are left as they are.", rich_help_panel="Data")
    ] = None,
    limit: Annotated[int | None, typer.Option(help="Use only this many images.", rich_help_panel="Data")] = None,
    missing: Annotated[
        str | None,
        typer.Option(help="Pixels that are not scored: alpha (transparent ones), nan, or a share to hide, as 0.5.", rich_help_panel="Data"),
    ] = None,
    labels: Annotated[
        int | None, typer.Option(help="Only this many training images keep their class, for the recipe semi-supervised.", rich_help_panel="Data")
    ] = None,
    batch_size: Annotated[int | None, typer.Option(help="Images per step, over all processes.", rich_help_panel="Training")] = None,
    lr: Annotated[float | None, typer.Option(help="Learning rate.", rich_help_panel="Training")] = None,
    optimizer: Annotated[
        str | None,
        typer.Option(
            help=f"{choice(OPTIMIZERS)}. muon: equal steps in all directions of hidden matrices, AdamW else; -kernels: of convolutions alone.",
            rich_help_panel="Training",
        ),
    ] = None,
    schedule: Annotated[str | None, typer.Option(help=f"Of the learning rate: {choice(SCHEDULES)}.", rich_help_panel="Training")] = None,
    weight_decay: Annotated[
        float | None, typer.Option(help="On matrices and kernels; adam and adamax add it to the gradient.", rich_help_panel="Training")
    ] = None,
    ema: Annotated[float | None, typer.Option(help="Decay of the averaged weights per step; 0 for none.", rich_help_panel="Training")] = None,
    clip: Annotated[float | None, typer.Option(help="Limit on the gradient's norm, in nats.", rich_help_panel="Training")] = None,
    skip: Annotated[
        float | None, typer.Option(help="Steps with a gradient norm above this, in nats, are skipped.", rich_help_panel="Training")
    ] = None,
    precision: Annotated[
        str | None, typer.Option(help=f"{choice(PRECISIONS)}; auto measures which is faster here.", rich_help_panel="Training")
    ] = None,
    compile_: Annotated[
        bool, typer.Option("--compile", help="Compile the training step (pays off in long runs).", rich_help_panel="Training")
    ] = False,
    report_: Annotated[bool, typer.Option("--report/--no-report", help="Write report.html at the end.", rich_help_panel="Run")] = True,
    tune: Annotated[
        bool, typer.Option("--tune", help="Time threads and compilation at the start as well, and take the fastest.", rich_help_panel="Training")
    ] = False,
    seed: Seed = 0,
    tracker: Annotated[
        list[str] | None, typer.Option(help="tensorboard, wandb or mlflow, where installed; may be repeated.", rich_help_panel="Training")
    ] = None,
    save_seconds: Annotated[float, typer.Option(help="At least this long between checkpoints.", rich_help_panel="Training")] = 20.0,
) -> None:
    """Train a VAE on DATA. Run the same command again to resume; under torchrun, on several processes."""
    if epochs is not None and minutes is not None:
        raise UserError("--epochs and --minutes are two ways to say how long: give one of them.")
    run = api.fit(
        recipe,
        data,
        out="auto" if out_ is None else out_,
        watcher=Bar(console) if first() else Silent(),
        trackers=tuple(tracker or ()),
        save_seconds=save_seconds,
        tune=tune,
        page=report_,
        epochs=epochs,
        minutes=minutes,
        latent=latent,
        scale=scale,
        likelihood=likelihood,
        sigma=number(sigma),
        beta=beta,
        free_bits=free_bits,
        warmup=warmup,
        knobs=knobs(set_ or []),
        size=size,
        fit=fit,
        channels=channels,
        binarize=binarize,
        condition=condition,
        limit=limit,
        missing=missing,
        labels=labels,
        augment=augment,
        augment_until=augment_until,
        batch_size=batch_size,
        lr=lr,
        optimizer=optimizer,
        schedule=schedule,
        weight_decay=weight_decay,
        ema=ema,
        clip=clip,
        skip=skip,
        precision=precision,
        compile=compile_ or None,
        seed=seed,
    )
    if first():
        _summary(run)


def _summary(run: Any) -> None:
    rows = run.metrics()
    best = max(rows, key=lambda row: row["val_elbo_nats"]) if all(row["val_elbo_nats"] is not None for row in rows) else rows[-1]
    if run.description.get("select") == "last":
        best = rows[-1]
    names = [name for name in ("elbo", "rate", "distortion") if best[f"val_{name}_nats"] is not None]
    figures = ", ".join(f"{'ELBO' if name == 'elbo' else name} {best[f'val_{name}_nats']:.2f}" for name in names)
    blind = run.model.encoder is None
    found = "it only generates, and has no likelihood to speak of" if blind else f"validation {figures} nats per image"
    print(f"{run.path}: {found}, at epoch {best['epoch']:g}, {best['seconds']:.0f} s of training.")
    following = f"vaekit {'quality' if blind else 'evaluate'} {run.path}; vaekit sample {run.path} -n 64"
    print(f"Pictures: {', '.join(p.name for p in sorted(run.path.glob('*.png')))}. Next: {following}")
