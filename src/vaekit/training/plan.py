"""How the arithmetic is carried out, chosen by measuring on this machine, and written down before the first step."""

import copy
import hashlib
import json
import math
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from vaekit.device import device_name
from vaekit.memory import channels_last
from vaekit.output import Batch
from vaekit.part import spec
from vaekit.saving import save_json
from vaekit.training.critics import Critics
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

    def __str__(self) -> str:
        words = [self.precision, *["channels-last"] * self.channels_last, *["compiled"] * self.compile]
        return f"{' '.join(words)}, {self.threads} {'thread' if self.threads == 1 else 'threads'}"

    def apply(self, module: nn.Module) -> None:
        """Puts the weights into this plan's memory layout."""
        if self.channels_last:
            channels_last(module)


@dataclass(frozen=True)
class Cost:
    """What was measured of a plan: seconds of a step, infinite if it cannot be carried out; and seconds of compiling it, 0 for none."""

    step: float
    once: float = 0.0
    why: str = field(default="", compare=False)
    """What stands in the way, if it cannot be carried out."""


@dataclass(frozen=True)
class Chosen:
    """A plan, and what it was chosen among; nothing, if nothing was measured."""

    plan: Plan
    costs: Mapping[Plan, Cost] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The plan's own entries, and a list `measured`; seconds are None for what cannot be carried out."""
        rows: list[dict[str, Any]] = []
        for plan, cost in self.costs.items():
            # Not rounded: what is read back must rank as what was measured.
            rows.append({**plan.to_json(), "seconds_per_step": cost.step if math.isfinite(cost.step) else None})
            rows[-1] |= ({"compile_seconds": cost.once} if cost.once else {}) | ({"why": cost.why} if cost.why else {})
        return {**self.plan.to_json(), "measured": rows}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Chosen":
        def plan(row: Mapping[str, Any]) -> Plan:
            return Plan(**{k: row[k] for k in Plan.__dataclass_fields__})

        def cost(row: Mapping[str, Any]) -> Cost:
            seconds = row["seconds_per_step"]
            return Cost(math.inf if seconds is None else seconds, row.get("compile_seconds", 0.0), row.get("why", ""))

        return cls(plan(values), {plan(row): cost(row) for row in values.get("measured", [])})

    def __str__(self) -> str:
        """One line for people."""
        if not self.costs:
            return f"Plan: {self.plan}."
        return f"Plan: {self.plan}. Milliseconds of a step: {'; '.join(f'{plan} {_figure(cost)}' for plan, cost in self.costs.items())}."


def _figure(cost: Cost) -> str:
    if not math.isfinite(cost.step):
        return f"impossible here ({cost.why})" if cost.why else "impossible here"
    return f"{1e3 * cost.step:.1f}" + (f" after {cost.once:.0f} s of compiling" if cost.once else "")


HANDICAPS = {"precision": 1.05, "channels_last": 1.02, "compile": 1.05, "threads": 1.05}
"""By how much a plan that differs in this must be faster than the plain one: bf16 costs bits, the others at least the 2 % that noise can make."""


def fastest(costs: Mapping[Plan, Cost], plain: Plan, steps: float) -> Plan:
    """The plan with the least seconds for `steps` steps, its compilation among them; `plain` stays unless another is clearly faster.

    Compilation counts twice: a run compiles once more, for the last and smaller batch of an epoch.
    """

    def seconds(plan: Plan) -> float:
        handicap = math.prod(factor for name, factor in HANDICAPS.items() if getattr(plan, name) != getattr(plain, name))
        return 2 * costs[plan].once + steps * costs[plan].step * handicap

    return min(costs, key=seconds)


