"""`open_data`: whatever the user names or holds becomes a `Dataset`."""

import os
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np

from vaekit.data import fashion, shapes
from vaekit.data.archive import ARCHIVES, is_archive, unpack
from vaekit.data.arrayfiles import holds_four, is_idx, read_four, read_idx_images, read_npy, read_npz
from vaekit.data.arrays import ArraySet, array_source, reshaped
from vaekit.data.dataset import Dataset
from vaekit.data.decode import SUFFIXES
from vaekit.data.folder import folder_source
from vaekit.data.labels import parse as parse_labels
from vaekit.data.missing import check_holes
from vaekit.data.missing import parse as parse_missing
from vaekit.data.objects import from_object
from vaekit.data.source import Source, limited
from vaekit.errors import UserError

BUILT_IN = {
    "digits": "1,797 handwritten digits, 8x8, 17 grey levels; comes with scikit-learn",
    "fashion-mnist": "70,000 grey images of clothes, 28x28, ten classes, with its official split",
    "shapes": "20,000 binary images 64x64 of a square, an ellipse or a heart, all factors known ('shapes:N' for N images)",
}
Progress = Callable[[int, int], Any] | None


def open_data(
    data: Any,
    *,
    size: Any = None,
    fit: str | None = None,
    channels: int | None = None,
    binarize: bool = False,
    condition: str | os.PathLike | None = None,
    limit: int | None = None,
    progress: Progress = None,
    validation_data: Any = None,
    missing: Any = None,
    labels: Any = None,
) -> Dataset:
    """Opens images for training.

    `data` is the name of a built-in set (also where a folder has it: ./NAME is the folder), a folder, a zip or tar of one, a .npy, .npz or IDX file,
    an array, a tensor, a torch data set, or (images, labels). `size` is H, (H, W), ``"H"`` or ``"HxW"``; `fit` crop, pad or stretch; `channels` 1
    to 4; what is None is chosen, and said in the notes. `condition` is ``"class"``, ``"attributes"`` or the path of a CSV file. `limit` takes that
    many images. `validation_data`, for arrays, is the validation split; then all of `data` is for training and nothing for testing.
    `missing` says which pixels are not observed (`Batch.mask`): ``"alpha"`` the transparent ones, ``"nan"`` those that are NaN, or a share that is
    hidden at random, the same pixels of an image at each use. `labels` is how many training images keep their label.
    `progress(done, total)` is called while files are read. Raises `UserError` for whatever cannot be used.
    """
    missing, labels = parse_missing(missing), parse_labels(labels)
    if limit is not None and limit < 2:
        raise UserError(f"--limit is the number of images to use, at least 2, and not {limit}.")
    source = open_source(
        data, size=size, fit=fit, channels=channels, limit=limit, progress=progress, validation_data=validation_data, missing=missing
    )
    told = None if condition is None else str(condition)
    dataset = Dataset(check_holes(source, missing), binarized=binarize, condition=told, progress=progress, missing=missing, labels=labels)
    dataset.source, dataset.limit, dataset.table = _named(data), limit, None if told in (None, "class", "attributes") else _named(told)
    if validation_data is not None:
        dataset.validation = _named(validation_data)
        # Without its validation images the set is another one, and would be split by content.
        dataset.source = dataset.source if dataset.validation else None
    return dataset


def _named(data: Any) -> str | None:
    """What opens the same data again from any working folder; None for what is only in memory."""
    if not isinstance(data, str | os.PathLike):
        return None
    name = os.fspath(data)
    if is_built_in(data):
        return name
    return str(Path(name).expanduser().resolve()) if os.path.exists(os.path.expanduser(name)) else name


def from_arrays(x: Any, y: Any = None, **options: Any) -> Dataset:
    """Images [N, H, W], [N, H, W, C] or [N, C, H, W] and labels [N] as a `Dataset`; options as for `open_data`."""
    return open_data(x if y is None else (x, y), **options)


