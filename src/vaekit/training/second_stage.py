"""A prior fitted to the codes of a finished run, by the loop that trains everything else."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Shaped
from torch import Tensor, nn

from vaekit.data import Dataset, open_data
from vaekit.data.arrays import ArraySet, understand_labels
from vaekit.data.cache import digest
from vaekit.data.objects import from_object
from vaekit.errors import UserError
from vaekit.evaluation.passes import Progress, passes
from vaekit.latents.fitted import Fitted
from vaekit.latents.support import UNFITTED, supports
from vaekit.model import VAE
from vaekit.networks import AttributeCondition, ClassCondition, Condition
from vaekit.output import Batch
from vaekit.recipes.recipe import Recipe
from vaekit.recipes.second_stage import codes_like, second_stage
from vaekit.run import Run
from vaekit.saving import load_model, save_model
from vaekit.training.progress import Watcher
from vaekit.training.start import start


@dataclass(frozen=True)
class Codes:
    """The codes of a split, draws of q(z|x): what the prior is to be like is the aggregate posterior, and not its means."""

    z: Shaped[Tensor, "n *E"]
    size: int | None
    """How many values an index can take; None for real codes."""
    told: Tensor | None
    """What the prior is told of each: [n] long of classes, [n, F] of attributes."""


STEPS = 5_000
"""A prior of vectors takes at least so many, however few images there are: before, it has hardly left where it begins."""
CODES, VALUES = 150_000, 2**27
"""As many codes are made of the training images, by up to ten draws for each: with a single draw a prior learns its noise by heart. And no more
values than can be held, 0.5 GB."""


def codes_of(
    model: VAE, dataset: Dataset, split: str, told: str | None = None, *, draws: int = 1, seed: int = 0, progress: Progress | None = None
) -> Codes:
    """The codes of the first stochastic layer (the top of a ladder) for a split; with `told` the class or the attributes of each image too.

    With several `draws` of q(z|x), all images come once after the other; codes that are points, and no draws, come once.

    Raises `UserError` for images without a class or attributes where they are asked for.
    """
    size: list[int] = []

    def compute(batch: Batch) -> Tensor:
        c = model.embed(batch.condition)
        h, anchors, codes = model._encode(batch, c), model.anchors(), []
        for _ in range(draws):
            _, terms = model.latent.infer(h, anchors=anchors, c=c)
            codes.append(terms[0].z.cpu())
            size.append(terms[0].codebook)
            if terms[0].q is None:
                break
        return torch.stack(codes, dim=1)

    total = dataset.size(split)
    z = torch.cat(list(passes(model, dataset.batches(split, 256), compute, seed=seed, progress=progress, total=total)))
    known = _known(dataset, told, split) if told else None
    if known is not None:
        known = known.repeat(z.shape[1], *[1] * (known.dim() - 1))
    return Codes(z.transpose(0, 1).flatten(0, 1), None if z.is_floating_point() else size[0], known)


def _known(dataset: Dataset, told: str, split: str) -> Tensor:
    """The class or the attributes of the images of a split."""
    found = dataset.labels if told == "class" else dataset.attributes
    known = None if found is None else found[dataset.index(split)]
    if known is None or bool((known < 0).any() if told == "class" else known.isnan().any()):
        if told == "class":
            raise UserError(
                "A prior that is told the class needs one for each image, and these data have none or not for all: leave --condition out."
            )
        raise UserError(
            "A prior that is told attributes needs them for each image, and these data have none or not for all: "
            "name a table of them (--condition table.csv), or leave --condition out."
        )
    return known


def fit_prior(
    run: Run,
    dataset: Dataset,
    kind: str | None = None,
    *,
    condition: str | None = None,
    knobs: Mapping[str, float | str] | None = None,
    watcher: Watcher,
    save_seconds: float = 20.0,
    progress: Progress | None = None,
    **options: Any,
) -> Run:
    """Fits a prior to the codes of a run's training images, and makes it the `sampler` of its model.

    The prior's own run is a folder of `priors/` within the run's: the same command resumes it when it was stopped. Of several kinds the model has the
    one that was fitted last.

    Args:
        dataset: the run's data.
        kind: one of `recipes.second_stage.KINDS`; None for what suits these codes (`second_stage`).
        condition: "class" or "attributes" to tell the prior those of the data; a model that is told some has a prior that is told the same.
        knobs: what this kind alone has, by name (`recipes.second_stage`).
        progress: called with the number of images encoded, and how many there are.
        options: of the training (`Training`).

    Raises:
        UserError: for a run that is not finished, codes that no prior takes, and data without the condition.
    """
    if not run.finished:
        raise UserError(f"{run.path} is not finished: run its training command again first, and fit the prior then.")
    if options.get("epochs") is not None and options.get("minutes") is not None:
        raise UserError("--epochs and --minutes are two ways to say how long: give one of them.")
    model, metadata = load_model(run.final)
    model.to(run.device)
    told = _told(model, dataset, condition, run.spec.attributes)
    images = dataset.size("train")
    watcher.say(f"Encoding {images + dataset.size('validation'):,} images.")
    if len(supports(model.latent)) > 1:
        watcher.say("The prior is of the first part of the code (the top of a ladder): the other parts keep their own.")
    held_out = codes_of(model, dataset, "validation", told, seed=1)
    draws = max(1, min(10, CODES // images, VALUES // (images * held_out.z[0].numel())))
    recipe = _recipe(kind, dataset, told, held_out, knobs)
    kind = recipe.name.removeprefix("prior-")
    train = codes_of(model, dataset, "train", told, draws=draws, progress=progress)
    classes = len(dataset.spec.classes)
    if told == "class" and train.told is not None:
        without = [c for c, n in zip(dataset.spec.classes, torch.bincount(train.told, minlength=classes).tolist(), strict=True) if n == 0]
        if without:
            watcher.say(f"No training image is of {', '.join(without)}: what the prior draws for that means nothing.")
    codes = open_data(_images(train, told, classes), validation_data=_images(held_out, told, classes), condition=told)
    codes.fingerprint = _fingerprint(model, dataset, told, train, draws)
    # As many passes over the images, whatever the draws of each.
    seen = recipe.defaults.epochs * images
    if held_out.z.dim() == 2 and recipe.start <= 1024:  # vectors, and no fit that is all of it
        seen = max(seen, STEPS * (options.get("batch_size") or recipe.defaults.batch_size))
    training = recipe.defaults.with_options(**{"epochs": seen / len(train.z)} | options)
    inner = Run(run.path / "priors" / (f"{kind}-{told}" if told else kind))
    start_all = " It starts from all of them, which takes a minute or more." if recipe.start > 1024 else ""
    watcher.say(f"Fitting {kind} to {len(train.z):,} codes of {images:,} images.{start_all}")
    start(inner, recipe, codes, training, watcher, (), save_seconds, afresh=f"remove {inner.path}")
    if os.environ.get("RANK", "0") != "0":
        return inner
    _adopt(run, model, metadata, inner, {"kind": kind, "condition": told, "table": dataset.table if told == "attributes" else None})
    return inner


def _recipe(kind: str | None, dataset: Dataset, told: str | None, held_out: Codes, knobs: Mapping[str, float | str] | None) -> Recipe:
    """The prior for codes of this form, of training images of which this is known."""
    known = None if told is None else _known(dataset, told, "train")
    condition: Condition | None = None
    count = dataset.size("train")
    if known is not None and told == "class":
        condition = ClassCondition(len(dataset.spec.classes))
        count = int(torch.bincount(known, minlength=condition.classes).min())
    elif known is not None:
        condition = AttributeCondition(known.shape[1], marked=True, names=list(dataset.spec.attributes))
    return second_stage(kind, list(held_out.z.shape[1:]), held_out.size, condition, count, knobs)


def _fingerprint(model: VAE, dataset: Dataset, told: str | None, train: Codes, draws: int) -> str:
    """Which codes these are is told by what they are made of: another machine computes other last bits, and goes on with the same fit."""
    made = [weights_of(model), dataset.fingerprint, draws, told == "class"]
    if train.told is not None and told == "attributes":
        made += [list(dataset.spec.attributes), train.told.numpy().tobytes()]
    return digest(*made)


def _adopt(run: Run, model: VAE, metadata: Mapping[str, Any], inner: Run, about: dict[str, Any]) -> None:
    """Makes the prior that was fitted in `inner` the sampler of the run's model, and says so in its description."""
    fitted: Fitted = load_model(inner.final)[0]
    whole = VAE(model.encoder, model.latent, model.decoder, model.likelihood, model.condition, fitted, model.sees_mask)
    save_model(run.final, whole, **{k: v for k, v in metadata.items() if k not in ("format", "version", "spec")})
    run.__dict__.pop("model", None)
    run.chosen = None
    run.describe(prior={**about, "run": str(inner.path.relative_to(run.path)), "weights": weights_of(fitted)})


