"""What the contenders share: one command line, one clock, lines of JSON on stdout. Needs numpy alone, so that it runs in every environment."""

import argparse
import contextlib
import json
import sys
import time
from typing import Any

import numpy as np


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", required=True, help="a .npy file of uint8 images [N, 28, 28]")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--images", type=int, default=4_800, help="images of one turn")
    parser.add_argument("--warmup", type=int, default=50, help="steps before the first turn")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--precision", default="fp32", help="for vaekit alone")
    return parser.parse_args()


def images(path: str) -> np.ndarray:
    return np.load(path)


class Clock:
    """Trains in turns: after the warm-up it says that it is ready, and waits; at each "go" it lets a turn of so many images pass, says what they took
    as one line of JSON, and waits again, until it is told to end. It knows nothing of what trains."""

    def __init__(self, warmup: int, images: int) -> None:
        self.warmup, self.images = warmup, images
        self.steps = self.seen = self.faults = 0
        self.start = 0.0

    def step(self, images: int) -> bool:
        """Counts a step of training that is over, on `images` images; true when it is time to end."""
        self.steps += 1
        if self.steps < self.warmup:
            return False
        if self.steps == self.warmup:
            return self._wait({"ready": True})
        self.seen += images
        if self.seen < self.images:
            return False
        seconds = time.perf_counter() - self.start
        turn = {"images_per_second": round(self.seen / seconds, 1), "seconds": round(seconds, 4), "page_faults": page_faults() - self.faults}
        return self._wait(turn)

    def _wait(self, line: dict[str, Any]) -> bool:
        print(json.dumps(line), flush=True)
        if sys.stdin.readline().strip() != "go":
            return True
        self.seen, self.faults, self.start = 0, page_faults(), time.perf_counter()
        return False


def page_faults() -> int:
    """Pages that the system has given to this process so far: where memory is handed back and taken anew in every step, that costs time."""
    with contextlib.suppress(ImportError):  # not on Windows
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    return 0


def report(first: float, loss: float, **more: Any) -> None:
    """`first` is the loss before the first step, `loss` that of the end, each in the contender's own units: it must have gone down."""
    print(json.dumps({"loss_first": round(first, 3), "loss": round(loss, 3)} | more), flush=True)
