"""Two processes equal one; a fresh process traces the whole step; imports are light and run one way."""

import ast
import builtins
import dis
import importlib
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import CodeType

import pytest
import torch

from vaekit.training.processes import joined

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "vaekit"
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo", "PYTHONPATH": str(ROOT)}


def torchrun(processes: int, *arguments: str) -> subprocess.CompletedProcess:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--nproc-per-node",
        str(processes),
        "--master-addr",
        "127.0.0.1",
        "--master-port",
        str(port),
    ]
    return subprocess.run([*command, *arguments], env=ENVIRONMENT, cwd=ROOT, capture_output=True, text=True, timeout=120)


HUGE_PAGES = """
import contextlib
from vaekit.cli import main
with contextlib.suppress(SystemExit):
    main(["--version"])
import torch
x = torch.empty(64 << 20, dtype=torch.uint8)
middle, inside = x.data_ptr() + x.numel() // 2, False
for line in open("/proc/self/smaps"):
    first, *rest = line.split()
    if not first.endswith(":"):
        low, high = (int(end, 16) for end in first.split("-"))
        inside = low <= middle < high
    elif inside and first == "VmFlags:":
        print("hg" in rest)
"""
"""Whether the kernel was asked for huge pages under a large tensor, in a process that the command line has started."""


