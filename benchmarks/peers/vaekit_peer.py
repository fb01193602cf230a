"""The tutorial's network trained by `vaekit.fit` on an array, as a user would: with its progress, its checkpoints and its checks of every step."""

from collections.abc import Mapping
from typing import Any

import torch
from common import Clock, arguments, images, report

import vaekit


class Done(Exception):
    """The timed part is over."""


class Timer:
    """A watcher of the run."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.seen, self.first, self.loss = 0, 0.0, 0.0

    def start(self, images: int, total: int) -> None:
        pass

    def step(self, images: int, loss: float, distortion: float, rate: float) -> None:
        if self.seen == 0:
            self.first = self.loss = loss
        self.loss += 0.02 * (loss - self.loss)
        over = self.clock.step(images - self.seen)
        self.seen = images
        if over:
            raise Done

    def validated(self, row: Mapping[str, Any]) -> None:
        pass

    def say(self, message: str) -> None:
        pass

    def stop(self) -> None:
        pass


def main() -> None:
    args = arguments()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    data = images(args.data)
    timer = Timer(Clock(args.warmup, args.images))
    recipe = vaekit.recipe("tutorial", shape=(1, 28, 28), latent=16)
    try:
        # More epochs than are waited for: the choice of precision is then that of a whole run.
        # The clock of the checkpoints runs on while the other contenders train: of 100 seconds, a fifth are ours, as of the usual 20 all are.
        options: dict[str, Any] = {"batch_size": args.batch_size, "lr": 1e-3, "precision": args.precision, "save_seconds": 100.0}
        vaekit.fit(recipe, data[:-1000], data[-1000:], out="run", watcher=timer, epochs=10_000, **options)
    except Done:
        plan = vaekit.load("run").description["plan"]
        report(timer.first, timer.loss, plan=" ".join(f"{k}={v}" for k, v in plan.items() if k in ("precision", "channels_last", "compile")))


if __name__ == "__main__":
    main()
