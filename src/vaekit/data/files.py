"""The image files of a folder: which there are, their classes, and the split that sub-folders may give."""

import hashlib
import os
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from vaekit.data.decode import SUFFIXES
from vaekit.data.source import TEST, TRAIN, VALIDATION
from vaekit.errors import UserError

_SPLIT_FOLDERS = {
    "train": TRAIN, "training": TRAIN,
    "val": VALIDATION, "valid": VALIDATION, "validation": VALIDATION,
    "test": TEST, "testing": TEST,
}  # fmt: skip
UNLABELLED = ("unlabeled", "unlabelled")
"""Folders whose images have no class."""


@dataclass
class Listing:
    """What is in a folder. Paths are relative to it, with slashes."""

    images: list[str]
    """Sorted."""
    others: int = 0
    """Files that are no images."""
    notes: list[str] = field(default_factory=list)
    """What was passed over, and why."""


def list_images(folder: Path, limit: int | None = None) -> Listing:
    """The images below `folder`.

    Names are told by their suffix; hidden files and folders, and what a run of vaekit has written, are passed over. A folder that can be reached
    on several ways, by links, counts once, by its own name if it is below `folder` too. With `limit`, that many, chosen by a hash of their names.
    Raises `UserError` if there are none.
    """
    images, others, seen, runs = [], 0, set(), []
    shut: list[str] = []
    own, top = set(), os.path.realpath(folder)
    for place, folders, _ in os.walk(folder):
        own.add(os.path.realpath(place))
        folders[:] = _open(folders)
    for place, folders, names in os.walk(folder, followlinks=True, onerror=lambda error: shut.append(os.path.relpath(error.filename, folder))):
        real, base = os.path.realpath(place), os.path.relpath(place, folder)
        linked = real in own and real != os.path.normpath(os.path.join(top, base))
        if real in seen or linked or (base != "." and "run.json" in names):
            runs += [base] * (real not in seen and not linked)
            folders.clear()
            continue
        seen.add(real)
        folders[:] = _open(folders)
        for name in names:
            if name.startswith("."):
                continue
            if os.path.splitext(name)[1].lower() in SUFFIXES:
                images.append(name if base == "." else f"{base.replace(os.sep, '/')}/{name}")
            else:
                others += 1
    if not images:
        raise UserError(
            f"There are no images in {folder}: it should hold files that end in {', '.join(sorted(SUFFIXES))}, in it or in folders below it."
        )
    images.sort()
    if limit is not None and limit < len(images):
        images = sorted(sorted(images, key=_name_hash)[:limit])
    notes = [f"{_some(shut)} cannot be opened: what is in there is left out."] if shut else []
    notes += [f"{_some(runs)} {'are runs' if len(runs) > 1 else 'is a run'} of vaekit: the pictures in there are left out."] if runs else []
    return Listing(images, others, notes)


def _open(folders: list[str]) -> list[str]:
    return sorted(name for name in folders if not name.startswith(".") and name != "__MACOSX")


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def image_files(path: Path) -> list[Path]:
    """The image files of a folder and of those below it; of anything else, itself."""
    return [path / name for name in list_images(path).images] if path.is_dir() else [path]


def _name_hash(name: str) -> bytes:
    return hashlib.blake2b(os.fsencode(name), digest_size=8).digest()


def official_split(names: list[str]) -> tuple[np.ndarray | None, list[str]]:
    """The split that the top folders give ([n] int8, or None), and the names below them (or below the one folder that holds everything)."""
    parts = [name.split("/") for name in names]
    while all(len(p) > 1 for p in parts) and len({p[0] for p in parts}) == 1:
        parts = [p[1:] for p in parts]
    tops = {p[0].lower() if len(p) > 1 else "" for p in parts}
    chosen = {_SPLIT_FOLDERS.get(top) for top in tops - set(UNLABELLED)}
    alone = len(chosen) < 2 and tops.isdisjoint(UNLABELLED)
    if None in chosen and TRAIN in chosen and len(chosen) > 2:
        stray = next("/".join(p) for p in parts if _SPLIT_FOLDERS.get(p[0].lower() if len(p) > 1 else "") is None and p[0].lower() not in UNLABELLED)
        known = sorted({p[0] for p in parts if len(p) > 1 and p[0].lower() in _SPLIT_FOLDERS})
        raise UserError(
            f"The folders {', '.join(known)} are a split, and {stray} lies beside them: move it into one of them, or away. "
            "(If they are classes, give them other names.)"
        )
    if None in chosen or TRAIN not in chosen or alone:
        return None, ["/".join(p) for p in parts]
    # Images without labels beside the training images are training images too.
    split = np.array([_SPLIT_FOLDERS.get(p[0].lower(), TRAIN) for p in parts], np.int8)
    return split, ["/".join(p if p[0].lower() in UNLABELLED else p[1:]) for p in parts]


def classes_of(names: list[str]) -> tuple[tuple[str, ...], np.ndarray | None]:
    """Class names and labels [n] from the first folder of each name; images outside of any folder, or in one called unlabeled, have the label -1.

    ``((), None)`` if there are no classes.
    """
    tops = [name.split("/")[0] if "/" in name else None for name in names]
    folders = [None if top is None or top.lower() in UNLABELLED else top for top in tops]
    classes = tuple(sorted({f for f in folders if f is not None}))
    if not classes or (len(classes) == 1 and None not in folders):
        return (), None
    number = {name: i for i, name in enumerate(classes)}
    return classes, np.array([-1 if f is None else number[f] for f in folders], np.int64)
