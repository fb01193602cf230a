"""Do the dimensions of a code stand for the factors of the images? Recipes made for it, on `shapes`, whose factors are known.

    python benchmarks/disentanglement.py

Each recipe gets 15 minutes of training (`--minutes`) on one core (`--cores 0 1`: two recipes side by side), on 100,000 of the 737,280 images of
`shapes` at 32x32 (`--images`), with dense networks (they see about ten times as many images as convolutions) and a code of ten dimensions; beta and
beta-tc with three seeds, so that the unsupervised ranking (UDR) can compare them. A finished row is one line of `benchmarks/disentanglement.jsonl`
with every measure, and one traversal in `docs/images/disentanglement/`. A row that has its line is skipped, and a training that was stopped goes on
from its run folder (`--runs`): stop the script and run it again as you like. At the end `docs/disentanglement.md` is written from the lines. A row
that failed is tried again.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import Queue
from threading import Lock
from typing import Any

from lines import append, read

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
ROWS, PICTURES, PAGE = HERE / "disentanglement.jsonl", ROOT / "docs" / "images" / "disentanglement", ROOT / "docs" / "disentanglement.md"
RUNS = ROOT / "runs" / "disentanglement"

LATENT = 10


@dataclass(frozen=True)
class Variant:
    """A recipe with options of `vaekit train`, and with so many seeds."""

    recipe: str
    seeds: int = 1
    options: tuple[str, ...] = ()


CONSTANT = ("--set", "start=1")
"""The divergence weighs the same from the warm-up on, as published."""
VARIANTS = {
    "beta": Variant("beta", 3),
    "beta-tc": Variant("beta-tc", 3),
    "factor": Variant("factor"),
    "dip-i": Variant("dip-i"),
    "dip-ii": Variant("dip-ii"),
    "annealed": Variant("annealed"),
    "beta-constant": Variant("beta", 1, CONSTANT),
    "beta-tc-constant": Variant("beta-tc", 1, CONSTANT),
}
RANKED = 2000
"""Test images that the ranking compares codes on."""
INFORMATIVE = 0.01
"""Nats: a dimension of a lower rate does not count in the ranking (Duan et al., 2020)."""
MEASURES = {
    "mig": "MIG",
    "factor_vae_score": "FactorVAE",
    "beta_vae_score": "BetaVAE",
    "dci_disentanglement": "DCI-D",
    "dci_completeness": "DCI-C",
    "dci_informativeness": "DCI-I",
    "sap": "SAP",
    "modularity": "modularity",
    "explicitness": "explicitness",
    "irs": "IRS",
}
OTHERS = {"elbo_nats": "ELBO", "rate_nats": "rate", "active_units": "active"}
PUBLISHED = (
    ("VAE", 0.63, 0.10, 0.30),
    ("beta-VAE", 0.63, 0.21, 0.41),
    ("FactorVAE", 0.82, 0.43, 0.74),
    ("beta-TCVAE", 0.62, 0.45, 0.29),
    ("InfoGAN-CR", 0.88, 0.37, 0.71),
    ("OAT", 0.72, 0.27, 0.78),
)
"""FactorVAE score, MIG and DCI disentanglement on dSprites, as read in papers [V]."""

Row = dict[str, Any]


@dataclass(frozen=True)
class Places:
    rows: Path
    pictures: Path
    page: Path
    runs: Path


@dataclass(frozen=True)
class Job:
    """One row: a variant with a seed."""

    variant: str
    seed: int
    images: int
    minutes: float

    @property
    def name(self) -> str:
        return f"{self.variant}-{self.seed}"

    @property
    def key(self) -> Row:
        return {"variant": self.variant, "seed": self.seed, "images_of_the_set": self.images, "minutes_asked": self.minutes}

    def run(self, places: Places) -> Path:
        return places.runs / f"{self.name}-{self.images}-{self.minutes:g}"

    def command(self, run: Path | str) -> list[str]:
        variant = VARIANTS[self.variant]
        command = ["train", f"shapes:{self.images}", "--no-report", "--size", "32", "--recipe", variant.recipe, "--set", "nets=mlp", *variant.options]
        return [*command, "--latent", str(LATENT), "--seed", str(self.seed), "--minutes", f"{self.minutes:g}", "--out", str(run)]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("variants", nargs="*", metavar="VARIANT", help=f"only these (default: {', '.join(VARIANTS)})")
    parser.add_argument("--minutes", type=float, default=15, help="of training for each row (default: 15)")
    parser.add_argument("--images", type=int, default=100_000, help="of shapes, from its grid of 737,280 (default: 100,000)")
    parser.add_argument("--cores", type=int, nargs="+", default=[0], help="the cores to train on, one row on each (default: 0)")
    parser.add_argument("--seeds", type=int, help="seeds of each variant (default: 3 for beta and beta-tc, 1 for the others)")
    parser.add_argument("--lines", type=Path, default=ROWS, help="the file of finished rows")
    parser.add_argument("--pictures", type=Path, default=PICTURES, help="the folder of the traversals")
    parser.add_argument("--page-file", type=Path, default=PAGE, help="the page")
    parser.add_argument("--runs", type=Path, default=RUNS, help="the run folders, which the ranking needs and a stopped training goes on from")
    parser.add_argument("--page", action="store_true", help="only write the page from the lines that are there")
    args = parser.parse_args()
    unknown = set(args.variants) - set(VARIANTS)
    if unknown:
        parser.error(f"{sorted(unknown)[0]} is not one of {', '.join(VARIANTS)}")
    places = Places(args.lines, args.pictures, args.page_file, args.runs.resolve())
    jobs = [
        Job(name, seed, args.images, args.minutes)
        for name, variant in VARIANTS.items()
        for seed in range(args.seeds or variant.seeds)
        if name in (args.variants or VARIANTS)
    ]
    if not args.page:
        train_all(jobs, places, args.cores)
        rank_all(jobs, places, args.cores[0])
    write_page(places)
    failed = [row for row in lines(places) if "error" in row]
    return 1 if failed else 0


def lines(places: Places) -> list[Row]:
    """The last line of each row."""
    kept: dict[tuple[Any, ...], Row] = {}
    for row in read(places.rows):
        kept[row["variant"], row.get("seed"), row["images_of_the_set"], row["minutes_asked"]] = row
    return list(kept.values())


def add(places: Places, row: Row) -> None:
    append(places.rows, row)
    print(json.dumps(row), flush=True)


def train_all(jobs: list[Job], places: Places, chosen: list[int]) -> None:
    """The rows that have no line yet, one on each core."""
    done = [row for row in lines(places) if "error" not in row]
    todo = [job for job in jobs if not any(job.key.items() <= row.items() for row in done)]
    cores: Queue[int] = Queue()
    for core in chosen:
        cores.put(core)
    writing = Lock()

    def one(job: Job) -> None:
        core = cores.get()
        try:
            row = measured(job, places, core)
        finally:
            cores.put(core)
        with writing:
            add(places, row)

    with ThreadPoolExecutor(len(chosen)) as pool:
        list(pool.map(one, todo))


def measured(job: Job, places: Places, core: int) -> Row:
    """Trains as a user would, measures, and draws the traversal."""
    run, picture, began = job.run(places), places.pictures / f"{job.name}.png", time.monotonic()
    trained = call(core, *job.command(run))
    if trained.returncode:
        return job.key | {"error": trained.stderr.strip()[-500:]}
    figures = call(core, "evaluate", str(run), "--samples", "0", "--disentanglement", "--json")
    if figures.returncode:
        return job.key | {"error": figures.stderr.strip()[-500:]}
    known = json.loads(figures.stdout)
    drawn = call(core, "traverse", str(run), "--out", str(picture), "--json")
    if drawn.returncode and "collapsed" not in drawn.stderr:
        return job.key | {"error": drawn.stderr.strip()[-500:]}
    traversal = None if drawn.returncode else {k: v for k, v in json.loads(drawn.stdout).items() if k != "picture"}
    last = json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])
    names = (*MEASURES, *OTHERS, "distortion_nats", "rate_per_dim_nats", "images")
    row = job.key | {k: known[k] for k in names} | {k: last[k] for k in ("epoch", "seconds", "images_per_second")}
    return row | {"traversal": traversal, "wall_seconds": round(time.monotonic() - began, 1)}


def call(core: int, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """A command of vaekit, on one core where the system can do that."""
    return python(core, "-m", "vaekit", *arguments)


def python(core: int, *arguments: str) -> "subprocess.CompletedProcess[str]":
    pin = ["taskset", "-c", str(core)] if shutil.which("taskset") else []
    return subprocess.run([*pin, sys.executable, *arguments], env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True)


def rank_all(jobs: list[Job], places: Places, core: int) -> None:
    """UDR of the variants with several seeds, one line for each, where all runs are there and no line is."""
    rows = lines(places)
    for variant in dict.fromkeys(job.variant for job in jobs):
        same = [job for job in jobs if job.variant == variant]
        key = {"variant": variant, "images_of_the_set": same[0].images, "minutes_asked": same[0].minutes, "seeds": [job.seed for job in same]}
        runs = [job.run(places) for job in same]
        finished = all(any(job.key.items() <= row.items() and "error" not in row for row in rows) for job in same)
        known = any(key.items() <= row.items() and "udr" in row for row in rows)
        if len(same) < 2 or known or not finished:
            continue
        if not all((run / "model.safetensors").exists() for run in runs):
            print(f"No UDR of {variant}: it needs the runs of all seeds, and not all of {', '.join(map(str, runs))} are there.", flush=True)
            continue
        ranked = python(core, str(Path(__file__).resolve()), "--rank", *map(str, runs))
        result = {"error": ranked.stderr.strip()[-500:]} if ranked.returncode else {"udr": json.loads(ranked.stdout)}
        add(places, key | result)


def rank(runs: list[Path]) -> list[float]:
    """The agreement of models that were trained with different seeds; see `udr`."""
    import vaekit
    from vaekit import api
    from vaekit.evaluation import evaluate_batches
    from vaekit.evaluation.disentanglement import means, udr

    codes, informative = [], []
    for path in runs:
        run = vaekit.load(path)
        batches = list(api.reopen(run).batches("test", 250, RANKED))
        codes.append(means(run.model, batches))
        rates = evaluate_batches(run.model, batches).latent.rate_per_dim
        assert rates is not None
        informative.append(rates > INFORMATIVE)
    return [round(float(value), 4) for value in udr(codes, informative=informative)]


def write_page(places: Places) -> None:
    """The page, from the lines."""
    everything = lines(places)
    rows = sorted((r for r in everything if "mig" in r), key=lambda r: -r["mig"])
    agreed = {
        (r["variant"], seed, r["images_of_the_set"], r["minutes_asked"]): value
        for r in everything
        if "udr" in r
        for seed, value in zip(r["seeds"], r["udr"], strict=True)
    }
    text = ["# Disentanglement", "", *INTRODUCTION, ""]
    if rows:
        text += ["## Figures", "", *table(rows, agreed), ""]
    for row in (r for r in everything if "error" in r):
        text += [f"{row['variant']}, seed {row.get('seed', 'all')}, failed: {row['error']}", ""]
    text += ["## Published figures on dSprites", "", *PUBLISHED_TEXT, ""]
    text += ["| model | FactorVAE score | MIG | DCI disentanglement | mark |", "|---|---|---|---|---|"]
    text += [f"| {name} | {score:.2f} | {gap:.2f} | {dci:.2f} | [V] |" for name, score, gap, dci in PUBLISHED]
    text += ["", "[V]: read in the text of a paper or of its repository.", ""]
    if rows:
        text += ["## Traversals", "", *TRAVERSAL_TEXT, ""]
    for row in rows:
        title = f"**{row['variant']}, seed {row['seed']}** (MIG {row['mig']:.2f})"
        if row["traversal"] is None:
            text += [f"{title}: no dimension is in use.", ""]
            continue
        picture = os.path.relpath(places.pictures / f"{row['variant']}-{row['seed']}.png", places.page.parent)
        rates = ", ".join(f"{d} ({rate:.2f} nats)" for d, rate in zip(row["traversal"]["dimensions"], row["traversal"]["rates_nats"], strict=True))
        text += [f"{title}: dimensions {rates}.", "", f"![{row['variant']}, seed {row['seed']}]({Path(picture).as_posix()})", ""]
    if rows:
        commands = dict.fromkeys(" ".join(["vaekit", *job(row).command(f"runs/{job(row).name}")]) for row in rows)
        text += ["## Commands", "", "```", *commands, f"vaekit evaluate runs/{job(rows[0]).name} --samples 0 --disentanglement"]
        text += [f"vaekit traverse runs/{job(rows[0]).name} --out traversal.png", "```", ""]
    places.page.parent.mkdir(parents=True, exist_ok=True)
    places.page.write_text("\n".join(text))


def job(row: Row) -> Job:
    return Job(row["variant"], row["seed"], row["images_of_the_set"], row["minutes_asked"])


def table(rows: list[Row], agreed: dict[tuple[Any, ...], float]) -> list[str]:
    """One row for each model, the best MIG first."""
    columns = ["variant", "seed", *MEASURES.values(), "UDR", *OTHERS.values(), "images", "minutes", "epochs"]
    text = [f"| {' | '.join(columns)} |", "|" + "---|" * len(columns)]
    for row in rows:
        rank = agreed.get((row["variant"], row["seed"], row["images_of_the_set"], row["minutes_asked"]))
        cells = [row["variant"], str(row["seed"]), *(f"{row[k]:.3f}" for k in MEASURES), "" if rank is None else f"{rank:.3f}"]
        cells += [f"{row['elbo_nats']:.2f}", f"{row['rate_nats']:.2f}", f"{row['active_units']} of {LATENT}"]
        cells += [f"{row['images_of_the_set']:,}", f"{row['seconds'] / 60:.1f}", f"{row['epoch']:.1f}"]
        text.append(f"| {' | '.join(cells)} |")
    return text


INTRODUCTION = (
    "Recipes whose code is to stand for the factors that made the images, trained for about the same time on one core on `shapes` at 32x32 (a shape;",
    "its kind, scale, orientation, x and y are on the grid of factors of dSprites), with a code of ten dimensions. `python",
    "benchmarks/disentanglement.py` makes the rows, and writes this page from `benchmarks/disentanglement.jsonl`.",
    "",
    "All but `annealed` start with a heavy divergence that falls to its weight over the first 60 % of the run (`--set start=`, 20 here); the row",
    "named `-constant` does not, as published: the published recipe with everything else equal.",
    "",
    "The measures are taken on the test split, of the posterior's means; 1 is perfect. Chance is 0.2 for the FactorVAE and BetaVAE scores, 0.5 for",
    "explicitness, and near 0 for MIG, SAP, IRS, DCI-D and DCI-C; modularity gives codes of noise about two thirds of its marks, and DCI-I is an",
    "accuracy. DCI's importances are those of random forests. SAP takes the kind of shape for a class and the other factors for numbers. UDR needs",
    "no factors: it is the agreement between seeds of a recipe. ELBO and rate are in nats per image. Orientation cannot be read off a square beyond",
    "a quarter of a turn, nor off an ellipse beyond a half: no code gets 1 everywhere.",
)
PUBLISHED_TEXT = (
    "These stand beside the table and not in it: they are of the original dSprites at 64x64, of other networks and longer trainings, and the",
    "classifiers behind their DCI are not ours.",
)
TRAVERSAL_TEXT = (
    "One image of the validation split; each row moves one dimension of its code from -2 to +2 standard deviations of the prior, the fullest",
    "dimension first; dimensions that are not in use are left out.",
)

if __name__ == "__main__":
    if sys.argv[1:2] == ["--rank"]:
        print(json.dumps(rank([Path(path) for path in sys.argv[2:]])))
    else:
        sys.exit(main())
