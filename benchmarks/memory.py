"""Shows that memory stays bounded while vaekit trains on a packed set that is larger than the bound.

    python benchmarks/memory.py

It writes a .npy file of images in pieces, trains one epoch on it with the command line in a process of its own, and watches the resident memory of
that process and its children from the first moment to the last: packing, training, validation, checkpoints and pictures. It prints the highest value,
exits 1 when that is above the bound, and leaves nothing behind. One epoch, since every image of the training split has then been read.

Mapped pages of the packed file count as resident, as they do for whoever limits the memory of a process; the system's own file cache does not.
"""

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import psutil

ROOT = Path(__file__).resolve().parent.parent
SIZE = 64
ROW = SIZE * SIZE * 3
GB = 10**9


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gigabytes", type=float, default=2.2, help="size of the set, in 10^9 bytes (default: 2.2)")
    parser.add_argument("--bound", type=float, default=1.5, help="the bound on resident memory, in 10^9 bytes (default: 1.5)")
    parser.add_argument("--scale", type=float, default=0.25, help="width of the network; it is small, since this is about the data (default: 0.25)")
    parser.add_argument("--folder", type=Path, default=ROOT / ".bench", help="where the temporary files go; no memory disk (default: .bench)")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    args = parser.parse_args()
    count = int(args.gigabytes * GB) // ROW
    if not args.folder.exists():
        args.folder.mkdir(parents=True)
    needed = 2 * count * ROW + GB // 2  # the file, its pack, and a little
    if (free := shutil.disk_usage(args.folder).free) < needed:
        print(f"{needed / GB:.1f} GB are needed in {args.folder} and {free / GB:.1f} GB are free: name another with --folder.", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory(dir=args.folder, prefix="memory-") as folder:
        data = Path(folder) / "images.npy"
        write(data, count)
        print(f"{count:,} images {SIZE} x {SIZE} x 3 in {data.stat().st_size / GB:.2f} GB", flush=True)
        figures = train(data, Path(folder), args.scale)
    figures |= {"images": count, "gigabytes": round(count * ROW / GB, 3), "bound_gb": args.bound}
    if args.json:
        args.json.write_text(json.dumps(figures, indent=1) + "\n")
    if figures["exit_status"] != 0 or figures["packed_gb"] < figures["gigabytes"]:
        print(f"the training failed:\n{figures['output']}", file=sys.stderr)
        return 2
    peak = figures["peak_gb"]
    for name in ("packing", "training"):
        print(f"  while {name:<9} {figures[f'peak_{name}_gb']:.2f} GB at most, {figures[f'{name}_seconds']:.0f} s")
    good = peak <= args.bound
    relation = "within" if good else "ABOVE"
    print(f"peak resident memory {peak:.2f} GB, {relation} the bound of {args.bound:.2f} GB, with {figures['packed_gb']:.2f} GB packed and read")
    return 0 if good else 1


def write(path: Path, count: int) -> None:
    """Images of one colour each with noise on it, a piece at a time."""
    noise = np.random.default_rng(0)
    header = {"descr": "|u1", "fortran_order": False, "shape": (count, SIZE, SIZE, 3)}
    with open(path, "wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for start in range(0, count, 2000):
            n = min(2000, count - start)
            colour = noise.integers(0, 192, (n, 1, 1, 3), np.uint8)
            file.write((colour + noise.integers(0, 64, (n, SIZE, SIZE, 3), np.uint8)).data)
        # On the disk before anything is measured: else this write slows the packing.
        file.flush()
        os.fsync(file.fileno())


def train(data: Path, folder: Path, scale: float) -> dict:
    """One epoch by the command line, watched."""
    run, cache = folder / "run", folder / "cache"
    command = [sys.executable, "-m", "vaekit", "train", str(data), "--no-report", "--out", str(run), "--recipe", "tutorial", "--scale", str(scale)]
    command += ["--epochs", "1", "--batch-size", "256", "--precision", "fp32"]
    peaks = {"packing": 0, "training": 0}
    seconds = {"packing": 0.0, "training": 0.0}
    with open(folder / "output.txt", "w+") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env={**os.environ, "VAEKIT_CACHE": str(cache)})
        over = threading.Event()
        tail = threading.Thread(target=lambda: (process.wait(), over.set()))
        tail.start()
        began = time.monotonic()
        try:
            while True:
                # The description of the run is written when the pack is whole and the first step is near.
                phase = "training" if (run / "run.json").exists() else "packing"
                peaks[phase] = max(peaks[phase], resident(process.pid))
                if over.wait(0.05):
                    break
                now = time.monotonic()
                seconds[phase] += now - began
                began = now
        finally:
            if process.poll() is None:
                process.kill()
            tail.join()
        output.seek(0)
        text = output.read()[-3000:]
    packed = sum(f.stat().st_size for f in cache.rglob("images.bin"))
    return {
        "peak_gb": round(max(*peaks.values(), highest()) / GB, 3),
        **{f"peak_{k}_gb": round(v / GB, 3) for k, v in peaks.items()},
        **{f"{k}_seconds": round(v, 1) for k, v in seconds.items()},
        "packed_gb": round(packed / GB, 3),
        "exit_status": process.returncode,
        "output": text,
    }


def resident(pid: int) -> int:
    """Bytes of resident memory of a process and its children, now."""
    try:
        process = psutil.Process(pid)
        return sum(p.memory_info().rss for p in [process, *process.children(recursive=True)])
    except psutil.Error:  # it has just ended
        return 0


def highest() -> int:
    """The system's own high-water mark, in bytes, of the largest child that has ended: no peak between two looks escapes it."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * unit


if __name__ == "__main__":
    sys.exit(main())
