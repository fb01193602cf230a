"""A run of so many minutes ends after so many, though the machine is faster or slower than it was at the start."""

import time
from typing import Any

import torch

TENTHS = 5
"""It is looked at after each tenth of the run, up to this one: later changes would bend the schedules of rates and weights."""
EARLY, LATE = 0.85, 1.2
"""How far off the end may be, as a part of the minutes asked for."""


class Pace:
    """How many images fit, from the speed of the steps themselves; a few steps before the first one, on a busy machine, can be far off.

    Args:
        minutes: of training that were asked for; None for a run of a fixed length, which is left as it is.
    """

    def __init__(self, minutes: float | None, accelerator: Any) -> None:
        self.minutes, self.accelerator = minutes, accelerator
        self.tenth = TENTHS

    def begin(self, images: int, total: int) -> None:
        """The clock starts with this many images done."""
        self.tenth = 10 * images // total
        self._mark(images)

    def _mark(self, images: int) -> None:
        self.images, self.since = images, time.perf_counter()

    def total(self, images: int, total: int, seconds: float) -> int:
        """Images to train on in all, now that `images` of `total` are done after `seconds`, validation counted: the same on all processes."""
        tenth = 10 * images // total
        if self.minutes is None or tenth <= self.tenth or tenth > TENTHS:
            return total
        each = (time.perf_counter() - self.since) / (images - self.images)
        each, seconds = self.accelerator.reduce(torch.tensor([each, seconds], device=self.accelerator.device), "mean").tolist()
        self._mark(images)
        asked = 60 * self.minutes
        if not EARLY <= (seconds + (total - images) * each) / asked <= LATE:
            total = images + max(1, round((asked - seconds) / each))
        self.tenth = 10 * images // total
        return total
