"""A recipe of vaekit trained by `vaekit.fit` as a user would; its own validation after each pass is the check."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from quality import Clock, Watch, arguments, report

import vaekit
from vaekit.evaluation import elbo, iw_bound
from vaekit.evaluation.passes import first
from vaekit.memory import ask_for_huge_pages, channels_last


class Checks:
    """A watcher of the run: notes the checks, and keeps the best weights when the run has saved them."""

    def __init__(self, watch: Watch, run: Path) -> None:
        self.watch, self.best = watch, run / "checkpoints" / "best.safetensors"
        self.wanted: Path | None = None
        self.before = self.last = 0.0

    def reading(self, done: int, total: int) -> None:
        pass

    def start(self, images: int, total: int) -> None:
        pass

    def step(self, images: int, loss: float, distortion: float, rate: float) -> None:
        self.watch.started()
        self.last = self.watch.clock.seconds()
        if self.wanted is not None and self.stamp() != self.before:
            self.keep(self.best)

    def validated(self, row: Mapping[str, Any]) -> None:
        # Between the last step and here is the validation, which the clock does not count.
        self.watch.clock.checking += self.watch.clock.seconds() - self.last
        place = self.watch.check(self.last, row["images"], row["val_elbo_nats"])
        if place is not None:
            self.wanted, self.before = place, self.stamp()

    def stamp(self) -> float:
        return self.best.stat().st_mtime_ns if self.best.exists() else 0.0

    def keep(self, source: Path) -> None:
        """A second name for the saved file, which the run replaces and never changes."""
        assert self.wanted is not None
        os.link(source, self.wanted)
        self.wanted = None

    def say(self, message: str) -> None:
        pass

    def stop(self) -> None:
        pass


def main() -> None:
    args = arguments()
    ask_for_huge_pages()  # as the command line does
    watch = Watch(Clock(args), args.every, Path.cwd())
    options = dict(args.options)
    recipe = options.pop("recipe")
    minutes = min(options.pop("minutes"), args.budget / 60)
    precision = options.pop("score_precision")
    given = {"binarize": True, "minutes": minutes, "seed": args.seed} | options
    out = Path("run")
    checks = Checks(watch, out)
    run = vaekit.fit(recipe, "fashion-mnist", out=out, watcher=checks, **given)
    if checks.wanted is not None:
        checks.keep(run.final)
    data, about = vaekit.reopen(run), run.description

    def score(place: Path) -> tuple[np.ndarray, np.ndarray]:
        model = vaekit.load_vae(place)
        if about["plan"]["channels_last"]:
            channels_last(model)
        found = elbo(model, first(data.batches("test", 100), args.images), seed=2, precision=precision).elbo
        bound = iw_bound(model, first(data.batches("test", 100), args.images), args.samples, seed=2, precision=precision)
        return found.numpy(), bound.numpy()

    report(watch, args, score, parameters=about["parameters"], plan=about["plan"], step_seconds=about["seconds"])


if __name__ == "__main__":
    main()
