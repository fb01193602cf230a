"""Seconds from a cold start to a likelihood on binarized Fashion-MNIST: vaekit's ladder, beside the published network in pythae and in Keras.

    python benchmarks/time_to_quality.py

Run it with the Python of vaekit's environment, on a machine that does nothing else. The contenders train one after the other, each in a process and
an environment of its own (built under `.bench/` if there is none yet, as for `throughput.py`). The target is a mean bound on the 10,000 test images
with their fixed bits: 228.70 nats with 500 samples, the published figure of these networks (there with 5,000). The clock starts with the process
(imports, reading the data, compiling and measuring are in it) and stands still during evaluation, which is shown beside it.

After each pass over the data the ELBO of the validation images is taken, and the weights are kept where it is better than ever. After training the
best are scored on the test images; where they reach the target, the first of the kept weights that do is searched for. A contender that has its line
in `benchmarks/time_to_quality.jsonl` on the same terms is not run again. At the end the table is printed.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from lines import append, read
from throughput import PEERS, Failure, environment, machine

HERE = Path(__file__).resolve().parent
LINES = HERE / "time_to_quality.jsonl"
TARGET, TOTAL = 228.70, 10_000


@dataclass(frozen=True)
class Contender:
    key: str
    title: str
    script: str
    environment: str | None = None
    """The name of its environment and of its list of requirements; None for vaekit's own."""


