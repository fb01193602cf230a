"""Every kind of prior for codes of numbers, fitted to the codes of one VAE: what each buys, in one table.

    python benchmarks/priors.py

A VAE with N(0, I) is trained on binarized Fashion-MNIST (`--vae-minutes`), then each kind is fitted to its codes (`--minutes`; gmm, which is fitted
by expectation-maximization, for as long as it takes by itself), on one core, and 10,000 samples are measured beside the test images by
`vaekit quality`. Two rows say what to compare with: `own` is the prior that the VAE was trained with, and `posterior` decodes draws of q(z|x) of
validation images, which is what a perfect prior would do. A finished row is one line of `benchmarks/priors.jsonl`, and is skipped; a fit that was
stopped goes on where it was (`runs/priors/`). At the end `docs/prior-kinds.md` is written from the lines; `--page` alone writes only that.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from budget import alone
from lines import append, read

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
LINES, PAGE, RUNS = HERE / "priors.jsonl", ROOT / "docs" / "prior-kinds.md", ROOT / "runs" / "priors"
REFERENCES = {"own": "N(0, I), which it was trained with", "posterior": "q(z given x) of validation images: a perfect prior"}
KINDS = ("gmm", "flow-matching", "diffusion", "flow", "autoregressive", "two-stage")
SHOWN = ("frechet_distance", "precision", "recall", "coverage", "sharpness", "memorization", "prior_test")
DENSITIES = ("gmm", "flow", "autoregressive")
"""Kinds whose loss is -log p(code), and can be compared."""
CLOSED = ("gmm",)
"""Kinds whose start is the fit: they take the time that they take."""

Line = dict[str, Any]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=f"only these, of {', '.join([*REFERENCES, *KINDS])}")
    parser.add_argument("--minutes", type=float, default=4, help="of each fit (default: 4)")
    parser.add_argument("--vae-minutes", type=float, default=8, help="of the VAE's training (default: 8)")
    parser.add_argument("-n", "--number", type=int, default=10_000, help="of samples (default: 10,000)")
    parser.add_argument("--core", type=int, default=0, help="the core to work on (default: 0)")
    parser.add_argument("--runs", type=Path, default=RUNS, help="where the run folder is kept")
    parser.add_argument("--lines", type=Path, default=LINES, help="the file of finished rows")
    parser.add_argument("--page-file", type=Path, default=PAGE, help="the page")
    parser.add_argument("--page", action="store_true", help="only write the page from the lines that are there")
    parser.add_argument("--decoded", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.decoded:
        print(json.dumps(decoded(args.decoded, args.number)))
        return 0
    unknown = set(args.kinds) - {*REFERENCES, *KINDS}
    if unknown:
        parser.error(f"there is no kind {sorted(unknown)[0]}")
    shared = {"vae_minutes": args.vae_minutes, "minutes_asked": args.minutes, "images": args.number}
    failed = False
    for name in [] if args.page else to_do(args.kinds, read(args.lines), shared):
        line = shared | measure(name, args)
        failed |= "error" in line
        append(args.lines, line)
        print(json.dumps(line), flush=True)
    if lines := read(args.lines):
        write_page(lines, args.page_file)
    return 1 if failed else 0


def to_do(names: list[str], lines: list[Line], shared: Line) -> list[str]:
    """The rows that have no line on these terms; what failed is tried again."""
    done = {line["name"] for line in lines if "error" not in line and all(line[k] == v for k, v in shared.items())}
    return [name for name in names or [*REFERENCES, *KINDS] if name not in done]


def measure(name: str, args: argparse.Namespace) -> Line:
    """Trains and fits what a row needs as a user would, and measures its samples."""
    vae, row = args.runs / f"conv-{args.vae_minutes:g}-{args.minutes:g}", {"name": name}
    train = ["train", "fashion-mnist", "--binarize", "--recipe", "conv", "--precision", "bf16", "--minutes", f"{args.vae_minutes:g}", "--no-report"]
    try:
        vaekit(args.core, *train, "--out", str(vae))
        if name in KINDS:
            length = [] if name in CLOSED else ["--minutes", f"{args.minutes:g}"]
            vaekit(args.core, "fit-prior", str(vae), "--prior", name, *length, "--quiet")
            row |= fit(vae / "priors" / name)
        began = time.monotonic()
        if name == "posterior":
            told = alone([sys.executable, __file__, "--decoded", str(vae), "-n", str(args.number)], args.core)
        else:
            told = vaekit(args.core, "quality", str(vae), "--pixels", "draw", "--prior", name, "-n", str(args.number), "--json")
        found = json.loads(told)
    except subprocess.CalledProcessError as failure:
        return row | {"error": failure.stderr.strip()[-500:] or f"ended with {failure.returncode}"}
    about = {k: found[k] for k in ("features", "compared", "floor")}
    return row | about | {"measures": found["measures"], "measured_seconds": round(time.monotonic() - began, 1)}


def vaekit(core: int, *arguments: str) -> str:
    """A command of vaekit's, on one core; a run that is finished is told so and left as it is."""
    return alone([sys.executable, "-m", "vaekit.cli", *arguments], core)


