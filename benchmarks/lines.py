"""Finished pieces of work as lines of a file, which survive being stopped, and evaluations put together from theirs."""

import json
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SAME = ("model", "samples", "precision", "images", "device")
"""What the lines of one evaluation share."""

Line = dict[str, Any]


def read(path: Path) -> list[Line]:
    """All lines, but for one that a kill cut short."""
    return [json.loads(line) for line in path.read_text().split("\n") if line.endswith("}")] if path.exists() else []


def append(path: Path, line: Line) -> None:
    """Adds a line in one write, so that several processes may add to the same file; what a kill cut short is ended first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "ab+", buffering=0) as file:
        cut = b""
        if file.tell():
            file.seek(-1, os.SEEK_END)
            cut = b"" if file.read() == b"\n" else b"\n"
        file.write(cut + json.dumps(line, allow_nan=False).encode() + b"\n")


def terms(line: Line) -> tuple[Any, ...]:
    """What the lines of one evaluation share, in the order of `SAME`; where no device is named it was the processor."""
    return tuple({"device": "cpu", **line}[k] for k in SAME)


def finished(lines: list[Line], about: Line) -> list[Line]:
    """The chunks of this evaluation, in order, each image once."""
    found: list[Line] = []
    for line in sorted((line for line in lines if terms(line) == terms(about)), key=lambda line: (line["first"], -line["last"])):
        if not found or line["first"] >= found[-1]["last"]:
            found.append(line)
    return found


@dataclass(frozen=True)
class Summary:
    """An evaluation, from its lines: means over the images, with their standard errors, in nats."""

    about: Line
    images: int
    elbo: tuple[float, float]
    bound: tuple[float, float]
    seconds: float

    @property
    def complete(self) -> bool:
        return bool(self.images == self.about["images"])

    def bits(self, nats: float) -> float | None:
        """Bits per dimension, nats / (D ln 2), where the likelihood is a probability."""
        return nats / (self.about["dimensions"] * math.log(2)) if self.about["kind"] == "pmf" else None

    def text(self) -> str:
        rows = [f"{self.about['run']}: {self.images:,} of {self.about['images']:,} test images, {self.seconds:.0f} s, {self.about['command']}"]
        for name, (mean, error) in {"-ELBO": self.elbo, f"bound, {self.about['samples']:,} samples": self.bound}.items():
            bits = self.bits(-mean)
            rows.append(f"  {name}: {-mean:.3f} +- {error:.3f} nats" + ("" if bits is None else f", {bits:.4f} bits/dim"))
        return "\n".join(rows)


def summary(lines: list[Line]) -> Summary:
    """The means over the images of these chunks.

    With S the sum of n values and Q that of their squares: mean S / n, standard error sqrt((Q - S^2 / n) / (n - 1) / n).
    """
    n = sum(line["last"] - line["first"] for line in lines)
    found = []
    for name in ("elbo", "bound"):
        total, squares = (math.fsum(line[f"{name}_{k}"] for line in lines) for k in ("sum", "squares"))
        found.append((total / n, math.sqrt(max(squares - total**2 / n, 0.0) / (n - 1) / n) if n > 1 else math.nan))
    return Summary(lines[0], n, found[0], found[1], sum(line["seconds"] for line in lines))


def summaries(lines: list[Line]) -> list[Summary]:
    """Each evaluation, in the order of its first line."""
    keys = dict.fromkeys(map(terms, lines))
    return [summary(finished(lines, dict(zip(SAME, key, strict=True)))) for key in keys]
