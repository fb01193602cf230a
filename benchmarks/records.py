"""The importance-weighted bound of a trained run on every test image, in chunks that survive being stopped.

    python benchmarks/records.py RUN --samples 500

The test images are taken in chunks (`--chunk`, 500). A finished chunk is one line of `benchmarks/records.jsonl`: the sums and the sums of squares of
the ELBO and of the bound. A chunk that has its line is skipped, so that the script can be stopped and run again, on one core or on several
(`--cores 0 1`: a process on each). The noise of an image is a function of its position alone: neither stopping nor the size of the chunks changes a
figure. At the end -ELBO and the bound are printed with their standard errors over the images, and `docs/records.md` is written from the lines;
`--page` alone writes only that.
"""

import argparse
import hashlib
import math
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from lines import SAME, Line, append, finished, read, summary
from records_page import write_page

if TYPE_CHECKING:
    from vaekit.data import Dataset
    from vaekit.model import VAE
    from vaekit.run import Run

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
LINES, PAGE = HERE / "records.jsonl", ROOT / "docs" / "records.md"
BATCH = 100
"""Images in one pass. Noise is drawn for a pass, by the position of its first image: chunks are made of whole ones."""
KEPT = " (in 16 bits)"
"""After the command of a run whose kept weights were scored."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "run", nargs="?", type=Path, help="a run folder, or the kept weights (benchmarks/weights/NAME.safetensors) of one that has lines"
    )
    parser.add_argument("--samples", type=int, default=500, help="K of the bound (default: 500; 100 for tables, 5000 as published)")
    parser.add_argument("--chunk", type=int, default=500, help=f"images in a chunk, a multiple of {BATCH} (default: 500)")
    parser.add_argument("--images", type=int, help="only the first test images, for a trial (default: all)")
    parser.add_argument("--threads", type=int, help="of this process (default: PyTorch's choice)")
    parser.add_argument("--cores", type=int, nargs="+", help="instead: a process with one thread on each of these cores")
    parser.add_argument("--device", default="cpu", help="of the networks, cuda where there is one (default: cpu)")
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32", help="of the networks")
    parser.add_argument("--lines", type=Path, default=LINES, help="the file of finished chunks")
    parser.add_argument("--page-file", type=Path, default=PAGE, help="the page")
    parser.add_argument("--page", action="store_true", help="write the page from the lines, also where an evaluation is not complete")
    parser.add_argument("--share", type=int, nargs=2, metavar=("I", "N"), default=(0, 1), help="take every N-th chunk, from the I-th on; no page")
    args = parser.parse_args()
    if args.chunk < 1 or args.chunk % BATCH:
        parser.error(f"--chunk is a multiple of {BATCH}, and it is {args.chunk}")
    if args.run is None:
        if not args.page:
            parser.error("name a run, or ask for the page with --page")
        write_page(read(args.lines), args.page_file)
        return 0
    from vaekit.errors import UserError

    try:
        return evaluate(args)
    except UserError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1


def evaluate(args: argparse.Namespace) -> int:
    """Does what is left to do of a run, and reports on it."""
    import vaekit
    from vaekit.memory import channels_last

    alone = args.share[1] == 1
    kept = args.run.suffix == ".safetensors"
    run = None if kept else vaekit.load(args.run)
    known = of_weights(args.run, read(args.lines)) if run is None else description(run)
    about = {**known, "samples": args.samples, "precision": args.precision, "device": args.device}
    total = about["images"] = min(args.images or about["test_images"], about["test_images"])
    if args.cores:
        spread(args.cores)
    else:
        if args.threads:
            import torch

            torch.set_num_threads(args.threads)
        done = [(line["first"], line["last"]) for line in finished(read(args.lines), about)]
        todo = list(to_do(total, args.chunk, done, *args.share))
        data = None if not todo else opened(about["data"]) if run is None else vaekit.reopen(run)
        model = vaekit.load_vae(args.run) if run is None else run.model
        if run is None:
            channels_last(model)
        model.to(args.device)
        for first, last in todo:
            assert data is not None
            line = about | {"first": first, "last": last} | score(model, data, first, last, args.samples, args.precision)
            append(args.lines, line)
            mean = -line["bound_sum"] / (last - first)
            print(f"{about['run']}: images {first} to {last} of {total}: {mean:.2f} nats, {line['seconds']:.0f} s", flush=True)
    if not alone:
        return 0
    lines = finished(read(args.lines), about)
    whole = summary(lines)
    print(whole.text())
    if whole.complete or args.page:
        write_page(read(args.lines), args.page_file)
    return 0 if whole.complete else 1


def spread(cores: list[int]) -> None:
    """This command once more on each core, each with its share of the chunks."""
    own = [sys.executable, *without_cores(sys.argv)]
    workers = []
    for i, core in enumerate(cores):
        command = [*own, "--share", str(i), str(len(cores)), "--threads", "1"]
        pinned = ["taskset", "-c", str(core), *command] if hasattr(os, "sched_setaffinity") else command
        workers.append(subprocess.Popen(pinned, env={**os.environ, "OMP_NUM_THREADS": "1"}))
    if any([worker.wait() for worker in workers]):
        raise SystemExit("a process failed: what is finished is kept, so run the same command again")


def without_cores(arguments: list[str]) -> list[str]:
    """The command line without `--cores 0 1`."""
    kept, skipping = [], False
    for argument in arguments:
        skipping = argument.startswith("--cores") or (skipping and argument.isdigit())
        if not skipping:
            kept.append(argument)
    return kept


def to_do(total: int, chunk: int, done: Iterable[tuple[int, int]], share: int = 0, of: int = 1) -> Iterator[tuple[int, int]]:
    """The ranges [first, last) of images that are not done, none across a multiple of `chunk`; those of the chunks share, share + of, ..."""
    covered = {start for first, last in done for start in range(first, last, BATCH)}
    for begin in range(share * chunk, total, of * chunk):
        end, first = min(begin + chunk, total), None
        for start in range(begin, end, BATCH):
            if start not in covered:
                first = start if first is None else first
            elif first is not None:
                yield first, start
                first = None
        if first is not None:
            yield first, end


def score(model: "VAE", data: "Dataset", first: int, last: int, samples: int, precision: str) -> Line:
    """The sums over test images first..last-1 of the ELBO and the bound in nats, and of their squares."""
    import torch

    from vaekit.evaluation import iw_bound
    from vaekit.evaluation.likelihood import Parts
    from vaekit.evaluation.passes import passes

    began = time.perf_counter()
    starts = range(first, last, BATCH)
    batches = [data.batch("test", torch.arange(start, min(start + BATCH, last))) for start in starts]
    parts = Parts()
    for out in passes(model, batches, model, start=first, precision=precision):
        parts.add(out)
    elbo, bound = parts.bound().elbo, iw_bound(model, batches, samples, start=first, precision=precision)
    sums = {f"{name}_{k}": v.sum().item() for name, x in (("elbo", elbo), ("bound", bound)) for k, v in (("sum", x), ("squares", x.square()))}
    if not all(map(math.isfinite, sums.values())):
        raise ArithmeticError(f"the bound of an image in {first} to {last} is not finite: {sums}")
    return sums | {"seconds": round(time.perf_counter() - began, 2)}


def of_weights(path: Path, lines: list[Line]) -> Line:
    """What the lines of a run say of it, for the weights that were kept of it under its name in 16 bits: a model of its own, by its digest."""
    found = [line for line in lines if line["run"] == path.stem]
    if not found:
        raise SystemExit(f"no run of the name {path.stem} has lines: name a run folder, or the lines of the run with --lines")
    changing = (*SAME, "first", "last", "seconds", *(f"{n}_{k}" for n in ("elbo", "bound") for k in ("sum", "squares")))
    command = found[-1]["command"].removesuffix(KEPT) + KEPT
    return {k: v for k, v in found[-1].items() if k not in changing} | {"model": digest(path), "command": command}


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:12]


def opened(name: str) -> "Dataset":
    """The data of a line."""
    from vaekit.data import open_data

    source, _, binarized = name.partition(", ")
    return open_data(source, binarize=bool(binarized))


def description(run: "Run") -> Line:
    """What a line says of a run: enough for the table, and which weights they were."""
    about = run.description
    weights = run.final if run.final.exists() else run.best
    kind = run.model.likelihood.kind  # raises where there is no model yet
    return {
        "run": run.path.resolve().name,
        "model": digest(weights),
        "data": f"{about['data']['name']}{', binarized' if about['data']['options'].get('binarize') else ''}",
        "command": command(run),
        "seed": about["options"]["seed"],
        "minutes": None if about.get("seconds") is None else round(about["seconds"] / 60, 2),
        "machine": about["plan"].get("machine"),
        "parameters": about["parameters"],
        "kind": kind,
        "dimensions": run.spec.dimensions,
        "test_images": about["data"]["sizes"]["test"],
    }


def command(run: "Run") -> str:
    """The command that trains this run: what its recipe does not do by itself, from `run.json`."""
    from vaekit.recipes import SETTING_OPTIONS, build_recipe
    from vaekit.training import Training

    about, options = run.description, run.description["options"]
    if options["recipe"] == "custom":
        return "(a model made in Python)"
    given = {k: options[k] for k in SETTING_OPTIONS if options.get(k) not in (None, {})}
    condition = {} if not options.get("condition") else {"condition": "class" if options["condition"] == "class" else "attributes"}
    own = build_recipe(options["recipe"], run.spec, **given, **condition).defaults.to_json()
    words = ["vaekit", "train", str(about["data"]["source"])]
    words += [f"--{k}" for k in ("binarize",) if options.get(k)]
    words += [w for k in ("condition", "limit", "missing", "labels") if options.get(k) for w in (f"--{k}", str(options[k]))]
    words += ["--recipe", options["recipe"]]
    changed = {k: options[k] for k in sorted(Training.names()) if k in options and options[k] != own[k]}
    for name, value in (given | changed).items():
        if name == "knobs":
            words += [w for knob, v in value.items() for w in ("--set", f"{knob}={plain(v)}")]
        else:
            words += [f"--{name.replace('_', '-')}", *([] if value is True else [plain(value)])]
    return shlex.join(words)


def plain(value: float | str) -> str:
    """A number as it is written on a command line."""
    return f"{value:g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    sys.exit(main())
