"""Looking through image files: what can be read, sizes, modes, duplicates. What was found is remembered, so that a second look costs little."""

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from PIL import Image

from vaekit.data.cache import cache_folder, digest, lock, writing
from vaekit.data.decode import bands, is_grey, opened, quiet, reason
from vaekit.data.policy import Entry
from vaekit.errors import UserError

Progress = Callable[[int, int], Any] | None

VERSION = 1  # raise it when a scan would find something else
THREADS = max(1, min(4, os.cpu_count() or 1))
_CHUNK = 64


def scan_files(folder: Path, names: list[str], progress: Progress = None) -> list[Entry]:
    """One `Entry` per name, in their order; files that cannot be read carry the reason.

    Results are kept in the cache and hold as long as a file's size and time of change do. `progress(done, total)` is called now and then.
    Raises `UserError` if no file can be read.
    """
    memory = cache_folder("scans") / (digest(VERSION, os.fsencode(os.path.realpath(folder))) + ".jsonl")
    with lock(memory.with_suffix(".lock")):
        known = _recall(memory)
        found: dict[str, Entry] = {}
        missing = []
        for name in names:
            entry = known.get(name)
            # What could not be read may be readable now, though the file is the same: permissions, memory, a network.
            if entry is not None and not entry.error and (entry.bytes, entry.mtime_ns) == _status(folder / name):
                found[name] = entry
            else:
                missing.append(name)
        if missing:
            with writing(memory), open(memory, "a", encoding="ascii") as handle:
                for entry in _look(folder, missing, progress):
                    found[entry.path] = entry
                    if entry != known.get(entry.path):
                        handle.write(json.dumps(entry) + "\n")
    entries = [found[name] for name in names]
    if all(e.error for e in entries):
        raise UserError(f"None of the {len(entries)} image files in {folder} can be read; the first is {entries[0].path} ({entries[0].error}).")
    return entries


def _recall(memory: Path) -> dict[str, Entry]:
    known = {}
    if memory.is_file():
        torn = False
        with open(memory, "rb") as handle:
            for line in handle:
                torn = not line.endswith(b"\n")
                try:
                    entry = Entry(*json.loads(line))
                except (ValueError, TypeError):  # a line that was cut off by a crash
                    continue
                known[entry.path] = entry
        if torn:
            with writing(memory), open(memory, "ab") as end:
                end.write(b"\n")
    return known


def _status(path: Path) -> tuple[int, int]:
    try:
        status = os.stat(path)
    except OSError:
        return -1, -1
    return status.st_size, status.st_mtime_ns


def _look(folder: Path, names: list[str], progress: Progress) -> Iterator[Entry]:
    with ThreadPoolExecutor(THREADS) as pool:
        for start in range(0, len(names), _CHUNK):
            with quiet():
                found = list(pool.map(lambda name: look(folder, name), names[start : start + _CHUNK]))
            yield from found
            if progress:
                progress(min(start + _CHUNK, len(names)), len(names))


def look(folder: Path, name: str) -> Entry:
    """One file, decoded in full, since a file that is cut off shows it only then."""
    path = folder / name
    size, changed = _status(path)
    state = hashlib.blake2b(digest_size=16)
    try:
        if size == 0:
            raise ValueError("the file is empty")
        with open(path, "rb") as handle:
            while block := handle.read(1 << 20):
                state.update(block)
            handle.seek(0)
            with opened(handle) as (image, mode):
                found = _found(image, mode)
    except MemoryError:
        return Entry(name, size, changed, state.hexdigest(), error="too large for the memory")
    except Exception as error:  # decoders raise whatever they like
        return Entry(name, size, changed, state.hexdigest(), error=reason(error))
    return Entry(name, size, changed, state.hexdigest(), *found)


def _found(image: Image.Image, mode: str) -> tuple[str, int, int, str, int, bool, bool]:
    """The fields of an `Entry` from `pixels` to `grey`."""
    pixels = hashlib.blake2b(f"{image.mode} {image.size}".encode(), digest_size=16)
    for band in bands(image):
        pixels.update(band.tobytes())
    bits = {"1": 1, "I;16": 16}.get(image.mode, 8)
    return pixels.hexdigest(), *image.size, mode, bits, image.mode in ("LA", "RGBA"), is_grey(image)


def duplicates(entries: Iterable[Entry]) -> list[list[str]]:
    """Groups of two or more files whose decoded pixels are the same."""
    groups: dict[str, list[str]] = {}
    for entry in entries:
        if not entry.error:
            groups.setdefault(entry.pixels, []).append(entry.path)
    return [group for group in groups.values() if len(group) > 1]
