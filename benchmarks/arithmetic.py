"""How much of the machine's arithmetic a training step uses: achieved GFLOP/s beside the peaks that were measured in the same run.

    python benchmarks/arithmetic.py --threads 1

The recipes `conv` and `ladder` at their defaults (binary images 1x28x28, batch 128), in float32 and bfloat16 autocast, in both memory layouts. The
peaks are those of matrix products and of 3x3 convolutions with the shapes that such networks have. Everything takes turns, round by round, and the
median over the rounds is given: a processor has fast and slow phases of seconds. Floating-point operations are counted by PyTorch's own
`FlopCounterMode` (a multiplication and an addition are two); what is elementwise counts nothing and takes its time.

The convolutional part is every convolution of the network on its own, forward and backward, with the shapes, the layout and the precision that it
has within the step. Each run adds its lines to `benchmarks/arithmetic.jsonl`; `docs/arithmetic.md` is written from the last run of each number of
threads.
"""

import argparse
import copy
import datetime
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from lines import append, read
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

import vaekit
from vaekit.device import device_name
from vaekit.memory import keep_freed_memory
from vaekit.output import Batch
from vaekit.training.ema import Average
from vaekit.training.optimizer import global_norm, make_optimizer
from vaekit.training.plan import Plan
from vaekit.training.task import Task

HERE = Path(__file__).resolve().parent
LINES, PAGE = HERE / "arithmetic.jsonl", HERE.parent / "docs" / "arithmetic.md"
PLANS = [(precision, last) for precision in ("fp32", "bf16") for last in (False, True)]
PARTS = ("forward", "backward", "norm", "optimizer", "average")
TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
CONVOLUTION = (torch.ops.aten.convolution, torch.ops.aten._convolution, torch.ops.aten.convolution_backward)


clock = time.perf_counter


@dataclass
class Timed:
    """Something that takes its turn: `run` gives the seconds of one go, for each of its parts."""

    about: dict[str, Any]
    run: Callable[[], dict[str, float]]
    flops: dict[str, float]
    seconds: list[dict[str, float]] = field(default_factory=list)

    def median(self, part: str) -> float:
        return statistics.median(row[part] for row in self.seconds)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="of the arithmetic (default: as PyTorch chooses)")
    parser.add_argument("--recipes", nargs="+", default=["conv", "ladder"])
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=7, help="turns of everything (default: 7)")
    parser.add_argument("--cpu-time", action="store_true", help="count this process's processor time, where others share the core (one thread only)")
    parser.add_argument("--page", action="store_true", help="only write the page from the lines that are there")
    args = parser.parse_args()
    if args.cpu_time:
        if args.threads != 1:
            parser.error("--cpu-time adds up the time of all threads: it tells something of one alone (--threads 1)")
        global clock
        clock = time.process_time
    if not args.page:
        rows = measured(args.recipes, args.batch_size, args.threads, args.rounds)
        for row in rows:
            append(LINES, row)
        print("\n".join(page_of(rows)))
    write_page()
    return 0


def measured(recipes: list[str], batch_size: int, threads: int, rounds: int) -> list[dict[str, Any]]:
    keep_freed_memory()
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    turns = [product(kind) for kind in TYPES]
    turns += [peak(c, side, *plan, batch_size) for c in (32, 64, 96) for side in (14, 7) for plan in PLANS]
    for name in recipes:
        for plan in PLANS:
            turns += step_of(name, Plan(*plan), batch_size)
    for i in range(rounds + 1):
        for each in turns:
            each.run()
            if i > 0:
                each.seconds.append(each.run())
    run = {"run": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"), "threads": threads, "batch_size": batch_size}
    run |= {"torch": torch.__version__, "processor": device_name(torch.device("cpu")), "clock": "processor" if clock is time.process_time else "wall"}
    rows = []
    for each in turns:
        medians = {part: each.median(part) for part in each.seconds[0]}
        rows.append({**run, **each.about, "milliseconds": {k: round(1e3 * v, 4) for k, v in medians.items()}, "gflop": each.flops})
    return rows


# ---- the peaks


def product(precision: str, side: int = 1024) -> Timed:
    """A square product of matrices."""
    a, b = (torch.randn(side, side, dtype=TYPES[precision]) for _ in range(2))
    return Timed({"what": "product", "precision": precision}, repeated({"forward": lambda: a @ b}, 3), {"forward": 2e-9 * side**3})


def peak(channels: int, side: int, precision: str, last: bool, n: int) -> Timed:
    """A 3x3 convolution between maps of as many channels, forward and backward."""
    conv = nn.Conv2d(channels, channels, 3, padding=1)
    x = torch.randn(n, channels, side, side)
    about = {"what": "convolution", "channels": channels, "side": side, "precision": precision, "channels_last": last}
    return alone(about, conv, laid_out(x, last).to(TYPES[precision]), True, last, times=3)


def alone(about: dict[str, Any], conv: nn.Module, x: Tensor, gradient: bool, last: bool, times: int = 1) -> Timed:
    """A convolution on its own; `gradient` says whether its input has one."""
    conv = copy.deepcopy(conv).to(x.dtype)
    Plan(channels_last=last).apply(conv)
    x = x.detach().requires_grad_(gradient)
    wanted = [*conv.parameters(), *([x] if gradient else [])]
    with FlopCounterMode(display=False) as counter:
        y = conv(x)
    flops = {"forward": 1e-9 * counter.get_total_flops()}
    dy = torch.randn_like(y)
    with FlopCounterMode(display=False) as counter:
        torch.autograd.grad(y, wanted, dy)
    flops["backward"] = 1e-9 * counter.get_total_flops()

    def run() -> dict[str, float]:
        seconds = {"forward": 0.0, "backward": 0.0}
        for _ in range(times):
            began = clock()
            y = conv(x)
            middle = clock()
            torch.autograd.grad(y, wanted, dy)
            seconds["forward"] += middle - began
            seconds["backward"] += clock() - middle
        return {k: v / times for k, v in seconds.items()}

    return Timed(about, run, flops)


def repeated(parts: dict[str, Callable[[], Any]], times: int) -> Callable[[], dict[str, float]]:
    def run() -> dict[str, float]:
        seconds = {}
        for name, part in parts.items():
            began = clock()
            for _ in range(times):
                part()
            seconds[name] = (clock() - began) / times
        return seconds

    return run


def laid_out(x: Tensor, last: bool) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last if last else torch.contiguous_format)


