"""What a person sees while a model trains."""

import time
from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


@runtime_checkable
class Watcher(Protocol):
    """Told of what happens; the loop knows nothing of screens."""

    def reading(self, done: int, total: int) -> None: ...
    def start(self, images: int, total: int) -> None: ...
    def step(self, images: int, loss: float, distortion: float, rate: float) -> None: ...
    def validated(self, row: Mapping[str, Any]) -> None: ...
    def say(self, message: str) -> None: ...
    def stop(self) -> None: ...


class Silent:
    """Nothing is shown; what must be said is kept in `messages`."""

    def __init__(self) -> None:
        self.messages: list[str] = []

    def reading(self, done: int, total: int) -> None:
        pass

    def start(self, images: int, total: int) -> None:
        pass

    def step(self, images: int, loss: float, distortion: float, rate: float) -> None:
        pass

    def validated(self, row: Mapping[str, Any]) -> None:
        pass

    def say(self, message: str) -> None:
        self.messages.append(message)

    def stop(self) -> None:
        pass


class Bar:
    """A live bar with loss, rate, distortion, images/s and time left on a terminal; on anything else, only the messages."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(stderr=True)
        self._bar: Progress | None = None
        self._shown = 0.0

    def reading(self, done: int, total: int) -> None:
        """Called while files are read, before the run begins."""
        if not self.console.is_terminal:
            return
        if self._bar is None:
            self._bar = Progress(
                TextColumn("reading"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), console=self.console, transient=True
            )
            self._task = self._bar.add_task("files", total=total)
            self._bar.start()
        self._bar.update(self._task, completed=done, total=total)
        if done >= total:
            self.stop()

    def start(self, images: int, total: int) -> None:
        self._began, self._first = time.perf_counter(), images
        if not self.console.is_terminal:
            return
        columns = [TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[figures]}"), TimeRemainingColumn()]
        self._bar = Progress(*columns, console=self.console, transient=True)
        self._task = self._bar.add_task("images", total=total, completed=images, figures="")
        self._bar.start()

    def step(self, images: int, loss: float, distortion: float, rate: float) -> None:
        if self._bar is None or (now := time.perf_counter()) - self._shown < 0.1:
            return
        self._shown = now
        speed = (images - self._first) / max(now - self._began, 1e-9)
        self._bar.update(
            self._task, completed=images, figures=f"loss {loss:.2f}  rate {rate:.2f}  distortion {distortion:.2f} nats  {speed:,.0f} images/s"
        )

    def validated(self, row: Mapping[str, Any]) -> None:
        if self._bar is not None:
            figures = [f"distortion {row['val_distortion_nats']:.2f}"] if row.get("val_distortion_nats") is not None else []
            if row.get("val_elbo_nats") is not None:
                train = f" (train {row['train_elbo_nats']:.2f})" if row.get("train_elbo_nats") is not None else ""
                figures = [f"ELBO {row['val_elbo_nats']:.2f} nats{train}", f"rate {row['val_rate_nats']:.2f}", *figures]
            if row.get("active_units") is not None:
                figures.append(f"active units {row['active_units']}")
            if row.get("codebook_perplexity") is not None:
                figures.append(f"codebook perplexity {row['codebook_perplexity']:.1f}")
            self._bar.console.print(f"epoch {row['epoch']:g}: {'  '.join(figures)}  {row['images_per_second']:,.0f} images/s")

    def say(self, message: str) -> None:
        self.console.print(message, highlight=False, soft_wrap=True)

    def stop(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
