"""The parts of the benchmark scripts that compute: chunks, means from sums, searches, tables."""

import importlib
import itertools
import json
import math
import subprocess
import sys
from argparse import Namespace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

import vaekit
from vaekit.evaluation import iw_bound
from vaekit.evaluation.likelihood import elbo
from vaekit.saving import load_tensors, save_tensors

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def scripts(monkeypatch: pytest.MonkeyPatch) -> dict[str, ModuleType]:
    """The scripts as modules, found as they find each other."""
    monkeypatch.syspath_prepend(str(BENCHMARKS / "peers"))
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return {name: importlib.import_module(name) for name in ("lines", "records", "records_page", "budget", "priors", "time_to_quality", "quality")}


@pytest.fixture(scope="module")
def run() -> vaekit.Run:
    """A small run on digits, which have 180 test images or so."""
    return vaekit.fit("mlp", "digits", binarize=True, scale=0.05, latent=4, epochs=1, precision="fp32", lr=1e-3)


# -- records.py


def test_to_do_is_what_is_missing(scripts: dict[str, ModuleType]) -> None:
    to_do = scripts["records"].to_do
    assert list(to_do(1050, 500, [])) == [(0, 500), (500, 1000), (1000, 1050)]
    assert list(to_do(1050, 500, [(0, 500), (1000, 1050)])) == [(500, 1000)]
    # Chunks of another size: what is left of each chunk, on both sides of what is done.
    assert list(to_do(1000, 500, [(200, 300), (600, 1000)])) == [(0, 200), (300, 500), (500, 600)]
    # Shares part the chunks among processes, whatever each of them finds done.
    parts = [list(to_do(1050, 200, [(0, 200)], i, 2)) for i in range(2)]
    assert parts == [[(400, 600), (800, 1000)], [(200, 400), (600, 800), (1000, 1050)]]


def test_mean_and_error_from_sums(scripts: dict[str, ModuleType]) -> None:
    """Against numpy on the values themselves, for parts of different sizes."""
    values = {name: np.random.default_rng(i).normal(-230, 70, 1050) for i, name in enumerate(("elbo", "bound"))}
    lines = []
    for first, last in ((0, 500), (500, 1000), (1000, 1050)):
        line: dict[str, Any] = {"first": first, "last": last, "seconds": 1.5, "images": 1050, "kind": "pmf", "dimensions": 784}
        for name, x in values.items():
            line |= {f"{name}_sum": x[first:last].sum(), f"{name}_squares": np.square(x[first:last]).sum()}
        lines.append(line)
    found = scripts["lines"].summary(lines)
    for name, (mean, error) in (("elbo", found.elbo), ("bound", found.bound)):
        assert mean == pytest.approx(values[name].mean(), rel=1e-12)
        assert error == pytest.approx(values[name].std(ddof=1) / math.sqrt(1050), rel=1e-9)
    assert found.complete and found.seconds == 4.5
    assert found.bits(784 * math.log(2)) == pytest.approx(1.0)
    assert not scripts["lines"].summary(lines[:2]).complete


def test_an_image_counts_once(scripts: dict[str, ModuleType]) -> None:
    about = {"model": "m", "samples": 5, "precision": "fp32", "images": 300}
    lines = [about | {"first": a, "last": b} for a, b in ((200, 300), (0, 200), (0, 100), (100, 200))]
    lines.append({**about, "samples": 6, "first": 0, "last": 300})
    assert [(line["first"], line["last"]) for line in scripts["lines"].finished(lines, about)] == [(0, 200), (200, 300)]
    # An accelerator draws other noise: its lines are an evaluation of their own.
    other = about | {"device": "cuda", "first": 0, "last": 300}
    assert scripts["lines"].finished([*lines, other], about | {"device": "cpu"}) == scripts["lines"].finished(lines, about)
    assert scripts["lines"].finished([*lines, other], about | {"device": "cuda"}) == [other]