def fit(path: Path) -> Line:
    """What a fitted prior is and what its fit reached."""
    import vaekit

    run = vaekit.load(path)
    nats = min(-row["val_elbo_nats"] for row in run.metrics() if row.get("val_elbo_nats") is not None)
    return {"minutes": round(run.description["seconds"] / 60, 2), "parameters": run.description["parameters"], "nats": nats}


def decoded(path: Path, n: int) -> Line:
    """The measures of draws of p(x|z) for codes of validation images, in the form that `vaekit quality --json` has."""
    import torch

    import vaekit
    from vaekit import api
    from vaekit.evaluation.samples.choose import choose
    from vaekit.evaluation.samples.real import real_images
    from vaekit.evaluation.samples.ruler import Ruler

    run = vaekit.load(path)
    data = api.reopen(run)
    real = real_images(data, n, "draw", 0)
    ruler = Ruler(choose(None, data.spec, data.name), real, 0)
    torch.manual_seed(0)
    batches = [data.batch("validation", rows) for rows in torch.arange(len(real.test)).split(500)]
    images = torch.cat([run.model.decode(run.model.encode(batch, sample=True)).sample() for batch in batches])
    if data.spec.levels is not None:  # within the range of the pixels, as the samples of `vaekit quality` are
        images = images.clamp(0, data.spec.levels - 1)
    figures, floor = ruler.measure(images)[0], ruler.floor
    measures = {k: {"value": f.value, "error": f.error, "floor": floor[k].value, "floor_error": floor[k].error} for k, f in figures.items()}
    return {"features": ruler.space.name, "compared": real.compared, "floor": f"{real.names[1]} in the samples' place", "measures": measures}


def write_page(lines: list[Line], path: Path) -> None:
    """`docs/prior-kinds.md`, from the lines."""
    from vaekit.evaluation.samples import MEASURES

    text = ["# Every kind of prior on one VAE", ""]
    text += [
        "Priors fitted to the codes of one `conv` of binarized Fashion-MNIST, on one core, by `python benchmarks/priors.py`, which writes this",
        "page from `benchmarks/priors.jsonl`. Samples are draws of p(x|z). What the kinds are and which suits which codes: [priors.md](priors.md).",
        "",
    ]
    for terms, rows in grouped(lines).items():
        text += table(terms, rows, {name: MEASURES[name].title for name in SHOWN})
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(text).rstrip() + "\n")


def grouped(lines: list[Line]) -> dict[tuple[float, float, int], list[Line]]:
    """The lines by their terms, each row once; references first, then the smallest Frechet distance, failures last."""
    found: dict[tuple[float, float, int], dict[str, Line]] = {}
    for line in lines:
        found.setdefault((line["vae_minutes"], line["minutes_asked"], line["images"]), {})[line["name"]] = line

    def place(line: Line) -> tuple[bool, float]:
        return line["name"] not in REFERENCES, line["measures"]["frechet_distance"]["value"] if "measures" in line else float("inf")

    return {terms: sorted(rows.values(), key=place) for terms, rows in found.items()}


def table(terms: tuple[float, float, int], rows: list[Line], titles: dict[str, str]) -> list[str]:
    """One VAE and one budget."""
    vae, fitted, images = terms
    good = [row for row in rows if "measures" in row]
    text = [f"## {fitted:g} minutes for each fit", ""]
    text += [f"But for {', '.join(CLOSED)}: as long as it takes by itself.", ""]
    about = f", {good[0]['compared']}; distances in the features '{good[0]['features']}'. The floor is {good[0]['floor']}" if good else ""
    text += [f"{vae:g} minutes of training the VAE, {images:,} samples of each prior{about}.", ""]
    columns = ["prior", "minutes", "parameters", "-log p of held-out codes, nats", *titles.values(), "samples and measures, minutes"]
    text += [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    for row in rows:
        title = REFERENCES.get(row["name"], row["name"])
        if "error" in row:
            text.append(f"| {title} | failed: {row['error'].splitlines()[-1]} {'| ' * (len(columns) - 2)}|")
            continue
        nats = row.get("nats") if row["name"] in DENSITIES else None
        size = [f"{row['minutes']:.1f}", f"{row['parameters'] / 1e6:.2f} M"] if "minutes" in row else ["", ""]
        size.append("" if nats is None else f"{nats:.2f}")
        cells = [cell(row["measures"].get(name), "value", "error") for name in titles]
        text.append(f"| {title} | {' | '.join([*size, *cells])} | {row['measured_seconds'] / 60:.1f} |")
    if good:
        floor = [cell(next((row["measures"][name] for row in good if name in row["measures"]), None), "floor", "floor_error") for name in titles]
        text.append(f"| no model: the floor | | | | {' | '.join(floor)} | |")
    return [*text, ""]


def cell(measure: dict[str, float | None] | None, value: str, error: str) -> str:
    """A figure with its standard error, where it has them."""
    if measure is None or measure[value] is None:
        return ""
    return f"{measure[value]:.3g}" + (f" ± {measure[error]:.1g}" if measure[error] is not None else "")


if __name__ == "__main__":
    sys.exit(main())
