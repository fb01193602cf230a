"""A run of so many minutes: its length follows the speed of its own steps, by a clock that is set by hand."""

import time
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator

import vaekit
from vaekit.data import Dataset
from vaekit.output import Batch
from vaekit.training import loop, pace
from vaekit.training.pace import Pace
from vaekit.training.progress import Silent


class Clock:
    now = 100.0

    def perf_counter(self) -> float:
        return self.now


def paced(monkeypatch: pytest.MonkeyPatch, each: float, total: int = 1000, minutes: float | None = 1.0, step: int = 20) -> list[int]:
    """The lengths that a run of a minute is given on its way, where an image takes `each` seconds."""
    clock = Clock()
    monkeypatch.setattr(pace, "time", clock)
    kept, images, seconds, lengths = Pace(minutes, Accelerator(cpu=True)), 0, 0.0, [total]
    kept.begin(0, total)
    while images < total:
        images, seconds, clock.now = images + step, seconds + step * each, clock.now + step * each
        total = kept.total(images, total, seconds)
        if total != lengths[-1]:
            lengths.append(total)
    return lengths


@pytest.mark.parametrize("each", [0.052, 0.06, 0.071])
def test_about_right_is_left_alone(monkeypatch: pytest.MonkeyPatch, each: float) -> None:
    assert paced(monkeypatch, each) == [1000]


@pytest.mark.parametrize("each", [0.02, 0.24])
def test_the_minutes_are_kept(monkeypatch: pytest.MonkeyPatch, each: float) -> None:
    """Three times as fast, or four times as slow, as a look at the start said."""
    lengths = paced(monkeypatch, each)
    assert len(lengths) == 2 and lengths[-1] == pytest.approx(60 / each, rel=0.01)


def test_a_run_of_epochs_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    assert paced(monkeypatch, 0.24, minutes=None) == [1000]


def test_the_second_half_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Schedules would bend: a machine that turns slow then takes longer."""
    clock = Clock()
    monkeypatch.setattr(pace, "time", clock)
    kept = Pace(1.0, Accelerator(cpu=True))
    kept.begin(600, 1000)
    clock.now += 50
    assert kept.total(720, 1000, 36 + 50) == 1000


def test_validation_is_part_of_the_minutes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it takes longer than the training, its time would be given out again and again."""
    told: list[float] = []
    evaluate = loop.evaluate_batches

    def slow(*arguments: Any, **options: Any) -> Any:
        time.sleep(0.3)
        return evaluate(*arguments, **options)

    monkeypatch.setattr(loop, "evaluate_batches", slow)
    monkeypatch.setattr(Pace, "total", lambda self, images, total, seconds: told.append(seconds) or total)
    x, many = (torch.randint(0, 2, (n, 1, 8, 8), dtype=torch.uint8) for n in (40, 50))
    began = time.perf_counter()
    run = vaekit.fit("mlp", x, validation_data=many, out=tmp_path / "run", epochs=4, batch_size=20, scale=0.05, watcher=Silent())
    spent = time.perf_counter() - began
    assert run.metrics()[-1]["seconds"] < told[-1] < spent
    assert told[2] - told[1] >= 0.3  # a pass of validation lies between them


def test_the_loop_takes_the_length_and_writes_it_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = iter([400])
    monkeypatch.setattr(Pace, "total", lambda self, images, total, seconds: next(given, total))
    torch.manual_seed(0)
    run = vaekit.fit(
        "mlp", torch.randint(0, 2, (100, 1, 8, 8), dtype=torch.uint8), out=tmp_path / "run", epochs=1, batch_size=20, scale=0.05, watcher=Silent()
    )
    assert run.description["plan"]["images"] == run.metrics()[-1]["images"] == 400
    assert run.metrics()[-1]["lr"] < 1e-4  # the schedule ends where the run does


def test_augmentation_that_has_ended_does_not_begin_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """The run is found to be four times as long when it is past the end of its augmentation, which is then ahead of it again."""
    given = iter([100, 100, 100, 100, 400])
    monkeypatch.setattr(Pace, "total", lambda self, images, total, seconds: next(given, total))
    said: list[str | None] = []
    batch = Dataset.batch

    def told(self: Dataset, split: str, rows: Any, **options: Any) -> Batch:
        if split == "train" and "augment" in options and "epoch" in options:  # a step of the loop
            said.append(options["augment"])
        return batch(self, split, rows, **options)

    monkeypatch.setattr(Dataset, "batch", told)
    x = torch.randint(0, 2, (100, 1, 8, 8), dtype=torch.uint8)
    vaekit.fit("mlp", x, validation_data=x, epochs=1, batch_size=20, scale=0.05, augment="flip", augment_until=0.5, watcher=Silent())
    first = said.index(None)
    assert 0 < first < 5 and len(said) == 20 and said == ["flip"] * first + [None] * (20 - first)
