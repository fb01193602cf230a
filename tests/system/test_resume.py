"""Stopped at any moment, a run is resumed by the same command and ends with the same bits."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file

import vaekit
from vaekit.errors import UserError
from vaekit.training import Silent, Training
from vaekit.training.counters import Counters
from vaekit.training.loop import Trainer
from vaekit.training.plan import Plan

COMMAND = [sys.executable, "-m", "vaekit", "train", "digits", "--recipe", "tutorial", "--scale", "0.25", "--ema", "0.9", "--no-report"]
COMMAND += ["--epochs", "6", "--precision", "fp32", "--augment", "flip", "--save-seconds", "0"]


def command(out: Path, *more: str) -> list[str]:
    return [*COMMAND, "--out", str(out), *more]


def environment() -> dict[str, str]:
    return os.environ | {"OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was never stopped."""
    out = tmp_path_factory.mktemp("whole") / "run"
    subprocess.run(command(out), check=True, env=environment(), capture_output=True)
    return out


def wait_for(out: Path, images: int) -> subprocess.Popen:
    """Starts the command, and returns once it has trained on some images."""
    process = subprocess.Popen(command(out), env=environment(), stderr=subprocess.PIPE, text=True)
    metrics = out / "metrics.jsonl"
    deadline = time.time() + 120
    while time.time() < deadline and process.poll() is None:
        if metrics.exists() and metrics.read_text().count("\n") >= images:
            return process
        time.sleep(0.005)
    raise AssertionError(f"the run did not get that far: {process.communicate()[1]}")


def same_weights(a: Path, b: Path) -> None:
    one, two = load_file(a / "model.safetensors"), load_file(b / "model.safetensors")
    assert one.keys() == two.keys()
    for name in one:
        assert torch.equal(one[name], two[name]), name


def figures(out: Path) -> list[dict]:
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in row.items() if "second" not in k} for row in rows]


def test_killed_and_resumed_is_bit_identical(whole: Path, tmp_path: Path) -> None:
    """kill -9 at three points, which with a checkpoint at every step falls into the writing of one as a rule."""
    out = tmp_path / "run"
    for reached in (1, 2, 4):
        process = wait_for(out, reached)
        time.sleep(0.03 * reached)
        process.kill()
        process.wait()
    finished = subprocess.run(command(out), check=True, env=environment(), capture_output=True, text=True)
    assert "Resuming" in finished.stderr
    same_weights(whole, out)
    assert figures(whole) == figures(out)
    assert not list(out.rglob("*.tmp"))


