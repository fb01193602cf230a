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
from vaekit.data.missing import without_alpha
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
    missing: str | float | None = None,
) -> Source:
    """The source of the image files below a folder; with `missing` "alpha" it tells which pixels are observed."""
    listing = list_images(folder, limit)
    entries = scan_files(folder, listing.images, progress)
    bad = [e for e in entries if e.error]
    good = [e for e in entries if not e.error]
    if missing == "alpha":
        channels = _alpha_beside(good, channels)
    plan = resolve(good, size=size, fit=fit, channels=channels)
    notes = [*notes, *listing.notes, *plan.notes]
    if bad:
        shown = "; ".join(f"{e.path}: {e.error}" for e in bad[:3]) + ("; and more" if len(bad) > 3 else "")
        notes.append(f"{len(bad)} of {len(entries)} files cannot be read and are left out ({shown}).")
    source = files_source(folder, name, good, plan, notes)
    return without_alpha(source) if missing == "alpha" else source


def _alpha_beside(entries: list[Entry], channels: Any) -> int:
    """The channels to read when the last one is to say what is missing: one more than the images are to have."""
    if not any(e.alpha for e in entries):
        raise UserError("--missing alpha needs images with transparent pixels, and in none of these is a pixel transparent: leave it out.")
    if channels not in (None, 1, 3):
        raise UserError(f"--missing alpha drops the alpha channel: --channels is 1 (grey) or 3 (RGB) with it, and not {channels!r}.")
    return (1 if all(e.grey for e in entries) else 3) + 1 if channels is None else int(channels) + 1


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
