"""On another device than the processor: every recipe and every command, with the same figures (see `tests.simulated`)."""

import json
import subprocess
import sys

import pytest
import torch

from tests.system.on_a_device import COMMANDS
from tests.system.test_processes import ENVIRONMENT, ROOT
from vaekit.device import device_of
from vaekit.errors import UserError
from vaekit.recipes import RECIPES


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
    for refused in (lambda: x + torch.ones(3), lambda: torch.cat([x, torch.ones(3)]), lambda: x.numpy()):
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
    for there, kind in ((False, "cpu"), (True, "cuda")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda there=there: there)
        assert device_of("auto") == torch.device(kind)
    for name in ("cuda:9", "gpu"):
        with pytest.raises(UserError, match=f"no device '{name}' here .*: choose cpu, or auto"):
            device_of(name)
