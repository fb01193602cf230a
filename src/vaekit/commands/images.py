"""Images that a command is given: files, folders and rows of the run's own data; and the part of them that is meant."""

from pathlib import Path

import torch
from torch import Tensor

from vaekit import api, editing
from vaekit.data import read_images
from vaekit.data.files import image_files
from vaekit.data.source import SPLITS
from vaekit.errors import UserError
from vaekit.output import Batch
from vaekit.run import Run


def read(run: Run, names: list[str], class_: str | None, data: str | None, *, prior: bool = False) -> Batch:
    """Image files, folders of them and rows of the run's own data (which are now at `data`), as one batch in the form of the data.

    All are told `class_`, if it is given; else rows are told what they are. With `prior` it may be what the fitted prior alone knows.
    """
    owner = run.model.condition
    needed = owner is not None or not prior
    if class_ is not None:
        api.told(run, class_, 1, needed=needed)  # one that there is not is said, whatever the images are
    parts: list[Batch] = []
    dataset = None
    for name in names:
        split, _, row = name.partition(":")
        if split in SPLITS and row and not Path(name).exists():
            dataset = dataset or api.reopen(run, data)
            size = dataset.size(split)
            if not row.isdigit() or int(row) >= size:
                raise UserError(f"The {split} split has the images {split}:0 to {split}:{size - 1}, and not '{name}'.")
            one = dataset.batch(split, torch.tensor([int(row)]))
            own = one.condition if owner is not None else None
            parts.append(Batch(one.x, one.mask, own if class_ is None else api.told(run, class_, 1)))
            continue
        x = read_images(image_files(Path(name)), run.spec, run.description["data"]["options"])
        parts.append(Batch(x, condition=api.told(run, class_, len(x), needed=needed)))
    if not parts:
        raise UserError("No images are given.")
    return Batch(torch.cat([p.x for p in parts]), _joined([p.mask for p in parts]), _joined([p.condition for p in parts]))


def _joined(parts: list[Tensor | None]) -> Tensor | None:
    given = [part for part in parts if part is not None]
    if given and len(given) < len(parts):
        raise UserError("Some of these images have a class and others have none: name it with --class, or take all of them from the run's data.")
    return torch.cat(given) if given else None


def part_of(run: Run, mask: Path | None, hide: str | None) -> Tensor:
    """The part of an image that is meant, by a picture or a rectangle: [1, C, H, W], True there."""
    return editing.hidden_part(run.spec, run.description["data"]["options"], mask=mask, hide=hide)


def part_if_named(run: Run, mask: Path | None, hide: str | None, feather: int) -> Tensor | None:
    """That part, or None where none is named."""
    if mask is None and hide is None:
        if feather:
            raise UserError("--feather is of the edge of a part: name one with --mask or --hide.")
        return None
    return part_of(run, mask, hide)


def kept(batch: Batch, edited: Tensor, part: Tensor | None, feather: int) -> Tensor:
    """Edited images [B, *S, C, H, W] inside a part [1, C, H, W], `batch` itself elsewhere; the edited ones where there is no part."""
    return edited if part is None else editing.keep_rest(batch.x, edited, part.expand(len(batch), -1, -1, -1), feather)
