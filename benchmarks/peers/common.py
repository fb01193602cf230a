"""What the contenders share: one command line, one clock, one line of JSON at the end. Needs numpy alone, so that it runs in every environment."""

import argparse
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

    def step(self, images: int, steps: int = 1) -> bool:
        """Counts `steps` steps of training that are over, on `images` images; true when the timed part is over."""
        self.steps += steps
        if self.start:
            self.seen += images
            if self.seen >= self.images:
                self.seconds = time.perf_counter() - self.start
                return True
        elif self.steps >= self.warmup:
            self.start = time.perf_counter()
        return False


def report(clock: Clock, first: float, loss: float, **more: Any) -> None:
    """`first` is the loss before the first step, `loss` that of the end, each in the contender's own units: it must have gone down."""
    rate = clock.seen / clock.seconds
    line = {
        "images_per_second": round(rate, 1),
        "seconds": round(clock.seconds, 3),
        "images": clock.seen,
        "loss_first": round(first, 3),
        "loss": round(loss, 3),
    }
    print(json.dumps(line | more), flush=True)
