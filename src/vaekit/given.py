"""What is given to a finished run: data, brought to its form, and what its images are told."""

from pathlib import Path
from typing import Any

import torch

from vaekit.asked import form
from vaekit.data import Dataset, DataSpec, open_data
from vaekit.errors import UserError
from vaekit.networks import AttributeCondition
from vaekit.run import OWN, Run
from vaekit.saving import load_model


def reopen(run: Run, data: Any = None) -> Dataset:
    """The data of a run, or other data brought to the same form; the run's own have the attributes that a prior was told, if their table is there."""
    description = run.description["data"]
    source = description["source"] if data is None else data
    if source is None:
        raise UserError("This run was trained on an array, which is not kept with it: name the data.")
    if data is None and Path(source).is_absolute() and not Path(source).exists():
        raise UserError(f"The images of this run were in {source}, which is gone: name where they are now.")
    options = description["options"]
    kept: dict[str, Any] = {k: options[k] for k in ("size", "fit", "channels", "binarize", "condition", "missing") if options.get(k) is not None}
    kept["size"] = tuple(options["size"])
    if description.get("table"):
        kept["condition"] = description["table"]
        if not Path(description["table"]).exists():
            raise UserError(f"The attributes of this run's images were in {description['table']}, which is gone: put it there again.")
    own: dict[str, Any] = {"limit": description.get("limit"), "labels": options.get("labels"), "validation_data": description.get("validation")}
    own = {k: v for k, v in own.items() if v is not None}
    if data is None and own.get("validation_data") and not Path(own["validation_data"]).exists():
        raise UserError(f"The validation images of this run were in {own['validation_data']}, which is gone: put them there again.")
    try:
        dataset = open_data(source, **kept, **own)
    except UserError:
        if data is None or not own:
            raise
        dataset, own = open_data(source, **kept), {}  # other data need not have its labels
    if data is not None and not is_own(run, dataset):
        if description.get("table") and dataset.names is None:
            raise UserError(
                f"The table of this run, {description['table']}, numbers the rows of its own images: "
                "name others as a folder whose files it knows by name."
            )
        dataset = open_data(source, **kept) if own else dataset
    wanted = DataSpec.from_json(description["spec"])
    if (dataset.spec.shape, dataset.spec.levels) != (wanted.shape, wanted.levels):
        raise UserError(f"The model was trained on images of {form(wanted)}, and these are {form(dataset.spec)}: bring them to the same form.")
    prior = run.description.get("prior") or {}
    if data is None and prior.get("table") and Path(prior["table"]).exists():
        dataset.read_attributes(prior["table"])
    asks = options.get("condition") == "class"
    knows = prior.get("condition") == "class" or options.get("labels") is not None
    if dataset.spec.classes != wanted.classes and (asks or (knows and dataset.spec.classes)):
        theirs, ours = (", ".join(classes) or "none" for classes in (dataset.spec.classes, wanted.classes))
        raise UserError(f"The model knows the classes {ours}, and these data have {theirs}: bring them to the same classes, in the same order.")
    return dataset


def is_own(run: Run, dataset: Dataset) -> bool:
    """Whether these are the images that the run was trained on, wherever they are now."""
    return bool(dataset.fingerprint == run.description["data"]["fingerprint"])


def with_prior(run: Run, name: str | None) -> Run:
    """The run with another prior behind its samples, in memory alone: "own" for the model's, or a fitted one by the name of its folder.

    None leaves it as it is. Raises `UserError` for a prior that is not there.
    """
    if name is None:
        return run
    fitted = {path.parent.name: path for path in sorted(run.path.glob("priors/*/model.safetensors"))}
    if name != OWN and name not in fitted:
        raise UserError(f"{run.path} has no prior '{name}': there are {', '.join((OWN, *fitted))}.")
    run.chosen = name
    run.model.sampler = None if name == OWN else load_model(fitted[name])[0].to(run.model.device)
    return run


def told(run: Run, condition: str | None, n: int, *, needed: bool = False) -> torch.Tensor | None:
    """What n images are told, as raw conditions: [n] of a class, by its name or number, or [n, F] of attributes, "name=value,name=value".

    Raises `UserError` for a class or attributes that the model does not know (a fitted prior may know them for it), and where they are `needed` by
    the model itself for none at all, if it knows some.
    """
    spec, owner, sampler = run.spec, run.model.condition, run.model.sampler
    knows = owner or (None if sampler is None or needed else sampler.condition)
    names = (knows.names or spec.attributes) if isinstance(knows, AttributeCondition) else ()
    how = f"--attributes {','.join(f'{name}=...' for name in names)}" if names else f"--class ({', '.join(spec.classes)})"
    if condition is None:
        if owner is not None and (needed or isinstance(owner, AttributeCondition)):
            raise UserError(f"This model is told the {'attributes' if names else 'class'} of an image: say it with {how}.")
        return None
    if knows is None:
        prior = "" if needed or sampler is None else ", nor was the prior that its samples are drawn from (--prior takes another)"
        cure = "train it with --condition class" if needed else f"fit one with 'vaekit fit-prior {run.path} --condition class'"
        raise UserError(f"This model was not trained with a condition{prior}: {cure} to choose one.")
    if names:
        given = dict(part.partition("=")[::2] for part in condition.split(","))
        try:
            row = [float(given.pop(name)) for name in names]
        except (KeyError, ValueError):
            row = []
        if given or not row:
            raise UserError(f"'{condition}' does not give the attributes that this run knows: say each of them, a number, with {how}.")
        return torch.tensor(row).expand(n, -1)
    if condition in spec.classes:
        return torch.full((n,), spec.classes.index(condition))
    if condition.isdigit() and int(condition) < len(spec.classes):
        return torch.full((n,), int(condition))
    raise UserError(f"There is no class '{condition}'; the classes of {run.path} are {', '.join(spec.classes) or 'none'}.")
