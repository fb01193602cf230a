"""What `import vaekit` offers: each command of the command line is one call into here."""

import atexit
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import torch

from vaekit import editing, pictures
from vaekit.asked import DATA_OPTIONS, TRAINING_OPTIONS, check_early, check_options, recipe_for
from vaekit.data import Dataset, DataSpec, open_data, read_images
from vaekit.data.loose import read_holes
from vaekit.data.source import SPLITS
from vaekit.editing import Imputation
from vaekit.editing.codes import CHUNK
from vaekit.errors import UserError
from vaekit.evaluation import report
from vaekit.evaluation.disentanglement import factors_of, measure
from vaekit.evaluation.passes import first
from vaekit.evaluation.samples import measure_samples
from vaekit.evaluation.samples.compare import compare
from vaekit.export.codes import write_codes
from vaekit.export.target import target
from vaekit.finish import finish, illustrate, new_images
from vaekit.given import is_own, reopen, told, with_prior
from vaekit.model import VAE
from vaekit.output import Batch
from vaekit.recipes import DEFAULT, RECIPES, SETTING_OPTIONS, Entry, Recipe, build_recipe, knobs
from vaekit.report import NAME as REPORT
from vaekit.report import write_report
from vaekit.run import Run
from vaekit.saving import load_model
from vaekit.training import Bar, Training, Watcher
from vaekit.training.order import derived_seed, reproducible
from vaekit.training.second_stage import fit_prior as _fit_prior
from vaekit.training.start import identity, start


def recipe(
    name: str = DEFAULT,
    data: DataSpec | None = None,
    *,
    shape: tuple[int, int, int] | None = None,
    levels: int | None = 256,
    classes: tuple[str, ...] = (),
    attributes: tuple[str, ...] = (),
    **options: Any,
) -> Recipe:
    """A recipe by name, for data with this spec, or of this shape (C, H, W) and number of levels (None for floats).

    `options`: latent, scale, likelihood, sigma, condition ("class" or "attributes"), beta, free_bits, warmup, as of the command line.

    >>> vaekit.recipe("tutorial", shape=(1, 28, 28), latent=16).model
    """
    if data is None:
        if shape is None:
            raise UserError("Say what images the recipe is for: shape=(channels, height, width), or data=a DataSpec.")
        kind = "values" if levels is None else "pixels"
        fill = (0.0,) * shape[0], (1.0,) * shape[0]
        data = DataSpec(kind, tuple(shape), levels, tuple(classes), tuple(attributes), 0, *fill)  # type: ignore[arg-type]
    return build_recipe(name, data, **options)


def about(name: str) -> tuple[Entry, dict[str, Any]]:
    """The recipe of this name in the index, and the knobs that it alone has, with their own values."""
    with torch.random.fork_rng(devices=[]):
        own = knobs(name)
    return RECIPES[name], own


def fit(
    recipe: Recipe | VAE | str,
    data: Any,
    validation_data: Any = None,
    *,
    out: str | Path | None = None,
    watcher: Watcher | None = None,
    trackers: tuple[str, ...] = (),
    save_seconds: float = 20.0,
    tune: bool = False,
    page: bool = False,
    **options: Any,
) -> Run:
    """Trains a recipe (or its name, or a `VAE` made by hand, by the plain ELBO) on data, and returns the run.

    Args:
        data: whatever `vaekit.open_data` takes (a folder, an archive, an array, a tensor, a torch data set, a built-in name), or a `Dataset`.
        validation_data: for arrays, what to validate on; without it, a part of `data` is kept for that.
        out: the run folder; "auto" for `runs/<data>-<recipe>-<hash of the options>`. If it holds a run with the same options, that is resumed,
            or returned if it is finished; without it, a temporary folder that is deleted when Python ends.
        watcher: what to show; None for a bar on a terminal.
        trackers: names of trackers of Accelerate ("tensorboard", "wandb", "mlflow").
        save_seconds: at least this long between checkpoints.
        page: write `report.html` at the end, where there is a folder to keep.
        tune: try more ways to carry out a step at the start (threads, compilation), and keep the fastest for this machine.
        options: epochs, batch_size, minutes, lr, ... (`Training`); size, fit, channels, binarize, condition, limit, missing, labels (`open_data`);
            for a recipe by name also latent, scale, likelihood, sigma, beta, free_bits, warmup, knobs (`Setting`).

    Raises:
        UserError: for options that are not known, data that cannot be read or scored, and a folder that holds another run.
    """
    watcher = watcher or Bar()
    check_options(options, by_name=isinstance(recipe, str))
    check_early(recipe, out, options, trackers)
    layout: dict[str, Any] = {k: options.get(k) for k in DATA_OPTIONS if k in options}
    given = {**layout, "validation_data": validation_data}
    if isinstance(data, Dataset) and (asked := [k for k, v in given.items() if v is not None and v is not False]):
        raise UserError(f"These data are opened already: give {', '.join(asked)} to open_data.")
    try:
        dataset = data if isinstance(data, Dataset) else open_data(data, validation_data=validation_data, progress=watcher.reading, **layout)
    finally:
        watcher.stop()
    for note in dataset.notes:
        watcher.say(note)
    seed = int(options.get("seed") or 0)
    with reproducible("init", seed):
        chosen = recipe_for(recipe, dataset, watcher, {k: options.get(k) for k in SETTING_OPTIONS})
    training = chosen.defaults.with_options(**{k: options.get(k) for k in TRAINING_OPTIONS})
    folder = default_folder(dataset, chosen, training) if out == "auto" else out
    run = Run(_temporary() if folder is None else folder)
    before = run.finished
    start(run, chosen, dataset, training, watcher, trackers, save_seconds, tune)
    if folder is not None and os.environ.get("RANK", "0") == "0":
        finish(run, dataset, page, watcher, afresh=not before)
    return run


