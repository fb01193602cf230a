"""What buys what: variants trained for the same minutes on binarized Fashion-MNIST, and one table sorted by the bound that they reach.

    python benchmarks/budget.py

Each row gets five minutes of training (`--minutes`) on one core, two rows side by side (`--cores 0 1`), each a run as a user would start it. Then it
is scored on all 10,000 test images with their fixed bits: -ELBO and the importance-weighted bound with 100 samples. A finished row is one line of
`benchmarks/budget.jsonl`, and is skipped; a row that was stopped goes on where it was, in its training (`runs/budget/`) or in the chunks of its
score. At the end `docs/budget.md` is written from the lines.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import Queue
from typing import Any

from lines import append, finished, read, summary

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
LINES, PAGE, RUNS = HERE / "budget.jsonl", ROOT / "docs" / "budget.md", ROOT / "runs" / "budget"
TOTAL = 10_000


@dataclass(frozen=True)
class Row:
    """A row of the table: a recipe with options of `vaekit train`."""

    name: str
    title: str
    options: tuple[str, ...]
    seeds: int = 1

    @property
    def recipe(self) -> str:
        return self.options[self.options.index("--recipe") + 1]


def _row(name: str, title: str, recipe: str, *options: str, seeds: int = 1) -> Row:
    return Row(name, title, ("--recipe", recipe, *options), seeds)


ROWS = {
    row.name: row
    for row in (
        _row("tutorial", "the tutorial's network", "tutorial"),
        _row("conv", "conv", "conv", seeds=3),
        _row("resnet", "residual network from full resolution", "resnet"),
        _row("free-bits", "conv + free bits", "free-bits"),
        _row("iwae", "conv + IWAE, 5 samples", "iwae"),
        _row("iaf", "conv + IAF posterior", "iaf"),
        _row("vamp", "conv + VampPrior", "vamp"),
        _row("realnvp", "conv + flow prior", "realnvp"),
        _row("ladder", "ladder, 2 groups", "ladder", seeds=3),
        _row("ladder-4", "ladder, 4 groups", "ladder", "--set", "groups=4"),
        _row("ladder-8", "ladder, 8 groups", "ladder", "--set", "groups=8"),
        _row("ladder-causal", "ladder, 2 groups, pixels corrected by their neighbours", "ladder", "--likelihood", "causal"),
        _row("ladder-muon", "ladder, 2 groups, Muon on its kernels", "ladder", "--optimizer", "muon-kernels"),
        _row("pixel-vae", "conv, pixels that see those up to 9 before them, mixture prior, Muon", "pixel-vae"),
        _row("mlp-published", "MLP as published", "mlp", "--ema", "0", "--schedule", "constant"),
        _row("mlp", "MLP with averaged weights and a falling rate", "mlp"),
    )
}
PUBLISHED = (
    "The MLP as published (arXiv 1705.07120 and 2004.04795) has two gated layers of 300 on either side, 40 latent dimensions, Adam at 5e-4 and "
    "batches of 100, and so has the recipe `mlp`. The recipe also averages the weights and lets the rate fall to zero; the published one does "
    "neither, and `mlp-published` has both switched off. Two things of the published training do not fit into minutes, and differ: its warm-up of "
    "the divergence lasts 100 epochs (here a tenth of the run), and it stops when validation has not improved for 50 epochs (here when the minutes "
    "are over; the best epoch by validation counts in both)."
)

NOTES: dict[tuple[float, str], str] = {
    (57.0, "Intel Xeon Processor with AMX"): "`ladder` with AdamW was stopped twice and resumed, the second time with its length set from 5.69 to "
    "4.90 million images.",
}
"""What else is to be said of the table of so many minutes on a processor."""

WHY: dict[str, str] = {
    "tutorial": "three times conv's images, and still behind it",
    "conv": "half of its 40 dimensions are in use; what holds it back is N(0, I), as the flow prior shows, which has the same networks",
    "resnet": "convolutions at full resolution cost four times conv's: two passes over the data in five minutes are a beginning",
    "free-bits": "all 40 dimensions are used; the ELBO pays 1.2 nats for it, and the bound stays where conv's is",
    "iwae": "five decoder passes for each image leave a third of conv's images; the bound comes 6 nats above the ELBO, but too few images were seen",
    "iaf": "a posterior of any shape takes 0.2 nats off the ELBO and 0.1 off the bound: the Gaussian posterior was not what held conv back",
    "vamp": "500 pseudo-images go through the encoder at every step of 128 images: a third of conv's images",
    "realnvp": "a flow over 40 numbers costs 4 % of conv's images and takes 1.7 nats off: the cheapest gain here",
    "ladder": "maps of latents carry the details, a mixture of 500 Gaussians the rest: over three seeds better by 1.5 nats, with 59 % of the images",
    "ladder-4": "two more groups cost a third of the images; in five minutes they are not paid back",
    "ladder-8": "half of the images of two groups: the same, more so",
    "ladder-muon": "a step of the same size in every direction of a kernel, for some 9 % of the images: a nat better than AdamW with about as many",
    "ladder-causal": "each pixel is also told its neighbours: slower, and behind the plain ladder after so few minutes",
    "pixel-vae": "what pixels tell each other need not go through a code; measured at ten minutes and an hour, where it leads by a nat",
    "mlp-published": "75 passes over the data, 8 times conv's images each second; the published bound of these networks is 228.70 (5,000 samples)",
    "mlp": "averaged weights and a falling rate take 0.9 nats off the ELBO, and 0.1 off the bound",
}
"""One line for each row: why it stands where it stands. Written after the measurements that it explains."""
EXPLAINED = 5.0
"""Minutes of the table that the lines are about."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"only these, of {', '.join(ROWS)}")
    parser.add_argument("--minutes", type=float, default=5, help="of training for each row (default: 5)")
    parser.add_argument("--samples", type=int, default=100, help="of the bound (default: 100)")
    parser.add_argument("--images", type=int, default=TOTAL, help="score only the first test images, for a trial (default: all)")
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="bf16", help="of the networks while they are scored (default: bf16)")
    parser.add_argument("--cores", type=int, nargs="+", default=[0, 1], help="the cores to work on, one row on each (default: 0 1)")
    parser.add_argument("--runs", type=Path, default=RUNS, help="where the run folders are kept")
    parser.add_argument("--lines", type=Path, default=LINES, help="the file of finished rows")
    parser.add_argument("--page-file", type=Path, default=PAGE, help="the page")
    parser.add_argument("--page", action="store_true", help="only write the page from the lines that are there")
    args = parser.parse_args()
    unknown = set(args.rows) - set(ROWS)
    if unknown:
        parser.error(f"there is no row {sorted(unknown)[0]}")
    todo = [] if args.page else to_do(args.rows, read(args.lines), terms(args))
    cores: Queue[int] = Queue()
    for core in args.cores:
        cores.put(core)
    pool = ThreadPoolExecutor(len(args.cores))
    try:
        failed = [line["name"] for line in pool.map(lambda one: measure(one[0], one[1], args, cores), todo) if "error" in line]
    except (KeyboardInterrupt, Stopped):
        print("stopped: the same command goes on from here", file=sys.stderr)
        return 130
    finally:
        pool.shutdown(cancel_futures=True)
    if lines := read(args.lines):
        write_page(lines, args.page_file)
    return 1 if failed else 0


