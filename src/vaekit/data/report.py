"""`scan`: what a data set holds and what training would do with it, for people and as JSON."""

from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from vaekit.data import pack
from vaekit.data.archive import is_archive, unpack
from vaekit.data.arrayfiles import holds_four
from vaekit.data.files import classes_of, list_images, official_split
from vaekit.data.open import is_built_in, open_source
from vaekit.data.policy import Entry, resolve
from vaekit.data.source import SPLITS, Source
from vaekit.data.survey import duplicates, scan_files

_MODES = {
    "1": "1-bit", "L": "grey", "LA": "grey with alpha", "P": "palette", "PA": "palette with alpha", "RGB": "RGB", "RGBA": "RGB with alpha",
    "CMYK": "CMYK", "I;16": "16-bit grey", "I;16B": "16-bit grey", "I;16L": "16-bit grey", "I": "16-bit grey",
}  # fmt: skip


FEW = 30
"""Images that are too few for shares."""


@dataclass
class ScanReport:
    """What `scan` found. Paths are relative to the folder; sizes are written as height x width."""

    name: str
    kind: str
    """folder, archive, arrays or built-in"""
    images: int
    """that can be read"""
    sizes: dict[str, int]
    """how many images of each size, the most frequent first"""
    modes: dict[str, int]
    classes: dict[str, int]
    unreadable: dict[str, str]
    """files that cannot be read, and why; they are left out"""
    duplicates: list[list[str]]
    """groups of files (or row numbers) with the same pixels"""
    astray: int
    """groups of which an official split has some in one part and some in another"""
    other_files: int
    split: dict[str, int] | None
    """images in each official split; None if the split is made by content"""
    plan: dict[str, Any]
    """size [H, W], fit, channels, levels (None: continuous values)"""
    notes: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def lines(self) -> list[str]:
        """The report as lines of text."""
        lines = [f"{self.name} ({self.kind}): {self.images} images" + (f", {len(self.unreadable)} more cannot be read" if self.unreadable else "")]
        lines.append("sizes (height x width): " + _list(self.sizes, "sizes"))
        lines.append("modes: " + _list(self.modes, "modes"))
        lines.append(
            f"classes: {len(self.classes)}, {_list(self.classes, 'classes')}" if self.classes else "classes: none (sub-folders would make them)"
        )
        for path, why in list(self.unreadable.items())[:20]:
            lines.append(f"cannot be read: {path}: {why}")
        if len(self.unreadable) > 20:
            lines.append(f"cannot be read: {len(self.unreadable) - 20} more (all are in the JSON)")
        copies = sum(len(group) - 1 for group in self.duplicates)
        if self.duplicates:
            kept = f"{self.astray} of the originals have copies in another part of the split" if self.astray else "they stay in one split"
            lines.append(f"exact duplicates: {copies} ({kept}), as {' = '.join(self.duplicates[0][:3])}")
        if self.other_files:
            lines.append(f"other files: {self.other_files} that are no images are passed over")
        if self.images - copies < 2:
            lines.append("training is not possible: it needs at least two different images, one of them to validate on")
        height, width = self.plan["size"]
        levels = "continuous values" if self.plan["levels"] is None else f"{self.plan['levels']} levels"
        lines.append(f"training would use: {height}x{width}, {self.plan['channels']} channel{'s' * (self.plan['channels'] > 1)}, {levels}")
        if self.split:
            lines.append("split: official, " + ", ".join(f"{n} {name}" for name, n in self.split.items()))
        else:
            lines.append(
                "split: by content, about 80 % training, 10 % validation, 10 % test" + ", at least one in each" * (2 < self.images - copies < FEW)
            )
        return [_printable(line) for line in lines + [f"- {note}" for note in self.notes]]


def _printable(text: str) -> str:
    return text.encode("utf-8", "replace").decode("utf-8")


def _list(counts: dict[str, int], what: str) -> str:
    shown = ", ".join(f"{name} ({n})" for name, n in list(counts.items())[:8])
    return shown + (f" and {len(counts) - 8} more {what}" if len(counts) > 8 else "")


def _count(values: Any) -> dict[str, int]:
    return {str(k): n for k, n in Counter(values).most_common()}


