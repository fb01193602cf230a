"""The kinds of charts that a report has."""

import math
from collections.abc import Mapping, Sequence
from html import escape

import numpy as np
from jaxtyping import Float, Int

from vaekit.report import svg
from vaekit.report.content import Chart

Series = Mapping[str, tuple[Sequence[float], Sequence[float]]]
WHOLE = ("dimensions", "entries")
"""Units that are counted."""
SHOWN = 96
"""Bars in one chart, at most: the largest ones."""


def lines(title: str, series: Series, label: str, unit: str, *, from_zero: bool = False, settled: bool = False) -> Chart:
    """Curves over one axis.

    Args:
        series: name -> (positions, values).
        settled: the first tenth of each curve may lie outside, where it would flatten all that follows.
    """
    xs = [x for positions, _ in series.values() for x in positions]
    ys = [y for _, values in series.values() for y in values]
    low, high = _late(series) if settled else (min(ys), max(ys))
    low, high = svg.widened(min(low, 0.0) if from_zero else low, high)
    if from_zero and min(ys) >= 0:
        low = 0.0
    x, y = svg.horizontal(*(svg.widened(min(xs), max(xs)) if min(xs) == max(xs) else (min(xs), max(xs)))), svg.vertical(low, high)
    body = [svg.grid(x, y, label, unit, whole=unit in WHOLE)]
    for i, (positions, values) in enumerate(series.values()):
        points = [(x(a), y(b)) for a, b in zip(positions, values, strict=True) if low <= b <= high]
        body.append(svg.polyline(points, f"--c{i}"))
    named = tuple((name, f"--c{i}") for i, name in enumerate(series)) if len(series) > 1 else ()
    note = "The first epochs lie outside." if low > min(ys) or high < max(ys) else ""
    return Chart(title, svg.drawing("".join(body), f"{title}, {unit}, over {label}"), named, note)


def _late(series: Series) -> tuple[float, float]:
    """The range of the values without the first tenth of each curve, if that is less than half of the whole range."""
    late = [y for _, values in series.values() for y in values[math.ceil(len(values) / 10) if len(values) >= 5 else 0 :]]
    everything = [y for _, values in series.values() for y in values]
    low, high = min(late), max(late)
    whole = min(everything), max(everything)
    return (low, high) if high > low and whole[1] - whole[0] > 2 * (high - low) else whole


def bars(
    title: str, values: Sequence[float], names: Sequence[str], label: str, unit: str, *, full: Sequence[bool] = (), limit: float | None = None
) -> Chart:
    """One bar for each value, in the order given; the first 96 are drawn.

    Args:
        names: of the bars, shown where the pointer rests.
        full: which bars have the strong colour; all when empty.
        limit: a dashed line at this value.
    """
    count = min(len(values), SHOWN)
    top = max([*values[:count], limit or 0.0])
    x, y = svg.horizontal(0, count), svg.vertical(0, (top or 1.0) * 1.06)
    step = x(1) - x(0)
    wide = step * (0.8 if count <= 48 else 1.0)
    body = [svg.grid(None, y, label if count == len(values) else f"{label}: the first {count} of {len(values):,}", unit)]
    for i, (value, name) in enumerate(zip(values[:count], names[:count], strict=True)):
        at, strong = y(max(value, 0.0)), not full or full[i]
        body.append(
            f'<rect class="{"bar" if strong else "bar weak"}" x="{x(i) + (step - wide) / 2:.2f}" y="{at:.1f}" width="{wide:.2f}" '
            f'height="{y(0) - at:.1f}"><title>{escape(name)}: {svg.number(value)} {escape(unit)}</title></rect>'
        )
        if count <= 16:
            body.append(svg.text(x(i + 0.5), svg.HEIGHT - svg.BOTTOM + 14, name.rpartition(" ")[2], "middle"))
    if limit is not None:
        body.append(f'<path class="limit" d="M{svg.LEFT} {y(limit):.1f}H{svg.WIDTH - svg.RIGHT}"/>')
    return Chart(title, svg.drawing("".join(body), f"{title}: {count} bars, {unit}"))


def intervals(title: str, rows: Sequence[tuple[str, float, float]], unit: str, note: str = "") -> Chart:
    """A point and a whisker for each row (name, mean, half width of the interval)."""
    low, high = svg.widened(min(m - h for _, m, h in rows), max(m + h for _, m, h in rows), 0.12)
    height = 44 + 40 * len(rows)
    x = svg.Axis(low, high, 14, svg.WIDTH - 14)
    body = []
    values = svg.ticks(low, high, 4)
    for value, figure in zip(values, svg.apart(values), strict=True):
        body.append(f'<path class="grid" d="M{x(value):.1f} 6V{height - 34}"/>' + svg.text(x(value), height - 20, figure, "middle"))
    for i, (name, mean, half) in enumerate(rows):
        at, colour = 34 + 40 * i, f"--c{i}"
        body.append(svg.text(2, at - 12, f"{name}: {mean:,.2f} ± {half:.2f}"))
        body.append(
            f'<path class="line" style="stroke:var({colour})" d="M{x(mean - half):.1f} {at - 5}v10m0 -5H{x(mean + half):.1f}m0 -5v10"/>'
            + svg.dots([(x(mean), at)], colour, 8)
        )
    body.append(svg.text(svg.WIDTH / 2, height - 4, unit, "middle"))
    return Chart(title, svg.drawing("".join(body), f"{title}, {unit}", height=height), note=note)


def scatter(title: str, points: Float[np.ndarray, "n 2"], groups: Int[np.ndarray, "n"] | None, names: Sequence[str], note: str = "") -> Chart:
    """Points in a square of equal units, coloured by group: the ten largest groups (-1 is none), the others grey."""
    side, edge = svg.WIDTH, 10
    centre = (points.max(0) + points.min(0)) / 2
    reach = float(np.ptp(points, axis=0).max()) / 2 or 1.0
    placed = side / 2 + (points - centre) * [1, -1] / reach * (side / 2 - edge)
    body = [f'<rect class="frame" x="0.5" y="0.5" width="{side - 1}" height="{side - 1}" rx="4"/>']
    legend: list[tuple[str, str]] = []
    groups = np.full(len(points), 0) if groups is None else groups
    present = [int(g) for g in np.unique(groups) if g >= 0]
    largest = sorted(sorted(present, key=lambda g: -int((groups == g).sum()))[: svg.COLOURS])
    others = ~np.isin(groups, largest)
    if others.any():
        body.append(svg.dots([(a, b) for a, b in placed[others]], "--faint"))
    for i, group in enumerate(largest):
        body.append(svg.dots([(a, b) for a, b in placed[groups == group]], f"--c{i}"))
        if len(names) > 1:
            legend.append((names[group], f"--c{i}"))
    if legend and others.any():
        legend.append(("others", "--faint"))
    return Chart(title, svg.drawing("".join(body), f"{title}: {len(points)} images", side, side), tuple(legend), note)