@pytest.mark.skipif(not Path("/sys/kernel/mm/transparent_hugepage/enabled").exists(), reason="this kernel has no huge pages to ask for")
@pytest.mark.parametrize("said, asked", [(None, "True"), ("0", "False")])
def test_the_command_line_asks_for_huge_pages(said: str | None, asked: str) -> None:
    """PyTorch reads the variable before its first tensor; what the user has set stands."""
    environment = {k: v for k, v in ENVIRONMENT.items() if k != "THP_MEM_ALLOC_ENABLE"} | ({} if said is None else {"THP_MEM_ALLOC_ENABLE": said})
    done = subprocess.run([sys.executable, "-c", HUGE_PAGES], env=environment, cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.split()[1:] == [asked], done.stderr


@pytest.mark.parametrize("name", ["plain", "vq-ema", "factor", "vae-gan"])
def test_two_processes_equal_one(name: str, tmp_path: Path) -> None:
    for processes in (1, 2):
        result = torchrun(processes, "-m", "tests.system.two_processes", str(tmp_path / f"{processes}.pt"), name)
        assert result.returncode == 0, result.stderr[-3000:]
    one, two = torch.load(tmp_path / "1.pt"), torch.load(tmp_path / "2.pt")
    for name in one:
        assert torch.allclose(one[name], two[name], atol=1e-5), name


def test_train_under_torchrun(tmp_path: Path) -> None:
    """The command itself on two processes: one run folder, and noise that differs between the ranks."""
    out = tmp_path / "run"
    result = torchrun(
        2,
        "-m",
        "vaekit",
        "train",
        "digits",
        "-r",
        "tutorial",
        "--no-report",
        "--scale",
        "0.25",
        "--epochs",
        "2",
        "--precision",
        "fp32",
        "--out",
        str(out),
    )
    assert result.returncode == 0, result.stderr[-3000:]
    assert (out / "model.safetensors").exists() and len((out / "metrics.jsonl").read_text().splitlines()) == 2
    assert '"processes": 2' in (out / "run.json").read_text()


def test_two_trainings_in_one_script(tmp_path: Path) -> None:
    result = torchrun(2, "-m", "tests.system.two_trainings", str(tmp_path))
    assert result.returncode == 0, result.stderr[-3000:]
    assert all((tmp_path / name / "model.safetensors").exists() for name in ("one", "two")) and list((tmp_path / "two" / "priors").iterdir())


def test_trainings_of_different_precision_join_in_one_script() -> None:
    """As fp16 after fp32 on a GPU: Accelerate shares its state among all that it makes."""
    for precision in ("no", "bf16", "no"):
        assert joined(cpu=True, mixed_precision=precision).mixed_precision == precision


def test_ranks_draw_different_noise() -> None:
    from vaekit.training.order import seed_step

    draws = set()
    for rank in range(3):
        for images in (0, 64):
            seed_step(0, rank, images)
            draws.add(torch.randn(1).item())
    assert len(draws) == 6


def test_a_fresh_process_compiles_the_whole_step() -> None:
    code = """
import torch
from tests.contracts.examples import batch, vae
from vaekit.objectives import ELBO
from vaekit.training.task import Task
task = Task(vae("resnet"), ELBO())
step = torch.compile(task, fullgraph=True, backend="eager")(batch())
step.loss.backward()
assert torch.isfinite(step.loss)
"""
    result = subprocess.run([sys.executable, "-c", code], env=ENVIRONMENT, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-3000:]


LAYERS = [
    ["errors", "__init__"],
    ["compatibility", "data", "device", "distributions", "memory", "part", "output", "pictures"],
    ["likelihoods"],
    ["networks"],
    ["latents"],
    ["objectives"],
    ["penalties"],
    ["model"],
    ["saving", "run"],
    ["evaluation"],
    ["editing"],
    ["recipes", "training"],
    ["export"],
    ["report"],
    ["testing"],
    ["asked"],
    ["given", "finish"],
    ["api"],
    ["commands"],
    ["cli", "__main__"],
]
"""From the ground up: a module imports from its own layer and from those before it."""


def test_imports_run_one_way() -> None:
    level = {name: i for i, names in enumerate(LAYERS) for name in names}
    for path in SOURCE.rglob("*.py"):
        place = path.relative_to(SOURCE).parts[0].removesuffix(".py")
        if place == "__init__":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            names = [node.module] if isinstance(node, ast.ImportFrom) and node.module else []
            names += [a.name for a in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.module == "vaekit":
                names = [f"vaekit.{a.name}" for a in node.names if a.name != "__version__"]
            for name in names:
                if name.startswith("vaekit."):
                    target = name.split(".")[1]
                    assert level[target] <= level[place], f"{path.relative_to(SOURCE)} imports vaekit.{target}, which stands above it"


def test_every_global_name_is_defined() -> None:
    """Linters cannot look for undefined names beside the axes of jaxtyping's annotations, and a function that is not called hides one."""

    def named(code: CodeType) -> Iterator[str]:
        for instruction in dis.get_instructions(code):
            if instruction.opname == "LOAD_GLOBAL":
                yield instruction.argval
        for constant in code.co_consts:
            if isinstance(constant, CodeType):
                yield from named(constant)

    for path in SOURCE.rglob("*.py"):
        if path.stem == "__main__":
            continue
        place = path.relative_to(SOURCE.parent).with_suffix("").parts
        module = importlib.import_module(".".join(place).removesuffix(".__init__"))
        missing = {name for name in named(compile(path.read_text(), str(path), "exec")) if not hasattr(module, name) and not hasattr(builtins, name)}
        assert not missing, f"{path.relative_to(SOURCE)} names {missing}"


def test_importing_loads_nothing_heavy() -> None:
    heavy = {"accelerate", "matplotlib", "torchmetrics", "kornia", "sklearn", "torchvision", "typer"}
    code = f"import sys, vaekit; print(sorted({heavy!r} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout.strip() == "[]", result.stdout + result.stderr


@pytest.mark.parametrize("extra", [["kornia", "tensorboard", "torchvision", "hypothesis", "pytest", "beartype"]], ids=["extras"])
def test_every_module_imports_with_core_dependencies_only(extra: list[str]) -> None:
    modules = [
        ".".join(("vaekit", *p.relative_to(SOURCE).with_suffix("").parts)) for p in SOURCE.rglob("*.py") if p.stem not in ("__init__", "__main__")
    ]
    code = f"""
import sys, importlib
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {extra!r}:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Absent())
for module in {modules!r}:
    importlib.import_module(module)
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-2000:]
