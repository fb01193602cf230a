"""On another device than the processor: every recipe and every command, with the same figures (see `tests.simulated`)."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import vaekit
from tests.system.on_a_device import COMMANDS
from tests.system.test_processes import ENVIRONMENT, ROOT
from vaekit.cli import main
from vaekit.device import device_of, unrounded
from vaekit.errors import UserError
from vaekit.recipes import RECIPES
from vaekit.run import Run


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str | None]:
    """What differed, of each."""
    environment = ENVIRONMENT | {"VAEKIT_CACHE": str(tmp_path_factory.mktemp("cache"))}
    command = [sys.executable, "-m", "tests.system.on_a_device", str(tmp_path_factory.mktemp("device"))]
    result = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert result.returncode == 0, result.stderr[-3000:]
    lines = [json.loads(line) for line in result.stdout.splitlines() if line.startswith("{")]
    return {line["name"]: line["found"] for line in lines}


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_a_recipe_on_another_device(name: str, found: dict[str, str | None]) -> None:
    assert found[name] is None


@pytest.mark.parametrize(("i", "command"), list(enumerate(COMMANDS)), ids=lambda v: v if isinstance(v, str) else "")
def test_a_command_on_another_device(i: int, command: str, found: dict[str, str | None]) -> None:
    assert found[f"{command} ({i})"] is None


def test_what_the_simulated_device_refuses() -> None:
    """As a GPU does: to mix devices, and to hand its memory to NumPy."""
    program = """
import torch
from tests.simulated import simulated
with simulated() as sim:
    x = torch.ones(3, device=sim)
    assert x.device == sim and (x + 1).tolist() == [2, 2, 2] and torch.equal((x + 1).cpu(), torch.full((3,), 2.0))
    for refused in (lambda: x + torch.ones(3), lambda: torch.cat([x, torch.ones(3)]), lambda: torch.ones(3)[x.long()], lambda: x.numpy()):
        try:
            refused()
        except (RuntimeError, TypeError):
            continue
        raise SystemExit("not refused")
"""
    result = subprocess.run([sys.executable, "-c", program], env=ENVIRONMENT, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr[-3000:]


def test_the_name_of_a_device(monkeypatch: pytest.MonkeyPatch) -> None:
    assert device_of("cpu") == torch.device("cpu")
    for name in ("cuda:9", "gpu", "meta"):
        with pytest.raises(UserError, match=f"no device '{name}' here .*: choose cpu, or auto"):
            device_of(name)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert device_of("auto") == torch.device("cpu")


def test_a_gpu_is_taken_where_it_works(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with pytest.warns(UserWarning, match="The GPU cannot be used .*: the processor takes its place"):
        assert device_of("auto") == torch.device("cpu")  # this build knows none, as a full one would refuse
    ones = torch.ones
    monkeypatch.setattr(torch, "ones", lambda n, device: ones(n))
    assert device_of("auto") == torch.device("cuda", 0)
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert device_of("auto") == torch.device("cuda", 1)


def test_too_little_memory_is_said(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def full(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr("vaekit.api.load", full)
    with pytest.raises(SystemExit) as stop:
        main(["sample", "anything"])
    assert stop.value.code == 2 and "--device cpu" in capsys.readouterr().err


def test_pictures_that_do_not_fit_on_the_gpu_are_made_on_the_processor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The training itself has ended by then, and its run is whole."""
    draw, tries, described = vaekit.finish.illustrate, [], Run.description.fget
    monkeypatch.setattr(Run, "description", property(lambda run: {**described(run), "plan": {**described(run).get("plan", {}), "device": "cuda"}}))
    monkeypatch.setattr("vaekit.run.device_of", lambda name: torch.device("meta" if name == "auto" else name))

    def full(run: Run, dataset: vaekit.data.Dataset) -> None:
        tries.append(run)
        if len(tries) == 1:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        draw(run, dataset)

    monkeypatch.setattr("vaekit.finish.illustrate", full)
    run = vaekit.fit("tutorial", torch.randint(0, 256, (40, 1, 8, 8), dtype=torch.uint8), epochs=1, out=tmp_path / "run", scale=0.25)
    assert [run.device.type for run in tries] == ["meta", "cpu"] and (run.path / "samples.png").exists()


def test_float32_is_not_rounded_on_a_gpu_while_figures_are_made() -> None:
    cudnn = torch.backends.cudnn
    before = cudnn.allow_tf32
    try:
        for chosen in (True, False):
            cudnn.allow_tf32 = chosen
            with unrounded(torch.device("cuda")):
                assert not cudnn.allow_tf32
            assert cudnn.allow_tf32 == chosen
        cudnn.allow_tf32 = True
        for other in (torch.device("cpu"), None):
            with unrounded(other):
                assert cudnn.allow_tf32
    finally:
        cudnn.allow_tf32 = before
