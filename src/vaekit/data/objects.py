"""Images that the caller holds: arrays, tensors, torch data sets, lists."""

import os
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import Dataset as TorchDataset
from torch.utils.data import IterableDataset, TensorDataset

from vaekit.data import pack
from vaekit.data.arrays import ArraySet, guess_layout, understand_labels
from vaekit.data.cache import cache_folder, writing
from vaekit.data.decode import canonical, fit_image, on_white
from vaekit.data.policy import parse_size
from vaekit.errors import UserError


def from_object(data: Any, size: Any = None, fit: str | None = None) -> ArraySet:
    """An `ArraySet` of an array, a tensor, (images, labels), or a data set or list of images or (image, label); one of its own as it is.

    `size` is needed only for PIL images that differ in size. Raises `UserError` for anything else.
    """
    if isinstance(data, ArraySet):
        return data
    if isinstance(data, TensorDataset):
        data = data.tensors[0] if len(data.tensors) == 1 else (data.tensors[0], data.tensors[1])
    if isinstance(data, tuple) and len(data) == 2 and _is_array(data[0]):
        images = _array(data[0])
        if data[1] is not None:
            images.labels, images.classes = understand_labels(data[1], images.count)
        return images
    if _is_array(data):
        return _array(data)
    if isinstance(data, TorchDataset | list | tuple) or (hasattr(data, "__getitem__") and hasattr(data, "__len__")):
        return _collect(data, size, fit or "crop")
    raise UserError(f"A {type(data).__name__} is not a data set: give a path, an array, a tensor, a torch data set, or (images, labels).")


def _is_array(data: Any) -> bool:
    return isinstance(data, torch.Tensor | np.ndarray) or (hasattr(data, "__array__") and not isinstance(data, Image.Image))


def _to_numpy(data: Any) -> np.ndarray:
    if isinstance(data, torch.Tensor):
        data = data.detach().cpu()
        return (data.float() if data.dtype == torch.bfloat16 else data).numpy()
    return np.asarray(data)


def _array(data: Any) -> ArraySet:
    array = _to_numpy(data)
    return ArraySet([array], guess_layout(array.shape, isinstance(data, torch.Tensor)))


def _items(data: Any) -> Iterator[tuple[Any, Any]]:
    """(image, label or None), one by one."""
    walk = iter(data) if isinstance(data, IterableDataset) or not hasattr(data, "__len__") else (data[i] for i in range(len(data)))
    for item in walk:
        if isinstance(item, Mapping):
            image = next((item[k] for k in ("image", "img", "pixel_values", "x") if k in item), None)
            yield image, next((item[k] for k in ("label", "labels", "y") if k in item), None)
        elif isinstance(item, tuple | list) and len(item) and (_is_array(item[0]) or isinstance(item[0], Image.Image)):
            label = item[1] if len(item) > 1 else None
            yield item[0], label if label is None or isinstance(label, int | str | np.generic) or getattr(label, "ndim", 1) == 0 else None
        else:
            yield item, None


def _pixels(image: Any, size: tuple[int, int] | None, fit: str) -> tuple[np.ndarray, str]:
    """One item as an array, and its layout."""
    if isinstance(image, Image.Image):
        image = canonical(image)
        if image.mode in ("LA", "RGBA"):
            image = on_white(image)
        image = image.convert("L") if image.mode == "1" else image
        values = np.asarray(fit_image(image, size, fit, "black") if size else image)
        return values, "hw" if values.ndim == 2 else "hwc"
    if not _is_array(image):
        raise UserError(f"An item of the data set is a {type(image).__name__}, and not an image or (image, label).")
    values = _to_numpy(image)
    return values, guess_layout((1, *values.shape), isinstance(image, torch.Tensor))


def _collect(data: Any, size: Any, fit: str) -> ArraySet:
    wanted = parse_size(size)
    labels: list[Any] = []
    spool = _Spool()
    layout = ""
    try:
        for number, (image, label) in enumerate(_items(data)):
            values, found = _pixels(image, wanted, fit)
            if layout and (found != layout or values.shape != spool.shape or values.dtype != spool.dtype):
                raise UserError(
                    f"The images of the data set differ: the first is {list(spool.shape)} {spool.dtype}, "
                    f"number {number} is {list(values.shape)} {values.dtype}. "
                    "Give size= for PIL images, or bring them to one form."
                )
            layout = found
            spool.add(values)
            labels.append(label)
        array = spool.finish()
    except BaseException:
        spool.close()
        raise
    images = ArraySet([array], layout)
    if any(label is not None for label in labels):
        known = np.empty(len(labels), object)
        known[:] = [label.item() if hasattr(label, "item") else label for label in labels]
        images.labels, images.classes = understand_labels(known, images.count)
    return images


class _Spool:
    """Rows of one shape, gathered in memory, and in a file of the cache once they are many."""

    def __init__(self) -> None:
        self.rows: list[np.ndarray] = []
        self.count = 0
        self.file: Any = None
        self.kept = 0  # 1 once the first row stands for its shape and type only

    @property
    def shape(self) -> tuple[int, ...]:
        return self.rows[0].shape

    @property
    def dtype(self) -> np.dtype:
        return self.rows[0].dtype

    def add(self, row: np.ndarray) -> None:
        self.rows.append(np.array(row))
        self.count += 1
        if len(self.rows) * row.nbytes > pack.IN_MEMORY_BYTES:
            self._flush()

    def _flush(self) -> None:
        if self.file is None:
            folder = cache_folder("arrays")
            self.path = folder / f"spool-{os.getpid()}-{id(self):x}.bin"
            with writing(self.path):
                self.file = open(self.path, "wb")  # noqa: SIM115 filled row by row
        with writing(self.path):
            for row in self.rows[self.kept :]:
                self.file.write(row.tobytes())
        self.kept = 1
        del self.rows[1:]  # the first one tells shape and type; it is written already

    def finish(self) -> np.ndarray:
        if not self.count:
            raise UserError("The data set holds no images.")
        if self.file is None:
            return np.stack(self.rows)
        with writing(self.path):
            for row in self.rows[1:]:
                self.file.write(row.tobytes())
            self.file.close()
        array = np.memmap(self.path, self.dtype, "r", shape=(self.count, *self.shape))
        self.path.unlink()  # the mapping keeps the content for as long as it is used
        return array

    def close(self) -> None:
        if self.file is not None:
            self.file.close()
            self.path.unlink(missing_ok=True)