def default_folder(dataset: Dataset, chosen: Recipe, training: Training) -> Path:
    """`runs/<data>-<recipe>-<hash of the options>`."""
    digest = hashlib.sha256(json.dumps(identity(chosen, dataset, training), sort_keys=True).encode()).hexdigest()[:8]
    return Path("runs") / f"{dataset.name}-{chosen.name}-{digest}"


def load(path: str | Path, device: str = "cpu") -> Run:
    """The run in a folder, with its `model`, `history` and `description`.

    Args:
        device: where the model is: cpu, cuda, cuda:1, mps, ...; "auto" for a CUDA GPU where there is one.

    Raises `UserError` if there is no such run or device.
    """
    run = Run(path, device)
    run.description  # noqa: B018 (raises if it is not a run)
    return run


def load_vae(path: str | Path) -> VAE:
    """The model of a single `.safetensors` file."""
    return load_model(Path(path))[0]


def sample(
    run: Run,
    n: int,
    *,
    condition: str | None = None,
    temperature: float = 1.0,
    pixels: Literal["mean", "draw"] = "mean",
    seed: int = 0,
    guidance: float = 1.0,
    top: int | None = None,
) -> torch.Tensor:
    """n new images of a run in raw values [n, C, H, W]; `condition` is as in `told`, `guidance` and `top` are of a fitted prior (`Fitted.sample`)."""
    if n < 1:
        raise UserError(f"The number of images is at least 1, and it is {n}.")
    with reproducible("sample", seed):
        return run.model.sample(n, temperature=temperature, condition=told(run, condition, n), pixels=pixels, guidance=guidance, top=top)


