"""Folders of image files as a source, and loose files brought to the same form."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vaekit.data.binarize import EVALUATION_SEED, binarize
from vaekit.data.cache import digest
from vaekit.data.decode import quiet, read_array, reason
from vaekit.data.files import classes_of, list_images, official_split
from vaekit.data.policy import Entry, Plan, resolve
from vaekit.data.source import Source
from vaekit.data.spec import DataSpec
from vaekit.data.survey import THREADS, scan_files
from vaekit.errors import UserError

Progress = Callable[[int, int], Any] | None


def folder_source(
    folder: Path,
    name: str,
    notes: list[str],
    *,
    size: Any = None,
    fit: Any = None,
    channels: Any = None,
    limit: int | None = None,
    progress: Progress = None,
) -> Source:
    """The source of the image files below a folder."""
    names, _ = list_images(folder, limit)
    entries = scan_files(folder, names, progress)
    bad = [e for e in entries if e.error]
    good = [e for e in entries if not e.error]
    plan = resolve(good, size=size, fit=fit, channels=channels)
    notes = [*notes, *plan.notes]
    if bad:
        shown = "; ".join(f"{e.path}: {e.error}" for e in bad[:3]) + ("; and more" if len(bad) > 3 else "")
        notes.append(f"{len(bad)} of {len(entries)} files cannot be read and are left out ({shown}).")
    return files_source(folder, name, good, plan, notes)


def files_source(folder: Path, name: str, entries: list[Entry], plan: Plan, notes: list[str]) -> Source:
    """The source of readable files under a plan."""
    names = [e.path for e in entries]
    split, inner = official_split(names)
    classes, labels = classes_of(inner)
    options = {"size": plan.size, "fit": plan.fit, "channels": plan.channels, "levels": plan.levels, "fill": plan.fill}
    pool = ThreadPoolExecutor(THREADS)

    def decode(row: int) -> np.ndarray:
        try:
            return read_array(folder / names[row], **options)
        except Exception as error:
            raise UserError(f"{folder / names[row]} could be read before and cannot any more ({reason(error)}): run the command again.") from error

    def read(rows: np.ndarray) -> np.ndarray:
        with quiet():
            return np.stack(list(pool.map(decode, rows.tolist())))

    return Source(
        name=name,
        key=digest(
            [[e.path.encode("utf-8", "surrogateescape").hex() if not e.path.isascii() else e.path, e.digest] for e in entries], plan.options()
        ),
        shape=(plan.channels, *plan.size),
        dtype=np.dtype(np.uint16 if plan.levels > 256 else np.uint8),
        levels=plan.levels,
        count=len(entries),
        read=read,
        on_disk=True,
        labels=labels,
        classes=classes,
        split=split,
        names=names,
        notes=notes,
        fit=plan.fit,
        fill=plan.fill,
    )


def read_images(paths: list[Path], spec: DataSpec, options: dict[str, Any]) -> torch.Tensor:
    """Loose image files as raw values [n, C, H, W], brought to the form of the data that `spec` and `options` (of a `Dataset`) describe.

    Raises `UserError` for a file that cannot be read.
    """
    if options.get("levels") is None:
        raise UserError("The model was trained on continuous values, which image files do not hold: give them as an array.")
    levels = int(options["levels"])
    how = {
        "size": tuple(options["size"]),
        "fit": options["fit"],
        "channels": options["channels"],
        "fill": options.get("fill", "black"),
        "levels": levels,
    }
    rows = []
    for path in paths:
        try:
            with quiet():
                rows.append(read_array(Path(path), **how))
        except Exception as error:
            raise UserError(f"{path} cannot be read as an image ({reason(error)}).") from error
    if not rows:
        raise UserError("No images are given.")
    values = np.stack(rows)
    x = torch.from_numpy(values.astype(np.int32) if values.dtype == np.uint16 else values)
    return binarize(x, torch.arange(len(x)), levels, seed=EVALUATION_SEED, epoch=0) if options.get("binarize") else x
