"""The packed store: every image decoded once, one after the other in one file, in native integers.

A pack is a folder of the cache. ``images.bin`` grows row by row; ``done`` says how many rows are surely on the disk; ``pack.json`` is
written last and says that the pack is whole. A process that is killed leaves a pack that the next one continues.
"""

import contextlib
import hashlib
import io
import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vaekit.data.cache import cache_folder, digest, lock, write_atomically, writing
from vaekit.data.source import Source
from vaekit.errors import UserError

VERSION = 1  # raise it when the same options would give other bytes
IN_MEMORY_BYTES = 512 * 2**20  # packs up to this size are read into memory
_CHUNK_BYTES = 4 * 2**20
_SYNC_SECONDS = 2.0

Progress = Callable[[int, int], Any] | None


class Store:
    """Rows of images, in memory or in a file. `gather` gives tensors: uint8, int32 (for 16 bits) or float32."""

    def __init__(self, rows: np.ndarray | None, path: Path | None = None, dtype: Any = None, shape: tuple[int, ...] = ()) -> None:
        """`rows` [n, C, H, W] in memory, or, where that is None, the file `path` of rows of `dtype` and `shape` [C, H, W]."""
        self._memory: torch.Tensor | None = None
        if rows is not None:
            dtype = rows.dtype
            view = rows.view(np.int16) if dtype == np.uint16 else rows  # torch cannot gather unsigned 16 bits
            self._memory = torch.from_numpy(view if view.flags.writeable and view.flags.c_contiguous else view.copy())
        else:
            assert path is not None
            self._path, self._shape = path, shape
            self._file = open(path, "rb", buffering=0)  # noqa: SIM115 open for as long as the store
            if hasattr(os, "posix_fadvise"):
                os.posix_fadvise(self._file.fileno(), 0, 0, os.POSIX_FADV_RANDOM)
        self.dtype = np.dtype(dtype)

    def gather(self, index: torch.Tensor) -> torch.Tensor:
        """Rows [B] (long) -> [B, C, H, W]."""
        rows = self._read(index.numpy()) if self._memory is None else self._memory.index_select(0, index)
        return rows.to(torch.int32) & 0xFFFF if self.dtype == np.uint16 else rows

    def _read(self, index: np.ndarray) -> torch.Tensor:
        # Read by position rather than through a mapping: the pages of a mapping count as memory of the process, and where the system keeps
        # the file in large pages, one small row maps megabytes. Besides, this is three times as fast.
        out = np.empty((len(index), *self._shape), self.dtype)
        if hasattr(os, "preadv"):
            descriptor, size = self._file.fileno(), out[:1].nbytes
            for row, place in zip(out.reshape(len(index), -1).view(np.uint8), (index * size).tolist(), strict=True):
                if os.preadv(descriptor, (row.data,), place) != size:
                    raise UserError(f"The packed images in {self._path} were changed while they were used: run the command again.")
        else:
            out[:] = np.memmap(self._path, self.dtype, "r").reshape(-1, *self._shape)[index]
        return torch.from_numpy(out.view(np.int16) if self.dtype == np.uint16 else out)


class Rows:
    """What is known of each row of a store: a digest of its bytes [n] uint64, and per channel the sum and the sum of squares [n, C]."""

    def __init__(self, digests: np.ndarray, sums: np.ndarray, squares: np.ndarray) -> None:
        self.digests, self.sums, self.squares = digests, sums, squares


def row_facts(values: np.ndarray) -> Rows:
    """`Rows` of values [n, C, H, W]."""
    digests = np.empty(len(values), np.uint64)
    for i, row in enumerate(values):
        digests[i] = int.from_bytes(hashlib.blake2b(row.data, digest_size=8).digest(), "little")
    flat = values.reshape(*values.shape[:2], -1).astype(np.float64)
    return Rows(digests, flat.sum(2), np.einsum("ncp,ncp->nc", flat, flat))


def _join(parts: list[Rows]) -> Rows:
    return Rows(*(np.concatenate([getattr(p, name) for p in parts]) for name in ("digests", "sums", "squares")))


