"""What size, fit, channels and levels a set of image files is given, and why, in sentences."""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from vaekit.data.decode import FITS
from vaekit.errors import UserError

NATIVE_LIMIT = 128  # longest side, in pixels, up to which images of one size keep it
DEFAULT_SIDE = 64


class Entry(NamedTuple):
    """What a scan knows of one file."""

    path: str
    """Relative to the folder, with slashes."""
    bytes: int
    mtime_ns: int
    digest: str = ""
    """Of the file's content."""
    pixels: str = ""
    """Digest of the decoded pixels."""
    width: int = 0
    height: int = 0
    mode: str = ""
    """As stored in the file, e.g. ``P``."""
    bits: int = 8
    """1, 8 or 16 per channel."""
    alpha: bool = False
    """Some pixel is not opaque."""
    grey: bool = False
    """No pixel has a colour."""
    error: str = ""
    """Why it cannot be read; empty if it can."""


@dataclass(frozen=True)
class Plan:
    """How each file becomes an array; see `to_array`."""

    size: tuple[int, int]
    fit: str
    channels: int
    levels: int
    fill: str
    notes: tuple[str, ...] = field(default=(), compare=False)

    def options(self) -> dict[str, Any]:
        """The plan as JSON."""
        return {"size": list(self.size), "fit": self.fit, "channels": self.channels, "levels": self.levels, "fill": self.fill}


def parse_size(size: Any) -> tuple[int, int] | None:
    """(height, width) of ``64``, ``"64"``, ``"48x64"`` or ``(48, 64)``. Raises `UserError` for anything else."""
    if size is None:
        return None
    try:
        parts = size.lower().split("x") if isinstance(size, str) else [size] if isinstance(size, int) else list(size)
        numbers = [int(p) for p in parts]
        height, width = numbers * 2 if len(numbers) == 1 else numbers
    except (TypeError, ValueError, AttributeError):
        raise UserError(f"The size {size!r} is not understood: give one number, as 64, or height x width, as 48x64.") from None
    if not (1 <= height <= 8192 and 1 <= width <= 8192):
        raise UserError(f"The size {height}x{width} is out of range: each side is from 1 to 8192 pixels.")
    return height, width


def check_fit(fit: Any) -> None:
    """Raises `UserError` unless `fit` is None or one of crop, pad, stretch."""
    if fit is not None and fit not in FITS:
        raise UserError(f"The fit {fit!r} is not known: choose crop, pad or stretch.")


def resolve(entries: list[Entry], *, size: Any = None, fit: Any = None, channels: Any = None) -> Plan:
    """The plan for readable `entries` (at least one); what is None is chosen, and each choice is told in a note."""
    check_fit(fit)
    wanted = parse_size(size)
    sides = np.array([(e.height, e.width) for e in entries])
    notes: list[str] = []
    chosen = wanted or _choose_size(sides, notes)
    resized = int((sides != chosen).any(1).sum())
    transparent = sum(e.alpha for e in entries)
    fit, fill = _choose_fit(sides, chosen, fit, transparent * 2 > len(entries), resized, notes)
    channels, levels = _choose_values(entries, channels, transparent, notes)
    scale = np.array(chosen) / sides
    enlarged = int(((scale.min(1) if fit == "pad" else scale.max(1)) > 1).sum()) if resized else 0
    if enlarged:
        notes.append(f"{_of(enlarged, len(entries))} smaller than {chosen[0]}x{chosen[1]} and will be enlarged.")
    return Plan(chosen, fit, channels, levels, fill, tuple(notes))


def _of(count: int, total: int) -> str:
    if count == total:
        return "All images are" if total > 1 else "The image is"
    return f"{count} of {total} images {'is' if count == 1 else 'are'}"


def _choose_size(sides: np.ndarray, notes: list[str]) -> tuple[int, int]:
    height, width = (int(v) for v in sides[0])
    if (sides == sides[0]).all() and max(height, width) <= NATIVE_LIMIT:
        notes.append(f"All images are {height}x{width} (height x width) and keep that size.")
        return height, width
    long = min(DEFAULT_SIDE, -(-int(sides.max()) // 4) * 4)
    ratio = sides[:, 1] / sides[:, 0]
    middle = float(np.median(ratio))
    agree = (np.abs(ratio / middle - 1) <= 0.05).all()
    if agree and abs(middle - 1) > 0.05:
        short = max(4, 4 * round(long * min(middle, 1 / middle) / 4))
        chosen = (short, long) if middle > 1 else (long, short)
        notes.append(
            f"All images have nearly the same proportions, which are kept: {chosen[0]}x{chosen[1]} (height x width). --size chooses another size."
        )
        return chosen
    which = "are all square" if agree else f"range from {sides[:, 0].min()}x{sides[:, 1].min()} to {sides[:, 0].max()}x{sides[:, 1].max()}"
    notes.append(f"The images {which}: they are brought to {long}x{long}. --size chooses another size.")
    return long, long


def _choose_fit(sides: np.ndarray, size: tuple[int, int], fit: str | None, clear: bool, resized: int, notes: list[str]) -> tuple[str, str]:
    fill = "white" if clear else "black"
    if not resized:
        return fit or "crop", fill
    relative = np.log2(sides[:, 1] / sides[:, 0] / (size[1] / size[0]))
    if np.abs(relative).max() < 0.02:  # the same proportions: all fits are one
        return fit or "crop", fill
    if fit is None:
        low, high = np.percentile(relative, [25, 75])
        fit = "pad" if clear or 2 ** (high - low) > 1.6 else "crop"
        why = (
            "most of them have a transparent background"
            if clear
            else "their proportions differ much"
            if fit == "pad"
            else "their proportions are alike"
        )
        what = f"shown whole on a {fill} border" if fit == "pad" else "cropped to their centre"
        notes.append(f"Images of other proportions are {what}, since {why}. --fit crop, pad or stretch chooses another way.")
    return fit, fill


def _choose_values(entries: list[Entry], channels: Any, transparent: int, notes: list[str]) -> tuple[int, int]:
    total = len(entries)
    grey = all(e.grey for e in entries)
    if channels is None:
        channels = 1 if grey else 3
        if grey and any(e.mode in ("RGB", "RGBA", "P", "CMYK", "YCbCr") for e in entries):
            notes.append("No pixel has a colour: one grey channel is kept, though some files are stored in colour.")
        else:
            notes.append("All images are grey: one channel." if grey else "The images are in colour: three channels, RGB.")
        if transparent:
            notes.append(
                f"{_of(transparent, total)} partly transparent and shown on white. --channels {2 if grey else 4} keeps the transparency as a channel."
            )
    if channels not in (1, 2, 3, 4):
        raise UserError(f"--channels is 1 (grey), 2 (grey and alpha), 3 (RGB) or 4 (RGB and alpha), and not {channels!r}.")
    deep = sum(e.bits == 16 for e in entries)
    if deep == total and channels in (1, 3):
        notes.append("All images have 16 bits and keep them: 65536 levels.")
        return channels, 65536
    if deep:
        notes.append(
            f"{_of(deep, total)} of 16 bits: reduced to 8 bits, since the set is mixed."
            if deep < total
            else "The 16-bit images are reduced to 8 bits."
        )
    if channels == 1 and all(e.bits == 1 for e in entries):
        notes.append("All images have one bit per pixel: two levels.")
        return channels, 2
    return channels, 256
