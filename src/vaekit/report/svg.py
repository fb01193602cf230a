"""Drawing by hand: axes, ticks and marks as SVG text. Colours are variables of the page's style sheet, so that one drawing is light and dark."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 340, 210
LEFT, RIGHT, TOP, BOTTOM = 48, 10, 24, 36
"""Margins of the plot, in the units of the drawing."""
COLOURS = 10
"""Groups have the colours --c0 to --c9 of the style sheet; others have --faint."""


@dataclass(frozen=True)
class Axis:
    """A linear map of low..high to start..end."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Round numbers (1, 2 or 5 times a power of ten apart) from low to high: as near to `count` of them as there can be."""
    power = 10.0 ** math.floor(math.log10((high - low) / count))
    made = []
    for step in (power * m for m in (1, 2, 5, 10)):
        first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
        made.append([i * step for i in range(first, last + 1)])
    return min(made, key=lambda values: abs(len(values) - count))


def widened(low: float, high: float, share: float = 0.05) -> tuple[float, float]:
    """The range with room at both ends; a single value, or several that differ by no more than rounding, get a range around them."""
    room = share * (high - low) if high - low > 1e-6 * max(abs(low), abs(high)) else 0.5 * abs(low) or 0.5
    return low - room, high + room


def number(value: float, digits: int = 4) -> str:
    """A number as people write it: 12,300, 0.05, 1e-05."""
    if value == 0:
        return "0"
    if abs(value) >= 1e9:
        return f"{value:.3g}"
    if abs(float(f"{value:.{digits}g}")) >= min(10_000, 10**digits):
        return f"{value:,.{max(0, digits - len(str(int(abs(value)))))}f}"
    return f"{value:.{digits}g}"


def apart(values: Sequence[float]) -> list[str]:
    """The numbers with as many digits, four or more, as tell them from each other."""
    for digits in range(4, 12):
        names = [number(value, digits) for value in values]
        if len(set(names)) == len(names):
            break
    return names


def vertical(low: float, high: float) -> Axis:
    """The axis of a plot's values."""
    return Axis(low, high, HEIGHT - BOTTOM, TOP)


def horizontal(low: float, high: float) -> Axis:
    """The axis of a plot's positions."""
    return Axis(low, high, LEFT, WIDTH - RIGHT)


def grid(x: Axis | None, y: Axis, label: str, unit: str, whole: bool = False) -> str:
    """Lines and figures at the ticks, the label below and the unit above; `whole`: the values are whole numbers."""
    parts, values = [], ticks(y.low, y.high)
    for value, name in zip(values, apart(values), strict=True):
        if whole and value != round(value):
            continue
        at = y(value)
        parts.append(f'<path class="grid" d="M{LEFT} {at:.1f}H{WIDTH - RIGHT}"/>')
        parts.append(text(LEFT - 6, at + 3.5, name, "end"))
    if x is not None:
        values = ticks(x.low, x.high)
        parts += [text(x(value), HEIGHT - BOTTOM + 15, name, "middle") for value, name in zip(values, apart(values), strict=True)]
    parts.append(text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 5, label, "middle"))
    parts.append(text(0, 11, unit))
    return "".join(parts)


def text(x: float, y: float, value: str, anchor: str = "start") -> str:
    """A line of text; the anchor is start, middle or end."""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(value)}</text>'


def polyline(points: Sequence[tuple[float, float]], colour: str) -> str:
    """A line through the points, with dots where there are few."""
    path = "".join(f"{'L' if i else 'M'}{x:.1f} {y:.1f}" for i, (x, y) in enumerate(points))
    line = f'<path class="line" style="stroke:var({colour})" d="{path}"/>' if len(points) > 1 else ""
    return line + (dots(points, colour, 4.5) if len(points) <= 25 else "")


def dots(points: Sequence[tuple[float, float]], colour: str, size: float = 3.2) -> str:
    """Round dots, all in one path."""
    path = "".join(f"M{x:.1f} {y:.1f}h0" for x, y in points)
    return f'<path class="dots" style="stroke:var({colour});stroke-width:{size:g}" d="{path}"/>'


def drawing(body: str, description: str, width: int = WIDTH, height: int = HEIGHT) -> str:
    """The SVG, with a description for those who cannot see it."""
    return f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(description)}">{body}</svg>'
