"""Codes beside the factors that made their images: the table that every measure reads."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int, Int64
from torch import Tensor

from vaekit.errors import UserError

Array = np.ndarray | Tensor


@dataclass(frozen=True)
class Table:
    """N images: their codes, and the values of the factors that vary among them, numbered from 0."""

    codes: Float[np.ndarray, "N D"]
    factors: Int64[np.ndarray, "N F"]
    columns: tuple[int, ...]
    """Which columns of the given factors these are: one with a single value cannot be measured, and is left out."""

    def __len__(self) -> int:
        return len(self.codes)

    @property
    def sizes(self) -> tuple[int, ...]:
        """How many values each factor takes."""
        return tuple(int(n) for n in self.factors.max(0) + 1)

    def halves(self, seed: int) -> "tuple[Table, Table]":
        """Two halves at random: what is fitted on one is judged on the other."""
        order = np.random.default_rng((seed, 1)).permutation(len(self))
        parts = order[: len(self) // 2], order[len(self) // 2 :]
        first, second = (Table(self.codes[rows], self.factors[rows], self.columns) for rows in parts)
        return first, second


def table(codes: Array, factors: Array) -> Table:
    """Codes [N, D] and factors [N, F] as a `Table`; the values of a factor are numbered in their order.

    Raises:
        UserError: for other shapes, fewer than two images, codes that are not finite, factors that are not integers or of which none varies.
    """
    z, v = as_array(codes), as_array(factors)
    if z.ndim != 2 or v.ndim != 2 or len(z) != len(v) or z.shape[1] < 1:
        raise UserError(f"Codes are [N, D] and factors [N, F] with a row for each image, and not {list(z.shape)} and {list(v.shape)}.")
    if len(z) < 2:
        raise UserError(f"Disentanglement is measured on at least two images, and there are {len(z)}.")
    if not np.issubdtype(v.dtype, np.integer):
        raise UserError("Factors are integers: number the values of each, from 0 on.")
    z = z.astype(np.float64)
    if not np.isfinite(z).all():
        raise UserError("Some codes are not finite: the model that made them has diverged.")
    columns = tuple(k for k in range(v.shape[1]) if (v[:, k] != v[0, k]).any())
    if not columns:
        raise UserError("No factor varies among these images: there is nothing to measure.")
    numbered = np.stack([np.unique(v[:, k], return_inverse=True)[1].reshape(-1) for k in columns], 1)
    return Table(z, numbered.astype(np.int64), columns)


def as_array(values: Array) -> np.ndarray:
    return values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)


class Fixed:
    """Draws images that share one factor's value with a given image, from the table itself and with replacement.

    Raises `UserError` for a factor of which every value has a single image: nothing could be drawn beside it.
    """

    def __init__(self, table: Table) -> None:
        self._factors = table.factors
        self._order = np.argsort(table.factors, axis=0, kind="stable")
        self._counts = [np.bincount(column) for column in table.factors.T]
        self._starts = [np.cumsum(counts) - counts for counts in self._counts]
        for k, counts in enumerate(self._counts):
            if counts.max() < 2:
                raise UserError(
                    f"Factor {table.columns[k]} never has the same value twice among {len(table)} images: measure on more images or fewer values."
                )

    def draw(self, rows: Int[np.ndarray, "M"], factor: int, count: int, generator: np.random.Generator) -> Int[np.ndarray, "M K"]:
        """`count` rows for each of `rows`, with the same value of the factor."""
        values = self._factors[rows, factor]
        counts, starts = self._counts[factor][values], self._starts[factor][values]
        offsets = (generator.random((len(rows), count)) * counts[:, None]).astype(np.int64)
        return self._order[starts[:, None] + offsets, factor]


def gap(scores: Float[np.ndarray, "D F"], floor: float = 0.0) -> Float[np.ndarray, "F"]:
    """The best code's score less the second best's, for each factor; beside a single code stands `floor`, what a code without information has."""
    ordered = np.sort(np.concatenate([scores, np.full((1, scores.shape[1]), floor)]), axis=0)
    return ordered[-1] - ordered[-2]


def among(columns: Sequence[int], table: Table) -> set[int]:
    """The places in the table of these columns of the given factors."""
    return {table.columns.index(k) for k in columns if k in table.columns}
