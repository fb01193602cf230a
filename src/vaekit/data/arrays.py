"""Arrays as images: which axis is what, what the values mean, labels, size and channels."""

import hashlib
import math
import mmap
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from PIL import Image

from vaekit.data.cache import digest
from vaekit.data.decode import fit_image
from vaekit.data.missing import opaque
from vaekit.data.policy import check_fit, parse_size
from vaekit.data.source import Source
from vaekit.errors import UserError

_BLOCK_BYTES = 16 * 2**20


@dataclass
class ArraySet:
    """Arrays that hold the images one after the other (`parts`, all of one layout: hw, hwc or chw), and what comes with them."""

    parts: list[np.ndarray]
    layout: str
    name: str | None = None
    key: str | None = None
    labels: np.ndarray | None = None
    classes: tuple[str, ...] = ()
    attributes: np.ndarray | None = None
    attribute_names: tuple[str, ...] = ()
    split: np.ndarray | None = None
    carve: bool = True
    notes: list[str] = field(default_factory=list)

    @property
    def count(self) -> int:
        return sum(len(p) for p in self.parts)

    def take(self, rows: np.ndarray) -> np.ndarray:
        """Rows [K] as they are in the arrays."""
        if len(self.parts) == 1:
            taken = np.asarray(self.parts[0][rows])  # a copy, since `rows` is an array
            _let_go(self.parts[0])
            return taken
        ends = np.cumsum([len(p) for p in self.parts])
        part = np.searchsorted(ends, rows, side="right")
        out = np.empty((len(rows), *self.parts[0].shape[1:]), self.parts[0].dtype)
        for i, array in enumerate(self.parts):
            here = part == i
            if here.any():
                out[here] = array[rows[here] - (ends[i] - len(array))]
                _let_go(array)
        return out

    def blocks(self) -> Any:
        """All rows, some megabytes at a time."""
        for array in self.parts:
            step = max(1, _BLOCK_BYTES // max(1, array.itemsize * int(np.prod(array.shape[1:]))))
            for start in range(0, len(array), step):
                yield np.asarray(array[start : start + step])
                _let_go(array)

    def digest(self) -> str:
        """32 hex digits of all values and their type."""
        state = hashlib.blake2b(str(self.parts[0].dtype).encode(), digest_size=16)
        for block in self.blocks():
            state.update(np.ascontiguousarray(block).reshape(-1).view(np.uint8).data)
        return state.hexdigest()


def _let_go(array: np.ndarray) -> None:
    """Gives back the pages of a mapped file that were touched: they count as memory of the process."""
    mapping = getattr(array, "_mmap", None)
    if mapping is not None and hasattr(mmap, "MADV_DONTNEED"):
        mapping.madvise(mmap.MADV_DONTNEED)


def guess_layout(shape: tuple[int, ...], channels_first: bool = False) -> str:
    """``hw``, ``hwc`` or ``chw`` for arrays of the shape [N, ...]. Raises `UserError` where the channel axis cannot be told."""
    if len(shape) == 3:
        return "hw"
    if len(shape) != 4:
        raise UserError(f"An array of images has the shape [N, H, W], [N, H, W, C] or [N, C, H, W], and not {list(shape)}: reshape it.")
    if channels_first:
        return "chw"
    first, last = shape[1] <= 4, shape[3] <= 4
    if first and last:
        raise UserError(
            f"The array {list(shape)} may be [N, C, H, W] or [N, H, W, C]: "
            "give it to vaekit.fit in Python as a torch tensor, which is always [N, C, H, W]."
        )
    if not first and not last:
        raise UserError(
            f"The array {list(shape)} has no axis of 1 to 4 channels: if it has more, give it to vaekit.fit in Python as a torch tensor [N, C, H, W]."
        )
    return "chw" if first else "hwc"


@dataclass
class Values:
    """What the values of an array are, and how a block of them becomes `dtype`."""

    dtype: np.dtype
    levels: int | None
    convert: Callable[[np.ndarray], np.ndarray]
    note: str


def understand(images: ArraySet, holes: bool = False) -> Values:
    """Looks through all values. Raises `UserError` for NaN (which `holes` passes over), infinity, and numbers that are no pixels."""
    dtype = images.parts[0].dtype
    if dtype == np.bool_:
        return Values(np.dtype(np.uint8), 2, lambda v: v.astype(np.uint8), "The values are true or false: binary pixels.")
    if np.issubdtype(dtype, np.integer):
        return _whole_numbers(images, dtype)
    if np.issubdtype(dtype, np.floating):
        return _real_numbers(images, holes)
    raise UserError(f"An array of type {dtype} holds no images: give whole numbers, floats or booleans.")


def _whole_numbers(images: ArraySet, dtype: np.dtype) -> Values:
    ranges = [(int(block.min()), int(block.max())) for block in images.blocks()]
    low, high = min(r[0] for r in ranges), max(r[1] for r in ranges)
    if low < 0 or high > 65535:
        raise UserError(
            f"The whole numbers in the array reach from {low} to {high}, and pixels are 0..255 or 0..65535: shift or scale them, or give floats."
        )
    if high <= 1:
        return Values(np.dtype(np.uint8), 2, lambda v: v.astype(np.uint8), "The values are 0 and 1: binary pixels.")
    if high > 255 or dtype == np.uint16:
        return Values(np.dtype(np.uint16), 65536, lambda v: v.astype(np.uint16), "The values are taken as 16-bit pixels (65536 levels).")
    return Values(np.dtype(np.uint8), 256, lambda v: v.astype(np.uint8), "The values are taken as 8-bit pixels (256 levels).")


def _real_numbers(images: ArraySet, holes: bool) -> Values:
    eighths = binary = whole = True
    low, high = np.inf, -np.inf
    for block in images.blocks():
        if holes:
            block = block[~np.isnan(block)]
            if not block.size:
                continue
        if not np.isfinite(block).all():
            nan = "" if holes else " If NaN stands for missing pixels, say --missing nan."
            raise UserError(f"The array holds values that are not numbers or are infinite (NaN, inf): remove or replace them.{nan}")
        low, high = min(low, float(block.min())), max(high, float(block.max()))
        binary = binary and bool(((block == 0) | (block == 1)).all())
        eighths = eighths and low >= 0 and high <= 1 and _is_eight_bits(block)
        whole = whole and not eighths and bool((block == np.rint(block)).all())
    if low > high:
        raise UserError("The array holds nothing but NaN: there is nothing to learn from.")
    if binary:
        return Values(np.dtype(np.uint8), 2, lambda v: v.astype(np.uint8), "The floats are all 0 or 1: binary pixels.")
    if eighths:
        note = "The floats are all k/255: they are taken as 8-bit pixels (256 levels), and the model takes and gives those, 0 to 255."
        return Values(np.dtype(np.uint8), 256, lambda v: np.rint(v.astype(np.float64) * 255).astype(np.uint8), note)
    note = f"The floats, from {low:.4g} to {high:.4g}, are taken as continuous values."
    if whole and low >= 0 and high <= 65535:
        note += " They are all whole numbers: if they are pixels, give them as uint8 or uint16."
    return Values(np.dtype(np.float32), None, lambda v: v.astype(np.float32), note)


def _is_eight_bits(block: np.ndarray) -> bool:
    # to the rounding of the array's own type: v * (1/255) and v / 255 differ by that much
    real = block.astype(np.float64) * 255
    return bool((np.abs(real - np.rint(real)) <= 510 * np.finfo(block.dtype).eps).all()) and block.dtype != np.float16


def _is_known(label: Any) -> bool:
    """Whether it is neither None nor NaN, which is not itself, nor another library's word for them."""
    try:
        return label is not None and bool(label == label)
    except (TypeError, ValueError):
        return isinstance(label, np.ndarray)


def understand_labels(y: Any, count: int, names: tuple[str, ...] = ()) -> tuple[np.ndarray, tuple[str, ...]]:
    """Labels [N] (whole numbers, negative ones unknown, or strings) -> ids [N] int64 (-1 unknown) and class names."""
    values = np.asarray(y.detach().cpu() if hasattr(y, "detach") else y)
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim != 1 or len(values) != count:
        raise UserError(f"Labels are one per image, [{count}], and not {list(values.shape)}.")
    if values.dtype.kind in "OSU":
        known = np.array([_is_known(v) for v in values], bool)
        if known.any() and all(isinstance(v, int | float | np.number | np.bool_) for v in values[known]):  # numbers with holes
            numbers = [float(v) if there else math.nan for v, there in zip(values, known, strict=True)]
            return understand_labels(np.array(numbers), count, names)
        if any(isinstance(v, list | tuple | dict | np.ndarray) for v in values[known]):
            raise UserError("Labels are one per image, a whole number or a string, and these are lists.")
        text = np.array([v.decode() if isinstance(v, bytes) else str(v) for v in values[known]])
        found, ids = np.unique(text, return_inverse=True)
        every = np.full(count, -1, np.int64)
        every[known] = ids.reshape(-1)
        return every, tuple(str(v) for v in found)
    if values.dtype.kind == "f":
        known = np.isfinite(values)
        if (values[known] != np.rint(values[known])).any():
            raise UserError("Labels are whole numbers or strings, and these are fractions: attributes are given as a table (condition=FILE.csv).")
        values = np.where(known, values, -1)
    elif values.dtype.kind not in "iub":
        raise UserError(f"Labels are whole numbers or strings, and not of type {values.dtype}.")
    values = values.astype(np.int64)
    if names and values.max() < len(names):
        return np.maximum(values, -1), names
    found = np.unique(values[values >= 0])
    ids = np.where(values >= 0, np.searchsorted(found, values), -1)
    return ids, tuple(str(v) for v in found)


def array_source(images: ArraySet, *, size: Any = None, fit: Any = None, channels: Any = None, missing: str | float | None = None) -> Source:
    """The source of arrays. They keep their size and channels unless others are asked for. Raises `UserError` for what holds no images.

    With `missing` "nan" or "alpha" the source tells which values are observed.
    """
    check_fit(fit)
    if not images.count or 0 in images.parts[0].shape:
        raise UserError("The array holds no images.")
    holes = missing == "nan" and images.parts[0].dtype.kind == "f"
    values = understand(images, holes)
    shape = images.parts[0].shape
    height, width = (shape[1], shape[2]) if images.layout != "chw" else (shape[2], shape[3])
    stored = 1 if images.layout == "hw" else shape[3] if images.layout == "hwc" else shape[1]
    height_width = parse_size(size) or (height, width)
    clear = missing == "alpha" and stored in (2, 4)
    stored -= clear
    channels = stored if channels is None else channels
    _check_channels(stored, channels)
    notes = [*images.notes, values.note]
    if holes:
        notes.append(
            "Values that are NaN count as missing; where the images are shown, and to a network that is not told, they are their channel's mean."
        )
    if clear:
        notes.append("Pixels that are more transparent than opaque count as missing; the alpha channel itself is dropped.")
    if height_width != (height, width):
        notes.append(f"The images are brought from {height}x{width} to {height_width[0]}x{height_width[1]} (height x width).")
    fit = fit or "crop"

    def taken(rows: np.ndarray) -> np.ndarray:
        block = images.take(rows)
        return block[:, None] if images.layout == "hw" else block.transpose(0, 3, 1, 2) if images.layout == "hwc" else block

    def read(rows: np.ndarray) -> np.ndarray:
        block = set_channels(values.convert(taken(rows)), channels, values.levels)
        return np.ascontiguousarray(resize(block, height_width, fit, values.levels))

    def with_holes(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        block = taken(rows)
        if holes:
            seen = ~np.isnan(block)
            block = values.convert(np.where(seen, block, 0))
        else:
            block = values.convert(block)
            seen = np.broadcast_to(opaque(block[:, stored:], values.levels), block[:, :stored].shape)
            block = block[:, :stored]
        if channels != stored:
            # grey of three channels is observed where all of them are
            seen = np.repeat(seen.all(1, keepdims=True), channels, axis=1)
        return resize_observed(set_channels(block, channels, values.levels), seen, height_width, fit, values.levels)

    content = images.key or images.digest()
    key = digest(content, images.layout, [int(n) for n in shape[1:]], list(height_width), fit, channels, *([missing] if holes or clear else []))
    return Source(
        name=images.name or f"array-{content[:8]}",
        key=key,
        shape=(int(channels), *height_width),
        dtype=values.dtype,
        levels=values.levels,
        count=images.count,
        read=(lambda rows: with_holes(rows)[0]) if holes or clear else read,
        observed=(lambda rows: with_holes(rows)[1]) if holes or clear else None,
        labels=images.labels,
        classes=images.classes,
        attributes=images.attributes,
        attribute_names=images.attribute_names,
        split=images.split,
        carve=images.carve,
        notes=notes,
        fit=fit,
    )


def reshaped(source: Source, *, size: Any = None, fit: Any = None, channels: Any = None) -> Source:
    """The source at another size or with other channels."""
    check_fit(fit)
    target, channels, fit = parse_size(size) or source.shape[1:], channels or source.shape[0], fit or "crop"
    _check_channels(source.shape[0], channels)
    if (channels, *target) == source.shape:
        return source
    return replace(
        source,
        key=digest(source.key, list(target), fit, channels),
        shape=(channels, *target),
        fit=fit,
        read=lambda rows: np.ascontiguousarray(resize(set_channels(source.read(rows), channels, source.levels), target, fit, source.levels)),
    )


def _check_channels(stored: int, wanted: Any) -> None:
    allowed = {stored} | ({1, 3} if stored in (1, 3) else {stored - 1} if stored in (2, 4) else set())
    if wanted not in allowed:
        raise UserError(f"Images of {stored} channels cannot be given {wanted!r} channels: choose {' or '.join(str(c) for c in sorted(allowed))}.")


def set_channels(block: np.ndarray, channels: int, levels: int | None) -> np.ndarray:
    """[K, C, H, W] with `channels` channels: grey by luma, grey repeated, or alpha shown on white."""
    stored = block.shape[1]
    if stored == channels:
        return block
    if channels == 3 and stored == 1:
        return np.repeat(block, 3, axis=1)
    real = block.astype(np.float64)
    if stored == 3:
        real = np.einsum("kchw,c->khw", real, np.array([0.299, 0.587, 0.114]))[:, None]
    else:
        top = 1.0 if levels is None else levels - 1.0
        alpha = real[:, -1:] / top
        real = real[:, :-1] * alpha + top * (1 - alpha)
    return (real if levels is None else np.rint(real)).astype(block.dtype)


def resize(block: np.ndarray, size: tuple[int, int], fit: str, levels: int | None) -> np.ndarray:
    """[K, C, h, w] -> [K, C, *size], antialiased, within the levels; a border is zero."""
    if block.shape[2:] == tuple(size):
        return block
    out = np.empty((*block.shape[:2], *size), block.dtype)
    for k, image in enumerate(block):
        for c, plane in enumerate(image):
            real = np.asarray(fit_image(Image.fromarray(plane.astype(np.float32)), size, fit, "black"))
            out[k, c] = real if levels is None else np.clip(np.rint(real), 0, levels - 1)
    return out


def resize_observed(block: np.ndarray, seen: np.ndarray, size: tuple[int, int], fit: str, levels: int | None) -> tuple[np.ndarray, np.ndarray]:
    """[K, C, h, w] and what of it is observed -> the same at `size`: a new value is made of observed ones alone, and is missing where those have less
    than half of the weight (as a border has). What is missing is 0."""
    if block.shape[2:] != tuple(size):
        weight = resize(seen.astype(np.float32), size, fit, None)
        real = resize(np.where(seen, block, 0).astype(np.float32), size, fit, None) / np.maximum(weight, 0.5)
        seen = weight >= 0.5
        block = (real if levels is None else np.clip(np.rint(real), 0, levels - 1)).astype(block.dtype)
    return np.ascontiguousarray(np.where(seen, block, 0).astype(block.dtype)), np.ascontiguousarray(seen)