def test_sigterm_saves_first(whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    process = wait_for(out, 2)
    process.send_signal(signal.SIGTERM)
    stderr = process.communicate(timeout=60)[1]
    assert process.returncode == 128 + signal.SIGTERM
    assert "SIGTERM" in stderr and "same command" in stderr and "Traceback" not in stderr
    subprocess.run(command(out), check=True, env=environment(), capture_output=True)
    same_weights(whole, out)


def test_a_finished_run_says_so(whole: Path) -> None:
    before = (whole / "model.safetensors").stat().st_mtime_ns
    again = subprocess.run(command(whole), env=environment(), capture_output=True, text=True)
    assert again.returncode == 0 and "finished" in again.stderr
    assert (whole / "model.safetensors").stat().st_mtime_ns == before


def test_other_options_are_refused_by_name(whole: Path) -> None:
    other = subprocess.run(command(whole, "--lr", "0.01"), env=environment(), capture_output=True, text=True)
    assert other.returncode == 2 and "--lr" in other.stderr and "Traceback" not in other.stderr
    assert other.stderr.count("Error") == 1


def test_a_half_written_checkpoint_is_never_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk while a checkpoint is written: one sentence, and the old checkpoint is intact."""
    from vaekit import saving

    path = tmp_path / "x.safetensors"
    saving.save_tensors(path, {"a": torch.ones(3)}, {"n": 1})

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(saving, "save_file", full)
    with pytest.raises(vaekit.UserError, match="disk is full"):
        saving.save_tensors(path, {"a": torch.zeros(3)}, {"n": 2})
    tensors, metadata = saving.load_tensors(path)
    assert metadata == {"n": 1} and tensors["a"].sum() == 3
    assert [p.name for p in tmp_path.iterdir()] == ["x.safetensors"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_disk_that_is_full_is_no_fault_of_vaekit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, number: int
) -> None:
    """Whatever was being written: here a line of figures."""
    from vaekit.cli import main
    from vaekit.run import Run

    def full(self: Run, row: dict) -> None:
        raise OSError(number, os.strerror(number), str(self.path / "metrics.jsonl"))

    monkeypatch.setattr(Run, "record", full)
    x = ["train", "digits", "--recipe", "tutorial", "--scale", "0.1", "--limit", "50", "--epochs", "1", "--no-report", "--out", str(tmp_path / "run")]
    with pytest.raises(SystemExit) as stop:
        main(x)
    said = capsys.readouterr().err
    assert stop.value.code == 2 and "disk is full" in said and "metrics.jsonl" in said and "fault of vaekit" not in said


def test_what_safetensors_says_of_a_quota_is_understood() -> None:
    from safetensors import SafetensorError

    from vaekit.saving import disk_full

    assert disk_full(SafetensorError('Error while serializing: IoError(Os { code: 122, message: "Disk quota exceeded" })'))
    assert not disk_full(SafetensorError("Error while serializing: InvalidHeader"))


def test_not_finite_steps_are_skipped_and_a_run_of_them_rolls_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from vaekit.training import loop
    from vaekit.training.task import Task

    forward, calls = Task.forward, [0]

    def poisoned(self: Task, batch: vaekit.Batch) -> object:
        step = forward(self, batch)
        calls[0] += 1
        bad = calls[0] == 3 or 20 <= calls[0] < 20 + loop.PATIENCE
        step.loss = step.loss * float("nan") if bad else step.loss
        return step

    monkeypatch.setattr(Task, "forward", poisoned)
    watcher = Silent()
    run = vaekit.fit("tutorial", "digits", out=tmp_path / "run", epochs=3, scale=0.25, precision="fp32", watcher=watcher, save_seconds=1e9)
    description = run.description
    assert description["skipped_steps"] == 1 + loop.PATIENCE
    assert description["rollbacks"] == 1
    assert any("learning rate times 0.5" in message for message in watcher.messages)
    assert run.history["lr"][-1] == pytest.approx(0.5e-3)
    assert all(torch.isfinite(p).all() for p in run.model.parameters())


def test_a_loss_that_was_scaled_too_far_is_scaled_less() -> None:
    """As in fp16: the gradient of the first step is not finite, that of the second is."""
    w = torch.nn.Parameter(torch.ones(3))
    trainer, scaler = object.__new__(Trainer), torch.amp.GradScaler("cpu", init_scale=2.0**127)
    trainer.optimizer, trainer.parameters, trainer.counters = torch.optim.SGD([w], lr=0.1), [w], Counters()
    trainer.plan, trainer.training, trainer.dimensions, trainer.moving = Plan("fp16"), Training(), 1, []
    trainer.accelerator = SimpleNamespace(scaler=scaler, unscale_gradients=scaler.unscale_)
    for finite in (False, True):
        scaler.scale(w.sum() * 3).backward()
        assert trainer._limited() == finite
        if not finite:
            trainer._leave_out([])
    assert scaler.get_scale() == 2.0**126 and (trainer.counters.skipped, trainer.counters.in_a_row) == (1, 1)
    torch.testing.assert_close(w.grad, torch.full((3,), 3.0))
    # The scale is part of the state: a resumed run does not begin again at one that is too far.
    kept: dict[str, object] = {}
    trainer.accelerator.is_main_process, trainer.pending_best, trainer.average, trainer.counters.in_a_row = True, None, None, 0
    trainer.checkpoint = SimpleNamespace(save=lambda modules, optimizers, counters: kept.update(counters), load=lambda *_: kept)
    trainer._modules = trainer._optimizers = dict
    trainer._save()
    trainer.accelerator.scaler = torch.amp.GradScaler("cpu")
    trainer._restore()
    assert trainer.accelerator.scaler.get_scale() == 2.0**126


def test_divergence_ends_in_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from vaekit.training.task import Task

    forward = Task.forward

    def poisoned(self: Task, batch: vaekit.Batch) -> object:
        step = forward(self, batch)
        step.loss = step.loss * float("nan")
        return step

    monkeypatch.setattr(Task, "forward", poisoned)
    with pytest.raises(vaekit.UserError, match="smaller --lr"):
        vaekit.fit("tutorial", "digits", out=tmp_path / "run", epochs=50, scale=0.25, precision="fp32", watcher=Silent())


def test_a_run_of_an_older_network_is_not_resumed(tmp_path: Path) -> None:
    """Its weights have no place in the recipe of now: better said before they are read."""

    def fit() -> None:
        vaekit.fit("tutorial", torch.arange(2560).view(40, 1, 8, 8).byte(), epochs=1, out=tmp_path / "run", scale=0.25)

    fit()
    about = json.loads((tmp_path / "run" / "run.json").read_text())
    (tmp_path / "run" / "run.json").write_text(json.dumps(about | {"finished": False, "parameters": about["parameters"] - 1}))
    with pytest.raises(UserError, match=r"begun by another version of vaekit, in which this network had .* parameters, and not"):
        fit()
