"""How fast the tutorial's network trains on Fashion-MNIST: vaekit beside a bare PyTorch loop, pythae and Keras.

    python benchmarks/throughput.py

Run it with the Python of vaekit's environment, on a machine that does nothing else. It builds an environment for each peer under `.bench/` if there
is none yet, lets the contenders train in turn at batch 64 and 256, several times over, prints the medians, and as its last two lines the ratios at
both sizes. It exits 1 when vaekit in float32 is more than 5 % slower than the bare loop, or not faster than both peers.

Every figure is of steady training in a process of its own: starting up, compiling and the first steps are not in it. A ratio is that of two runs of
the same repeat, and what is printed and judged is the median of these ratios over the repeats.
"""

import argparse
import contextlib
import gzip
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
PEERS = HERE / "peers"
MARK = "built-by-throughput"
"""A file in the environments that this script built: no other folder is ever removed."""
IMAGES = {64: 4_800, 256: 7_680}
"""Images of one turn at each batch size: about a second of the bare loop on two cores."""
MUST_BARE, MUST_PEERS, AIM_PEERS = 0.95, 1.0, 2.0
OTHERS = 0.25
"""Cores that other processes may take in a turn; where they took more in every tenth turn, the table says so."""


@dataclass(frozen=True)
class Contender:
    key: str
    title: str
    script: str
    environment: str | None = None
    """The name of its environment and of its list of requirements; None for vaekit's own."""
    options: tuple[str, ...] = ()


BARE = Contender("bare", "bare PyTorch loop", "bare.py")
FP32 = Contender("vaekit-fp32", "vaekit fp32 eager", "vaekit_peer.py", options=("--precision", "fp32"))
AUTO = Contender("vaekit-auto", "vaekit auto", "vaekit_peer.py", options=("--precision", "auto"))
PYTHAE = Contender("pythae", "pythae 0.1.2", "pythae_peer.py", "pythae")
KERAS = Contender("keras", "Keras", "keras_peer.py", "keras")
CONTENDERS = (BARE, FP32, AUTO, PYTHAE, KERAS)


