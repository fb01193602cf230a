"""Every recipe trained for the same time on the same data: one table and one page of pictures.

    python benchmarks/zoo.py

Each recipe gets 60 seconds of training (`--seconds`) on one core: two trainings run side by side, each bound to a core of its own where the system
can do that. A finished recipe is one line of `benchmarks/zoo.jsonl` and one picture in `docs/images/zoo/`; a recipe that has its line is skipped, so
that the script can be stopped and run again. At the end `docs/zoo.md` is written from the lines.

Fashion-MNIST, binarized, stands for all but these: recipes about disentanglement train on `shapes` (known factors), and those that compare pictures
with pictures, or would spend their codes on the noise of bits (quantizers), on grey Fashion-MNIST.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import Queue
from typing import Any

from lines import append, read

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
ROWS, PICTURES, PAGE = HERE / "zoo.jsonl", ROOT / "docs" / "images" / "zoo", ROOT / "docs" / "zoo.md"

SHAPES = ("beta", "annealed", "beta-tc", "factor", "dip-i", "dip-ii", "joint")
GREY = ("ms-ssim", "perceptual", "vae-gan", "gan", "tokenizer-kl", "tokenizer-vq", "vq", "vq-ema", "rvq", "grouped-vq", "fsq", "lfq")
OPTIONS = {"semi-supervised": ["--labels", "1000"], "missing": ["--missing", "0.5"]}
DATA = {
    "bits": ("fashion-mnist", ["--binarize"], "Fashion-MNIST, binarized"),
    "grey": ("fashion-mnist", [], "Fashion-MNIST, 8 bits"),
    "shapes": ("shapes:30000", ["--size", "32"], "shapes, 32x32"),
}


def kind(name: str) -> str:
    return "shapes" if name in SHAPES else "grey" if name in GREY else "bits"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipes", nargs="*", help="only these (default: all that have no line yet)")
    parser.add_argument("--seconds", type=float, default=60, help="of training for each recipe (default: 60)")
    parser.add_argument("--cores", type=int, nargs="+", default=[0, 1], help="the cores to train on, one recipe on each (default: 0 1)")
    parser.add_argument("--runs", type=Path, help="keep the run folders here (default: a temporary folder)")
    parser.add_argument("--page", action="store_true", help="only write the page from the lines that are there")
    args = parser.parse_args()
    from vaekit.recipes import RECIPES

    unknown = set(args.recipes) - set(RECIPES)
    if unknown:
        parser.error(f"there is no recipe {sorted(unknown)[0]}")
    done = {row["recipe"] for row in lines()}
    todo = [] if args.page else args.recipes or [name for name in RECIPES if name not in done]
    cores: Queue[int] = Queue()
    for core in args.cores:
        cores.put(core)
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(len(args.cores)) as pool:
        runs = args.runs or Path(folder)
        for row in pool.map(lambda name: train(name, args.seconds, runs, cores), todo):
            print(json.dumps(row), flush=True)
    write_page([row["recipe"] for row in lines()])
    return 0


def lines() -> list[dict[str, Any]]:
    """The last line of each recipe, in the order of the index."""
    from vaekit.recipes import RECIPES

    rows = {row["recipe"]: row for row in read(ROWS)}
    return [rows[name] for name in RECIPES if name in rows]


def train(name: str, seconds: float, runs: Path, cores: "Queue[int]") -> dict[str, Any]:
    """Trains a recipe as a user would, draws its picture, and adds its line."""
    data, options, title = DATA[kind(name)]
    core, out = cores.get(), runs / name
    try:
        command = [sys.executable, "-m", "vaekit.cli", "train", data, *options, *OPTIONS.get(name, []), "--recipe", name]
        command += ["--minutes", str(seconds / 60), "--precision", "fp32", "--no-report", "--out", str(out)]
        pinned = ["taskset", "-c", str(core), *command] if hasattr(os, "sched_setaffinity") else command
        began = time.monotonic()
        ended = subprocess.run(pinned, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True)
        row: dict[str, Any] = {"recipe": name, "data": title, "seconds_asked": seconds}
        if ended.returncode:
            row |= {"error": ended.stderr.strip()[-500:]}
        else:
            row |= figures(out) | {"wall_seconds": round(time.monotonic() - began, 1)}
            picture = [sys.executable, str(Path(__file__)), "--draw", str(out), str(PICTURES / f"{name}.png")]
            subprocess.run(["taskset", "-c", str(core), *picture] if pinned is not command else picture, check=True)
    finally:
        cores.put(core)
    append(ROWS, row)
    return row


def figures(out: Path) -> dict[str, Any]:
    """What the run itself measured at its last validation (10,000 images of Fashion-MNIST)."""
    import vaekit

    run = vaekit.load(out)
    row = run.metrics()[-1]
    nats = ("train_loss_nats", "val_elbo_nats", "val_rate_nats", "val_distortion_nats")
    names = (*nats, "active_units", "codebook_perplexity", "images_per_second", "seconds", "epoch")
    return {k: row.get(k) for k in names} | {"parameters": run.description["parameters"]}


def draw(out: Path, target: Path) -> None:
    """One picture: five pairs of images and reconstructions above twenty samples."""
    import torch

    import vaekit
    from vaekit import api, pictures
    from vaekit.data.spec import DataSpec

    run = vaekit.load(out)
    spec: DataSpec = run.spec
    batch = api.reopen(run).batch("validation", torch.arange(10))
    torch.manual_seed(0)
    samples = run.model.sample(30)
    seen = [] if run.model.encoder is None else [batch.x.float(), run.model.reconstruct(batch).float()]
    x = torch.cat([*seen, samples.float()])
    grid = pictures.grid(x, spec, columns=10)
    target.parent.mkdir(parents=True, exist_ok=True)
    pictures.save(target, grid)


def write_page(names: list[str]) -> None:
    """`docs/zoo.md`, from the lines."""
    from vaekit.recipes import RECIPES

    text = ["# Every recipe, for the same time", ""]
    text += [
        "Sixty seconds of training each, on one core (two trainings side by side), by `python benchmarks/zoo.py`, which writes this page",
        "from `benchmarks/zoo.jsonl`. A minute is far from the end of any of them: the table compares how they set out, and the pictures",
        "show that they work. ELBO, rate and distortion are in nats per image on the validation split; where a recipe has no ELBO, it has no",
        "rate either. The own criterion is what the recipe minimizes, penalties and all, the mean over the last epoch of training.",
        "A picture is five rows of ten: images, their reconstructions, and three rows of samples from the prior.",
        "",
    ]
    rows = lines()
    for data in dict.fromkeys(row["data"] for row in rows):
        columns = "recipe | ELBO | own criterion | rate | distortion | active units | codebook perplexity | images/s | seconds | parameters"
        text += [f"## {data}", "", f"| {columns} |"]
        text += ["|---|---|---|---|---|---|---|---|---|---|"]
        for row in (r for r in rows if r["data"] == data):
            if "error" in row:
                text.append(f"| {row['recipe']} | failed: {row['error']} | | | | | | | | |")
                continue
            cells = [number(row.get(k), 2) for k in ("val_elbo_nats", "train_loss_nats", "val_rate_nats", "val_distortion_nats")]
            cells += [
                number(row["active_units"], 0),
                number(row["codebook_perplexity"], 1),
                number(row["images_per_second"], 0),
                number(row["seconds"], 0),
            ]
            text.append(f"| [{row['recipe']}](recipes/{row['recipe']}.md) | " + " | ".join(cells) + f" | {row['parameters'] / 1e6:.2f} M |")
        text.append("")
        for row in (r for r in rows if r["data"] == data and "error" not in r):
            minutes = "" if row["seconds_asked"] == 60 else f" ({row['seconds_asked'] / 60:g} minutes)"
            text += [
                f"**{row['recipe']}**{minutes}: {RECIPES[row['recipe']].good_for}",
                "",
                f"![{row['recipe']}](images/zoo/{row['recipe']}.png)",
                "",
            ]
    PAGE.write_text("\n".join(text) + "\n")


def number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:,.{digits}f}"


if __name__ == "__main__":
    if sys.argv[1:2] == ["--draw"]:
        draw(Path(sys.argv[2]), Path(sys.argv[3]))
    else:
        sys.exit(main())