def terms(args: argparse.Namespace) -> dict[str, Any]:
    """What rows must share to stand in one table."""
    import torch

    from vaekit.device import device_name

    scored = {"samples": args.samples, "images": args.images, "precision_scored": args.precision}
    return {"minutes_asked": args.minutes, **scored, "machine": device_name(torch.device("cpu"))}


class Stopped(Exception):
    """A row was stopped from outside: that is no result."""


STOPPED = (-signal.SIGINT, -signal.SIGTERM, 128 + signal.SIGINT, 128 + signal.SIGTERM)
"""Return codes of a command that was stopped."""


def to_do(names: list[str], lines: list[dict[str, Any]], shared: dict[str, Any]) -> list[tuple[Row, int]]:
    """The rows with their seeds that have no line on these terms; all first seeds before the second ones. What failed is tried again."""
    done = {(line["name"], line["seed"]) for line in lines if "error" not in line and all(line[k] == v for k, v in shared.items())}
    rows = [ROWS[name] for name in names] or list(ROWS.values())
    return [(row, seed) for seed in range(max(row.seeds for row in rows)) for row in rows if seed < row.seeds and (row.name, seed) not in done]


def measure(row: Row, seed: int, args: argparse.Namespace, cores: "Queue[int]") -> dict[str, Any]:
    """Trains a row as a user would, scores it, and adds its line."""
    core, out = cores.get(), args.runs / f"{row.name}-{args.minutes:g}-{seed}"
    options = ["--binarize", *row.options, "--seed", str(seed), "--minutes", f"{args.minutes:g}"]
    line: dict[str, Any] = {"name": row.name, "seed": seed, "recipe": row.recipe, "options": list(row.options), **terms(args)}
    try:
        print(f"{row.name}, seed {seed}: training on core {core}", flush=True)
        alone([sys.executable, "-m", "vaekit.cli", "train", "fashion-mnist", *options, "--no-report", "--out", str(out)], core)
        print(f"{row.name}, seed {seed}: scoring on core {core}", flush=True)
        scores = out / "scores.jsonl"
        own = ["--samples", str(args.samples), "--images", str(args.images), "--precision", args.precision, "--threads", "1"]
        alone([sys.executable, str(HERE / "records.py"), str(out), *own, "--lines", str(scores), "--page-file", str(out / "scores.md")], core)
        line |= figures(out, scores, args)
    except subprocess.CalledProcessError as failure:
        if failure.returncode in STOPPED:
            raise Stopped from failure
        line |= {"error": failure.stderr.strip()[-500:] or f"ended with {failure.returncode}"}
    finally:
        cores.put(core)
    append(args.lines, line)
    print(json.dumps(line), flush=True)
    return line