def _told(model: VAE, dataset: Dataset, condition: str | None, attributes: tuple[str, ...]) -> str | None:
    """What the prior is told: "class", "attributes" or nothing. Raises `UserError` for codes that no prior takes, and for what it cannot be told."""
    place = supports(model.latent)[0]
    if place in UNFITTED:
        form = "points of a simplex (relaxed categories)" if place == "categories" else f"points of a {place}"
        raise UserError(f"The codes of this model are {form}, and a fitted prior would draw codes off it: its own prior stays.")
    own = None if model.condition is None else "attributes" if isinstance(model.condition, AttributeCondition) else "class"
    if None not in (own, condition) and own != condition:
        both = "attributes, and a prior that is told the class" if own == "attributes" else "the class, and a prior that is told attributes"
        raise UserError(f"This model is told {both} would want both at once: leave --condition out.")
    if own == "attributes" and dataset.spec.attributes != attributes:
        theirs, ours = (", ".join(names) or "none" for names in (dataset.spec.attributes, attributes))
        raise UserError(f"This model is told the attributes {ours}, its prior has to be told the same, and these data have {theirs}.")
    told = own or condition
    if told == "class" and len(dataset.spec.classes) < 2:
        raise UserError(f"A prior is told the class of images of at least two classes, and '{dataset.name}' has {len(dataset.spec.classes)}.")
    return told


def weights_of(module: nn.Module) -> str:
    """A digest of a model's weights, but for those of a prior that was fitted to its codes."""
    tensors = {name: t for name, t in module.state_dict().items() if not name.startswith("sampler.")}
    return digest(*(part for name, t in sorted(tensors.items()) for part in (name, t.cpu().flatten().view(torch.uint8).numpy().tobytes())))


def _images(codes: Codes, told: str | None, classes: int) -> ArraySet:
    """The codes as a data set of images, with what is known of them; a class keeps its number also where others have no image."""
    images = from_object(codes_like(codes.z))
    if codes.told is not None and told == "class":
        images.labels, images.classes = understand_labels(codes.told, images.count, tuple(map(str, range(classes))))
    elif codes.told is not None:
        names = tuple(str(i) for i in range(codes.told.shape[1]))
        images.attributes, images.attribute_names = codes.told.numpy().astype("float32"), names
    return images