# ---- the step


def step_of(name: str, plan: Plan, batch_size: int) -> list[Timed]:
    """The training step of a recipe, and all its convolutions on their own."""
    recipe = vaekit.recipe(name, shape=(1, 28, 28), levels=2)
    task = Task(recipe.model, recipe.objective, recipe.penalties, recipe.critics, plan.precision)
    batch = Batch(torch.bernoulli(torch.full((batch_size, 1, 28, 28), 0.3)).to(torch.uint8))
    task.initialize(batch)
    scramble(task)
    plan.apply(task)
    parameters = [p for p in task.parameters() if p.requires_grad]
    optimizer, average = make_optimizer(task, recipe.defaults), Average(recipe.model, recipe.defaults.ema)
    # The weights must stay where they are: gradients of random bits lead nowhere.
    for group in optimizer.param_groups:
        group["lr"] = 1e-12
    seen: list[tuple[nn.Module, Tensor, bool]] = []

    def saw(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        x = inputs[0].detach()
        seen.append((module, x.to(output.dtype), inputs[0].requires_grad))

    convolutions = [m for m in task.modules() if isinstance(m, (nn.Conv2d, nn.ConvTranspose2d))]
    hooks = [m.register_forward_hook(saw) for m in convolutions]
    with FlopCounterMode(display=False) as counter:
        task(batch).loss.backward()
    for hook in hooks:
        hook.remove()
    for p in parameters:
        p.grad = None
    counts = counter.get_flop_counts()["Global"]
    flops = {"all": 1e-9 * sum(counts.values()), "convolutions": 1e-9 * sum(counts.get(op, 0) for op in CONVOLUTION)}
    dimensions = batch.x[0].numel()

    def run() -> dict[str, float]:
        marks = [clock()]
        loss = task(batch).loss / dimensions
        marks.append(clock())
        loss.backward()
        marks.append(clock())
        global_norm(parameters).item()
        marks.append(clock())
        optimizer.step()
        for p in parameters:
            p.grad = None
        marks.append(clock())
        average.update()
        marks.append(clock())
        return {name: b - a for name, (a, b) in zip(PARTS, pairwise(marks), strict=True)} | {"all": marks[-1] - marks[0]}

    about = {"recipe": name, "precision": plan.precision, "channels_last": plan.channels_last}
    pieces = [alone({}, conv, laid_out(x, layout(x)), gradient, plan.channels_last) for conv, x, gradient in seen]
    one = {part: sum(piece.flops[part] for piece in pieces) for part in ("forward", "backward")}
    if abs(sum(one.values()) - flops["convolutions"]) > 1e-6 * flops["convolutions"]:
        raise RuntimeError("The convolutions on their own do not have the operations of those in the step.")

    def convolve() -> dict[str, float]:
        rows = [piece.run() for piece in pieces]
        return {part: sum(row[part] for row in rows) for part in ("forward", "backward")}

    return [Timed({"what": "step", **about}, run, flops), Timed({"what": "convolutions", "calls": len(pieces), **about}, convolve, one)]


def layout(x: Tensor) -> bool:
    """Whether a map came in channels-last; one with a single channel or position is both, and counts as not."""
    return x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()


@torch.no_grad()
def scramble(module: nn.Module) -> None:
    """Weights that start at zero would make gradients of zeros, and denormal numbers are slow."""
    for p in module.parameters():
        if p.dim() == 4 and not p.any():
            p.normal_(0, 0.01)


# ---- the page


def rate(row: dict[str, Any], *parts: str) -> float:
    """GFLOP/s."""
    return 1e3 * sum(row["gflop"][p] for p in parts) / sum(row["milliseconds"][p] for p in parts)


def title(row: dict[str, Any]) -> str:
    return f"{row['precision']} {'channels-last' if row['channels_last'] else 'NCHW'}"


def page_of(rows: list[dict[str, Any]]) -> list[str]:
    """One run, as tables."""
    first = rows[0]
    text = [f"## {first['threads']} {'thread' if first['threads'] == 1 else 'threads'}", ""]
    text += [f"{first['run']}, {first['processor']}, torch {first['torch']}, batch {first['batch_size']}, {first['clock']} time.", ""]
    products = " and ".join(f"{rate(r, 'forward'):,.0f} GFLOP/s in {r['precision']}" for r in rows if r["what"] == "product")
    text += [f"A product of 1024 x 1024 matrices: {products}. Convolutions 3x3, GFLOP/s of the forward pass / of the backward pass:", ""]
    kinds = list(dict.fromkeys(title(r) for r in rows if r["what"] == "convolution"))
    text += ["| channels, map | " + " | ".join(kinds) + " |", "|---" * (len(kinds) + 1) + "|"]
    peaks: dict[str, float] = {}
    for c, side in dict.fromkeys((r["channels"], r["side"]) for r in rows if r["what"] == "convolution"):
        cells = []
        for r in (r for r in rows if r["what"] == "convolution" and (r["channels"], r["side"]) == (c, side)):
            peaks[title(r)] = max(peaks.get(title(r), 0.0), rate(r, "forward"))
            cells.append(f"{rate(r, 'forward'):,.0f} / {rate(r, 'backward'):,.0f}")
        text.append(f"| {c}, {side}x{side} | " + " | ".join(cells) + " |")
    text += ["", "| recipe | plan | " + " | ".join(f"{part} ms" for part in PARTS) + " | step ms | images/s | GFLOP | GFLOP/s |"]
    text += ["|---" * (len(PARTS) + 6) + "|"]
    for r in (r for r in rows if r["what"] == "step"):
        ms = r["milliseconds"]
        cells = [r["recipe"], title(r), *(f"{ms[part]:.1f}" for part in (*PARTS, "all"))]
        cells += [f"{1e3 * r['batch_size'] / ms['all']:,.0f}", f"{r['gflop']['all']:.2f}", f"{rate(r, 'all'):,.0f}"]
        text.append("| " + " | ".join(cells) + " |")
    heads = ["recipe", "plan", "convolutions", "GFLOP", "forward ms", "backward ms", "of the step", "GFLOP/s", "peak", "of the peak"]
    text += ["", "| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    steps = {(r["recipe"], title(r)): r["milliseconds"]["all"] for r in rows if r["what"] == "step"}
    for r in (r for r in rows if r["what"] == "convolutions"):
        ms, kind = r["milliseconds"], title(r)
        achieved = rate(r, "forward", "backward")
        cells = [r["recipe"], kind, str(r["calls"]), f"{sum(r['gflop'].values()):.2f}", f"{ms['forward']:.1f}", f"{ms['backward']:.1f}"]
        cells += [f"{(ms['forward'] + ms['backward']) / steps[r['recipe'], kind]:.0%}", f"{achieved:,.0f}", f"{peaks[kind]:,.0f}"]
        text.append("| " + " | ".join([*cells, f"{achieved / peaks[kind]:.0%}"]) + " |")
    return [*text, ""]


def write_page() -> None:
    """`docs/arithmetic.md`, from the last run of each number of threads."""
    runs: dict[int, list[dict[str, Any]]] = {}
    for row in read(LINES):
        kept = runs.setdefault(row["threads"], [])
        if kept and kept[0]["run"] != row["run"]:
            kept.clear()
        kept.append(row)
    text = ["# The arithmetic of a training step", ""]
    text += [
        "Written by `python benchmarks/arithmetic.py --threads N` from `benchmarks/arithmetic.jsonl`. All that is in a section was measured in one",
        "run, in turns; each figure is a median. Floating-point operations are those of convolutions and products of matrices, counted by PyTorch's",
        "`FlopCounterMode`; elementwise work, casts and the optimizer have none and take their time all the same. The convolutional part is every",
        "convolution of the network on its own, forward and backward, with the shapes and the layout that it has within the step; its peak is the",
        "fastest forward convolution of the first table in the same precision and layout.",
        "",
    ]
    for threads in sorted(runs):
        text += page_of(runs[threads])
    PAGE.write_text("\n".join(text))


if __name__ == "__main__":
    sys.exit(main())
