"""Where an export goes."""

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vaekit.errors import UserError


def target(folder: str | Path) -> Path:
    """The folder to write, free of links. Nothing of it is left on disk.

    Raises `UserError` for what exists and is no empty folder, and where no folder can be made, so that this is known before the work and not after.
    """
    try:
        path = Path(folder).resolve()
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise UserError(f"{folder} exists: name a new or an empty folder.")
        place = path if path.exists() else next(p for p in path.parents if p.exists())
        # Permissions tell little of a disk that is full or read-only, or of what root may do: a trial tells all.
        with tempfile.TemporaryDirectory(dir=place, prefix=f".{path.name}."):
            pass
    except OSError as error:
        raise UserError(f"{folder} cannot be written ({error.strerror or error}): name a folder elsewhere.") from error
    return path


@contextmanager
def whole(folder: Path) -> Iterator[Path]:
    """A folder to fill, which becomes `folder` at the end: that is complete, or not there at all.

    Raises `UserError` where the disk is full.
    """
    there = folder.exists()  # it may be another disk's, or all that may be written to
    (folder if there else folder.parent).mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder if there else folder.parent, prefix=f".{folder.name}.") as place:
        made = Path(place) / "made"
        made.mkdir()
        try:
            yield made
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise UserError(f"The disk is full: nothing was written to {folder}. Free some space, or name a folder elsewhere.") from error
        if there:
            for item in made.iterdir():
                os.replace(item, folder / item.name)
        else:
            os.replace(made, folder)
