"""The plan of a run: ranked from measured seconds, kept in the cache, written down before the first step, reused on resume."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import vaekit
from tests.contracts.examples import batch, spec_of, vae
from vaekit.data.cache import cache_folder
from vaekit.objectives import ELBO
from vaekit.output import Batch
from vaekit.recipes import build_recipe
from vaekit.training import Silent, Training, plan, tune
from vaekit.training.plan import Chosen, Cost, Plan, fastest
from vaekit.training.task import Task

FP32, LAST = Plan("fp32"), Plan("fp32", True)
BF16, BF16_LAST = Plan("bf16"), Plan("bf16", True)
COMPILED, TWO = Plan("fp32", compile=True), Plan("fp32", threads=2)


@pytest.mark.parametrize(
    ("costs", "steps", "expected"),
    [
        ({FP32: 0.010, LAST: 0.0099}, 1e6, FP32),
        ({FP32: 0.010, LAST: 0.0097}, 1e6, LAST),
        ({FP32: 0.010, BF16: 0.0096}, 1e6, FP32),
        ({FP32: 0.010, BF16: 0.0094}, 1e6, BF16),
        # Both handicaps at once: 0.0094 * 1.05 * 1.02 > 0.01.
        ({FP32: 0.010, BF16_LAST: 0.0094}, 1e6, FP32),
        ({FP32: 0.010, BF16_LAST: 0.0092}, 1e6, BF16_LAST),
        ({FP32: 0.010, TWO: 0.0096}, 1e6, FP32),
        ({FP32: 0.010, TWO: 0.006}, 1e6, TWO),
        ({FP32: 0.010, TWO: math.inf}, 1e6, FP32),
    ],
)
def test_ranking_of_steps(costs: dict[Plan, float], steps: float, expected: Plan) -> None:
    assert fastest({p: Cost(s) for p, s in costs.items()}, FP32, steps) == expected


@pytest.mark.parametrize(
    ("steps", "expected"),
    # 2 * 20 s of compiling, saved back at 0.01 - 1.05 * 0.005 = 0.00475 s a step, after 8,422 steps.
    [(100, FP32), (8_400, FP32), (8_450, COMPILED), (1e6, COMPILED)],
)
def test_compilation_must_be_repaid_within_the_run(steps: float, expected: Plan) -> None:
    assert fastest({FP32: Cost(0.010), COMPILED: Cost(0.005, 20.0)}, FP32, steps) == expected


def test_what_is_written_is_what_was_measured() -> None:
    """Through JSON and back, to the last bit: the choice from the cache is the choice that was made."""
    chosen = Chosen(
        LAST, {FP32: Cost(1 / 3), LAST: Cost(0.1 + 0.2), COMPILED: Cost(1 / 7, 1 / 9), replace(BF16, compile=True): Cost(math.inf, why="no compiler")}
    )
    back = Chosen.from_json(json.loads(json.dumps(chosen.to_json(), allow_nan=False)))
    assert back == chosen and str(back) == str(chosen)
    assert str(chosen).count("\n") == 0
    words = [
        "Plan: fp32 channels-last, 1 thread. ",
        "fp32, 1 thread 333.3;",
        "fp32 compiled, 1 thread 142.9 after 0 s",
        "1 thread impossible here (no compiler).",
    ]
    assert all(w in str(chosen) for w in words)


def test_counts_of_threads() -> None:
    assert [tune.thread_counts(n) for n in (1, 2, 6, 8)] == [[1], [1, 2], [1, 2, 4, 6], [1, 2, 4, 8]]


def test_a_measured_plan_is_really_carried_out() -> None:
    """Medians are of real steps on that many threads, which are put back; plans that differ in threads alone share a copy of the model."""
    before = torch.get_num_threads()
    seen: dict[Plan, set[int]] = {FP32: set(), TWO: set()}
    steps = {p: (lambda p=p: seen[p].add(torch.get_num_threads())) for p in seen}
    seconds = plan.take_turns(steps, torch.device("cpu"), 1e-4)
    assert seen == {FP32: {1}, TWO: {2}} and torch.get_num_threads() == before
    assert all(0 < s < 0.1 for s in seconds.values())


@pytest.fixture
def setting(tmp_path: Path) -> tuple[Task, Training, Batch, Path]:
    return Task(vae("mlp"), ELBO()), Training(precision="fp32"), batch(), tmp_path


class Clock:
    """In place of measuring: seconds that a table gives, with a note of what was asked for."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, compiled: Cost = Cost(0.02, 30.0)) -> None:
        self.asked: list[list[Plan]] = []
        self.compilations = 0
        self.speed = 1.0
        self.compiled = compiled
        for module in (plan, tune):
            monkeypatch.setattr(module, "measure", self.measure)
        monkeypatch.setattr(tune, "compiled_cost", self.compiled_cost)

    def measure(self, task: Task, training: Training, plans: list[Plan], batch: Batch, budget: float = 0.6) -> dict[Plan, float]:
        self.asked.append(plans)
        # Each round finds the machine twice as slow.
        self.speed *= 2
        return {p: self.speed * 0.1 * (0.8 if p.channels_last else 1) / p.threads**0.5 for p in plans}

    def compiled_cost(self, task: Task, training: Training, eager: Plan, known: Cost, batch: Batch) -> Cost:
        self.compilations += 1
        return self.compiled