def scan(
    data: Any,
    *,
    size: Any = None,
    fit: str | None = None,
    channels: int | None = None,
    limit: int | None = None,
    progress: Callable[[int, int], Any] | None = None,
) -> ScanReport:
    """Looks through the data that `open_data` would open, and says what training would do with it.

    Files that cannot be read are named and never fatal, unless none can: then, and for what is no data at all, `UserError`.
    """
    layout = {"size": size, "fit": fit, "channels": channels}
    path = Path(data).expanduser() if isinstance(data, str | Path) and not is_built_in(data) else None
    if path is not None and path.is_dir() and not holds_four(path):
        return _scan_folder(path, path.resolve().name, "folder", [], layout, limit, progress)
    if path is not None and path.is_file() and is_archive(path):
        folder, notes = unpack(path)
        return _scan_folder(folder, path.name, "archive", notes, layout, limit, progress)
    source = open_source(data, limit=limit, progress=progress, **layout)
    channels_, height, width = source.shape
    depth = {None: "continuous values", 2: "binary", 65536: "16-bit"}.get(
        source.levels, "8-bit" if source.levels == 256 else f"{source.levels} levels"
    )
    labels, copies = [] if source.labels is None else source.labels.tolist(), _copies(source)
    return ScanReport(
        name=source.name,
        kind="built-in" if is_built_in(data) else "arrays",
        images=source.count,
        sizes={f"{height}x{width}": source.count},
        modes={f"{depth}, {channels_} channel{'s' * (channels_ > 1)}": source.count},
        classes={name: labels.count(i) for i, name in enumerate(source.classes)},
        unreadable={},
        duplicates=copies,
        astray=0 if source.split is None else _astray(copies, {str(i): part for i, part in enumerate(source.split.tolist())}),
        other_files=0,
        split=None if source.split is None else {name: int((source.split == i).sum()) for i, name in enumerate(SPLITS)},
        plan={"size": [height, width], "fit": source.fit, "channels": channels_, "levels": source.levels, "fill": source.fill},
        notes=source.notes,
    )


def _copies(source: Source) -> list[list[str]]:
    """Groups of row numbers of the same pixels, for sets that are small enough to be looked through at once."""
    if source.on_disk or source.nbytes > pack.IN_MEMORY_BYTES:
        return []
    groups: dict[int, list[str]] = {}
    for start in range(0, source.count, 4096):
        rows = np.arange(start, min(start + 4096, source.count))
        for row, key in zip(rows.tolist(), pack.row_facts(source.read(rows)).digests.tolist(), strict=True):
            groups.setdefault(key, []).append(str(row))
    return [group for group in groups.values() if len(group) > 1]


def _astray(groups: list[list[str]], parts: dict[str, int]) -> int:
    """How many groups of copies are in several parts of a split."""
    return sum(len({parts[name] for name in group}) > 1 for group in groups)


def _scan_folder(
    folder: Path, name: str, kind: str, notes: list[str], layout: dict[str, Any], limit: int | None, progress: Callable[[int, int], Any] | None
) -> ScanReport:
    listing = list_images(folder, limit)
    entries = scan_files(folder, listing.images, progress)
    notes = [*notes, *listing.notes]
    good: list[Entry] = [e for e in entries if not e.error]
    plan = resolve(good, **layout)
    split, inner = official_split([e.path for e in good])
    classes, labels = classes_of(inner)
    counts, copies = Counter([] if labels is None else labels.tolist()), duplicates(good)
    if counts[-1]:
        notes = [*notes, f"{counts[-1]} images lie outside of the class folders and have no class."]
    return ScanReport(
        name=name,
        kind=kind,
        images=len(good),
        sizes=_count(f"{e.height}x{e.width}" for e in good),
        modes=_count(_MODES.get(e.mode, e.mode) + (" (partly transparent)" if e.alpha else "") for e in good),
        classes={c: counts[i] for i, c in enumerate(classes)},
        unreadable={e.path: e.error for e in entries if e.error},
        duplicates=copies,
        astray=0 if split is None else _astray(copies, {e.path: part for e, part in zip(good, split.tolist(), strict=True)}),
        other_files=listing.others,
        split=None if split is None else {s: int((split == i).sum()) for i, s in enumerate(SPLITS)},
        plan=plan.options(),
        notes=[*notes, *plan.notes],
    )
