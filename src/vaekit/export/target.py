"""Where an export goes."""

import tempfile
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
        above = next(p for p in path.parents if p.exists())
        # Permissions tell little of a disk that is full or read-only, or of what root may do: a trial tells all.
        with tempfile.TemporaryDirectory(dir=above, prefix=f".{path.name}."):
            pass
    except OSError as error:
        raise UserError(f"{folder} cannot be written ({error.strerror or error}): name a folder elsewhere.") from error
    return path
