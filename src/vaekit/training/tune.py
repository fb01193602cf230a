"""More ways to carry out a training step, tried one after the other on this machine: threads, and compilation where a run is long enough for it."""

import json
import time
from dataclasses import replace
from pathlib import Path

import torch

from vaekit.output import Batch
from vaekit.saving import save_json
from vaekit.training.options import Training
from vaekit.training.plan import Chosen, Cost, Plan, cached, candidates, fastest, measure, take_turns, trial
from vaekit.training.task import Task

LONG = 300.0
"""Seconds of training below which compilation is not tried: it takes some 20 to 60 s, and the step would have to become a third faster."""


def tune(task: Task, training: Training, batch: Batch, steps: int, cache: Path, alone: bool = True) -> Chosen:
    """The fastest plan for a run of `steps` (or of `training.minutes`), and what was measured to find it.

    Three rounds: precision and memory layout, as in `choose`; threads for the best of them; compilation of the best of those, if the run lasts. Plans
    of different rounds are compared by way of the one that both have, since a machine has fast and slow minutes. The costs are kept in `cache` for
    this network, batch and machine, and the choice is made from them anew for each length of run.

    Args:
        alone: whether this is the only process of the run; else threads and compilation stay as they are.
    """
    path = cached(task, training, batch, cache, "tuning", training.compile, alone)
    costs = dict(Chosen.from_json(json.loads(path.read_text())).costs) if path.exists() else {}
    plans = candidates(training, batch.x.device)
    plain = plans[0]
    if not costs:
        costs = {plan: Cost(seconds) for plan, seconds in measure(task, training, plans, batch).items()}
        best = fastest(costs, plain, 1)
        if alone and batch.x.device.type == "cpu" and len(counts := thread_counts(torch.get_num_threads())) > 1:
            seconds = measure(task, training, [replace(best, threads=n) for n in counts], batch)
            costs |= {plan: Cost(costs[best].step * s / seconds[best]) for plan, s in seconds.items() if plan != best}
    eager = fastest({plan: cost for plan, cost in costs.items() if not plan.compile or training.compile}, plain, 1)
    count = steps if training.minutes is None else 60 * training.minutes / costs[eager].step
    compiled = replace(eager, compile=True)
    if alone and compiled not in costs and count * costs[eager].step >= LONG:
        costs[compiled] = compiled_cost(task, training, eager, costs[eager], batch)
    chosen = Chosen(fastest(costs, plain, count), costs)
    save_json(path, chosen.to_json())
    return chosen


def thread_counts(most: int) -> list[int]:
    """1, 2, 4, ... and `most`, the number that PyTorch takes by itself: its count of cores, or what the environment says (OMP_NUM_THREADS)."""
    return sorted({most, *(2**i for i in range(most.bit_length()) if 2**i <= most)})


def reason(error: Exception) -> str:
    """The first line of an error that says something, in at most 100 characters."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__)[:100]


def compiled_cost(task: Task, training: Training, eager: Plan, known: Cost, batch: Batch) -> Cost:
    """What the compiled step costs beside the eager one; infinite, and why, if this machine or this objective does not allow it."""
    compiled = replace(eager, compile=True)
    before = torch.get_num_threads()
    try:
        with torch.random.fork_rng(devices=[]):
            torch.set_num_threads(eager.threads)
            step = trial(task, training, compiled, batch)
            began = time.perf_counter()
            step()
            once = time.perf_counter() - began
            seconds = take_turns({eager: trial(task, training, eager, batch), compiled: step}, batch.x.device, 1.0)
    except Exception as error:  # no compiler, an operation it cannot trace, an objective that refuses: whatever it is, the plan is not to be had
        return Cost(float("inf"), why=reason(error))
    finally:
        torch.set_num_threads(before)
        torch.compiler.reset()
    return Cost(known.step * seconds[compiled] / seconds[eager], max(once - seconds[compiled], 1e-3))
