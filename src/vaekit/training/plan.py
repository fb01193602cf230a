"""How the arithmetic is carried out, chosen by measuring on this machine, and written down before the first step."""

import copy
import hashlib
import json
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from vaekit.output import Batch
from vaekit.part import spec
from vaekit.saving import save_json
from vaekit.training.optimizer import make_optimizer
from vaekit.training.options import Training
from vaekit.training.task import Task


@dataclass(frozen=True)
class Plan:
    """Precision, memory layout, compilation and threads: a resumed run reuses them, since they decide the last bits of the result."""

    precision: str = "fp32"
    channels_last: bool = False
    compile: bool = False
    threads: int = 1

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def apply(self, module: nn.Module) -> None:
        """Puts the weights into this plan's memory layout."""
        if self.channels_last:
            for parameter in module.parameters():
                if parameter.dim() == 4:
                    parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)


def has_bf16(device: torch.device) -> bool:
    """Whether bf16 is arithmetic here, and not emulation."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and torch.ops.mkldnn._is_mkldnn_bf16_supported()


def choose(task: Task, training: Training, batch: Batch, steps: int, cache: Path) -> Plan:
    """The plan for a run of `steps`: the fastest layout of the precision that was asked for, or of fp32 and bf16 when that is "auto".

    A run too short to repay the measuring takes the first of them. What was measured is kept in `cache`, keyed by the network, the batch and the
    machine, so that the same command gives the same run.
    """
    device = batch.x.device
    threads = torch.get_num_threads()
    asked = training.precision
    precisions = ["fp32", "bf16"] if asked == "auto" and has_bf16(device) else ["fp32" if asked == "auto" else asked]
    candidates = [Plan(precision, last, training.compile, threads) for precision in precisions for last in (False, True)]
    if steps < 200:
        return candidates[0]
    machine = [torch.__version__, device.type, threads, torch.backends.cpu.get_cpu_capability(), os.cpu_count()]
    key = json.dumps(
        [spec(task.model), spec(task.objective), [spec(p) for p in task._penalties], list(batch.x.shape), training.optimizer, asked, machine],
        sort_keys=True,
    )
    path = cache / "plans" / f"{hashlib.sha256(key.encode()).hexdigest()[:24]}.json"
    if path.exists():
        return Plan(**json.loads(path.read_text())["plan"])
    seconds = measure(task, training, candidates, batch)
    # What is plain stays unless the other is clearly faster: bf16 by 5 %, since it costs bits, channels-last by the 2 % that noise can make.
    plain = candidates[0]
    handicap = {p: (1.0 if p.precision == plain.precision else 1.05) * (1.0 if p.channels_last == plain.channels_last else 1.02) for p in candidates}
    best = min(candidates, key=lambda p: seconds[p] * handicap[p])
    save_json(path, {"plan": best.to_json(), "milliseconds_per_step": {json.dumps(p.to_json()): round(1e3 * s, 3) for p, s in seconds.items()}})
    return best


def measure(task: Task, training: Training, plans: list[Plan], batch: Batch, budget: float = 0.6) -> dict[Plan, float]:
    """Median seconds of a training step under each plan, on copies of the task; `budget` seconds each.

    The plans take turns, so that whatever else the machine does strikes all alike; short steps are taken several at a time, the first of them not
    timed, since it finds the weights of another plan in the processor's cache.
    """
    with torch.random.fork_rng(devices=[]):
        steps = {plan: _trial(task, training, plan, batch) for plan in plans}
        times: dict[Plan, list[float]] = {plan: [] for plan in plans}
        for plan in plans:
            for _ in range(3):
                longest = _seconds(steps[plan], batch.x.device)
        turn = 5 if longest < 0.1 else 1
        while min(map(len, times.values())) < 5 or sum(map(sum, times.values())) < budget * len(plans):
            for plan in plans:
                if turn > 1:
                    steps[plan]()
                times[plan] += [_seconds(steps[plan], batch.x.device) for _ in range(turn)]
    return {plan: sorted(values)[len(values) // 2] for plan, values in times.items()}


def _trial(task: Task, training: Training, plan: Plan, batch: Batch) -> Callable[[], None]:
    """A training step of a copy of the task under this plan."""
    trial = copy.deepcopy(task)
    trial.precision = plan.precision
    plan.apply(trial)
    optimizer = make_optimizer(trial, training)
    dimensions = batch.x[0].numel()

    def step() -> None:
        (trial(batch).loss / dimensions).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def _seconds(step: Callable[[], None], device: torch.device) -> float:
    _synchronize(device)
    start = time.perf_counter()
    step()
    _synchronize(device)
    return time.perf_counter() - start


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def images_in(minutes: float, task: Task, training: Training, plan: Plan, batch: Batch, share: float) -> int:
    """How many training images fit into a budget of minutes, where `share` validation images are scored for each training image."""
    train = measure(task, training, [plan], batch, budget=2.0)[plan]
    trial = copy.deepcopy(task).eval()
    trial.precision = plan.precision
    plan.apply(trial)

    def score() -> None:
        with torch.no_grad():
            trial(batch)

    with torch.random.fork_rng(devices=[]):
        times = [_seconds(score, batch.x.device) for _ in range(12)]
    validate = sorted(times)[len(times) // 2]
    return max(len(batch), int(60 * minutes * len(batch) / (train + share * validate)))