def reconstruct(run: Run, paths: list[Path], condition: str | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    """Image files, brought to the form of the run's data, and their reconstructions: two raw tensors [n, C, H, W]."""
    x = read_images(paths, run.spec, run.description["data"]["options"])
    batch = Batch(x, condition=told(run, condition, len(x), needed=True))
    return x, torch.cat([run.model.reconstruct(batch[start : start + CHUNK]).cpu() for start in range(0, len(x), CHUNK)])


def impute(
    run: Run,
    paths: list[Path],
    *,
    mask: Path | None = None,
    alpha: bool = False,
    box: str | None = None,
    answers: int = 5,
    samples: int = 256,
    condition: str | None = None,
    seed: int = 0,
) -> tuple[Batch, Imputation]:
    """Image files with missing pixels, brought to the form of the run's data, and what the model fills in; see `editing.impute`.

    What is missing is told by `mask` (a file, white where pixels are missing), by transparency (`alpha`, also where the run was trained with it and
    nothing else is said), or by `box`, "x,y,width,height" in pixels of the model's images.
    """
    options = run.description["data"]["options"]
    alpha = alpha or (mask is None and box is None and options.get("missing") == "alpha")
    x, seen = read_holes(paths, run.spec, options, mask=mask, alpha=alpha, box=box)
    batch = Batch(x, seen, told(run, condition, len(x), needed=run.model.condition is not None))
    return batch, editing.impute(run.model, batch, answers=answers, samples=samples, seed=derived_seed("impute", seed) >> 32)


def evaluate(
    run: Run,
    data: Any = None,
    *,
    samples: int = 64,
    split: str | None = None,
    limit: int | None = None,
    precision: str = "fp32",
    disentanglement: bool = False,
    progress: Callable[[int, int | None], None] | None = None,
) -> dict[str, Any]:
    """The figures of a run on its test split, or on other data (all of it, unless that has a split of its own, or is the run's own, moved).

    With `disentanglement` also the measures of how its code's dimensions stand for the known factors of the images (`shapes` has some).
    """
    dataset = reopen(run, data)
    split = split or ("test" if is_own(run, dataset) or data is None or dataset.official else "all")
    if split not in ("train", "validation", "test", "all"):
        raise UserError(f"A split is train, validation, test or all, and not '{split}'.")
    if samples < 0:
        raise UserError(f"samples is how many codes the bound has for each image, 0 for none, and it is {samples}.")
    parts = ("train", "validation", "test") if split == "all" else (split,)
    count = sum(dataset.size(part) for part in parts)
    if count == 0:
        raise UserError(f"The {split} split of '{dataset.name}' is empty: choose another with --split, or name other data.")

    limit = None if limit is not None and limit >= count else limit
    factors = factors_of(dataset, parts, limit) if disentanglement else None

    def batches() -> Iterator[Batch]:
        yield from dataset.batches(parts, 128, limit)

    figures = report(run.model, run.spec, batches, samples=samples, limit=limit, images=count, precision=precision, progress=progress)  # type: ignore[arg-type]
    if factors is not None:
        figures |= measure(run.model, first(batches(), limit), factors, precision=precision)
    return {"run": str(run.path), "data": dataset.name, "split": split, **figures}


def encode(
    run: Run,
    folder: str | Path,
    data: Any = None,
    *,
    split: str = "all",
    sample: bool = False,
    seed: int = 0,
    precision: str = "fp32",
    progress: Callable[[int, int | None], None] | None = None,
) -> dict[str, Any]:
    """Writes the codes of the run's images, or of other data, as NumPy arrays; see `export.write_codes`, whose result it returns.

    Args:
        split: train, validation, test or all.
    """
    if split not in (*SPLITS, "all"):
        raise UserError(f"A split is train, validation, test or all, and not '{split}'.")
    place = target(folder)
    splits = SPLITS if split == "all" else (split,)
    return write_codes(run.model, reopen(run, data), place, splits=splits, sample=sample, seed=seed, precision=precision, progress=progress)


def traverse(
    run: Run,
    data: Any = None,
    *,
    image: Path | None = None,
    row: int = 0,
    span: float = 2.0,
    steps: int = 9,
    condition: str | None = None,
) -> tuple[torch.Tensor, editing.Active]:
    """What each dimension in use changes in an image: raw images [R, steps, C, H, W], and the R dimensions, the fullest first.

    The image is a file, or else the one at this row of the validation split; which dimensions are in use is seen from up to 2,000 images of that
    split, of the run's own data unless other data are given. See `editing.traverse`.
    """
    if image is None and condition is not None:
        raise UserError("A class or attributes are told of the file that --image names: images of the data have their own.")
    dataset = reopen(run, data)
    count = dataset.size("validation")
    if image is not None:
        x = read_images([image], run.spec, run.description["data"]["options"])
        batch = Batch(x, condition=told(run, condition, 1, needed=True))
    elif 0 <= row < count:
        batch = dataset.batch("validation", torch.tensor([row]))
    else:
        raise UserError(f"The validation split has the images 0 to {count - 1}, and not {row}.")
    active = editing.active_dimensions(run.model, dataset.batches("validation", 128, 2000))
    return editing.traverse(run.model, batch, active.dims, span, steps)[0], active


def fit_prior(
    run: Run | str | Path, kind: str | None = None, data: Any = None, *, watcher: Watcher | None = None, page: bool = False, **options: Any
) -> Run:
    """Fits a prior to the codes of a finished run, which `sample` then draws from; returns the prior's own run.

    `samples-fitted.png` beside the run's `samples.png` has new images from it.

    Args:
        kind: one of `vaekit.recipes.second_stage.KINDS`; None for what suits the codes.
        data: the images to encode; None for those of the run.
        page: write the run's `report.html` anew, if there is one, which would show the samples of before.
        options: condition ("class", "attributes" or the path of a table of attributes), knobs, save_seconds; epochs, minutes, lr, ... (`Training`).

    Raises:
        UserError: see `training.second_stage.fit_prior`.
    """
    run = run if isinstance(run, Run) else load(run)
    watcher, dataset = watcher or Bar(), reopen(run, data)
    if options.get("condition") not in (None, "class", "attributes"):
        dataset.read_attributes(options["condition"])
        options["condition"] = "attributes"
    with reproducible("init", int(options.get("seed") or 0)):
        fitted = _fit_prior(run, dataset, kind, watcher=watcher, progress=lambda done, total: watcher.reading(done, total or done), **options)
    if os.environ.get("RANK", "0") == "0":
        pictures.save(run.path / "samples-fitted.png", new_images(run, dataset))
        if page and (run.path / REPORT).exists():
            write_report(run, dataset, quick=True)
    return fitted


def _temporary() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="vaekit-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder / "run"


__all__ = [
    "compare",
    "default_folder",
    "encode",
    "evaluate",
    "fit",
    "fit_prior",
    "illustrate",
    "impute",
    "load",
    "load_vae",
    "measure_samples",
    "recipe",
    "reconstruct",
    "reopen",
    "sample",
    "traverse",
    "with_prior",
    "write_report",
]
