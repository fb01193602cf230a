"""A run folder as an object."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

from vaekit.data.spec import DataSpec
from vaekit.device import device_of
from vaekit.errors import UserError
from vaekit.memory import channels_last
from vaekit.model import VAE
from vaekit.saving import load_model, save_json, save_text

OWN = "own"
"""What the model's own prior is called, beside those that were fitted to its codes."""


class Run:
    """A training run: a folder that can be stopped, resumed, copied and loaded.

    `model.safetensors` is the finished model (the best weights by validation), `run.json` every option, version and the data's fingerprint,
    `metrics.jsonl` one line per validation, `checkpoints/` the best and the last state, and `*.png` the pictures.

    Args:
        device: where its model is (`device_of`).
    """

    def __init__(self, path: str | Path, device: str = "cpu") -> None:
        self.path, self.device = Path(path), device_of(device)
        self.checkpoints = self.path / "checkpoints"
        self.best = self.checkpoints / "best.safetensors"
        self.final = self.path / "model.safetensors"
        self._json = self.path / "run.json"
        self.chosen: str | None = None  # the prior that samples come from, where it is not the last one that was fitted
        self._metrics = self.path / "metrics.jsonl"

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r})"

    @property
    def exists(self) -> bool:
        return self._json.exists()

    @property
    def description(self) -> dict[str, Any]:
        """What `run.json` says: `options`, `plan`, `data`, `versions`, and `finished`."""
        try:
            return json.loads(self._json.read_text(encoding="utf-8"))
        except (FileNotFoundError, NotADirectoryError) as error:
            raise UserError(f"{self.path} is not a run: it has no run.json. Train one with: vaekit train DATA --out {self.path}") from error
        except json.JSONDecodeError as error:
            raise UserError(f"{self._json} is damaged: {error}.") from error

    def describe(self, **values: Any) -> None:
        """Writes `run.json`, with these values over those that are there."""
        save_json(self._json, (self.description if self.exists else {}) | values)

    @property
    def spec(self) -> DataSpec:
        """What the model's images are."""
        return DataSpec.from_json(self.description["data"]["spec"])

    @property
    def finished(self) -> bool:
        return self.exists and bool(self.description.get("finished"))

    @property
    def label(self) -> str:
        """Its path, and which prior its samples come from where that was chosen: `RUN@own`."""
        return str(self.path) if self.chosen is None else f"{self.path}@{self.chosen}"

    @property
    def minutes(self) -> float | None:
        """Of training, with those of the prior that was fitted to its codes and that samples come from; None where they are not known."""
        about = self.description
        prior = about.get("prior") if self.chosen is None else {"run": f"priors/{self.chosen}"} if self.chosen != OWN else None
        inner = Run(self.path / prior["run"]) if prior else None
        spent = [about.get("seconds"), *([] if inner is None else [inner.description.get("seconds") if inner.exists else None])]
        known = [seconds for seconds in spent if seconds is not None]
        return sum(known) / 60 if len(known) == len(spent) else None

    @cached_property
    def model(self) -> VAE:
        """The model with its best weights so far, in eval mode, on the run's device, its kernels laid out in memory as in training."""
        path = self.final if self.final.exists() else self.best
        if not path.exists():
            self.description  # noqa: B018 (raises if this is not a run at all)
            raise UserError(f"{self.path} has no model yet: run its training command again to go on.")
        model: VAE = load_model(path)[0]
        if not isinstance(model, VAE):
            raise UserError(
                f"{self.path} is the run of a prior that was fitted to codes: name the run of the model, {self.path.resolve().parents[1]}."
            )
        if self.exists and self.description.get("plan", {}).get("channels_last"):
            channels_last(model)
        return model.to(self.device)

    def metrics(self) -> list[dict[str, Any]]:
        """The lines of `metrics.jsonl`."""
        if not self._metrics.exists():
            return []
        lines = self._metrics.read_text(encoding="utf-8").split("\n")
        # The last line may have been cut by a kill: what is complete ends in a line break.
        return [json.loads(line) for line in lines[:-1]]

    @property
    def history(self) -> dict[str, list[Any]]:
        """One list for each figure, one entry for each validation, as in Keras."""
        rows = self.metrics()
        return {name: [row.get(name) for row in rows] for name in dict.fromkeys(k for row in rows for k in row)}

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keeps the folder for this process; raises `UserError` if another one is training in it. The system lets go when the holder dies."""
        new = not self.path.exists()
        self.path.mkdir(parents=True, exist_ok=True)
        with open(self.path / ".lock", "a") as file:
            try:
                import fcntl

                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except ImportError:
                pass  # Windows has no such locks: two runs in one folder are the user's to avoid there.
            except BlockingIOError as error:
                raise UserError(f"Another process is training in {self.path}: wait for it, stop it, or choose another folder with --out.") from error
            except OSError:
                pass  # This file system has none either.
            try:
                yield
            finally:
                if new and not self.exists:  # nothing came of it: a refusal leaves nothing behind
                    shutil.rmtree(self.path, ignore_errors=True)

    def record(self, row: dict[str, Any]) -> None:
        """Adds a line to `metrics.jsonl`."""
        with open(self._metrics, "a", encoding="utf-8") as file:
            file.write(json.dumps(row, allow_nan=False) + "\n")

    def forget_after(self, images: int) -> None:
        """Drops the lines that a killed process wrote after its last checkpoint: they will be written again."""
        rows = [row for row in self.metrics() if row["images"] <= images]
        save_text(self._metrics, "".join(json.dumps(row) + "\n" for row in rows))