def has_bf16(device: torch.device) -> bool:
    """Whether bf16 is arithmetic here, and not emulation."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and torch.ops.mkldnn._is_mkldnn_bf16_supported()


def candidates(training: Training, device: torch.device) -> list[Plan]:
    """The precisions that were asked for (fp32 and bf16 when that is "auto") in either memory layout; the plain one first."""
    asked = training.precision
    precisions = ["fp32", "bf16"] if asked == "auto" and has_bf16(device) else ["fp32" if asked == "auto" else asked]
    return [Plan(precision, last, training.compile, torch.get_num_threads()) for precision in precisions for last in (False, True)]


def cached(task: Task, training: Training, batch: Batch, cache: Path, *more: Any) -> Path:
    """The file in the cache for this network, batch and machine."""
    device = batch.x.device
    names = [torch.__version__, device.type, device_name(device), device_name(torch.device("cpu"))]
    machine = [*names, torch.get_num_threads(), torch.backends.cpu.get_cpu_capability(), os.cpu_count()]
    parts = [task.model, task.objective, *task._penalties, *task._critics[0].values()]
    options = [list(batch.x.shape), training.optimizer, training.precision]
    key = json.dumps([*map(spec, parts), *options, machine, *more], sort_keys=True)
    return cache / "plans" / f"{hashlib.sha256(key.encode()).hexdigest()[:24]}.json"


def choose(task: Task, training: Training, batch: Batch, steps: int, cache: Path) -> Chosen:
    """The plan for a run of `steps`: the fastest of the candidates.

    A run too short to repay the measuring takes the first of them. What was measured is kept in `cache`, so that the same command gives the same run.
    """
    plans = candidates(training, batch.x.device)
    if steps < 200:
        return Chosen(plans[0])
    path = cached(task, training, batch, cache, "choice", training.compile)
    if path.exists():
        return Chosen.from_json(json.loads(path.read_text()))
    costs = {plan: Cost(seconds) for plan, seconds in measure(task, training, plans, batch).items()}
    chosen = Chosen(fastest(costs, plans[0], steps), costs)
    save_json(path, chosen.to_json())
    return chosen


def measure(task: Task, training: Training, plans: list[Plan], batch: Batch, budget: float = 0.6) -> dict[Plan, float]:
    """Median seconds of a training step under each plan (but for compilation), on copies of the task; `budget` seconds each.

    The plans take turns, so that whatever else the machine does strikes all alike; short steps are taken several at a time, the first of them not
    timed, since it finds the weights of another plan in the processor's cache.
    """
    trials: dict[Plan, Callable[[], None]] = {}
    steps: dict[Plan, Callable[[], None]] = {}
    with torch.random.fork_rng(devices=[]):
        for plan in plans:
            # Plans that differ in threads alone are tried on one copy.
            kind = replace(plan, threads=0, compile=False)
            if kind not in trials:
                trials[kind] = trial(task, training, kind, batch)
            steps[plan] = trials[kind]
        return take_turns(steps, batch.x.device, budget)


def take_turns(steps: Mapping[Plan, Callable[[], None]], device: torch.device, budget: float) -> dict[Plan, float]:
    """Median seconds of each step, on as many threads as its plan has."""
    before = torch.get_num_threads()
    times: dict[Plan, list[float]] = {plan: [] for plan in steps}
    try:
        longest = 0.0
        for plan, step in steps.items():
            torch.set_num_threads(plan.threads)
            longest = max(longest, min(_seconds(step, device) for _ in range(3)))
        turn = 5 if longest < 0.1 else 1
        while min(map(len, times.values())) < 5 or sum(map(sum, times.values())) < budget * len(steps):
            for plan, step in steps.items():
                changed = torch.get_num_threads() != plan.threads
                torch.set_num_threads(plan.threads)
                if turn > 1 or changed:
                    step()
                times[plan] += [_seconds(step, device) for _ in range(turn)]
    finally:
        torch.set_num_threads(before)
    return {plan: sorted(values)[len(values) // 2] for plan, values in times.items()}


def trial(task: Task, training: Training, plan: Plan, batch: Batch) -> Callable[[], None]:
    """A training step of a copy of the task and of its critics under this plan."""
    tried = copy.deepcopy(task)
    tried.precision = plan.precision
    plan.apply(tried)
    optimizer = make_optimizer(tried, training, plan.precision)
    critics = Critics(tried._critics[0], training, batch.x.device, alone=True)
    dimensions = batch.x[0].numel()
    forward = torch.compile(tried) if plan.compile else tried

    def step() -> None:
        made = forward(batch)
        (made.loss / dimensions).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        critics.step(made.feeds)

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


def images_in(minutes: float, task: Task, training: Training, chosen: Chosen, batch: Batch, share: float) -> int:
    """How many training images fit into a budget of minutes, where `share` validation images are scored for each training image."""
    plan = chosen.plan
    cost = chosen.costs.get(plan, Cost(math.inf))
    if not cost.once:
        cost = Cost(measure(task, training, [plan], batch, budget=2.0)[plan])
    tried = copy.deepcopy(task).eval()
    tried.precision = plan.precision
    plan.apply(tried)

    def score() -> None:  # as validation does: one code for each image, and no penalties
        with torch.no_grad(), torch.autocast(batch.x.device.type, torch.bfloat16, enabled=plan.precision == "bf16"):
            tried.model(batch).log_w()

    threads = torch.get_num_threads()
    torch.set_num_threads(plan.threads)
    try:
        with torch.random.fork_rng(devices=[]):
            times = [_seconds(score, batch.x.device) for _ in range(12)]
    finally:
        torch.set_num_threads(threads)
    validate = sorted(times)[len(times) // 2]
    return max(len(batch), int((60 * minutes - 2 * cost.once) * len(batch) / (cost.step + share * validate)))
