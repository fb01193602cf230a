"""Steps that are left out, runs that have no best, and folders that two would train in: what is kept, and what is said."""

import errno
import fcntl
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import vaekit
from tests.contracts.examples import nets
from tests.system.test_processes import torchrun
from vaekit.latents import Flat, StandardNormal
from vaekit.latents.posteriors import PointPosterior
from vaekit.likelihoods import Gaussian
from vaekit.run import Run
from vaekit.training import Silent, loop
from vaekit.training.checkpoint import Checkpoint
from vaekit.training.loop import Trainer
from vaekit.training.task import Task


def tutorial(out: Path, **options: object) -> tuple[Run, Silent]:
    watcher = Silent()
    common = {"epochs": 3, "scale": 0.25, "precision": "fp32", "watcher": watcher}
    return vaekit.fit("tutorial", "digits", out=out, **common | options), watcher


def poisoning(monkeypatch: pytest.MonkeyPatch, when: int, poison: object) -> None:
    """Hands the task and the batch of one step to `poison` before it."""
    forward, calls = Task.forward, [0]

    def poisoned(self: Task, batch: vaekit.Batch) -> object:
        calls[0] += 1
        if calls[0] == when:
            poison(self, batch)
        return forward(self, batch)

    monkeypatch.setattr(Task, "forward", poisoned)


def test_weights_that_fail_are_never_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a state kept after each step, the one of a step that was left out would be what a run goes back to, for ever."""

    def burst(task: Task, batch: vaekit.Batch) -> None:
        with torch.no_grad():
            next(task.model.encoder.parameters()).fill_(float("nan"))

    poisoning(monkeypatch, 20, burst)
    run, _ = tutorial(tmp_path / "run", save_seconds=0.0)
    assert run.description["rollbacks"] == 1 and run.description["skipped_steps"] == loop.PATIENCE
    assert all(torch.isfinite(v).all() for v in run.model.state_dict().values())


def test_what_batch_norm_averaged_of_a_step_that_was_left_out_is_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def burst(task: Task, batch: vaekit.Batch) -> None:
        batch.x = batch.x * float("inf")

    poisoning(monkeypatch, 20, burst)
    run, _ = tutorial(tmp_path / "run")
    assert run.description["skipped_steps"] == 1
    assert all(torch.isfinite(v).all() for v in run.model.state_dict().values() if v.is_floating_point())


def test_a_limit_that_is_too_low_is_named(tmp_path: Path) -> None:
    with pytest.raises(vaekit.UserError, match=r"beyond --skip 0.001 \(the last one of .* nats\).*Raise --skip"):
        tutorial(tmp_path / "run", epochs=50, skip=1e-3)


def test_a_run_without_a_finite_bound_keeps_its_last_weights() -> None:
    """An autoencoder's code has no divergence: nothing says which of its weights are best."""
    likelihood = Gaussian(channels=1)
    encoder, decoder = nets("mlp", [1, 8, 8], params=likelihood.channels(1), latent=2)
    model = vaekit.VAE(encoder, Flat(PointPosterior(encoder.features, 2), StandardNormal([2])), decoder, likelihood)
    watcher = Silent()
    x = torch.randint(0, 256, (60, 1, 8, 8), dtype=torch.uint8)
    run = vaekit.fit(model, x, epochs=3, batch_size=20, watcher=watcher)
    assert any("finite ELBO" in message for message in watcher.messages)
    trained = dict(model.named_parameters())
    assert all(torch.equal(v, trained[k]) for k, v in run.model.named_parameters())


def test_averages_of_other_parameters_are_refused(tmp_path: Path) -> None:
    """They are kept by number, and another version may number its parameters otherwise."""
    a, b = torch.nn.Linear(3, 4), torch.nn.Linear(4, 3)
    optimizers = []
    for layer in (a, b):
        optimizer = torch.optim.AdamW(layer.parameters())
        layer(torch.randn(2, layer.in_features)).sum().backward()
        optimizer.step()
        optimizers.append(optimizer)
    checkpoint = Checkpoint(tmp_path)
    checkpoint.save({}, {"model": optimizers[0]}, {})
    with pytest.raises(vaekit.UserError, match="another version of vaekit, whose optimizer"):
        checkpoint.load({}, {"model": optimizers[1]})
    checkpoint.load({}, {"model": optimizers[0]})


def test_a_folder_that_is_held_is_not_written_to(tmp_path: Path) -> None:
    """The other process may be measuring still, and have written nothing."""
    with Run(tmp_path / "run").held(), pytest.raises(vaekit.UserError, match="Another process is training"):
        tutorial(tmp_path / "run", epochs=1)
    assert not (tmp_path / "run" / "run.json").exists()


def test_a_file_system_without_locks_is_no_hindrance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def flock(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", flock)
    with Run(tmp_path / "run").held():
        assert (tmp_path / "run").is_dir()


def test_a_last_batch_of_one_image_on_maps_of_one_place(tmp_path: Path) -> None:
    """Batch norm has no variance there, and takes its averages."""
    x = torch.randint(0, 256, (5, 1, 4, 4), dtype=torch.uint8)
    run = vaekit.fit("tutorial", x, validation_data=x, out=tmp_path / "run", epochs=2, batch_size=2, scale=0.25, watcher=Silent())
    assert run.finished and run.metrics()[-1]["skipped_steps"] == 0


def test_a_signal_to_one_process_stops_all() -> None:
    trainer = object.__new__(Trainer)
    trainer.world, trainer.device = 2, torch.device("cpu")
    trainer.accelerator = SimpleNamespace(gather=lambda own: torch.cat([own, torch.tensor([15])]))
    assert trainer._asked([]) == 15
    trainer.accelerator.gather = lambda own: torch.cat([own, torch.tensor([0])])
    assert trainer._asked([]) == 0 and trainer._asked([2]) == 2


def test_more_processes_than_images_of_a_batch(tmp_path: Path) -> None:
    command = ["train", "digits", "--recipe", "tutorial", "--batch-size", "1", "--limit", "20", "--epochs", "1", "--out", str(tmp_path / "run")]
    done = torchrun(2, "-m", "vaekit", *command)
    assert done.returncode != 0 and "2 processes share batches of 1" in done.stderr and "AttributeError" not in done.stderr