def test_tuning_in_three_rounds(setting: tuple[Task, Training, Batch, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Layouts, threads for the best of them, compilation where the run lasts; the second time nothing is measured but what is not known yet."""
    task, training, x, cache = setting
    clock = Clock(monkeypatch)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    short = tune.tune(task, training, x, 500, cache)
    last = Plan("fp32", True, threads=4)
    assert clock.asked == [[replace(last, channels_last=False), last], [replace(last, threads=n) for n in (1, 2, 4)]]
    assert short.plan == last and clock.compilations == 0 and len(short.costs) == 4
    # Rounds are compared by way of what both have: 1 thread takes twice the time of 4, in whatever minute it was tried.
    assert short.costs[replace(last, threads=1)].step == pytest.approx(2 * short.costs[last].step)
    long = tune.tune(task, training, x, 100_000, cache)
    assert long.plan == replace(last, compile=True) and clock.compilations == 1 and len(clock.asked) == 2
    again = tune.tune(task, training, x, 100_000, cache)
    assert again == long and clock.compilations == 1 and len(clock.asked) == 2
    assert tune.tune(task, training, x, 500, cache).plan == last, "what is compiled is not repaid in a short run"
    for minutes in (60.0, 0.5):
        assert tune.tune(task, replace(training, minutes=minutes), x, 10**9, cache).plan.compile == (minutes == 60.0)


def test_one_process_of_several_does_not_tune_threads(setting: tuple[Task, Training, Batch, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    chosen = tune.tune(*setting[:3], 100_000, setting[3], alone=False)
    assert len(clock.asked) == 1 and clock.compilations == 0 and chosen.plan.threads == 4


def test_what_cannot_be_compiled_is_not_chosen(setting: tuple[Task, Training, Batch, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    task, training, x, _ = setting

    def refuse(module: torch.nn.Module) -> torch.nn.Module:
        raise RuntimeError("no compiler")

    monkeypatch.setattr(torch, "compile", refuse)
    cost = tune.compiled_cost(task, training, FP32, Cost(0.01), x)
    assert cost == Cost(math.inf) and cost.why == "no compiler"
    assert fastest({FP32: Cost(0.01), COMPILED: cost}, FP32, 1e9) == FP32


def test_compilation_is_timed_beside_the_eager_step(setting: tuple[Task, Training, Batch, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    task, training, x, _ = setting
    compiled = []
    monkeypatch.setattr(torch, "compile", lambda module: compiled.append(module) or module)
    cost = tune.compiled_cost(task, training, FP32, Cost(0.01), x)
    # Here the "compiled" module is the eager one: it takes the same time, and that is told in the seconds of the first round.
    assert len(compiled) == 1 and compiled[0] is not task and 0 < cost.once < 5
    assert cost.step == pytest.approx(0.01, rel=0.5)


def digits(n: int = 128) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (n, 8, 8), dtype=np.uint8)


OPTIONS = {"epochs": 2, "batch_size": 64, "scale": 0.1, "precision": "fp32"}


def test_the_plan_is_written_said_and_reused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`--tune` is no part of what makes a run the same: it is resumed with its plan, with or without that option, and nothing is measured again."""
    from vaekit.training import loop

    chosen = Chosen(Plan("fp32", True, True, 2), {FP32: Cost(0.02), Plan("fp32", True, True, 2): Cost(0.01, 12.0)})
    monkeypatch.setattr(tune, "tune", lambda *_: chosen)
    compiled: list[torch.nn.Module] = []
    threads: list[int] = []
    monkeypatch.setattr(torch, "compile", lambda module: compiled.append(module) or module)
    step = loop.Trainer._step
    monkeypatch.setattr(loop.Trainer, "_step", lambda self, *a: threads.append(torch.get_num_threads()) or step(self, *a))

    class Stop(Silent):
        def step(self, images: int, loss: float, distortion: float, rate: float) -> None:
            assert json.loads((tmp_path / "run" / "run.json").read_text())["plan"]["threads"] == 2
            raise KeyboardInterrupt

    before = torch.get_num_threads()
    out = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        vaekit.fit("mlp", digits(), out=out, watcher=Stop(), tune=True, **OPTIONS)
    assert torch.get_num_threads() == before, "a run does not leave its number of threads behind"
    written = json.loads((out / "run.json").read_text())
    assert Chosen.from_json(written["plan"]) == chosen and "tune" not in written["options"]
    monkeypatch.setattr(tune, "tune", lambda *_: pytest.fail("a resumed run does not measure"))
    watcher = Silent()
    run = vaekit.fit("mlp", digits(), out=out, watcher=watcher, **OPTIONS)
    assert run.finished and len(compiled) == 2 and set(threads) == {2}
    assert [m for m in watcher.messages if m.startswith("Plan: ")] == [str(chosen)]


def test_without_tuning_the_plan_is_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A short run measures nothing; a long one measures the layouts once and finds them in the cache the next time."""
    watcher = Silent()
    run = vaekit.fit("mlp", digits(), out=tmp_path / "short", watcher=watcher, **OPTIONS)
    written = run.description["plan"]
    assert (written["precision"], written["channels_last"], written["compile"], written["measured"]) == ("fp32", False, False, [])
    assert [m for m in watcher.messages if m.startswith("Plan: ")] == [f"Plan: {Plan('fp32', threads=written['threads'])}."]
    clock = Clock(monkeypatch)
    task, training, x = Task(vae("mlp"), ELBO()), Training(precision="fp32"), batch()
    one, two = (plan.choose(task, training, x, 1000, cache_folder()) for _ in range(2))
    assert one == two and len(clock.asked) == 1 and set(one.costs) == {replace(one.plan, channels_last=last) for last in (False, True)}


def test_a_trial_steps_copies_of_the_critics_too() -> None:
    """What they cost is part of a budget in minutes; the run's own are as they were."""
    recipe = build_recipe("gan", spec_of([1, 8, 8]), scale=0.25)
    task = Task(recipe.model, recipe.objective, recipe.penalties, recipe.critics)
    before = {k: v.clone() for k, v in recipe.critics["image"].state_dict().items()}
    step = plan.trial(task, Training(precision="fp32"), FP32, batch(4, [1, 8, 8]))
    with pytest.MonkeyPatch.context() as patch:
        fed: list[list[str]] = []
        real = plan.Critics.step
        patch.setattr(plan.Critics, "step", lambda self, feeds: fed.append(sorted(feeds)) or real(self, feeds))
        step()
    assert fed == [["image"]]
    assert all(torch.equal(v, before[k]) for k, v in recipe.critics["image"].state_dict().items())
