"""Few labels: which images of the training split keep theirs."""

from typing import Any

import numpy as np

from vaekit.data.source import TRAIN
from vaekit.errors import UserError


def parse(labels: Any) -> int | None:
    """None or a number of labelled images. Raises `UserError` for anything else."""
    if labels is None:
        return None
    try:
        count = int(labels)
    except (TypeError, ValueError):
        count = 0
    if count < 1 or count != float(labels):
        raise UserError(f"--labels is the number of training images that keep their label, at least 1, and not {labels!r}.")
    return count


def keep_few(
    labels: np.ndarray | None, classes: tuple[str, ...], split: np.ndarray, digests: np.ndarray, count: int, name: str
) -> tuple[np.ndarray, list[str]]:
    """The labels [n] with -1 for all training images but `count` of them, and notes.

    Each class keeps as many as any other, as far as it has them; which ones is told by the digests of their pixels, and is the same everywhere.
    Raises `UserError` without classes, with fewer labels than classes, and with more than there are labelled images.
    """
    if labels is None or not classes:
        raise UserError(f"--labels {count} needs classes, and '{name}' has none: put the images of each class into a sub-folder, or give labels.")
    training = split == TRAIN
    sizes = np.bincount(labels[training & (labels >= 0)], minlength=len(classes))
    there = int((sizes > 0).sum())
    if count > sizes.sum():
        raise UserError(f"--labels {count} is more than the {int(sizes.sum())} labelled training images of '{name}': leave it out to use them all.")
    if count < there:
        raise UserError(f"--labels {count} leaves some of the {there} classes of '{name}' without a single label: give at least {there}.")
    shown = np.where(training, -1, labels).astype(np.int64)
    for label, quota in enumerate(_quotas(sizes, count)):
        rows = np.flatnonzero(training & (labels == label))
        kept = rows[np.lexsort((rows, digests[rows]))[:quota]]
        shown[kept] = label
    return shown, [
        f"{count} of {int(training.sum())} training images keep their label, in equal numbers for each class; the others count as unlabelled."
    ]


def _quotas(sizes: np.ndarray, count: int) -> list[int]:
    """`count` shared out over classes of these sizes as evenly as they allow, the first classes first."""
    quotas = np.zeros_like(sizes)
    while quotas.sum() < count:
        open_ = np.flatnonzero(quotas < sizes)
        left = count - int(quotas.sum())
        share = np.full(len(open_), left // len(open_))
        share[: left % len(open_)] += 1
        quotas[open_] = np.minimum(quotas[open_] + share, sizes[open_])
    return quotas.tolist()
