"""Attributes by their names in a data set, or by a few examples: the direction, and the judges of an edit along it."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from vaekit.data.dataset import Dataset
from vaekit.editing.directions import Direction, apart, codes_of, direction
from vaekit.editing.judge import LEAST, Judge, judge
from vaekit.errors import UserError
from vaekit.model import VAE
from vaekit.output import Batch

EACH = 1000
"""Images on each side that a direction and its judge learn from, at most."""
MEASURED = 200
"""Images of the test split on which an edit is measured, at most."""


@dataclass(frozen=True)
class Attribute:
    """All that an edit along an attribute needs, and what tells whether it was hit."""

    direction: Direction
    judge: Judge | None
    """None where there are too few examples to teach one."""
    others: dict[str, Judge]
    """The judges of the attributes that are kept apart."""
    measured: Batch | None
    """Images of the test split that do not have it; None without labels."""


def sides(dataset: Dataset, split: str, to: str, since: str | None = None) -> tuple[Bool[Tensor, "n"], Bool[Tensor, "n"]]:
    """Which images of a split have an attribute, and which do not.

    For the name of a class: the images of that class, and those of the class `since` (of any other when None); images of unknown class are on
    neither side. For the name of an attribute: the images whose value is above the middle of its range, and the others.

    Raises `UserError` for a name that is neither.
    """
    classes, attributes, index = dataset.spec.classes, dataset.spec.attributes, dataset.index(split)
    if dataset.labels is not None and to in classes:
        labels = dataset.labels[index]
        yes = labels == classes.index(to)
        if since is None:
            return yes, (labels >= 0) & ~yes
        if since not in classes or since == to:
            raise UserError(f"'{to}' is a class, and so must be what it is told from: another one of {', '.join(classes)}, and not '{since}'.")
        return yes, labels == classes.index(since)
    if dataset.attributes is not None and to in attributes:
        if since is not None:
            raise UserError(f"'{to}' is an attribute, which an image has or has not: leave out what it is told from.")
        column = dataset.attributes[:, attributes.index(to)]
        known = column[column.isfinite()]
        if not len(known):
            raise UserError(f"'{to}' is known of no image of '{dataset.name}'.")
        middle = (known.min() + known.max()) / 2
        return column[index] > middle, column[index] <= middle
    names = [*(classes if dataset.labels is not None else ()), *(attributes if dataset.attributes is not None else ())]
    raise UserError(f"'{dataset.name}' has no class or attribute '{to}'; it has {', '.join(names) or 'none, so give examples on each side'}.")


def from_data(
    model: VAE, dataset: Dataset, to: str, since: str | None = None, beside: tuple[str, ...] = (), how: str = "difference", each: int = EACH
) -> Attribute:
    """The attribute `to` from the labels of the training split, orthogonal to those `beside` it, with judges that learnt from the same images.

    Args:
        since: the class that images without it have; any other when None.
        each: at most so many images on each side, evenly over the split.
    """
    wanted, verdict = _learnt(model, dataset, to, since, how, each)
    rest = {name: _learnt(model, dataset, name, None, how, each) for name in beside}
    kept = apart(wanted, [found for found, _ in rest.values()])
    without = _spaced(sides(dataset, "test", to, since)[1], MEASURED)
    measured = dataset.batch("test", without) if len(without) else None
    return Attribute(kept, verdict, {name: found for name, (_, found) in rest.items() if found is not None}, measured)


def _learnt(model: VAE, dataset: Dataset, to: str, since: str | None, how: str, each: int) -> tuple[Direction, Judge | None]:
    yes, no = (dataset.batch("train", _spaced(side, each)) for side in sides(dataset, "train", to, since))
    found = direction(_codes(model, yes), _codes(model, no), how, to)
    return found, _judge(yes, no)


def from_examples(model: VAE, yes: Batch, no: Batch, how: str = "difference", name: str = "attribute") -> Attribute:
    """The attribute that some images have and others have not; a judge learns from them where there are at least 8 on each side."""
    return Attribute(direction(_codes(model, yes), _codes(model, no), how, name), _judge(yes, no), {}, None)


def _judge(yes: Batch, no: Batch) -> Judge | None:
    return judge(yes.x, no.x) if min(len(yes), len(no)) >= LEAST else None


def _codes(model: VAE, batch: Batch) -> Tensor:
    if len(batch) == 0:
        raise UserError("An attribute needs images with it and without it, and one of the two sides has none.")
    return codes_of(model, [batch[start : start + 128] for start in range(0, len(batch), 128)])


def _spaced(side: Tensor, most: int) -> Int[Tensor, "m"]:
    """Positions of the images of a side, at most so many and evenly over all, since data are often sorted."""
    rows = side.nonzero()[:, 0]
    return rows if len(rows) <= most else rows[torch.arange(most) * len(rows) // most]
