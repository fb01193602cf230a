"""`Dataset`: batches of raw values from a store, by split and row."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from vaekit.data import augment as augmentation
from vaekit.data.binarize import EVALUATION_SEED, binarize
from vaekit.data.cache import digest
from vaekit.data.conditions import read_table
from vaekit.data.labels import keep_few
from vaekit.data.missing import Holes, filled, moved
from vaekit.data.pack import Rows, store
from vaekit.data.source import SPLITS, TRAIN, Source
from vaekit.data.spec import DataSpec
from vaekit.data.split import complete, split_by_content
from vaekit.errors import UserError
from vaekit.output import Batch


class Dataset:
    """Images with a split, ready for training; made by `open_data`.

    `spec` says what batches hold, `notes` which choices were made, `options` how loose images are brought to the same form. `fingerprint`
    is a digest of content and options that is the same on every machine.
    """

    name: str
    fingerprint: str
    spec: DataSpec
    notes: list[str]
    options: dict[str, Any]
    attributes: torch.Tensor | None
    """[n, F] float32 in the order of the whole set (`Batch.index`), whether or not they are a condition."""
    labels: torch.Tensor | None
    """[n] long in the order of the whole set, -1 unknown; all that are known, also those that training is not shown."""
    names: list[str] | None
    """[n] the file of each image, relative to the folder, in the order of the whole set; None where images are not files."""
    source: str | None = None
    """The path or built-in name that opens the same data again; None for arrays."""
    validation: str | None = None
    """The path that opens the validation images again, where they were given apart."""
    limit: int | None = None
    table: str | None = None
    """Where the table of attributes is, from any working folder."""

    def __init__(
        self,
        source: Source,
        *,
        binarized: bool = False,
        condition: str | None = None,
        progress: Callable[[int, int], Any] | None = None,
        missing: str | float | None = None,
        labels: int | None = None,
    ) -> None:
        self.name, self.names = source.name, source.names
        self._numbers = range(source.count) if source.numbers is None else source.numbers
        self.official = source.split is not None
        """Whether the data came with a split of its own."""
        self.notes = list(source.notes)
        table = read_table(Path(condition), self._keys(), source.names is not None) if condition not in (None, "class", "attributes") else None
        attributes, names = table or (source.attributes, source.attribute_names)
        self._check(source, binarized, condition, labels)
        self._store, rows = store(source, progress)
        split = self._split(source, rows)
        self._rows = {name: torch.from_numpy(np.flatnonzero(split == part)) for part, name in enumerate(SPLITS)}
        self.labels = None if source.labels is None else torch.from_numpy(np.ascontiguousarray(source.labels, np.int64))
        self.attributes = None if attributes is None else torch.from_numpy(attributes)
        self._told = {None: None, "class": self.labels}.get(condition, self.attributes)
        self._holes = None if missing is None else Holes(source, missing, progress)
        if self._holes is None:
            mean, std = _moments(rows, split == TRAIN, source.shape)
        else:
            mean, std, share = self._holes.moments(self._store, self._rows["train"])
            self.notes.append(f"{100 * (1 - share):.1f} % of the values of the training images are missing: only what is observed is scored.")
        self._shown = self.labels
        if labels is not None:
            few, notes = keep_few(source.labels, source.classes, split, rows.digests, labels, self.name)
            self._shown = torch.from_numpy(few)
            self.notes += notes
        classes, count = source.classes, int((split == TRAIN).sum())
        kind: Literal["values", "pixels"] = "values" if source.levels is None else "pixels"
        if binarized and source.levels is None:
            self._check_probabilities()
        self.raw_spec = DataSpec(kind, source.shape, source.levels, classes, names, count, mean, std)
        """The spec of the values as they are stored, before binarization."""
        self.spec = self.raw_spec.binarized() if binarized else self.raw_spec
        self._binarized = binarized
        self._fixed = self._published(source) if binarized else None
        self.options = {
            "size": list(source.shape[1:]),
            "fit": source.fit,
            "fill": source.fill,
            "channels": source.shape[0],
            "levels": source.levels,
            "binarize": binarized,
            "condition": condition,
            "missing": missing,
            "labels": labels,
        }
        told = (
            None if self._told is None else self._told.numpy().tobytes().hex() if self._told.numel() < 4096 else digest(self._told.numpy().tobytes())
        )
        self.fingerprint = digest(
            source.key,
            source.count,
            split.tobytes(),
            _bytes(source.labels),
            list(classes),
            binarized,
            condition is not None,
            told,
            *([] if missing is None and labels is None else [missing, labels]),
        )

    def _check(self, source: Source, binarized: bool, condition: str | None, labels: int | None) -> None:
        if condition == "class" and labels is not None:
            raise UserError("--labels hides classes, and --condition class tells them to the model: choose one of the two.")
        if condition == "class" and not source.classes:
            raise UserError(f"'{self.name}' has no classes to be told of: put the images into one sub-folder per class, or give labels.")
        if condition == "class" and (source.labels is None or (source.labels < 0).any()):
            raise UserError(
                f"Some images of '{self.name}' have no class, and the condition 'class' needs one for each: move them into the sub-folder of a class."
            )
        if condition == "attributes" and source.attributes is None:
            raise UserError(f"'{self.name}' has no attributes of its own: give the condition as a CSV file with a row for each image.")
        if binarized and source.levels == 2:
            self.notes.append("The pixels are binary already: drawing them changes nothing.")

    def _split(self, source: Source, rows: Rows) -> np.ndarray:
        if source.split is None:
            split = split_by_content(rows.digests)
            copies = len(rows.digests) - len(np.unique(rows.digests))
            sizes = np.bincount(split, minlength=3)
            self.notes.append(f"The images are split by content: {sizes[0]} for training, {sizes[1]} for validation, {sizes[2]} for testing.")
            if copies:
                self.notes.append(f"{copies} images are exact copies of others; copies are kept in one split.")
        elif source.carve:
            split, notes = complete(source.split, rows.digests)
            self.notes += notes
        else:
            split = source.split
        for part, name in ((0, "training"), (1, "validation")):
            if not (split == part).any():
                raise UserError(f"No images of '{self.name}' are left for {name}: add some.")
        return split

    def _published(self, source: Source) -> torch.Tensor | None:
        """Bits of the validation and test rows where the data set has published ones: [n_validation + n_test, C, H, W] and their places."""
        if source.evaluation_bits is None:
            return None
        rows, bits = source.evaluation_bits()
        self._place = torch.full((source.count,), -1, dtype=torch.long)
        self._place[torch.from_numpy(rows)] = torch.arange(len(rows))
        return torch.from_numpy(bits)

    def _check_probabilities(self) -> None:
        for index in self._rows.values():
            for rows in index.split(1024):
                values = self._store.gather(rows)
                if float(values.min()) < 0 or float(values.max()) > 1:
                    raise UserError("Only pixels and floats in 0..1 can be binarized, since the value is the probability: scale them.")

    def _keys(self) -> list[str]:
        """What a table calls each image: its file's name, or the number of its row before some were left out."""
        return self.names or [str(i) for i in self._numbers]

    def read_attributes(self, table: str | Path) -> None:
        """Takes the attributes from a CSV file (`read_table`); what a model is told does not change. Raises `UserError` for one that does not fit."""
        attributes, names = read_table(Path(table).expanduser(), self._keys(), self.names is not None)
        self.attributes, self.table = torch.from_numpy(attributes), str(Path(table).expanduser().resolve())
        self.raw_spec, self.spec = (replace(spec, attributes=names) for spec in (self.raw_spec, self.spec))

    def __repr__(self) -> str:
        sizes = ", ".join(f"{self.size(s)} {s}" for s in SPLITS)
        return f"<Dataset {self.name}: {sizes}; {' x '.join(str(n) for n in self.spec.shape)}, {self.spec.levels or 'continuous'} levels>"

    def size(self, split: str) -> int:
        """Number of images in "train", "validation" or "test"."""
        return len(self.index(split))

    def index(self, split: str) -> torch.Tensor:
        """Rows [size] (long) of the split in the whole set, in order."""
        if split not in self._rows:
            raise UserError(f"The split '{split}' is not known: choose train, validation or test.")
        return self._rows[split]

    def pixels(self, index: torch.Tensor | np.ndarray) -> torch.Tensor:
        """Rows of the whole set as they are stored [B, C, H, W]: raw, before any binarization, and with what a share of --missing hides."""
        return self._store.gather(torch.as_tensor(index))

    def batch(
        self,
        split: str,
        rows: torch.Tensor | np.ndarray,
        *,
        seed: int = 0,
        epoch: int = 0,
        augment: str | Iterable[str] | None = None,
        position: int = 0,
    ) -> Batch:
        """The images at positions `rows` [B] (long) of the split.

        Training bits are drawn afresh for each (seed, epoch, image); validation and test bits are always the same. `augment` changes
        training images alone, at random by (seed, position). `Batch.index` is the row in the whole set. Where something is missing, `Batch.mask`
        is False there and the value is the channel's mean over the training split. Training labels are those that are shown.
        """
        index = self.index(split)[torch.as_tensor(rows)]
        training = split == "train"
        mask = None if self._holes is None else self._holes.observed(index)
        if self._fixed is not None and not training:
            x = self._fixed[self._place[index]]
        else:
            x = self._store.gather(index)
            names = augmentation.parse(augment) if augment and training else ()
            if names:
                x = augmentation.augment(x, names, self.raw_spec.levels, seed=seed, position=position)
                mask = None if mask is None else moved(mask, names, seed=seed, position=position)
            if self._binarized:
                x = binarize(x, index, self.raw_spec.levels, seed=seed if training else EVALUATION_SEED, epoch=epoch if training else 0)
        if mask is not None:
            x = filled(x, mask, self.spec.mean, self.spec.levels is not None)
        condition = None if self._told is None else self._told[index]
        labels = self._shown if training else self.labels
        return Batch(x, mask, condition, None if labels is None else labels[index], index)

    def positions(self, splits: str | Sequence[str], limit: int | None = None) -> list[tuple[str, torch.Tensor]]:
        """Positions within each of the splits: all in order, or `limit` of them in all, which are the same ones each time, in an order of chance.

        The first images of a folder are those of its first class.
        """
        splits = (splits,) if isinstance(splits, str) else splits
        sizes = [self.size(split) for split in splits]
        if limit is None:
            return [(split, torch.arange(size)) for split, size in zip(splits, sizes, strict=True)]
        ends = [min(limit, sum(sizes)) * sum(sizes[: i + 1]) // max(sum(sizes), 1) for i in range(len(sizes))]
        counts = [end - start for start, end in zip([0, *ends], ends, strict=False)]
        generator = torch.Generator().manual_seed(0)
        return [(split, torch.randperm(size, generator=generator)[:n]) for split, size, n in zip(splits, sizes, counts, strict=True)]

    def batches(self, splits: str | Sequence[str], batch_size: int, limit: int | None = None) -> Iterator[Batch]:
        """All images of a split (or of splits after one another) in order, or `limit` of them (`positions`), `batch_size` at a time.

        The last batch of a split may be shorter.
        """
        for split, rows in self.positions(splits, limit):
            for some in rows.split(batch_size):
                if len(some):
                    yield self.batch(split, some)


def _bytes(values: np.ndarray | None) -> bytes:
    return b"" if values is None else np.ascontiguousarray(values, np.int64).tobytes()


def _moments(rows: Rows, chosen: np.ndarray, shape: tuple[int, int, int]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation per channel over the chosen rows; a channel that never changes has the deviation 1."""
    pixels = int(chosen.sum()) * shape[1] * shape[2]
    mean = rows.sums[chosen].sum(0) / pixels
    variance = np.maximum(rows.squares[chosen].sum(0) / pixels - mean**2, 0)
    flat = variance <= 1e-12 * np.maximum(mean**2, 1e-30)
    return tuple(float(m) for m in mean), tuple(float(s) for s in np.where(flat, 1.0, np.sqrt(variance)))
