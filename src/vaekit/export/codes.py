"""The codes of images, in files that NumPy opens: what a diffusion model or a classifier of one's own learns from."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vaekit.data import Dataset
from vaekit.data.source import SPLITS
from vaekit.errors import UserError
from vaekit.evaluation.passes import Progress, passes
from vaekit.export.target import target
from vaekit.model import VAE

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

    z.npy is [n, D], or [n, D, h, w] for maps, float32, and [n, Q, h, w] int64 for indices of codebooks; a model with several layers has z0.npy (the
    top), z1.npy and so on. Beside it `rows.npy` (the image's row in the whole set), `labels.npy` (-1 where the class is not known) and `names.txt`
    (the file of each row), where there are such. Training images are not augmented; those of binarized data have the bits of the first epoch.

    codes.json has `splits` (their sizes), `classes`, and for each array of real numbers its `mean` and `std` over all values of the first split.

    Args:
        folder: new, or empty.
        splits: which; a split without images is left out.
        sample: draws of q(z|x), and not its means.

    Raises:
        UserError: for a model without an encoder, for splits that are all empty, and for a folder that holds something or cannot be written.
    """
    if model.encoder is None:
        raise UserError("This model has no encoder: it makes images from noise, and no codes from images.")
    kept = {split: data.size(split) for split in splits if data.size(split)}
    if not kept:
        raise UserError(f"There are no images in the {' or '.join(splits)} split of '{data.name}'.")
    place, total, done = target(folder), sum(kept.values()), 0
    about: dict[str, Any] = {"data": data.name, "sample": sample, "splits": kept, "classes": list(data.spec.classes), "arrays": {}}
    for split, count in kept.items():
        (place / split).mkdir(parents=True)
        index = data.index(split)
        np.save(place / split / "rows.npy", index.numpy())
        if data.labels is not None:
            np.save(place / split / "labels.npy", data.labels[index].numpy())
        if data.names is not None:
            (place / split / "names.txt").write_text("".join(f"{data.names[i]}\n" for i in index), encoding="utf-8")
        files: list[np.ndarray] = []
        row = 0
        codes = passes(
            model, data.batches(split, BATCH), lambda batch: model.encode(batch, sample=sample), seed=seed, start=done, precision=precision
        )
        for code in codes:
            layers = [(z if z.dtype == torch.long else z.float()).cpu().numpy() for z in code]
            if not files:
                names = ["z"] if len(layers) == 1 else [f"z{i}" for i in range(len(layers))]
                files = [
                    np.lib.format.open_memmap(place / split / f"{name}.npy", mode="w+", dtype=z.dtype, shape=(count, *z.shape[1:]))
                    for name, z in zip(names, layers, strict=True)
                ]
            for file, z in zip(files, layers, strict=True):
                file[row : row + len(z)] = z
            row += len(layers[0])
            if progress is not None:
                progress(done + row, total)
        done += count
        if not about["arrays"]:
            about["arrays"] = {name: _about(file) for name, file in zip(names, files, strict=True)}
    (place / "codes.json").write_text(json.dumps(about, indent=2), encoding="utf-8")
    return about


def _about(z: np.ndarray) -> dict[str, Any]:
    """Shape of one code and kind of its numbers; of real numbers mean and spread over all of them."""
    found: dict[str, Any] = {"shape": list(z.shape[1:]), "dtype": str(z.dtype)}
    if z.dtype == np.float32:
        found |= {"mean": float(z.mean(dtype=np.float64)), "std": float(z.std(dtype=np.float64))}
    return found


__all__ = ["write_codes"]
