"""The cache folder: where packs, scans, unpacked archives and downloads live, and how several processes share it."""

import contextlib
import errno
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vaekit.errors import UserError

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EROFS}


def cache_folder(*parts: str) -> Path:
    """The cache folder or a folder in it, made if it is not there: ``$VAEKIT_CACHE``, else ``$XDG_CACHE_HOME/vaekit``, else ``~/.cache/vaekit``."""
    chosen = os.environ.get("VAEKIT_CACHE")
    base = os.environ.get("XDG_CACHE_HOME")
    root = Path(chosen) if chosen else Path(base) / "vaekit" if base else Path.home() / ".cache" / "vaekit"
    folder = root.joinpath(*parts)
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextlib.contextmanager
def writing(place: Path) -> Iterator[None]:
    """Turns a full disk and a folder that may not be written into one sentence; other errors pass."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise UserError(
                f"The disk that holds {place} is full: free some space, or set VAEKIT_CACHE to a folder on a larger disk; "
                "then run the same command again."
            ) from error
        if error.errno in _FORBIDDEN:
            raise UserError(f"The cache folder {place} cannot be written: set VAEKIT_CACHE to a folder that can.") from error
        raise


@contextlib.contextmanager
def lock(path: Path) -> Iterator[None]:
    """Holds the lock file `path`; other processes wait. The system lets go of it when the holder dies, so no stale lock is left."""
    with writing(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = open(path, "a+b")  # noqa: SIM115 closed below, which lets go of the lock
    try:
        _hold(handle.fileno())
        yield
    finally:
        handle.close()


def _hold(descriptor: int) -> None:
    try:
        import fcntl
    except ImportError:  # Windows: waits ten seconds at a time
        import msvcrt

        while True:
            with contextlib.suppress(OSError):
                return msvcrt.locking(descriptor, msvcrt.LK_LOCK, 1)  # type: ignore[attr-defined]
    else:
        with contextlib.suppress(OSError):  # some network file systems have no locks
            fcntl.flock(descriptor, fcntl.LOCK_EX)


def write_atomically(path: Path, content: bytes) -> None:
    """Writes the file so that it is seen whole or not at all, whenever the process or the machine dies."""
    with writing(path.parent):
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with open(descriptor, "wb") as handle:
                handle.write(content)
                handle.flush()
                os.fsync(handle.fileno())
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise


def digest(*parts: Any) -> str:
    """32 hex digits of the parts: bytes as they are, anything else as JSON with sorted keys."""
    state = hashlib.blake2b(digest_size=16)
    for part in parts:
        content = part if isinstance(part, bytes | memoryview) else json.dumps(part, sort_keys=True).encode()
        state.update(len(content).to_bytes(8, "little"))
        state.update(content)
    return state.hexdigest()


def file_digest(path: Path) -> str:
    """32 hex digits of the file's content, remembered by its place, size and time of change."""
    status = path.stat()
    key = digest(str(path.resolve()), status.st_size, status.st_mtime_ns)
    memory = cache_folder("digests") / key
    if memory.is_file():
        known = memory.read_text()
        if len(known) == 32:
            return known
    state = hashlib.blake2b(digest_size=16)
    with open(path, "rb") as handle:
        while block := handle.read(1 << 22):
            state.update(block)
    write_atomically(memory, state.hexdigest().encode())
    return state.hexdigest()
