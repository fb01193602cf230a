"""What is asked of a training: whether the options, the recipe and the data go together."""

from pathlib import Path
from typing import Any

import torch

from vaekit.data import Dataset, DataSpec
from vaekit.errors import UserError
from vaekit.model import VAE, evaluating
from vaekit.recipes import SETTING_OPTIONS, Recipe, build_recipe, check_names
from vaekit.training import Training, Watcher
from vaekit.training.start import check_machine

DATA_OPTIONS = ("size", "fit", "channels", "binarize", "condition", "limit", "missing", "labels")
TRAINING_OPTIONS = tuple(sorted(Training.names()))


def form(data: DataSpec) -> str:
    """The form of images in words, for a sentence."""
    return f"{' x '.join(map(str, data.shape))} with {data.levels or 'continuous'} levels"


def check_options(options: dict[str, Any], by_name: bool) -> None:
    """Raises `UserError` for an option that there is not, and for one of a recipe where the recipe is not named but given."""
    known = {*DATA_OPTIONS, *TRAINING_OPTIONS, *SETTING_OPTIONS}
    unknown = sorted(set(options) - known)
    if unknown:
        raise UserError(f"fit has no option '{unknown[0]}'; it has {', '.join(sorted(known))}.")
    given = [k for k in SETTING_OPTIONS if options.get(k) is not None]
    if given and not by_name:
        raise UserError(f"'{given[0]}' belongs to the recipe: give it to vaekit.recipe(...), or name the recipe.")


def check_early(recipe: Recipe | VAE | str, out: str | Path | None, options: dict[str, Any], trackers: tuple[str, ...]) -> None:
    """What no data can mend is said before they are read."""
    training = Training().with_options(**{k: options.get(k) for k in TRAINING_OPTIONS})
    check_machine(training, trackers)
    if isinstance(recipe, str):
        check_names(recipe, {k: v for k in SETTING_OPTIONS if (v := options.get(k)) is not None})
    if out is not None and out != "auto" and Path(out).exists() and not Path(out).is_dir():
        raise UserError(f"{out} is a file, and a run is a folder: choose another place with --out.")


def recipe_for(recipe: Recipe | VAE | str, dataset: Dataset, watcher: Watcher, setting: dict[str, Any]) -> Recipe:
    """The recipe for these data: built by name, or the given one, built again where the data differ from what it was for.

    Raises `UserError` where it cannot be.
    """
    condition = dataset.options.get("condition")
    condition = condition if condition in (None, "class") else "attributes"
    if isinstance(recipe, str):
        return build_recipe(recipe, dataset.spec, condition=condition, **setting)
    if isinstance(recipe, VAE):
        check_takes(recipe, dataset)
        return Recipe(recipe, defaults=Training(precision="fp32"))
    if recipe.data is None:
        if isinstance(recipe.model, VAE):
            check_takes(recipe.model, dataset)
        return recipe
    wanted, found = recipe.data, dataset.spec
    if wanted.shape != found.shape:
        raise UserError(f"The recipe is for images of {form(wanted)}, and these are {form(found)}: build it with shape={found.shape}.")
    if wanted.levels != found.levels or (found.levels is None and wanted.mean != found.mean) or recipe.options.get("condition") != condition:
        watcher.say(f"The recipe is built again for {form(found)}.")
        return recipe.for_data(found) if condition is None else build_recipe(recipe.name, found, **{**recipe.options, "condition": condition})
    return recipe


def check_takes(model: VAE, dataset: Dataset) -> None:
    """Raises `UserError` for a model put together by hand whose kind of likelihood cannot score these images, or whose networks are for others."""
    type(model.likelihood).for_data(dataset.spec)
    batch = dataset.batch("train", torch.arange(min(2, dataset.size("train"))))
    try:
        with torch.no_grad(), evaluating(model):
            model(batch.to(model.device))
    except RuntimeError as error:
        raise UserError(f"This model cannot take images of {form(dataset.spec)}: {error}.") from error
