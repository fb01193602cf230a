"""What the contenders share: one command line, one clock, one line of JSON at the end. Needs numpy alone, so that it runs in every environment."""

import argparse
import contextlib
import json
import time
from typing import Any

import numpy as np


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", required=True, help="a .npy file of uint8 images [N, 28, 28]")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--images", type=int, default=30_000, help="images that are timed")
    parser.add_argument("--warmup", type=int, default=50, help="steps before the clock starts")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--precision", default="fp32", help="for vaekit alone")
    return parser.parse_args()


def images(path: str) -> np.ndarray:
    return np.load(path)


class Clock:
    """Starts after the warm-up, stops when enough images have been trained on; knows nothing of what trains."""

    def __init__(self, warmup: int, images: int) -> None:
        self.warmup, self.images = warmup, images
        self.steps = self.seen = 0
        self.start = self.seconds = 0.0
        self.faults = 0

    def step(self, images: int, steps: int = 1) -> bool:
        """Counts `steps` steps of training that are over, on `images` images; true when the timed part is over."""
        self.steps += steps
        if self.start:
            self.seen += images
            if self.seen >= self.images:
                self.seconds = time.perf_counter() - self.start
                self.faults = page_faults() - self.faults
                return True
        elif self.steps >= self.warmup:
            self.faults = page_faults()
            self.start = time.perf_counter()
        return False


def page_faults() -> int:
    """Pages that the system has given to this process so far: where memory is handed back and taken anew in every step, that costs time."""
    with contextlib.suppress(ImportError):  # not on Windows
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    return 0


def report(clock: Clock, first: float, loss: float, **more: Any) -> None:
    """`first` is the loss before the first step, `loss` that of the end, each in the contender's own units: it must have gone down."""
    line = {
        "images_per_second": round(clock.seen / clock.seconds, 1),
        "seconds": round(clock.seconds, 3),
        "images": clock.seen,
        "loss_first": round(first, 3),
        "loss": round(loss, 3),
        "page_faults": clock.faults,
    }
    print(json.dumps(line | more), flush=True)
