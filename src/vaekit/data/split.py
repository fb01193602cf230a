"""The split into training, validation and test images: official, or by content.

By content means by the digest of an image's packed bytes: exact duplicates stay in one split, and adding images moves none of the others.
"""

import numpy as np

from vaekit.data.source import TEST, TRAIN, VALIDATION
from vaekit.errors import UserError

TEST_SHARE, VALIDATION_SHARE = 0.1, 0.1
_NAMES = {TRAIN: "training", VALIDATION: "validation", TEST: "test"}


def split_by_content(digests: np.ndarray) -> np.ndarray:
    """[n] uint64 digests -> [n] int8 of TRAIN, VALIDATION, TEST: 80, 10 and 10 % on average, by thresholds on the digest.

    A tiny set gets at least one image in each split; with two different images the test split is empty.
    Raises `UserError` if all images are the same.
    """
    distinct, inverse = np.unique(digests, return_inverse=True)
    if len(distinct) < 2:
        raise UserError("Training and validation need at least two different images, and there is only one.")
    share = distinct.astype(np.float64) / 2.0**64
    split = np.where(share < TEST_SHARE, TEST, np.where(share < TEST_SHARE + VALIDATION_SHARE, VALIDATION, TRAIN)).astype(np.int8)
    if len(distinct) == 2:
        split[:] = VALIDATION, TRAIN
    for part in (TRAIN, VALIDATION, TEST) if len(distinct) > 2 else ():
        if not (split == part).any():
            largest = np.bincount(split, minlength=3).argmax()
            candidates = np.flatnonzero(split == largest)
            split[candidates[-1] if part == TRAIN else candidates[0]] = part
    return split[inverse.reshape(-1)]


def complete(official: np.ndarray, digests: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """An official split [n] with the parts that it lacks carved by content out of its training images (10 % of them each), and notes."""
    split, notes = official.copy(), []
    for part, start in ((TEST, 0.0), (VALIDATION, TEST_SHARE)):
        if (split == part).any():
            continue
        share = digests.astype(np.float64) / 2.0**64
        chosen = (split == TRAIN) & (share >= start) & (share < start + 0.1)
        if not chosen.any():
            distinct = np.unique(digests[split == TRAIN])
            if len(distinct) < 2:
                continue
            chosen = (split == TRAIN) & (digests == distinct[0])
        if (split == TRAIN).sum() == chosen.sum():
            continue
        split[chosen] = part
        notes.append(f"There is no official {_NAMES[part]} split: {int(chosen.sum())} training images, chosen by content, make one.")
    held_out = np.isin(digests, digests[split != TRAIN]) & (split == TRAIN)
    if held_out.any():
        notes.append(f"{int(held_out.sum())} training images are exact copies of validation or test images; the official split is kept as it is.")
    return split, notes