class Failure(Exception):
    """The benchmark could not be made; the message says why."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=40, help="of each contender at each batch size")
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[64, 256])
    parser.add_argument("--images", type=int, help=f"images of one turn (default: {IMAGES})")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--minutes", type=float, default=24, help="no turn is begun that would end later than this (default: 24)")
    parser.add_argument("--data", type=Path, help="Fashion-MNIST: its folder of idx files, or a .npy file of uint8 images [N, 28, 28]")
    parser.add_argument("--environments", type=Path, default=HERE.parent / ".bench", help="where the peers' environments are, or are built")
    parser.add_argument("--json", type=Path, help="write every run to this file")
    args = parser.parse_args()
    deadline = time.monotonic() + 60 * args.minutes
    args.environments = args.environments.absolute()
    try:
        pythons = {name: environment(args.environments / name, PEERS / f"{name}.txt", deadline) for name in ("pythae", "keras")}
        with tempfile.TemporaryDirectory() as folder:
            data = Path(folder) / "images.npy"
            fashion_mnist(args.data, data)
            rows = list(measure(args, pythons, data, deadline))
    except Failure as failure:
        print(f"The benchmark could not be made: {failure}", file=sys.stderr)
        return 2
    if args.json:
        about = {"machine": machine(), "threads": args.threads, "batch_sizes": args.batch_sizes}
        args.json.write_text(
            json.dumps(
                about
                | {
                    "ratios": {b: ratios(rows, b) for b in args.batch_sizes},
                    "rows": rows,
                    "ends": [{"batch_size": b, "contender": c} | e for (b, c), e in LOSSES.items()],
                },
                indent=1,
            )
            + "\n"
        )
    table(rows, args)
    missed = [complaint for size in args.batch_sizes for complaint in judge(rows, size)]
    for complaint in missed:
        print("MISSED  " + complaint)
    for size in args.batch_sizes:
        print(verdict(rows, size))
    return 1 if missed else 0


# -- the peers' environments ---------------------------------------------------------------------------------------


def environment(folder: Path, requirements: Path, deadline: float) -> str:
    """The Python of an environment that holds these pinned packages; it is built if there is none."""
    pins = [line for line in requirements.read_text().split() if "==" in line]
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if holds(python, pins):
        return str(python)
    if folder.exists() and not (folder / MARK).exists():
        raise Failure(f"{folder} does not hold {', '.join(pins)}, and was not built by this script: remove it, or name another with --environments.")
    print(f"building {folder} with {', '.join(pins)} ...", flush=True)
    began = time.monotonic()
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / MARK).touch()
    # One package after the other: pip then keeps the torch that it has for a peer that takes any.
    for command in [[sys.executable, "-m", "venv", str(folder)], *([str(python), "-m", "pip", "install", "--quiet", pin] for pin in pins)]:
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=max(deadline - time.monotonic(), 1))
        except subprocess.TimeoutExpired:
            raise Failure(f"the time was over before {folder} was built; what was downloaded is kept by pip, so run it again.") from None
        if done.returncode:
            raise Failure(f"{' '.join(command)}\n{(done.stdout + done.stderr).strip()[-2000:]}")
    if not holds(python, pins):
        raise Failure(f"{folder} does not hold {', '.join(pins)}.")
    print(f"built in {time.monotonic() - began:.0f} s", flush=True)
    return str(python)


def holds(python: Path, pins: list[str]) -> bool:
    """Whether the environment has the packages in these versions (a local version, such as +cpu, is the same version)."""
    if not python.exists():
        return False
    names = [pin.split("==")[0] for pin in pins]
    code = f"import importlib.metadata as m; print(*[n + '==' + m.version(n).split('+')[0] for n in {names}])"
    done = subprocess.run([str(python), "-c", code], capture_output=True, text=True)
    return done.returncode == 0 and done.stdout.split() == pins


# -- the data ------------------------------------------------------------------------------------------------------


def fashion_mnist(place: Path | None, target: Path) -> None:
    """Writes the training images [60000, 28, 28] of Fashion-MNIST, from this folder or file or from where vaekit finds them."""
    if place is None:
        code = "import sys, numpy; from vaekit.data import fashion; numpy.save(sys.argv[1], fashion.load().parts[0])"
        done = subprocess.run([sys.executable, "-c", code, str(target)], capture_output=True, text=True)
        if done.returncode:
            raise Failure(f"vaekit has no Fashion-MNIST for it, or is not installed in {sys.executable}:\n{done.stderr.strip()[-1000:]}")
        return
    if place.suffix == ".npy" and place.is_file():
        np.save(target, np.load(place))
        return
    for name in ("train-images-idx3-ubyte.gz", "train-images-idx3-ubyte"):
        if (place / name).is_file():
            with gzip.open(place / name) if name.endswith(".gz") else open(place / name, "rb") as file:
                np.save(target, np.frombuffer(file.read(), np.uint8, offset=16).reshape(-1, 28, 28))
            return
    raise Failure(f"there is no Fashion-MNIST in {place}.")


# -- the turns -----------------------------------------------------------------------------------------------------


def measure(args: argparse.Namespace, pythons: dict[str, str], data: Path, deadline: float) -> Iterator[dict[str, Any]]:
    """One row for each turn. The contenders of a batch size are alive together, and one of them trains at a time."""
    began = time.monotonic()
    for n, size in enumerate(args.batch_sizes, 1):
        until = began + (deadline - began) * n / len(args.batch_sizes)
        with contextlib.ExitStack() as stack:
            running = [stack.enter_context(Running(c, size, args, pythons, data)) for c in CONTENDERS]
            for turn in range(args.turns):
                if time.monotonic() > until - 30:
                    print(f"batch {size}: stopped after {turn} of {args.turns} turns: the time is over")
                    break
                # Forwards and backwards by turns, so that a drift of the machine hits all alike.
                for contender in running[:: 1 if turn % 2 == 0 else -1]:
                    before, own, wall = busy_seconds(), contender.busy(), time.monotonic()
                    row = contender.turn()
                    if before is not None and own is not None:
                        row["others_cores"] = round((busy_seconds() - before - (contender.busy() - own)) / (time.monotonic() - wall), 3)
                    yield {"batch_size": size, "turn": turn, "contender": contender.key} | row
                if (turn + 1) % 10 == 0:
                    print(f"batch {size}: {turn + 1} turns", flush=True)
            for contender in running:
                LOSSES[size, contender.key] = contender.end()


LOSSES: dict[tuple[int, str], dict[str, Any]] = {}
"""What each contender said at its end, by batch size."""


class Running:
    """A contender's process: it has warmed up, and trains when it is told to."""

    def __init__(self, contender: Contender, size: int, args: argparse.Namespace, pythons: dict[str, str], data: Path) -> None:
        self.key, self.title, self.size = contender.key, contender.title, size
        python = sys.executable if contender.environment is None else pythons[contender.environment]
        self.command = [python, str(PEERS / contender.script), "--data", str(data), "--batch-size", str(size)]
        self.command += ["--images", str(args.images or IMAGES.get(size, 6_400)), "--threads", str(args.threads), *contender.options]

    def __enter__(self) -> "Running":
        self.folder = tempfile.TemporaryDirectory()
        self.errors = open(Path(self.folder.name) / "stderr", "w+")
        # A cache of its own: vaekit keeps there which precision it found to be the fastest.
        variables = {**os.environ, "VAEKIT_CACHE": str(Path(self.folder.name) / "cache")}
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": self.errors, "text": True}
        self.process = subprocess.Popen(self.command, cwd=self.folder.name, env=variables, **pipes)
        if not self._line().get("ready"):
            raise Failure(f"{self.title} did not get ready at batch {self.size}.")
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        self.errors.close()
        self.folder.cleanup()

    def turn(self) -> dict[str, Any]:
        return self._tell("go")

    def end(self) -> dict[str, Any]:
        line = self._tell("end")
        if not line["loss"] < line["loss_first"]:
            raise Failure(f"{self.title} does not learn: its loss went from {line['loss_first']} to {line['loss']}.")
        return line

    def _tell(self, word: str) -> dict[str, Any]:
        assert self.process.stdin is not None
        self.process.stdin.write(word + "\n")
        self.process.stdin.flush()
        return self._line()

    def _line(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith("{"):
                return json.loads(line)
        self.errors.seek(0)
        raise Failure(f"{self.title} ended with {self.process.wait()} at batch {self.size}:\n{self.errors.read().strip()[-2000:]}")

    def busy(self) -> float | None:
        """Processor seconds of this process so far, where it is known (Linux)."""
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
            return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        return None


def busy_seconds() -> float | None:
    """Processor time that all processes of the machine have taken so far, where it is known (Linux)."""
    with contextlib.suppress(OSError):
        user, nice, system, _, _, irq, softirq, steal, *_ = map(int, Path("/proc/stat").read_text().split("\n")[0].split()[1:])
        return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")
    return None


# -- what came out -------------------------------------------------------------------------------------------------


def rates(rows: list[dict[str, Any]], size: int, contender: Contender) -> list[float]:
    """Images per second in each turn."""
    return [r["images_per_second"] for r in rows if r["batch_size"] == size and r["contender"] == contender.key]


def paired(rows: list[dict[str, Any]], size: int, above: Contender, below: Contender) -> list[float]:
    return [a / b for a, b in zip(rates(rows, size, above), rates(rows, size, below), strict=True)]


PAIRS = ((FP32, BARE), (AUTO, BARE), (AUTO, PYTHAE), (AUTO, KERAS), (FP32, PYTHAE), (FP32, KERAS))


def ratios(rows: list[dict[str, Any]], size: int) -> dict[str, dict[str, Any]]:
    found = {}
    for above, below in PAIRS:
        values = paired(rows, size, above, below)
        of_medians = statistics.median(rates(rows, size, above)) / statistics.median(rates(rows, size, below))
        found[f"{above.key}/{below.key}"] = {"median": statistics.median(values), "of_medians": of_medians, "turns": values}
    return found


def tails(values: list[float]) -> tuple[float, float]:
    """The tenth and the ninetieth percentile."""
    return float(np.quantile(values, 0.1)), float(np.quantile(values, 0.9))


def median(rows: list[dict[str, Any]], size: int, above: Contender, below: Contender) -> float:
    return statistics.median(paired(rows, size, above, below))


def table(rows: list[dict[str, Any]], args: argparse.Namespace) -> None:
    turns = len(rates(rows, args.batch_sizes[0], BARE))
    print(
        f"\nThe tutorial's network on Fashion-MNIST, {args.threads} threads, {machine()}; median of {turns} turns (tenth to ninetieth percentile)\n"
    )
    print(f"{'batch':>5}  {'':<18} {'images/s':>9}  {'':<17}  loss, in its own units")
    for size in args.batch_sizes:
        for contender in CONTENDERS:
            values = rates(rows, size, contender)
            last, (low, high) = LOSSES[size, contender.key], tails(values)
            spread = f"({low:,.0f} to {high:,.0f})"
            precision = f"  chose {last['plan']}" if contender is AUTO else ""
            loss = f"{last['loss_first']:.0f} -> {last['loss']:.0f}"
            print(f"{size:>5}  {contender.title:<18} {statistics.median(values):>9,.0f}  {spread:<17}  {loss}{precision}")
    print(f"\n{'batch':>5}  {'ratio':<40} {'median':>6}  {'(10 % to 90 %)':<20} of the medians")
    for size in args.batch_sizes:
        for (above, below), found in zip(PAIRS, ratios(rows, size).values(), strict=True):
            low, high = tails(found["turns"])
            spread = f"({low:.3f} to {high:.3f})"
            print(f"{size:>5}  {above.title + ' / ' + below.title:<40} {found['median']:>6.3f}  {spread:<20} {found['of_medians']:.3f}")
    for size in args.batch_sizes:
        slower = min(median(rows, size, AUTO, PYTHAE), median(rows, size, AUTO, KERAS))
        print(f"aim at batch {size}: {AIM_PEERS:g} times the faster peer, {'reached' if slower >= AIM_PEERS else 'not reached'} with {slower:.2f}")
    # A neighbour that has just waited still spins for a moment: a few such turns are no disturbance.
    disturbed = [r for r in rows if r.get("others_cores", 0) > OTHERS]
    if len(disturbed) > len(rows) / 10:
        print(f"other processes took part of the machine in {len(disturbed)} of {len(rows)} turns: the figures above are worth little")
    print()


def judge(rows: list[dict[str, Any]], size: int) -> list[str]:
    """What was missed at this batch size, in words."""
    missed = []
    bare = median(rows, size, FP32, BARE)
    if bare < MUST_BARE:
        missed.append(
            f"batch {size}: vaekit in float32 is {100 * (1 - bare):.1f} % slower than the bare loop; {100 * (1 - MUST_BARE):.0f} % is allowed."
        )
    for peer in (PYTHAE, KERAS):
        ratio = median(rows, size, AUTO, peer)
        if not ratio > MUST_PEERS:
            missed.append(f"batch {size}: vaekit has {ratio:.2f} times the speed of {peer.title}; it must be faster.")
    return missed


def verdict(rows: list[dict[str, Any]], size: int) -> str:
    bare, pythae, keras = median(rows, size, FP32, BARE), median(rows, size, AUTO, PYTHAE), median(rows, size, AUTO, KERAS)
    return f"batch {size}: vaekit/bare {bare:.3f} (fp32 eager), vaekit/pythae {pythae:.2f}, vaekit/keras {keras:.2f} (auto)"


def machine() -> str:
    """The processor and the number of its cores."""
    import torch

    from vaekit.device import device_name

    return f"{device_name(torch.device('cpu'))}, {os.cpu_count()} cores"


if __name__ == "__main__":
    sys.exit(main())
