"""What the contenders of `time_to_quality.py` share: the clock, the checks, the search for the moment of the target. Needs numpy alone.

A contender trains, and after each pass over the data it is checked: the ELBO of the 10,000 validation images with their fixed bits, one posterior
sample each. The clock starts with the process and stands still during a check. Where the ELBO is better than ever, the weights are kept. Training
over, the kept weights are scored on the test images by the importance-weighted bound: those of the best check first; if they reach the target, the
search goes back to the first check that reaches it.
"""

import argparse
import contextlib
import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

Scores = tuple[np.ndarray, np.ndarray]
"""The ELBO and the bound of each test image, in nats, [n] each."""


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument(
        "--data", type=Path, required=True, help="a folder with train.npy (grey), validation.npy and test.npy (bits), uint8 [N, 28, 28]"
    )
    parser.add_argument("--began", type=float, required=True, help="time.time() at the start of the process")
    parser.add_argument("--budget", type=float, required=True, help="seconds of training")
    parser.add_argument("--target", type=float, required=True, help="nats")
    parser.add_argument("--samples", type=int, required=True, help="K of the bound")
    parser.add_argument("--images", type=int, required=True, help="the first validation and test images that are scored")
    parser.add_argument("--every", type=float, required=True, help="seconds between weights that are kept")
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--clock", choices=("wall", "processor"), required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--lr", type=float, help="for the peers")
    parser.add_argument("--batch-size", type=int, help="for the peers")
    parser.add_argument("--options", type=json.loads, default={}, help="for vaekit: the options of vaekit.fit, as JSON")
    return parser.parse_args()


def bits(folder: Path, split: str, images: int) -> np.ndarray:
    """The fixed bits of the first validation or test images, float32 [n, 784]."""
    found: np.ndarray = np.load(folder / f"{split}.npy")
    return found[:images].reshape(-1, 784).astype(np.float32)


class Clock:
    """Seconds since the process began, without those of the checks: by the wall, or of processor time."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.began, self.processor, self.checking = args.began, args.clock == "processor", 0.0

    def now(self) -> float:
        return time.process_time() if self.processor else time.time() - self.began

    def seconds(self) -> float:
        return self.now() - self.checking

    @contextlib.contextmanager
    def stopped(self) -> Iterator[None]:
        start = self.now()
        try:
            yield
        finally:
            self.checking += self.now() - start


@dataclass
class Check:
    """The state of training at a check."""

    seconds: float
    images: int
    elbo: float
    weights: Path | None = None
    """Where they are kept; None where an earlier check was better, or a later one stands for it."""


class Watch:
    """The checks of a contender. `every`: the kept weights are at least so many seconds apart, but for the last."""

    def __init__(self, clock: Clock, every: float, folder: Path) -> None:
        self.clock, self.every, self.folder = clock, every, folder
        self.checks: list[Check] = []
        self.kept: list[Check] = []
        self.first_step: float | None = None

    def started(self) -> None:
        """To be called after each step; the first call says when training had begun."""
        if self.first_step is None:
            self.first_step = self.clock.seconds()

    def check(self, seconds: float, images: int, elbo: float) -> Path | None:
        """Notes a check; where its weights are to be kept it says where."""
        if not math.isfinite(elbo):
            raise ArithmeticError(f"the ELBO after {seconds:.0f} s is {elbo}")
        check = Check(seconds, images, elbo)
        self.checks.append(check)
        print(json.dumps({"check": round(seconds, 2), "elbo": round(elbo, 3), "images": images}), flush=True)
        if self.kept and elbo <= self.kept[-1].elbo:
            return None
        if len(self.kept) > 1 and self.kept[-1].seconds - self.kept[-2].seconds < self.every:
            old = self.kept.pop()
            assert old.weights is not None
            old.weights.unlink(missing_ok=True)
            old.weights = None
        check.weights = self.folder / f"check-{len(self.checks)}"
        self.kept.append(check)
        return check.weights


def first_reaching(count: int, reached: Callable[[int], bool]) -> int | None:
    """The first of 0..count-1 that reaches the target, None if the last does not; `reached` is taken to stay true once it is true."""
    if count == 0 or not reached(count - 1):
        return None
    low, high = -1, count - 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if reached(middle) else (middle, high)
    return high


def report(watch: Watch, args: argparse.Namespace, score: Callable[[Path], Scores], **more: Any) -> None:
    """Searches for the moment of the target, and prints the result as the last line."""
    kept = [(check, check.weights) for check in watch.kept if check.weights is not None and check.weights.exists()]
    if not kept:
        raise RuntimeError(f"there was no check in {args.budget:g} s: give it more")
    began = watch.clock.now()
    known: dict[int, list[tuple[float, float]]] = {}

    def scored(i: int) -> list[tuple[float, float]]:
        if i not in known:
            check, weights = kept[i]
            known[i] = [mean_and_error(values) for values in score(weights)]
            print(json.dumps({"scored": round(check.seconds, 2), "nats": round(-known[i][1][0], 3)}), flush=True)
        return known[i]

    moment = first_reaching(len(kept), lambda i: -scored(i)[1][0] <= args.target)
    last = watch.checks[-1]
    result: dict[str, Any] = {"seconds_to_target": None if moment is None else round(kept[moment][0].seconds, 2)}
    for name, i in (("reached", moment), ("best", len(kept) - 1)):
        if i is not None:
            check, ((elbo, _), (bound, error)) = kept[i][0], scored(i)
            figures = {"seconds": round(check.seconds, 2), "images": check.images, "validation_elbo_nats": check.elbo}
            figures |= {"elbo_nats": elbo, "bound_nats": bound, "bound_nats_se": error}
            result |= {f"{name}_{key}": value for key, value in figures.items()}
    result |= {
        "start_seconds": None if watch.first_step is None else round(watch.first_step, 2),
        "seconds": round(last.seconds, 2),
        "images_seen": last.images,
        "checking_seconds": round(watch.clock.checking, 2),
        "scoring_seconds": round(watch.clock.now() - began, 2),
        "checks": [[round(c.seconds, 2), c.images, round(c.elbo, 3)] for c in watch.checks],
        "scored": sorted([round(kept[i][0].seconds, 2), round(-found[1][0], 3)] for i, found in known.items()),
    }
    print(json.dumps({"result": result | more}), flush=True)


def mean_and_error(values: np.ndarray) -> tuple[float, float]:
    """The mean over the images and its standard error."""
    return float(values.mean()), float(values.std(ddof=1) / math.sqrt(len(values)))


def streamed(weights: Callable[[int], np.ndarray], samples: int, group: int = 20) -> np.ndarray:
    """log (1/K) sum_k w_k of each image [n]: `weights(g)` draws g more log w = log p(x,z) - log q(z|x), [g, n]."""
    total: np.ndarray | None = None
    for start in range(0, samples, group):
        log_w = weights(min(group, samples - start)).astype(np.float64)
        highest = log_w.max(0)
        part = highest + np.log(np.exp(log_w - highest).sum(0))
        total = part if total is None else np.logaddexp(total, part)
    assert total is not None
    return total - math.log(samples)


def over(x: np.ndarray, function: Callable[[np.ndarray], np.ndarray], size: int = 200) -> np.ndarray:
    """A function of images, a few at a time."""
    return np.concatenate([function(x[i : i + size]) for i in range(0, len(x), size)])