def test_lines_survive_a_cut(scripts: dict[str, ModuleType], tmp_path: Path) -> None:
    file, path = scripts["lines"], tmp_path / "lines.jsonl"
    file.append(path, {"a": 1})
    with open(path, "a") as cut:
        cut.write('{"a": 2, "b"')
    assert file.read(path) == [{"a": 1}]
    file.append(path, {"a": 3})
    assert file.read(path) == [{"a": 1}, {"a": 3}]


def test_chunks_equal_one_pass(scripts: dict[str, ModuleType], run: vaekit.Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A chunk, then the rest, then nothing: the same figures as the functions of the package give in one pass."""
    records, file = scripts["records"], scripts["lines"]
    data, lines, page = vaekit.reopen(run), tmp_path / "lines.jsonl", tmp_path / "records.md"
    n = data.size("test")
    assert 100 < n <= 200
    command = ["records.py", str(run.path), "--samples", "7", "--chunk", "100", "--lines", str(lines), "--page-file", str(page)]
    # What was stopped after the second chunk goes on with the first.
    monkeypatch.setattr(sys, "argv", [*command, "--share", "1", "2"])
    assert records.main() == 0 and len(file.read(lines)) == 1 and not page.exists()
    monkeypatch.setattr(sys, "argv", command)
    assert records.main() == 0
    found = file.read(lines)
    assert sorted((line["first"], line["last"]) for line in found) == [(0, 100), (100, n)]
    assert records.main() == 0 and file.read(lines) == found
    whole = file.summary(file.finished(found, found[0]))
    batches = [data.batch("test", torch.arange(0, 100)), data.batch("test", torch.arange(100, n))]
    assert whole.elbo[0] == pytest.approx(elbo(run.model, batches).elbo.mean().item(), abs=1e-9)
    assert whole.bound[0] == pytest.approx(iw_bound(run.model, batches, 7).mean().item(), abs=1e-9)
    assert whole.bound[0] > whole.elbo[0]
    # Another size of the chunks gives the same images the same noise.
    one = records.score(run.model, data, 0, n, 7, "fp32")
    assert one["bound_sum"] == pytest.approx(sum(line["bound_sum"] for line in found), abs=1e-6)
    assert found[0]["command"] == "vaekit train digits --binarize --recipe mlp --latent 4 --scale 0.05 --epochs 1 --lr 0.001 --precision fp32"
    text = page.read_text()
    assert f"{-whole.bound[0]:.2f}" in text and found[0]["command"] in text
    # Weights that were kept in 16 bits are a model of their own, with lines of their own.
    tensors, about = load_tensors(run.final)
    kept = tmp_path / f"{run.path.name}.safetensors"
    save_tensors(kept, {k: v.half() if v.is_floating_point() else v for k, v in tensors.items()}, about)
    monkeypatch.setattr(sys, "argv", ["records.py", str(kept), *command[2:]])
    assert records.main() == 0
    both = file.summaries(file.read(lines))
    assert len(both) == 2 and both[1].complete and both[1].about["command"].endswith("(in 16 bits)")
    assert 0 < abs(both[1].bound[0] - whole.bound[0]) < 0.05
    monkeypatch.setattr(sys, "argv", ["records.py", str(kept), *command[2:], "--samples", "3"])
    assert records.main() == 0
    assert file.read(lines)[-1]["command"] == both[1].about["command"], "what is said of kept weights is said once"


def test_records_page_has_the_published_numbers(scripts: dict[str, ModuleType], tmp_path: Path) -> None:
    line = {
        "run": "a",
        "model": "m",
        "data": "fashion-mnist, binarized",
        "command": "vaekit train",
        "minutes": 60.0,
        "seed": 0,
        "parameters": 3_000_000,
    }
    line |= {"kind": "pmf", "dimensions": 784, "test_images": 200, "images": 200, "precision": "fp32", "samples": 500, "seconds": 1.0}
    line |= {"elbo_sum": -22_900.0, "elbo_squares": 5_300_000.0, "bound_sum": -22_600.0, "bound_squares": 5_200_000.0}
    half = [line | {"first": a, "last": a + 100} for a in (0, 100)]
    scripts["records_page"].write_page(half, tmp_path / "page.md")
    text = (tmp_path / "page.md").read_text()
    assert "226.00" in text and "229.00" in text and "Exemplar VAE" in text and "226.75 ± 0.07" in text
    scripts["records_page"].write_page(half[:1], tmp_path / "page.md")
    assert "226.00" not in (tmp_path / "page.md").read_text()  # not complete, so not in the table


def test_cores_are_taken_out_of_the_command(scripts: dict[str, ModuleType]) -> None:
    assert scripts["records"].without_cores(["r.py", "RUN", "--cores", "0", "1", "--samples", "500"]) == ["r.py", "RUN", "--samples", "500"]


# -- budget.py


def test_budget_rows_are_recipes(scripts: dict[str, ModuleType]) -> None:
    """Every row can be built as it stands, and has a place for its explanation."""
    from vaekit.commands.options import knobs as parsed  # what the command line makes of --set

    spec = vaekit.DataSpec("pixels", (1, 28, 28), 2, count=50_000, mean=(0.3,), std=(0.4,))
    budget = scripts["budget"]
    assert set(budget.WHY) == set(budget.ROWS)
    for row in budget.ROWS.values():
        options = dict(zip(row.options[::2], row.options[1::2], strict=True))
        knobs = parsed([options["--set"]]) if "--set" in options else {}
        built = vaekit.recipe(row.recipe, spec, likelihood=options.get("--likelihood"), knobs=knobs)
        assert built.model.likelihood.kind == "pmf", row.name


def test_budget_does_what_is_missing(scripts: dict[str, ModuleType]) -> None:
    budget = scripts["budget"]
    shared = {"minutes_asked": 5.0, "samples": 100, "images": 10_000, "precision_scored": "bf16", "machine": "one"}
    first = budget.to_do([], [], shared)
    assert len(first) == sum(row.seeds for row in budget.ROWS.values()) and [seed for _, seed in first] == sorted(seed for _, seed in first)
    done = [{"name": "conv", "seed": 0, **shared}, {"name": "conv", "seed": 1, **shared, "minutes_asked": 1.0}]
    done.append({"name": "conv", "seed": 2, **shared, "error": "killed"})
    assert [(row.name, seed) for row, seed in budget.to_do(["conv"], done, shared)] == [("conv", 1), ("conv", 2)]
    assert budget.to_do(["conv"], done, shared | {"machine": "another"})[0][1] == 0


def test_budget_page_is_sorted(scripts: dict[str, ModuleType], tmp_path: Path) -> None:
    shared = {"minutes_asked": 5.0, "samples": 100, "images": 10_000, "precision_scored": "bf16", "machine": "one"}
    figures = {"options": ["--recipe", "x"], "parameters": 10**6, "images_seen": 10**5, "images_per_second": 900.0, "minutes": 5.01}
    lines = [
        {"name": name, "seed": seed, **shared, **figures, "elbo_nats": bound - 3, "bound_nats": bound, "bound_nats_se": 0.76}
        for name, seed, bound in (("conv", 0, -231.5), ("conv", 1, -231.0), ("ladder", 0, -229.0))
    ]
    lines.append({"name": "iaf", "seed": 0, **shared, "options": ["--recipe", "iaf"], "error": "Error: out of\nmemory"})
    lines.insert(0, lines[0] | {"minutes_asked": 0.1, "bound_nats": -300.0})  # other terms
    lines.append(lines[1] | {"machine": "another", "bound_nats": -300.0})
    scripts["budget"].write_page(lines, tmp_path / "budget.md")
    others, text = (tmp_path / "budget.md").read_text().split("## 5 minutes, one")
    assert "## 0.1 minutes, one" in others and "## 5 minutes, another" in others
    assert others.count("**300.00**") == 2 and "**300.00**" not in text
    rows = [line for line in text.splitlines() if line.startswith("| ") and "`--recipe" in line]
    assert [row.split(" | ")[8] if "**" in row else "failed" for row in rows] == ["**229.00**", "**231.00**", "**231.50**", "failed"]
    assert "a tenth off" not in text
    lines[1]["minutes"] = 4.0
    scripts["budget"].write_page(lines, tmp_path / "budget.md")
    assert "a tenth off the minutes asked for: `conv` 0 (4.0)" in (tmp_path / "budget.md").read_text().split("## 5 minutes, one")[1]
    assert "2 seeds from 231.00 to 231.50 nats" in text and "300.00" not in text


# -- priors.py


def test_priors_are_those_that_can_be_fitted(scripts: dict[str, ModuleType]) -> None:
    """All kinds for vectors have a row, and -log p is shown of those whose prior has a density."""
    from vaekit.recipes.knobs import Knobs
    from vaekit.recipes.second_stage import KINDS

    made = {name: kind.vector(Knobs(), 8, 0, 100) for name, kind in KINDS.items() if kind.vector is not None}
    assert set(scripts["priors"].KINDS) == set(made)
    assert set(scripts["priors"].CLOSED) == {name for name in made if KINDS[name].closed}
    assert set(scripts["priors"].DENSITIES) == {name for name, prior in made.items() if prior.exact}


def test_priors_page(scripts: dict[str, ModuleType], tmp_path: Path) -> None:
    priors = scripts["priors"]
    shared = {"vae_minutes": 8.0, "minutes_asked": 4.0, "images": 10_000}
    about = {"features": "fashion", "compared": "draws beside bits", "floor": "the validation images in the samples' place", "measured_seconds": 42.0}

    def line(name: str, distance: float, **fit: float) -> dict[str, object]:
        measures = {"frechet_distance": {"value": distance, "error": 0.03, "floor": 0.05, "floor_error": None}}
        if name != "posterior":
            measures["prior_test"] = {"value": 0.6, "error": None, "floor": 0.503, "floor_error": None}
        return {"name": name, **shared, **about, **fit, "measures": measures}

    fit = {"minutes": 3.9, "parameters": 2 * 10**6, "nats": 55.123}
    lines = [
        line("two-stage", 0.4, **fit),
        line("posterior", 0.15),
        line("gmm", 0.2, **fit),
        {"name": "flow", **shared, "error": "Error: out of\nmemory"},
    ]
    assert priors.to_do([], lines, shared) == ["own", "flow-matching", "diffusion", "flow", "autoregressive"]
    assert priors.to_do(["gmm"], lines, shared | {"minutes_asked": 1.0}) == ["gmm"]
    priors.write_page(lines, tmp_path / "page.md")
    rows = [row for row in (tmp_path / "page.md").read_text().splitlines() if row.startswith("| ")]
    assert len({row.count("|") for row in rows}) == 1
    assert [row.split(" | ")[0] for row in rows[1:]] == [
        f"| {priors.REFERENCES['posterior']}",
        "| gmm",
        "| two-stage",
        "| flow",
        "| no model: the floor",
    ]
    assert "| 55.12 | 0.2 ± 0.03 |" in rows[2] and "55.12" not in rows[3] and "failed: memory" in rows[4]
    assert "0.05" in rows[5] and "0.503" in rows[5] and "0.7 |" in rows[2]


# -- time_to_quality.py


@pytest.mark.parametrize("count", [1, 2, 7, 20])
def test_first_reaching(scripts: dict[str, ModuleType], count: int) -> None:
    for first in range(count + 1):
        asked: list[int] = []
        found = scripts["quality"].first_reaching(count, lambda i, first=first, asked=asked: asked.append(i) is None and i >= first)
        assert found == (first if first < count else None)
        assert len(asked) == len(set(asked)) <= 2 + math.ceil(math.log2(count))
    assert scripts["quality"].first_reaching(0, lambda i: True) is None


def test_kept_weights_are_apart(scripts: dict[str, ModuleType], tmp_path: Path) -> None:
    """Better and better checks every 4 seconds, kept at least 10 apart but for the last, and none that is worse."""
    quality = scripts["quality"]
    watch = quality.Watch(quality.Clock(Namespace(began=0.0, clock="wall")), 10.0, tmp_path)
    for i in range(12):
        elbo = -300.0 + i if i != 5 else -400.0
        if place := watch.check(4.0 * i, 100 * i, elbo):
            place.write_text(str(i))
    seconds = [check.seconds for check in watch.kept]
    assert seconds[-1] == 44.0 and 20.0 not in seconds
    assert all(b - a >= 10 for a, b in itertools.pairwise(seconds[:-1])) and len(seconds) > 3
    assert sorted(p.read_text() for p in tmp_path.iterdir()) == sorted(str(int(s / 4)) for s in seconds)


def test_clock_stands_still(scripts: dict[str, ModuleType], monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(scripts["quality"].time, "time", lambda: now[0])
    monkeypatch.setattr(scripts["quality"].time, "process_time", lambda: now[0] / 2)
    for kind, seconds, checking in (("wall", 11.0, 7.0), ("processor", 50.5, 3.5)):
        now[0] = 100.0
        clock = scripts["quality"].Clock(Namespace(began=90.0, clock=kind))
        with clock.stopped():
            now[0] = 107.0
        now[0] = 108.0
        assert clock.seconds() == seconds and clock.checking == checking


def test_streamed_is_log_mean_exp(scripts: dict[str, ModuleType]) -> None:
    """In groups, far from what a float can exponentiate, the mean of the weights of each image."""
    log_w = np.random.default_rng(0).normal(-1000, 5, (47, 3))
    taken = iter(np.split(log_w, [20, 40]))
    found = scripts["quality"].streamed(lambda g: next(taken), 47, group=20)
    assert np.allclose(found, np.log(np.exp(log_w + 1000).mean(0)) - 1000, atol=1e-9)


def test_quality_table(scripts: dict[str, ModuleType]) -> None:
    shared = {"parameters": 10**6, "seconds": 3600.0, "best_bound_nats": -230.0, "best_bound_nats_se": 0.7, "best_seconds": 1200.0}
    shared |= {"best_elbo_nats": -233.0, "images_seen": 10**7, "start_seconds": 4.0, "checking_seconds": 50.0, "scoring_seconds": 80.0}
    ours = shared | {"contender": "vaekit", "options": {"recipe": "ladder"}, "seconds_to_target": 150.0, "reached_bound_nats": -228.6}
    slow = shared | {"contender": "keras", "seconds_to_target": 1800.0, "reached_bound_nats": -228.7}
    never = shared | {"contender": "pythae", "seconds_to_target": None}
    rows = scripts["time_to_quality"].table([ours, slow, never], 228.70).splitlines()[2:]
    assert "| 1.0 |" in rows[0] and "| 12.0 |" in rows[1] and "not in 3,600 | more than 24.0 |" in rows[2]
    assert scripts["time_to_quality"].options(['knobs={"groups": 4}', "lr=0.003", "schedule=linear"]) == {
        "knobs": {"groups": 4},
        "lr": 0.003,
        "schedule": "linear",
    }


def test_scripts_say_what_they_take() -> None:
    for name in ("records", "budget", "time_to_quality"):
        done = subprocess.run([sys.executable, str(BENCHMARKS / f"{name}.py"), "--help"], capture_output=True, text=True)
        assert done.returncode == 0 and "--lines" in done.stdout, done.stderr


def test_committed_lines_can_be_read(scripts: dict[str, ModuleType]) -> None:
    """What is committed is whole: one JSON object a line."""
    for name in ("records", "budget", "time_to_quality"):
        path = BENCHMARKS / f"{name}.jsonl"
        if path.exists():
            assert len(scripts["lines"].read(path)) == len([line for line in path.read_text().splitlines() if line]) > 0
            assert all(isinstance(json.loads(line), dict) for line in path.read_text().splitlines())
