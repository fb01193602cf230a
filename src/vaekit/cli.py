"""The command line: a thin door, where every command is one call into `vaekit.api`."""

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from vaekit import __version__, api, pictures
from vaekit.data import BUILT_IN, scan
from vaekit.editing import imputations
from vaekit.errors import UserError
from vaekit.likelihoods import LIKELIHOODS
from vaekit.recipes import DEFAULT, RECIPES
from vaekit.training import Bar, Interrupted, Silent
from vaekit.training.options import OPTIMIZERS, PRECISIONS, SCHEDULES

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Variational autoencoders on your own images: from a folder of pictures to a trained model, new images and an honest likelihood.",
)
console = Console(stderr=True)
out = Console()

RunFolder = Annotated[Path, typer.Argument(help="A run folder, as made by 'train'.", metavar="RUN")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout and nothing else there.")]
Seed = Annotated[int, typer.Option(help="Seed of everything random.")]
Klass = Annotated[str | None, typer.Option("--class", help="Class, by name or number, for a model trained with --condition class.")]


class Pixels(StrEnum):
    """What is shown of p(x|z)."""

    mean = "mean"
    draw = "draw"


def _choice(values: Any) -> str:
    return ", ".join(values)


@app.command(rich_help_panel="Main")
def train(
    data: Annotated[
        str, typer.Argument(help=f"A folder of images, a zip or tar of one, .npy, .npz, IDX, or built in: {_choice(BUILT_IN)}.", metavar="DATA")
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
    likelihood: Annotated[str | None, typer.Option(help=f"p(x|z): {_choice(LIKELIHOODS)}.", rich_help_panel="Model")] = None,
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
    free_bits: Annotated[float | None, typer.Option(help="Nats of each latent dimension that cost nothing.", rich_help_panel="Model")] = None,
    warmup: Annotated[float | None, typer.Option(help="Fraction of the run over which beta rises from 0.", rich_help_panel="Model")] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set", help="A knob of this recipe alone, NAME=VALUE; may be repeated ('vaekit recipes NAME' lists them).", rich_help_panel="Model"
        ),
    ] = None,
    size: Annotated[str | None, typer.Option(help="Height, or HxW; chosen from the images if not given.", rich_help_panel="Data")] = None,
    fit: Annotated[str | None, typer.Option(help="How images get that size: crop, pad or stretch.", rich_help_panel="Data")] = None,
    channels: Annotated[int | None, typer.Option(help="1 grey, 2 grey + alpha, 3 colour, 4 colour + alpha.", rich_help_panel="Data")] = None,
    binarize: Annotated[
        bool, typer.Option("--binarize", help="Pixels are bits, drawn afresh at each use from the grey value.", rich_help_panel="Data")
    ] = False,
    augment: Annotated[
        str | None, typer.Option(help="Of training images: any of crop, rotate, flip, colour, with commas.", rich_help_panel="Data")
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
    optimizer: Annotated[str | None, typer.Option(help=_choice(OPTIMIZERS), rich_help_panel="Training")] = None,
    schedule: Annotated[str | None, typer.Option(help=f"Of the learning rate: {_choice(SCHEDULES)}.", rich_help_panel="Training")] = None,
    weight_decay: Annotated[float | None, typer.Option(help="Decoupled, on matrices and kernels.", rich_help_panel="Training")] = None,
    ema: Annotated[float | None, typer.Option(help="Decay of the averaged weights per step; 0 for none.", rich_help_panel="Training")] = None,
    clip: Annotated[float | None, typer.Option(help="Limit on the gradient's norm, in nats.", rich_help_panel="Training")] = None,
    skip: Annotated[
        float | None, typer.Option(help="Steps with a gradient norm above this, in nats, are skipped.", rich_help_panel="Training")
    ] = None,
    precision: Annotated[
        str | None, typer.Option(help=f"{_choice(PRECISIONS)}; auto measures which is faster here.", rich_help_panel="Training")
    ] = None,
    compile_: Annotated[
        bool, typer.Option("--compile", help="Compile the training step (pays off in long runs).", rich_help_panel="Training")
    ] = False,
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
        watcher=Bar(console) if _first() else Silent(),
        trackers=tuple(tracker or ()),
        save_seconds=save_seconds,
        tune=tune,
        epochs=epochs,
        minutes=minutes,
        latent=latent,
        scale=scale,
        likelihood=likelihood,
        sigma=_number(sigma),
        beta=beta,
        free_bits=free_bits,
        warmup=warmup,
        knobs=_knobs(set_ or []),
        size=size,
        fit=fit,
        channels=channels,
        binarize=binarize,
        condition=condition,
        limit=limit,
        missing=missing,
        labels=labels,
        augment=augment,
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
    if _first():
        _summary(run)


def _knobs(pairs: list[str]) -> dict[str, float | str]:
    for pair in pairs:
        if "=" not in pair:
            raise UserError(f"--set takes NAME=VALUE, and not '{pair}'.")
    return {name: _number(value) for name, _, value in (pair.partition("=") for pair in pairs)}  # type: ignore[misc]


def _summary(run: Any) -> None:
    rows = run.metrics()
    best = max(rows, key=lambda row: row["val_elbo_nats"]) if all(row["val_elbo_nats"] is not None for row in rows) else rows[-1]
    if run.description.get("select") == "last":
        best = rows[-1]
    names = [name for name in ("elbo", "rate", "distortion") if best[f"val_{name}_nats"] is not None]
    figures = ", ".join(f"{'ELBO' if name == 'elbo' else name} {best[f'val_{name}_nats']:.2f}" for name in names)
    print(f"{run.path}: validation {figures} nats per image at epoch {best['epoch']:g}, {best['seconds']:.0f} s of training.")
    print(f"Pictures: {', '.join(p.name for p in sorted(run.path.glob('*.png')))}. Next: vaekit evaluate {run.path}; vaekit sample {run.path} -n 64")


@app.command(rich_help_panel="Main")
def sample(
    run: RunFolder,
    n: Annotated[int, typer.Option("-n", "--number", help="How many images.")] = 64,
    class_: Klass = None,
    temperature: Annotated[float, typer.Option(help="Spread of the prior: below 1, safer images; above, stranger ones.")] = 1.0,
    pixels: Annotated[Pixels, typer.Option(help="The mean of p(x|z), or a draw from it.")] = Pixels.mean,
    seed: Seed = 0,
    out_: Annotated[str, typer.Option("--out", "-o", help="A picture (grid.png), or a folder (ending in /) for one file per image.")] = "samples.png",
) -> None:
    """Draw new images from a trained model."""
    loaded = api.load(run)
    images = api.sample(loaded, n, condition=class_, temperature=temperature, pixels=pixels.value, seed=seed)
    _write(out_, images, loaded.spec)


def _write(place: str, images: Any, spec: Any) -> None:
    if place.endswith(("/", os.sep)) or Path(place).is_dir():
        pictures.save_images(place, images, spec)
        print(f"{len(images)} images in {place}")
    else:
        pictures.save_grid(place, images, spec)
        print(f"{len(images)} images in {place}")


@app.command(rich_help_panel="Main")
def reconstruct(
    run: RunFolder,
    images: Annotated[list[Path], typer.Argument(help="Image files, or folders of them.", metavar="IMAGES...")],
    class_: Klass = None,
    out_: Annotated[Path, typer.Option("--out", "-o", help="The picture: each image above its reconstruction.")] = Path("reconstructions.png"),
) -> None:
    """Encode and decode images, and show both."""
    loaded = api.load(run)
    paths = [p for path in images for p in (sorted(q for q in path.rglob("*") if q.is_file()) if path.is_dir() else [path])]
    x, y = api.reconstruct(loaded, paths, class_)
    pictures.save(out_, pictures.reconstructions(x, y, loaded.spec))
    print(f"{len(x)} images and their reconstructions in {out_}")


@app.command(rich_help_panel="Main")
def impute(
    run: RunFolder,
    images: Annotated[list[Path], typer.Argument(help="Image files.", metavar="IMAGES...")],
    mask: Annotated[Path | None, typer.Option(help="A picture that is white where pixels are missing, black elsewhere.")] = None,
    alpha: Annotated[bool, typer.Option("--alpha", help="Transparent pixels are missing.")] = False,
    box: Annotated[str | None, typer.Option(help="y,x,height,width of what is missing, in pixels of the model's images.")] = None,
    n: Annotated[int, typer.Option("-n", "--number", help="How many answers for each image.")] = 5,
    samples: Annotated[int, typer.Option(help="How many codes are weighed: more is closer to the model's own belief.")] = 256,
    class_: Klass = None,
    seed: Seed = 0,
    out_: Annotated[
        Path, typer.Option("--out", "-o", help="The picture: the image with holes, the answers, their mean, and where they are unsure.")
    ] = Path("imputed.png"),
    json_: Json = False,
) -> None:
    """Fill in missing pixels: several answers, their mean, and how sure the model is."""
    loaded = api.load(run)
    batch, result = api.impute(loaded, images, mask=mask, alpha=alpha, box=box, answers=n, samples=samples, condition=class_, seed=seed)
    pictures.save(out_, imputations(batch, result, loaded.spec))
    if json_:
        effective = [round(value, 2) for value in result.effective.tolist()]
        print(json.dumps({"images": len(batch), "answers": n, "samples": samples, "effective_samples": effective, "picture": str(out_)}))
        return
    print(f"{len(batch)} images with {n} answers each in {out_}; {result.effective.median().item():.1f} of {samples} codes count (the median).")


@app.command(rich_help_panel="Main")
def evaluate(
    run: RunFolder,
    data: Annotated[str | None, typer.Argument(help="Other data than the run's own.", metavar="[DATA]")] = None,
    samples: Annotated[int, typer.Option(help="K, the samples of the importance-weighted bound; 0 for none.")] = 64,
    split: Annotated[str | None, typer.Option(help="train, validation, test or all; the run's test split if not given.")] = None,
    limit: Annotated[int | None, typer.Option(help="Only the first images.")] = None,
    precision: Annotated[str, typer.Option(help="fp32, or bf16, which is faster where the processor has it.")] = "fp32",
    disentanglement: Annotated[
        bool, typer.Option("--disentanglement", help="Also whether single dimensions stand for the known factors of the images ('shapes').")
    ] = False,
    json_: Json = False,
) -> None:
    """Measure a model: bounds on log p(x), the use of its latent, and the fidelity of its reconstructions."""
    loaded = api.load(run)
    with _bar("evaluating", quiet=json_) as progress:
        figures = api.evaluate(
            loaded,
            data,
            samples=samples,
            split=split,
            limit=limit,
            precision=precision,
            disentanglement=disentanglement,
            progress=progress,
        )
    if json_:
        print(json.dumps(figures, indent=2, allow_nan=False))
        return
    table = Table(title=f"{figures['data']}, {figures['split']} split, {figures['images']:,} images", show_header=False)
    for name, value in figures.items():
        if isinstance(value, (int, float, str)) and name not in ("data", "split", "images"):
            table.add_row(name, f"{value:.4f}" if isinstance(value, float) else str(value))
    out.print(table)


@app.command(rich_help_panel="Main")
def traverse(
    run: RunFolder,
    data: Annotated[str | None, typer.Argument(help="Other data than the run's own.", metavar="[DATA]")] = None,
    image: Annotated[Path | None, typer.Option(help="The image to start from; one of the validation split if not given.")] = None,
    row: Annotated[int, typer.Option(help="Which one of the validation split.")] = 0,
    span: Annotated[float, typer.Option(help="From minus to plus this many standard deviations of the prior.")] = 2.0,
    steps: Annotated[int, typer.Option(help="Images in a row.")] = 9,
    class_: Klass = None,
    out_: Annotated[Path, typer.Option("--out", "-o", help="The picture: a row for each dimension in use.")] = Path("traversal.png"),
    json_: Json = False,
) -> None:
    """Show what each latent dimension means: an image as one dimension at a time goes through the prior."""
    loaded = api.load(run)
    images, active = api.traverse(loaded, data, image=image, row=row, span=span, steps=steps, condition=class_)
    pictures.save(out_, pictures.grid(images.flatten(0, 1), loaded.spec, columns=steps))
    if json_:
        rates = None if active.rates is None else [round(rate, 4) for rate in active.rates]
        print(json.dumps({"dimensions": active.dims, "rates_nats": rates, "span": span, "steps": steps, "picture": str(out_)}))
        return
    rows = [f"{d}" if active.rates is None else f"{d} ({active.rates[i]:.2f} nats)" for i, d in enumerate(active.dims)]
    print(f"{len(rows)} dimensions in {out_}, from the top: {', '.join(rows)}")


@app.command("data", rich_help_panel="Look")
def data_(
    data: Annotated[str, typer.Argument(help="As for 'train'.", metavar="DATA")],
    size: Annotated[str | None, typer.Option(help="As for 'train'.")] = None,
    fit: Annotated[str | None, typer.Option(help="As for 'train'.")] = None,
    channels: Annotated[int | None, typer.Option(help="As for 'train'.")] = None,
    json_: Json = False,
) -> None:
    """Say what DATA holds, what cannot be read, and what 'train' would do with it."""
    with _bar("reading", quiet=json_) as progress:
        report = scan(data, size=size, fit=fit, channels=channels, progress=progress)
    print(json.dumps(report.to_json(), indent=2, allow_nan=False) if json_ else "\n".join(report.lines()))


@app.command(rich_help_panel="Look")
def recipes(name: Annotated[str | None, typer.Argument(help="A recipe, for its paper and its knobs.")] = None, json_: Json = False) -> None:
    """List the recipes with their papers, or tell of one of them."""
    if name is not None:
        entry, own = api.about(name)
        if json_:
            print(json.dumps({**entry.to_json(), "knobs": own}, indent=2))
            return
        print(f"{entry.name} ({entry.year}): {entry.good_for}", entry.paper, entry.url, sep="\n")
        print("Knobs: " + (", ".join(f"--set {k}={v}" for k, v in own.items()) or "none of its own"))
        return
    if json_:
        print(json.dumps([entry.to_json() for entry in RECIPES.values()], indent=2))
        return
    table = Table("name", "year", "paper", "data", "good for")
    for entry in RECIPES.values():
        table.add_row(entry.name + (" (default)" if entry.name == DEFAULT else ""), str(entry.year), entry.paper, entry.data, entry.good_for)
    out.print(table)


@app.callback(invoke_without_command=True)
def _top(
    debug: Annotated[bool, typer.Option("--debug", help="Show the whole traceback of an error.")] = False,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        print(__version__)
        raise typer.Exit()


def _number(value: str | None) -> float | str | None:
    try:
        return None if value is None else float(value)
    except ValueError:
        return value


def _first() -> bool:
    """Whether this is the process that speaks."""
    return os.environ.get("RANK", "0") == "0"


@contextmanager
def _bar(title: str, quiet: bool) -> Iterator[Callable[[int, int | None], None] | None]:
    """A progress bar on a terminal, nothing elsewhere."""
    if quiet or not console.is_terminal:
        yield None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(title, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


def main(arguments: list[str] | None = None) -> None:
    """Runs the command line; exits with 2 and one sentence for an error that is the user's to mend."""
    arguments = sys.argv[1:] if arguments is None else arguments
    debug = "--debug" in arguments
    try:
        app(["--debug"] * debug + [a for a in arguments if a != "--debug"], prog_name="vaekit")
    except Interrupted as stop:
        print(stop, file=sys.stderr)
        raise SystemExit(128 + stop.signal) from None
    except UserError as error:
        if debug:
            raise
        print(f"Error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        print("Stopped.", file=sys.stderr)
        raise SystemExit(130) from None
    except Exception as error:
        if debug:
            raise
        sentence = " ".join(str(error).split()) or "no message"
        print(f"Error: {type(error).__name__}: {sentence}. This looks like a fault of vaekit: --debug shows where it happened.", file=sys.stderr)
        raise SystemExit(1) from None


if __name__ == "__main__":
    main()