CONTENDERS = (
    Contender("vaekit", "vaekit", "quality_vaekit.py"),
    Contender("pythae", "pythae 0.1.2, MLP as published", "quality_pythae.py", "pythae"),
    Contender("keras", "Keras, MLP as published", "quality_keras.py", "keras"),
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("contenders", nargs="*", metavar="CONTENDER", help=f"only these, of {', '.join(c.key for c in CONTENDERS)}")
    parser.add_argument("--target", type=float, default=TARGET, help=f"nats (default: {TARGET:.2f})")
    parser.add_argument("--budget", type=float, default=3600, help="seconds of training for each (default: 3600)")
    parser.add_argument("--samples", type=int, default=500, help="of the bound (default: 500)")
    parser.add_argument("--images", type=int, default=TOTAL, help="score only the first images, for a trial (default: all)")
    parser.add_argument("--every", type=float, default=20, help="seconds between weights that are kept: how finely the moment is known (default: 20)")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--clock", choices=("wall", "processor"), default="wall", help="processor: where others use the machine (one thread only)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--lr", type=float, default=5e-4, help="of the peers (default: 5e-4, as published)")
    parser.add_argument("--batch-size", type=int, default=100, help="of the peers (default: 100, as published)")
    parser.add_argument("--recipe", default="ladder", help="of vaekit (default: ladder)")
    parser.add_argument("--minutes", type=float, default=5, help="that vaekit plans its run for, at most the budget (default: 5)")
    parser.add_argument(
        "--option", action="append", default=[], metavar="NAME=VALUE", help="of vaekit.fit, VALUE as JSON: --option 'knobs={\"groups\": 4}'"
    )
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32", help="of vaekit's networks while the test images are scored")
    parser.add_argument("--environments", type=Path, default=HERE.parent / ".bench", help="where the peers' environments are, or are built")
    parser.add_argument("--lines", type=Path, default=LINES, help="the file of finished contenders")
    args = parser.parse_args()
    unknown = set(args.contenders) - {c.key for c in CONTENDERS}
    if unknown:
        parser.error(f"there is no contender {sorted(unknown)[0]}")
    if args.clock == "processor" and args.threads != 1:
        parser.error("--clock processor adds up the time of all threads: it tells something of one alone (--threads 1)")
    chosen = [c for c in CONTENDERS if not args.contenders or c.key in args.contenders]
    try:
        with tempfile.TemporaryDirectory() as folder:
            missing = [c for c in chosen if find(read(args.lines), c, terms(args, c)) is None]
            if missing:
                write_data(Path(folder))
            for contender in missing:
                append(
                    args.lines, {"contender": contender.key, **terms(args, contender), **train(contender, args, Path(folder)), "machine": machine()}
                )
    except Failure as failure:
        print(f"The benchmark could not be made: {failure}", file=sys.stderr)
        return 2
    lines = read(args.lines)
    print("\n" + table([line for c in CONTENDERS if (line := find(lines, c, terms(args, c)))], args.target))
    return 0


def terms(args: argparse.Namespace, contender: Contender) -> dict[str, Any]:
    """What decides a contender's result: another value of it is another line."""
    shared = {k: getattr(args, k) for k in ("target", "budget", "samples", "images", "every", "threads", "clock", "seed")}
    if contender.environment is not None:
        return shared | {"lr": args.lr, "batch_size": args.batch_size}
    return shared | {"options": {"recipe": args.recipe, "minutes": args.minutes, "score_precision": args.precision, **options(args.option)}}


def options(words: list[str]) -> dict[str, Any]:
    """NAME=VALUE -> {name: value}, the value as JSON, or a word."""
    found: dict[str, Any] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals:
            raise SystemExit(f"--option is NAME=VALUE, and it is '{word}'")
        try:
            found[name.replace("-", "_")] = json.loads(value)
        except json.JSONDecodeError:
            found[name.replace("-", "_")] = value
    return found


def find(lines: list[dict[str, Any]], contender: Contender, wanted: dict[str, Any]) -> dict[str, Any] | None:
    """The last line of a contender on these terms."""
    found = [line for line in lines if line["contender"] == contender.key and all(line.get(k) == v for k, v in wanted.items())]
    return found[-1] if found else None


def write_data(folder: Path) -> None:
    """For the peers: the 50,000 grey training images, and the fixed bits of validation and test. vaekit reads the data set by itself."""
    from vaekit.data import fashion

    images = fashion.load()
    np.save(folder / "train.npy", images.take(np.arange(50_000)).reshape(-1, 28, 28))
    drawn = fashion.published_bits(images)[1].reshape(-1, 28, 28)
    np.save(folder / "validation.npy", drawn[:TOTAL])
    np.save(folder / "test.npy", drawn[TOTAL:])


def train(contender: Contender, args: argparse.Namespace, data: Path) -> dict[str, Any]:
    """Runs a contender, shows its checks, and gives its result."""
    name = contender.environment
    python = sys.executable if name is None else environment(args.environments.absolute() / name, PEERS / f"{name}.txt", time.monotonic() + 3600)
    command = [python, str(PEERS / contender.script), "--data", str(data)]
    for key, value in terms(args, contender).items():
        command += [f"--{key.replace('_', '-')}", json.dumps(value) if isinstance(value, dict) else str(value)]
    print(f"{contender.title}:", flush=True)
    with tempfile.TemporaryDirectory() as folder, open(Path(folder) / "stderr", "w+") as errors:
        # A cache of its own, so that vaekit starts as cold as on a new machine.
        variables = {**os.environ, "VAEKIT_CACHE": str(Path(folder) / "cache"), "OMP_NUM_THREADS": str(args.threads)}
        command += ["--began", repr(time.time())]
        process = subprocess.Popen(command, cwd=folder, env=variables, stdout=subprocess.PIPE, stderr=errors, text=True)
        assert process.stdout is not None
        result: dict[str, Any] | None = None
        try:
            for line in process.stdout:
                if line.startswith("{"):
                    said = json.loads(line)
                    result = said.get("result", result)
                    show(said)
        finally:
            process.kill()
            code = process.wait()
        if result is None:
            errors.seek(0)
            raise Failure(f"{contender.title} ended with {code}:\n{errors.read().strip()[-2000:]}")
    return result


def show(said: dict[str, Any]) -> None:
    """A check or a score as it comes."""
    if "check" in said:
        print(f"  {said['check']:8.1f} s  validation -ELBO {-said['elbo']:.2f} nats  {said['images']:,} images", flush=True)
    elif "scored" in said:
        print(f"  the weights of {said['scored']:.1f} s: {said['nats']:.2f} nats on the test images", flush=True)


def table(lines: list[dict[str, Any]], target: float) -> str:
    """Each contender, and how many times as long as vaekit it took; where it never got there, at least its whole training."""
    ours = next((line for line in lines if line["contender"] == "vaekit"), None)
    titles = {c.key: c.title for c in CONTENDERS}
    columns = "best bound | at | -ELBO there | images/s | start, s | checks, s | scoring, s"
    text = [f"| | parameters | seconds to {target:.2f} nats | times vaekit's | {columns} |", "|---|---|---|---|---|---|---|---|---|---|---|"]
    for line in lines:
        reached = line["seconds_to_target"]
        title = titles[line["contender"]] + (f", `{line['options']['recipe']}`" if "options" in line else "")
        moment = f"not in {line['seconds']:,.0f}" if reached is None else f"**{reached:,.0f}** ({-line['reached_bound_nats']:.2f})"
        cells = [title, f"{line['parameters'] / 1e6:.2f} M", moment, ratio(line, ours)]
        cells += [f"{-line['best_bound_nats']:.2f} ± {line['best_bound_nats_se']:.2f}", f"{line['best_seconds']:,.0f} s"]
        cells += [f"{-line['best_elbo_nats']:.2f}", f"{line['images_seen'] / line['seconds']:,.0f}"]
        cells += [f"{line['start_seconds']:.1f}", f"{line['checking_seconds']:,.0f}", f"{line['scoring_seconds']:,.0f}"]
        text.append(f"| {' | '.join(cells)} |")
    return "\n".join(text)


def ratio(line: dict[str, Any], ours: dict[str, Any] | None) -> str:
    """Seconds of this contender over those of vaekit; a lower bound where it did not reach the target, nothing where vaekit did not."""
    if ours is None or ours["seconds_to_target"] is None:
        return ""
    reached = line["seconds_to_target"]
    return f"{reached / ours['seconds_to_target']:.1f}" if reached is not None else f"more than {line['seconds'] / ours['seconds_to_target']:.1f}"


if __name__ == "__main__":
    sys.exit(main())
