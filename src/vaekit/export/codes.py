"""The codes of images, in files that NumPy opens: what a diffusion model or a classifier of one's own learns from."""

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor

from vaekit.data import Dataset
from vaekit.data.source import SPLITS
from vaekit.errors import UserError
from vaekit.evaluation.passes import Progress, passes
from vaekit.export.target import target, whole
from vaekit.model import VAE
from vaekit.output import Batch

BATCH = 128


def write_codes(
    model: VAE,
    data: Dataset,
    folder: str | Path,
    *,
    splits: tuple[str, ...] = SPLITS,
    sample: bool = False,
    seed: int = 0,
    precision: str = "fp32",
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Writes FOLDER/SPLIT/z.npy, the code of each image of a split in its order, and returns what FOLDER/codes.json says of them.

    z.npy is [n, D], or [n, D, h, w] for maps, float32, and [n, Q, h, w] int64 for indices of codebooks; a model with several layers (or kinds of
    codes) has z0.npy (the top), z1.npy and so on. Beside it `rows.npy` (the image's row in the whole set), `labels.npy` (those that training
    is shown, -1 for the others) and `names.json` (the file of each row), where there are such. Training images are not augmented, and binarized once.

    codes.json has `splits` (their sizes), `classes`, and for each array of real numbers `mean` and `std` over all values of the first of the splits.

    Args:
        folder: new, or empty; it is complete at the end, or not there.
        splits: which; a split without images is left out.
        sample: draws of q(z|x), and not its means. Codes that are not random (indices, points) are the same.

    Raises:
        UserError: for a model without an encoder, for splits that are all empty, and for a folder that holds something or cannot be written.
    """
    if model.encoder is None:
        raise UserError("This model has no encoder: it makes images from noise, and no codes from images.")
    kept = {split: data.size(split) for split in splits if data.size(split)}
    if not kept:
        raise UserError(f"There are no images in the {' or '.join(splits)} split of '{data.name}'.")
    about: dict[str, Any] = {"data": data.name, "sample": sample, "splits": kept, "classes": list(data.spec.classes)}
    total, done = sum(kept.values()), 0

    def encoded(batch: Batch) -> tuple[list[Tensor], Tensor | None]:
        return [z.cpu() for z in model.encode(batch, sample=sample)], None if batch.label is None else batch.label.cpu()

    with whole(target(folder)) as place:
        for split, count in kept.items():
            found = passes(model, data.batches(split, BATCH), encoded, seed=seed, precision=precision, progress=_after(done, total, progress))
            (place / split).mkdir()
            arrays = _write_rows(place / split, count, found)
            about.setdefault("arrays", {name: array.about() for name, array in arrays.items() if name != "labels"})
            index = data.index(split)
            np.save(place / split / "rows.npy", index.numpy())
            if data.names is not None:
                (place / split / "names.json").write_text(json.dumps([data.names[i] for i in index], indent=0))
            done += count
        (place / "codes.json").write_text(json.dumps(about, indent=2))
    return about


def _after(done: int, total: int, progress: Progress | None) -> Progress | None:
    """`progress` of a part that follows `done` others."""
    return None if progress is None else lambda more, _: progress(done + more, total)


def _write_rows(folder: Path, count: int, found: Iterator[tuple[list[Tensor], Tensor | None]]) -> dict[str, "Array"]:
    """A file for each layer of the codes, and one for the labels, as they come."""
    arrays: dict[str, Array] = {}
    with ExitStack() as stack:
        for layers, labels in found:
            parts = {"z" if len(layers) == 1 else f"z{i}": z if z.dtype == torch.long else z.float() for i, z in enumerate(layers)}
            for name, rows in (parts if labels is None else parts | {"labels": labels}).items():
                if name not in arrays:
                    arrays[name] = Array(stack.enter_context(open(folder / f"{name}.npy", "wb")), count, rows)
                arrays[name].append(rows)
    return arrays


class Array:
    """A .npy file that grows row by row, so that a full disk is an error and no more than a batch is in memory."""

    def __init__(self, file: BinaryIO, count: int, like: Tensor) -> None:
        self.file, self.shape, self.dtype = file, tuple(like.shape[1:]), like.numpy().dtype
        self.sum, self.squares, self.values = 0.0, 0.0, 0
        header = {"shape": (count, *self.shape), "fortran_order": False, "descr": np.lib.format.dtype_to_descr(self.dtype)}
        np.lib.format.write_array_header_1_0(file, header)

    def append(self, rows: Tensor) -> None:
        values = rows.contiguous().numpy()
        self.file.write(values.tobytes())
        if values.dtype == np.float32:
            self.sum += float(values.sum(dtype=np.float64))
            self.squares += float(np.square(values, dtype=np.float64).sum())
            self.values += values.size

    def about(self) -> dict[str, Any]:
        """Shape of one code and kind of its numbers; of real numbers mean and spread over all of them."""
        found: dict[str, Any] = {"shape": list(self.shape), "dtype": str(self.dtype)}
        if self.values:
            mean = self.sum / self.values
            found |= {"mean": mean, "std": max(self.squares / self.values - mean**2, 0.0) ** 0.5}
        return found


__all__ = ["write_codes"]
