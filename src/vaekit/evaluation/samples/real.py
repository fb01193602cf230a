"""The real images that samples are measured beside: two held-out sets of one size, and the training images."""

import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from vaekit.data import Dataset, DataSpec
from vaekit.data.binarize import EVALUATION_SEED, binarize
from vaekit.errors import UserError
from vaekit.evaluation.samples.neighbours import K
from vaekit.pictures import unit

Pixels = Literal["mean", "draw"]
FEWEST = 50
"""Images in a set: below, no figure says anything."""
TRAINING = 50_000
"""Images among which copies are looked for; of more, that many at random."""
LOOKED_AT = 20_000
"""Held-out images among which copies are looked for, where no more are asked for."""
CHUNK = 2000


@dataclass
class Real:
    """n held-out images as the measure, n more to measure the floor with, and what samples may be copies of."""

    data: Dataset
    pixels: Pixels
    test: Int[Tensor, "n"]
    """Rows of the measure in the whole set."""
    other: Int[Tensor, "n"]
    train: Int[Tensor, "t"]
    names: tuple[str, str]
    """What the two sets are parts of."""
    notes: list[str] = field(default_factory=list)

    @property
    def spec(self) -> DataSpec:
        return self.data.spec

    @property
    def binarized(self) -> bool:
        return bool(self.data.options["binarize"])

    @property
    def compared(self) -> str:
        """What stands beside what, in words."""
        if self.binarized:
            return "means of p(x|z) beside grey images" if self.pixels == "mean" else "draws from p(x|z) beside drawn binary images"
        return f"{'means of' if self.pixels == 'mean' else 'draws from'} p(x|z) beside the images"

    def images(self, rows: Int[Tensor, "b"]) -> Shaped[Tensor, "b C H W"]:
        """The images at these rows of the whole set, on the scale of the model's own.

        A binarized data set shows its grey values, from 0 to 1, beside means, and bits beside draws: a mean is grey itself, and next to bits it would
        be called blurred for what the drawing alone does.
        """
        x = self.data.pixels(rows)
        if not self.binarized:
            return x
        levels = self.data.raw_spec.levels
        if self.pixels == "draw":
            return binarize(x, rows, levels, seed=EVALUATION_SEED, epoch=0)
        return x.float() / (levels - 1 if levels else 1)

    def training(self) -> Iterator[Shaped[Tensor, "_ C H W"]]:
        """The training images, a chunk at a time."""
        for rows in self.train.split(CHUNK):
            yield self.images(rows)

    def unit(self, images: Shaped[Tensor, "b C H W"]) -> Float[Tensor, "b C H W"]:
        """On the scale where 0 is the darkest and 1 the brightest."""
        return unit(images.cpu(), self.spec).float()

    def digest(self) -> str:
        """Equal for equal images, whether or not the models are told of them in other units."""
        sums = hashlib.sha256()
        for part in (self.test, self.other, self.train):
            for rows in part.split(CHUNK):
                sums.update((self.unit(self.images(rows)) * 65535).round().to(torch.int32).numpy().tobytes())
        return sums.hexdigest()


def real_images(data: Dataset, n: int, pixels: Pixels = "mean", seed: int = 0) -> Real:
    """n images of the test split, n of the validation split (halves of the one that there is, where one is empty), and the training split.

    The same rows for the same seed, whatever the model; fewer than n where the smaller split has fewer, which the notes say.

    Raises `UserError` for data with values that are missing, and where there are too few held-out images.
    """
    if pixels not in ("mean", "draw"):
        raise UserError(f"pixels is 'mean' or 'draw', and not '{pixels}'.")
    if n < FEWEST:
        raise UserError(f"Samples are measured on at least {FEWEST} images, and not {n}.")
    if data.options.get("missing") in ("alpha", "nan"):
        raise UserError(f"Some pixels of '{data.name}' are not known, so that samples have no whole images to be compared with: name other data.")
    generator = torch.Generator().manual_seed(seed)
    shuffled = {s: data.index(s)[torch.randperm(data.size(s), generator=generator)] for s in ("train", "validation", "test")}
    test, other, names = shuffled["test"], shuffled["validation"], ("test images", "validation images")
    if min(len(test), len(other)) == 0:
        only = "test" if len(test) else "validation"
        whole = torch.cat([test, other])
        test, other = whole[: len(whole) // 2], whole[len(whole) // 2 :]
        names = (f"images of one half of the {only} split", f"images of the other half of the {only} split")
    few = max(2 * n, LOOKED_AT)
    found = len(test[:few]) + len(other[:few])
    test, other = distinct(data, test[:few]), distinct(data, other[:few])
    copies = found - len(test) - len(other)
    m = min(n, len(test), len(other))
    if m < FEWEST:
        what = "different held-out images" if copies else "held-out images"
        raise UserError(f"'{data.name}' has only {m} {what} in its smaller set, and at least {FEWEST} are needed: name larger data.")
    notes = [] if m == n else [f"{m} images instead of {n}: there are no more held-out ones in each of the two sets."]
    if copies:
        notes.append(f"{copies} of {found} held-out images are exact copies of others and were left out: neighbours would be at no distance.")
    if len(shuffled["train"]) > TRAINING:
        notes.append(f"Copies were looked for among {TRAINING} of the {len(shuffled['train'])} training images.")
    return Real(data, pixels, test[:m], other[:m], shuffled["train"][:TRAINING], names, notes)


def distinct(data: Dataset, rows: Int[Tensor, "n"]) -> Int[Tensor, "m"]:
    """The rows without exact copies, where some image is there more than `K` times: its neighbours would all be itself. All of them elsewhere."""
    counts: Counter[bytes] = Counter()
    first = torch.zeros(len(rows), dtype=torch.bool)
    place = 0
    for part in rows.split(CHUNK):
        for image in data.pixels(part).numpy():
            key = hashlib.blake2b(image.tobytes(), digest_size=16).digest()
            first[place] = counts[key] == 0
            counts[key] += 1
            place += 1
    return rows[first] if max(counts.values(), default=0) > K else rows


__all__ = ["Pixels", "Real", "distinct", "real_images"]