def alone(command: list[str], core: int) -> str:
    """Runs a command on one core, with one thread; what it printed."""
    pinned = ["taskset", "-c", str(core), *command] if hasattr(os, "sched_setaffinity") else command
    return subprocess.run(pinned, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=True).stdout


def figures(out: Path, scores: Path, args: argparse.Namespace) -> dict[str, Any]:
    """What a run was and what it reached."""
    import vaekit

    run = vaekit.load(out)
    last, about = run.metrics()[-1], run.description
    lines = read(scores)
    whole = summary(finished(lines, lines[-1] | {"samples": args.samples, "images": args.images, "precision": args.precision}))
    return {
        "command": whole.about["command"],
        "parameters": about["parameters"],
        "images_seen": last["images"],
        "images_per_second": last["images_per_second"],
        "minutes": round(about["seconds"] / 60, 2),
        "precision": about["plan"]["precision"],
        "active_units": last["active_units"],
        "elbo_nats": whole.elbo[0],
        "elbo_nats_se": whole.elbo[1],
        "bound_nats": whole.bound[0],
        "bound_nats_se": whole.bound[1],
        "score_seconds": round(whole.seconds, 1),
    }


def tables(lines: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """The lines of each set of terms, shorter trainings first; each row and seed once, the best bound first and failures last."""
    keys = ("minutes_asked", "samples", "images", "precision_scored", "machine")
    found: dict[tuple[Any, ...], dict[tuple[str, int], dict[str, Any]]] = {}
    for line in lines:
        found.setdefault(tuple(line[k] for k in keys), {})[line["name"], line["seed"]] = line
    return [sorted(found[terms].values(), key=lambda line: -line.get("bound_nats", -float("inf"))) for terms in sorted(found)]


def spread(rows: list[dict[str, Any]]) -> list[str]:
    """A sentence for each variant with several seeds: the least and the greatest of its bounds."""
    found = []
    for name in ROWS:
        bounds = sorted(-row["bound_nats"] for row in rows if row["name"] == name and "error" not in row)
        if len(bounds) > 1:
            mean = sum(bounds) / len(bounds)
            found.append(f"`{name}`: {len(bounds)} seeds from {bounds[0]:.2f} to {bounds[-1]:.2f} nats, mean {mean:.2f}.")
    return found


def off(rows: list[dict[str, Any]]) -> list[str]:
    """A sentence on the rows whose training took more than a tenth longer or shorter than asked for."""
    found = [f"`{r['name']}` {r['seed']} ({r['minutes']:.1f})" for r in rows if "error" not in r and abs(r["minutes"] / r["minutes_asked"] - 1) > 0.1]
    why = "the machine's speed had changed while the row ran"
    return [f"More than a tenth off the minutes asked for: {', '.join(found)}; {why}."] if found else []


def table(rows: list[dict[str, Any]], explained: bool) -> list[str]:
    """One training time: what it is, the figures, and how far seeds lie apart."""
    first = rows[0]
    images = f"all {TOTAL:,} test images" if first["images"] == TOTAL else f"the first {first['images']:,} test images (a trial)"
    errors = [line["bound_nats_se"] for line in rows if "error" not in line]
    text = [f"## {first['minutes_asked']:g} minutes, {first['machine']}", ""]
    text += [
        f"-ELBO and the importance-weighted bound with {first['samples']:,} samples in nats per image, on {images} with their fixed bits: lower is",
        f"better. The standard error over the test images is at most {max(errors):.2f} nats; all rows share the images, so that differences are known"
        if errors
        else "better.",
        "better than that, up to the spread between seeds. The networks were scored in "
        + ("float32." if first["precision_scored"] == "fp32" else "bfloat16."),
        "",
        "| | options | seed | parameters | images seen | images/s | minutes | -ELBO | bound |" + (" why |" if explained else ""),
        "|---|---|---|---|---|---|---|---|---|" + ("---|" if explained else ""),
    ]
    said: set[str] = set()
    for line in rows:
        row = ROWS.get(line["name"])
        cells = [row.title if row else line["name"], f"`{' '.join(line['options'])}`", str(line["seed"])]
        if "error" in line:
            text.append(f"| {' | '.join(cells)} | failed: {line['error'].splitlines()[-1]} | | | | | |" + (" |" if explained else ""))
            continue
        cells += [f"{line['parameters'] / 1e6:.2f} M", f"{line['images_seen']:,}", f"{line['images_per_second']:,.0f}", f"{line['minutes']:.1f}"]
        cells += [f"{-line['elbo_nats']:.2f}", f"**{-line['bound_nats']:.2f}**"]
        if explained:
            cells.append("" if line["name"] in said else WHY.get(line["name"], ""))
            said.add(line["name"])
        text.append(f"| {' | '.join(cells)} |")
    note = NOTES.get((first["minutes_asked"], first["machine"])) if first["images"] == TOTAL else None
    return [*text, "", *(line for sentence in [*spread(rows), *off(rows), *([note] if note else [])] for line in (sentence, ""))]


def write_page(lines: list[dict[str, Any]], path: Path) -> None:
    """`docs/budget.md`, from the lines."""
    text = ["# What buys what", ""]
    text += [
        "Variants of a VAE, each trained for the same few minutes on one core on binarized Fashion-MNIST, by `python benchmarks/budget.py`,",
        "which writes this page from `benchmarks/budget.jsonl`.",
        "",
    ]
    for rows in tables(lines):
        text += table(rows, explained=rows[0]["minutes_asked"] == EXPLAINED)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([*text, PUBLISHED]) + "\n")


if __name__ == "__main__":
    sys.exit(main())