def open_source(
    data: Any,
    *,
    size: Any = None,
    fit: Any = None,
    channels: Any = None,
    limit: int | None = None,
    progress: Progress = None,
    validation_data: Any = None,
    missing: str | float | None = None,
) -> Source:
    """The `Source` that `data` names or is; see `open_data`."""
    layout = {"size": size, "fit": fit, "channels": channels}
    if validation_data is not None:
        images = _joined(_as_arrays(data, size, fit), _as_arrays(validation_data, size, fit))
        return limited(array_source(images, missing=missing, **layout), limit)
    if not isinstance(data, str | os.PathLike):
        return limited(array_source(from_object(data, size, fit), missing=missing, **layout), limit)
    if is_built_in(data):
        source = limited(_built_in(data, layout, progress), limit)
        beside = [f"'{data}' is the built-in set; ./{data} opens what has this name in this folder."] if os.path.exists(data) else []
        return replace(source, notes=[*source.notes, *beside])
    name = os.fspath(data)
    path = Path(name).expanduser()
    if not path.exists():
        raise UserError(f"There is no '{name}': DATA is a folder, an archive, an array file, or one of {', '.join(BUILT_IN)}.")
    if path.is_dir() and not holds_four(path):
        return folder_source(path, _safe(path.resolve().name), [], limit=limit, progress=progress, missing=missing, **layout)
    if path.is_file() and is_archive(path):
        folder, notes = unpack(path)
        return folder_source(folder, _safe(path.name.partition(".")[0]), notes, limit=limit, progress=progress, missing=missing, **layout)
    return limited(array_source(_array_path(path), missing=missing, **layout), limit)


def is_built_in(data: Any) -> TypeGuard[str]:
    """Whether it names a built-in set. It does so also where a folder has the same name: ./NAME, or a `Path`, is the folder."""
    return isinstance(data, str) and data.partition(":")[0] in BUILT_IN


def _built_in(name: str, layout: dict[str, Any], progress: Progress) -> Source:
    base, _, argument = name.partition(":")
    if argument and base != "shapes":
        raise UserError(f"'{base}' takes no number: give it as it is.")
    if base == "shapes":
        if argument and not argument.isdigit():
            raise UserError(f"'{name}' is not understood: shapes:N takes N images.")
        return reshaped(shapes.source(int(argument) if argument else shapes.DEFAULT_COUNT), **layout)
    if base == "digits":
        return _digits(layout)
    images = fashion.load(progress)
    source = array_source(images, **layout)
    if source.shape == (1, 28, 28) and source.count == 70_000:
        source = replace(source, evaluation_bits=lambda: fashion.published_bits(images))
    return source


def _digits(layout: dict[str, Any]) -> Source:
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = ArraySet([bunch.images.astype(np.uint8)], "hw", name="digits", labels=bunch.target.astype(np.int64), classes=tuple("0123456789"))
    return reshaped(replace(array_source(images), levels=17, notes=["The pixels have 17 levels, 0..16."]), **layout)


def _array_path(path: Path) -> ArraySet:
    if path.is_dir():
        return replace(read_four(path, _safe(path.resolve().name)))
    suffix = path.suffix.lower()
    if suffix == ".npy":
        images = read_npy(path)
    elif suffix == ".npz":
        images = read_npz(path)
    elif is_idx(path):
        images = read_idx_images(path)
    elif suffix in SUFFIXES:
        raise UserError(f"{path} is a single image: name the folder that holds the images.")
    else:
        raise UserError(f"{path} is not a kind of file that is read: give a folder, {', '.join(ARCHIVES)}, .npy, .npz or an IDX file.")
    return replace(images, name=_safe(images.name or path.stem))


def _as_arrays(data: Any, size: Any, fit: Any) -> ArraySet:
    if not isinstance(data, str | os.PathLike):
        return from_object(data, size, fit)
    path = Path(data)
    if not path.exists() or (path.is_dir() and not holds_four(path)) or is_archive(path):
        raise UserError(f"validation_data goes with arrays; in the folder or archive {data}, use sub-folders train and validation.")
    return _array_path(path)


def _joined(train: ArraySet, validation: ArraySet) -> ArraySet:
    a, b = train.parts[0], validation.parts[0]
    if train.layout != validation.layout or a.shape[1:] != b.shape[1:] or a.dtype != b.dtype:
        raise UserError(f"Training and validation images differ: {list(a.shape)} {a.dtype} and {list(b.shape)} {b.dtype}.")
    split = np.repeat(np.array([0, 1], np.int8), [train.count, validation.count])
    notes = [*train.notes, f"The split is as given: {train.count} training and {validation.count} validation images, none for testing."]
    joined = ArraySet([*train.parts, *validation.parts], train.layout, name=train.name, split=split, carve=False, notes=notes)
    if train.labels is not None and validation.labels is not None:
        classes = tuple(sorted({*train.classes, *validation.classes}, key=lambda c: (not c.isdigit(), int(c) if c.isdigit() else 0, c)))
        ids = [np.array([classes.index(c) for c in part.classes] + [-1], np.int64)[part.labels] for part in (train, validation)]
        joined.labels, joined.classes = np.concatenate(ids), classes
    if train.attributes is not None and validation.attributes is not None and train.attribute_names == validation.attribute_names:
        joined.attributes, joined.attribute_names = np.concatenate([train.attributes, validation.attributes]), train.attribute_names
    return joined


def _safe(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.")[:60] or "images"
