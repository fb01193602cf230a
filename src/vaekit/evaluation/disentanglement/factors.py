"""The factors of a data set that knows them."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from vaekit.data import Dataset
from vaekit.errors import UserError


@dataclass(frozen=True)
class Factors:
    """What made each image."""

    values: Int[Tensor, "N F"]
    """Each factor's value, numbered in order."""
    names: tuple[str, ...]
    unordered: tuple[int, ...] = ()
    """Columns whose values are classes, and not numbers."""

    def __len__(self) -> int:
        return len(self.values)


def factors_of(dataset: Dataset, splits: str | Sequence[str] = "test", limit: int | None = None) -> Factors:
    """The factors of the images of a split (or of splits after one another), in the order of `Dataset.batches`.

    A factor is an attribute of the images; a value's number is its place among those that the attribute takes in the whole set. An attribute that is
    the images' class is unordered. The built-in `shapes` has its five factors.

    >>> data = vaekit.open_data("shapes")
    >>> measure(run.model, data.batches("test", 256), factors_of(data, "test"))

    Args:
        limit: of so many images alone (`Dataset.positions`).

    Raises:
        UserError: for data without attributes, or with one that takes too many values to be a factor.
    """
    names = dataset.spec.attributes
    if dataset.attributes is None or not names:
        raise UserError(f"'{dataset.name}' has no known factors, by which disentanglement is measured: 'shapes' has.")
    rows = torch.cat([dataset.index(split)[some] for split, some in dataset.positions(splits, limit)])
    columns, unordered = [], []
    for i, column in enumerate(dataset.attributes.unbind(1)):
        values, numbers = torch.unique(column, return_inverse=True)
        if 2 * len(values) > max(len(column), 4):
            raise UserError(
                f"'{names[i]}' of '{dataset.name}' takes {len(values)} values among {len(column)} images: a factor takes a few, each often."
            )
        if dataset.labels is not None and torch.equal(numbers, dataset.labels):
            unordered.append(i)
        columns.append(numbers)
    return Factors(torch.stack(columns, 1)[rows], tuple(names), tuple(unordered))
