"""Arrays in files: .npy, .npz and IDX."""

import gzip
import os
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from vaekit.data import pack
from vaekit.data.arrays import ArraySet, guess_layout, understand_labels
from vaekit.data.cache import cache_folder, file_digest, lock, writing
from vaekit.data.source import TEST, TRAIN, VALIDATION
from vaekit.errors import UserError

_IMAGES = ("images", "x", "x_train", "train_images", "imgs")
_LABELS = ("labels", "y", "y_train", "train_labels")
_LATER = {VALIDATION: ("x_val", "x_valid", "x_validation", "val_images"), TEST: ("x_test", "test_images")}
_IDX_TYPES = {8: ">u1", 9: ">i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}
_BROKEN = (ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error, KeyError)


def is_idx(path: Path) -> bool:
    """Whether the file's name is that of IDX data, e.g. ``train-images-idx3-ubyte.gz``."""
    name = path.name.lower().removesuffix(".gz")
    return name.endswith(".idx") or "-idx" in name or ".idx" in name


def read_npy(path: Path) -> ArraySet:
    """A .npy file of images, mapped and not read."""
    array = _load_npy(path)
    return ArraySet([array], guess_layout(array.shape), name=path.stem, key=file_digest(path))


def _load_npy(path: Path) -> np.ndarray:
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except _BROKEN as error:
        raise UserError(f"{path} is not an array that can be read ({error}): save it with numpy.save, as numbers and not as objects.") from error


def read_npz(path: Path) -> ArraySet:
    """A .npz file: images under `images`, `x` or `x_train` (or the only array of 3 or 4 axes), `labels`, `classes`, `attributes`.

    `x_val` and `x_test` beside `x_train` give an official split. A large array is unpacked into the cache and mapped.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            headers = {key: None for key in file.files}
            big = {info.filename.removesuffix(".npy") for info in file.zip.infolist() if info.file_size > pack.IN_MEMORY_BYTES}
            arrays = {key: file[key] for key in headers if key not in big}
        arrays |= {key: _load_npy(_unpacked(path, key)) for key in big}
    except _BROKEN as error:
        raise UserError(f"{path} cannot be read ({error}): save it with numpy.savez, as numbers and not as objects.") from error
    key = _find_images(path, arrays)
    parts, splits = [arrays[key]], [np.full(len(arrays[key]), TRAIN, np.int8)]
    suffixes = {part: next((k for k in names if k in arrays), None) for part, names in _LATER.items()} if "train" in key else {}
    label_keys = [next((k for k in _LABELS if k in arrays), None)]
    for part, name in suffixes.items():
        if name is not None:
            parts.append(arrays[name])
            splits.append(np.full(len(arrays[name]), part, np.int8))
            label_keys.append(name.replace("x_", "y_").replace("_images", "_labels"))
    if any(p.shape[1:] != parts[0].shape[1:] or p.dtype != parts[0].dtype for p in parts):
        raise UserError(f"The arrays of {path} differ in shape or type: {', '.join(str(list(p.shape)) for p in parts)}.")
    images = ArraySet(
        parts, guess_layout(parts[0].shape), name=path.stem, key=file_digest(path), split=np.concatenate(splits) if len(parts) > 1 else None
    )
    if all(k is not None and k in arrays for k in label_keys):
        labels = np.concatenate([arrays[str(k)].reshape(len(arrays[str(k)]), -1) for k in label_keys])
        names = tuple(str(c) for c in arrays["classes"]) if "classes" in arrays else ()
        images.labels, images.classes = understand_labels(labels[:, 0] if labels.shape[1] == 1 else labels, images.count, names)
    if "attributes" in arrays:
        _add_attributes(images, arrays)
    return images


def _find_images(path: Path, arrays: dict[str, np.ndarray]) -> str:
    for key in _IMAGES:
        if key in arrays:
            return key
    candidates = [key for key, a in arrays.items() if a.ndim in (3, 4)]
    if len(candidates) != 1:
        raise UserError(f"{path} holds {', '.join(arrays) or 'nothing'}: name the images 'images' (and their classes 'labels').")
    return candidates[0]


def _add_attributes(images: ArraySet, arrays: dict[str, np.ndarray]) -> None:
    table = arrays["attributes"]
    if table.ndim != 2 or len(table) != images.count or table.dtype.kind not in "iufb":
        raise UserError(f"'attributes' is a table of numbers, one row per image, [{images.count}, F], and not {list(table.shape)}.")
    images.attributes = table.astype(np.float32)
    names = arrays.get("attribute_names")
    images.attribute_names = (
        tuple(str(n) for n in names)
        if names is not None and len(names) == table.shape[1]
        else tuple(f"attribute {i + 1}" for i in range(table.shape[1]))
    )


def _unpacked(path: Path, key: str) -> Path:
    target = cache_folder("arrays") / f"{file_digest(path)}-{''.join(c if c.isalnum() else '_' for c in key)}.npy"
    with lock(target.with_suffix(".lock")), writing(target):
        if not target.is_file():
            with zipfile.ZipFile(path) as archive, archive.open(f"{key}.npy") as stream:
                _spool(stream, target)
    return target


def _spool(stream: Any, target: Path) -> None:
    temporary = target.with_suffix(".part")
    with open(temporary, "wb") as handle:
        while block := stream.read(1 << 22):
            handle.write(block)
        handle.flush()
        os.fsync(handle.fileno())
    os.replace(temporary, target)


def read_idx(path: Path) -> np.ndarray:
    """The array of an IDX file, also gzipped. Raises `UserError` if its header or its length is wrong."""
    try:
        if path.name.lower().endswith(".gz"):
            with gzip.open(path, "rb") as handle:
                head = handle.read(4)
                dtype, ndim = _idx_head(head)
                shape = tuple(int(n) for n in np.frombuffer(handle.read(4 * ndim), ">u4"))
                body: Any = handle.read()
            array = np.frombuffer(body, dtype)
        else:
            with open(path, "rb") as handle:
                dtype, ndim = _idx_head(handle.read(4))
                shape = tuple(int(n) for n in np.frombuffer(handle.read(4 * ndim), ">u4"))
            array = np.memmap(path, dtype, "r", offset=4 + 4 * ndim)
        if array.size != int(np.prod(shape)):
            raise ValueError(f"its header says {list(shape)}, and it holds {array.size} values")
    except (*_BROKEN, IndexError) as error:
        raise UserError(f"{path} is not a whole IDX file ({error}): fetch it again.") from error
    return array.reshape(shape)


def _idx_head(head: bytes) -> tuple[np.dtype, int]:
    if len(head) < 4 or head[:2] != b"\0\0" or head[2] not in _IDX_TYPES:
        raise ValueError("it does not begin as one")
    return np.dtype(_IDX_TYPES[head[2]]), head[3]


def read_idx_images(path: Path) -> ArraySet:
    """An IDX file of images, with the labels that lie beside it (``images-idx3`` -> ``labels-idx1``)."""
    array = read_idx(path)
    name = path.name.split("-idx")[0].split(".idx")[0]
    images = ArraySet([array], guess_layout(array.shape), name=name, key=file_digest(path))
    beside = (
        find_idx(path.parent, path.name.replace("images", "labels").replace("idx3", "idx1").removesuffix(".gz")) if "images" in path.name else None
    )
    if beside is not None:
        images.labels, images.classes = understand_labels(read_idx(beside), images.count)
    return images


def find_idx(folder: Path, name: str) -> Path | None:
    """The file `name` of the folder, plain or gzipped, also with ``.idx`` for ``-idx``."""
    for candidate in (name, f"{name}.gz", name.replace("-idx", ".idx"), name.replace("-idx", ".idx") + ".gz"):
        if (folder / candidate).is_file():
            return folder / candidate
    return None


FOUR = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


def holds_four(folder: Path) -> bool:
    """Whether the folder holds the four files of an MNIST-like set."""
    return all(find_idx(folder, name) for name in FOUR)


def read_four(folder: Path, name: str, classes: tuple[str, ...] = ()) -> ArraySet:
    """An MNIST-like set: the last images of the training file, as many as the test file has (at most a sixth), are for validation."""
    paths = [find_idx(folder, file) for file in FOUR]
    x, y, x_test, y_test = (read_idx(p) for p in paths if p is not None)
    held_out = min(len(x_test), len(x) // 6)
    split = np.full(len(x) + len(x_test), TRAIN, np.int8)
    split[len(x) - held_out : len(x)] = VALIDATION
    split[len(x) :] = TEST
    # the content, and not the files: the same images are packed by gzip in more than one way
    images = ArraySet([x, x_test], guess_layout(x.shape), name=name, split=split)
    images.labels, images.classes = understand_labels(np.concatenate([y, y_test]), images.count, classes)
    images.notes.append(
        f"The official split is kept: {len(x) - held_out} training, {held_out} validation (the last of the training file) "
        f"and {len(x_test)} test images."
    )
    return images
