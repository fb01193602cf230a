"""`Source`: images that are ready to be stored, all of one shape, with all that is known of them."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from vaekit.data.cache import digest

TRAIN, VALIDATION, TEST = 0, 1, 2
SPLITS = ("train", "validation", "test")


@dataclass
class Source:
    """What every reader (folder, arrays, built-in sets) makes, and what a store and a `Dataset` are made of.

    `read(rows)` gives rows [K] int64 as ``[K, C, H, W]`` of `dtype` (uint8, uint16 or float32). `key` is a digest of the content and of
    whatever changes the pixels. `split` holds one of TRAIN, VALIDATION, TEST per row where there is an official split, else it is None and
    the split is made by content; what an official split lacks is carved out of its training images unless `carve` is false.
    """

    name: str
    key: str
    shape: tuple[int, int, int]
    dtype: np.dtype
    levels: int | None
    count: int
    read: Callable[[np.ndarray], np.ndarray]
    on_disk: bool = False  # costly to make: packed on disk even when it is small
    labels: np.ndarray | None = None  # [count] int64, -1 unknown
    classes: tuple[str, ...] = ()
    attributes: np.ndarray | None = None  # [count, F] float32
    attribute_names: tuple[str, ...] = ()
    split: np.ndarray | None = None  # [count] int8
    carve: bool = True
    names: list[str] | None = None  # [count] file names relative to the folder
    numbers: np.ndarray | None = None  # [count] the rows' numbers before some were left out; None where none were
    notes: list[str] = field(default_factory=list)
    fit: str = "crop"
    fill: str = "black"
    evaluation_bits: Callable[[], tuple[np.ndarray, np.ndarray]] | None = None  # rows [M] and their published bits [M, C, H, W] uint8
    observed: Callable[[np.ndarray], np.ndarray] | None = None  # rows [K] -> [K, C or 1, H, W] bool, False where a value is missing
    report: dict[str, Any] = field(default_factory=dict)  # for `scan`: modes and the like

    @property
    def nbytes(self) -> int:
        """Bytes of all rows as they are stored."""
        return self.count * int(np.prod(self.shape)) * self.dtype.itemsize


def limited(source: Source, limit: int | None) -> Source:
    """The source with at most `limit` images, the same ones each time, in their order; an official split keeps its proportions."""
    if limit is None or limit >= source.count:
        return source
    order = np.random.RandomState(0).permutation(source.count)
    if source.split is None:
        chosen = order[:limit]
    else:
        parts = [order[source.split[order] == part] for part in (TRAIN, VALIDATION, TEST)]
        chosen = np.concatenate([p[: max(1, round(limit * len(p) / source.count))] for p in parts])
    chosen = np.sort(chosen)

    def pick(values: np.ndarray | None) -> np.ndarray | None:
        return None if values is None else values[chosen]

    def bits() -> tuple[np.ndarray, np.ndarray]:
        assert source.evaluation_bits is not None
        rows, drawn = source.evaluation_bits()
        kept = np.isin(rows, chosen)
        return np.searchsorted(chosen, rows[kept]), drawn[kept]

    def seen(rows: np.ndarray) -> np.ndarray:
        assert source.observed is not None
        return source.observed(chosen[rows])

    return replace(
        source,
        key=digest(source.key, "limit", limit),
        count=len(chosen),
        read=lambda rows: source.read(chosen[rows]),
        labels=pick(source.labels),
        attributes=pick(source.attributes),
        split=pick(source.split),
        names=None if source.names is None else [source.names[i] for i in chosen],
        numbers=chosen if source.numbers is None else source.numbers[chosen],
        notes=[*source.notes, f"{len(chosen)} of {source.count} images are used (--limit)."],
        evaluation_bits=None if source.evaluation_bits is None else bits,
        observed=None if source.observed is None else seen,
    )
