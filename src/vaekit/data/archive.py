"""Zip and tar archives: their images are unpacked into the cache, once for each content."""

import contextlib
import errno
import lzma
import os
import re
import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import IO, Any

from vaekit.data.cache import cache_folder, file_digest, lock, write_atomically, writing
from vaekit.data.decode import SUFFIXES
from vaekit.errors import UserError

ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
_WANTED = SUFFIXES | {".csv"}
_BROKEN = (zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, RuntimeError, NotImplementedError, ValueError)

Member = tuple[str, int, Callable[[], IO[bytes] | None]]


def is_archive(path: Path) -> bool:
    """Whether the file's name is that of an archive."""
    return path.name.lower().endswith(ARCHIVES)


def unpack(path: Path) -> tuple[Path, list[str]]:
    """The folder in the cache that holds the archive's images, and notes.

    Nothing is ever written outside of that folder: members that point elsewhere, links and devices are left out.
    Raises `UserError` for an archive that is damaged, encrypted or without images.
    """
    folder = cache_folder("archives") / file_digest(path)
    done = folder / "unpacked"
    with lock(folder.with_name(folder.name + ".lock")):
        if not done.is_file():
            shutil.rmtree(folder, ignore_errors=True)
            with writing(folder):
                (folder / "files").mkdir(parents=True)
                left_out = _extract(path, folder / "files")
            write_atomically(done, "\n".join(left_out).encode("utf-8", "surrogatepass"))
    left_out = [line for line in done.read_bytes().decode("utf-8", "surrogatepass").split("\n") if line]
    notes = []
    if left_out:
        shown = ", ".join(repr(name) for name in left_out[:3]) + (" and more" if len(left_out) > 3 else "")
        notes.append(f"{len(left_out)} members of the archive point outside of it or cannot be unpacked and are left out: {shown}.")
    return folder / "files", notes


def _extract(path: Path, folder: Path) -> list[str]:
    left_out, count = [], 0
    try:
        with _members(path) as members:
            for name, size, opened in members:
                if PurePosixPath(name).suffix.lower() not in _WANTED:
                    continue
                target = _inside(folder, name)
                if target is None:
                    left_out.append(name)
                    continue
                if size > shutil.disk_usage(folder).free:
                    raise UserError(
                        f"Unpacking {path.name} needs more space than is free at {folder}: "
                        "free some, or set VAEKIT_CACHE to a folder on a larger disk."
                    )
                stream = opened()
                if stream is None:
                    left_out.append(name)
                    continue
                try:
                    target.parent.mkdir(parents=True, exist_ok=True)
                    with stream, open(target, "wb") as handle:
                        shutil.copyfileobj(stream, handle, 1 << 20)
                    count += 1
                except OSError as error:
                    if error.errno != errno.ENAMETOOLONG:
                        raise
                    left_out.append(name)
    except UserError:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    except _BROKEN as error:
        shutil.rmtree(folder, ignore_errors=True)
        locked = "password" in str(error) or "encrypted" in str(error)
        why = "is encrypted: unpack it yourself and give the folder" if locked else f"is damaged ({error}): fetch or make it again"
        raise UserError(f"The archive {path} {why}.") from error
    except OSError:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    if not count:
        shutil.rmtree(folder, ignore_errors=True)
        raise UserError(f"The archive {path} holds no images ({', '.join(sorted(s[1:] for s in SUFFIXES))}).")
    return left_out


@contextlib.contextmanager
def _members(path: Path) -> Iterator[Iterator[Member]]:
    if path.name.lower().endswith(".zip"):
        with zipfile.ZipFile(path) as archive:
            yield _zip_members(archive)
    else:
        with tarfile.open(path) as tar:
            yield _tar_members(tar)


def _zip_members(archive: zipfile.ZipFile) -> Iterator[Member]:
    for info in archive.infolist():
        if not info.is_dir():
            link = (info.external_attr >> 16) & 0o170000 == 0o120000
            yield info.filename, info.file_size, _nothing if link else _opener(archive.open, info)


def _tar_members(tar: tarfile.TarFile) -> Iterator[Member]:
    for info in tar:
        if not info.isdir():
            yield info.name, info.size, _opener(tar.extractfile, info) if info.isreg() else _nothing


def _opener(opened: Callable[[Any], IO[bytes] | None], info: Any) -> Callable[[], IO[bytes] | None]:
    return lambda: opened(info)


def _nothing() -> None:
    return None


def _inside(folder: Path, name: str) -> Path | None:
    """Where a member goes, or None if its name leads out of `folder`."""
    parts = PurePosixPath(name.replace("\\", "/")).parts
    drive = bool(parts) and re.fullmatch("[A-Za-z]:", parts[0]) is not None
    if not parts or drive or any(part in ("..", "/") or "\0" in part or (os.name == "nt" and ":" in part) for part in parts):
        return None
    target = folder.joinpath(*parts)
    inside = os.path.realpath(target).startswith(os.path.realpath(folder) + os.sep)
    return target if inside else None