def store(source: Source, progress: Progress = None) -> tuple[Store, Rows]:
    """The store of a source: in memory if it is small and quick to make, else a pack in the cache."""
    step = max(1, _CHUNK_BYTES // max(1, source.nbytes // source.count))
    if not source.on_disk and source.nbytes <= IN_MEMORY_BYTES:
        rows = np.ascontiguousarray(source.read(np.arange(source.count)))
        return Store(rows), _join([row_facts(rows[i : i + step]) for i in range(0, source.count, step)])
    folder = pack(source, progress)
    shape = (source.count, *source.shape)
    facts = np.load(folder / "rows.npz")
    described = Rows(facts["digests"], facts["sums"], facts["squares"])
    images = folder / "images.bin"
    if source.nbytes <= IN_MEMORY_BYTES:
        return Store(np.fromfile(images, source.dtype).reshape(shape)), described
    return Store(None, images, source.dtype, source.shape), described


def pack(source: Source, progress: Progress = None) -> Path:
    """The folder of the source's whole pack; built, or continued, if it is not there. Other processes that want it wait.

    Raises `UserError` if the disk is full; what was done by then is kept and continued by the next call.
    """
    description = {"version": VERSION, "key": source.key, "count": source.count, "shape": list(source.shape), "dtype": source.dtype.name}
    folder = cache_folder("packs") / f"{source.name[:40]}-{digest(description)[:20]}"
    if _whole(folder, source):
        return folder
    with lock(folder.with_name(folder.name + ".lock")):
        if not _whole(folder, source):
            with writing(folder):
                folder.mkdir(parents=True, exist_ok=True)
                (folder / "pack.json").unlink(missing_ok=True)
                _fill(folder, source, progress)
                _describe(folder, source)
            write_atomically(folder / "pack.json", json.dumps(description).encode())
    return folder


def _whole(folder: Path, source: Source) -> bool:
    try:
        return (folder / "pack.json").is_file() and (folder / "rows.npz").is_file() and (folder / "images.bin").stat().st_size == source.nbytes
    except OSError:
        return False


def _fill(folder: Path, source: Source, progress: Progress) -> None:
    row_bytes = source.nbytes // source.count
    done = _surely_done(folder, row_bytes)
    needed = source.nbytes - done * row_bytes
    if needed > shutil.disk_usage(folder).free:
        raise UserError(
            f"The packed images need {needed / 1e6:.0f} MB at {folder} and there is less: "
            "free some space, or set VAEKIT_CACHE to a folder on a larger disk."
        )
    step = max(1, min(512, _CHUNK_BYTES // row_bytes))
    with open(folder / "images.bin", "r+b" if done else "wb") as handle:
        handle.truncate(done * row_bytes)
        handle.seek(done * row_bytes)
        synced = time.monotonic()
        while done < source.count:
            rows = source.read(np.arange(done, min(done + step, source.count)))
            handle.write(np.ascontiguousarray(rows, source.dtype).data)
            done += len(rows)
            if time.monotonic() - synced > _SYNC_SECONDS or done == source.count:
                handle.flush()
                os.fsync(handle.fileno())
                write_atomically(folder / "done", str(done).encode())
                synced = time.monotonic()
            if progress:
                progress(done, source.count)


def _surely_done(folder: Path, row_bytes: int) -> int:
    with contextlib.suppress(OSError, ValueError):
        return min(int((folder / "done").read_text()), (folder / "images.bin").stat().st_size // row_bytes)
    return 0


def _describe(folder: Path, source: Source) -> None:
    row_bytes = source.nbytes // source.count
    step = max(1, _CHUNK_BYTES // row_bytes)
    parts = []
    with open(folder / "images.bin", "rb") as handle:
        while block := handle.read(step * row_bytes):
            parts.append(row_facts(np.frombuffer(block, source.dtype).reshape(-1, *source.shape)))
    facts = _join(parts)
    content = io.BytesIO()
    np.savez(content, digests=facts.digests, sums=facts.sums, squares=facts.squares)
    write_atomically(folder / "rows.npz", content.getvalue())
