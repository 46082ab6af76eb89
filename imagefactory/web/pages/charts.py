"""The dashboard's line charts, drawn as SVG paths."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from ...common.units import ratio_text, size_text
from ...monitoring.numbers import Reading, Sample

__all__ = ["Chart", "area", "charts", "line", "rates"]

_WIDTH, _HEIGHT = 300, 64
_EDGE = 2  # so that a line at the bottom or the top is drawn whole

Point = tuple[float, float | None]  # unix time; None: nothing is known of that moment


def rates(counts: Sequence[tuple[float, float]]) -> list[Point]:
    """How fast the counts of (time, count) grew, per second, at the end of each step; a count that fell
    began at 0 again, and grew by what it is now."""
    found: list[Point] = []
    for (before_s, before), (now_s, now) in pairwise(counts):
        if now_s > before_s:
            found.append((now_s, (now - before if now >= before else now) / (now_s - before_s)))
    return found


def line(points: Sequence[Point], begin_s: float, end_s: float, top: float) -> str:
    """The line through *points* between two times, *top* being the value at the upper edge."""
    return " ".join(f"M{part.replace(' ', ' L')}" for part in _parts(points, begin_s, end_s, top))


def area(points: Sequence[Point], begin_s: float, end_s: float, top: float) -> str:
    """What lies below that line."""
    found = []
    for part in _parts(points, begin_s, end_s, top):
        corners = part.split(" ")
        first, last = (corner.partition(",")[0] for corner in (corners[0], corners[-1]))
        found.append(f"M{first},{_HEIGHT} L{' L'.join(corners)} L{last},{_HEIGHT} Z")
    return " ".join(found)


def _parts(points: Sequence[Point], begin_s: float, end_s: float, top: float) -> list[str]:
    """The corners ``x,y x,y ...`` of each part without a gap."""
    parts: list[list[str]] = [[]]
    for time_s, value in points:
        if time_s < begin_s:
            continue
        if value is None:
            parts.append([])
            continue
        x = _WIDTH * (time_s - begin_s) / (end_s - begin_s)
        y = _HEIGHT - _EDGE - (_HEIGHT - 2 * _EDGE) * min(1.0, value / top if top else 0.0)
        parts[-1].append(f"{x:.1f},{y:.1f}")
    return [" ".join(part) for part in parts if len(part) > 1]


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart with its *lines*: (css class, name, value now, path, path of the area below or empty)."""

    title: str
    top: str
    lines: list[tuple[str, str, str, str, str]]
    text: str


def charts(samples: list[Sample], reading: Reading, begin_s: float, end_s: float) -> Iterator[Chart]:
    """The charts of *samples* between two times; *reading* has the values of now."""

    def chart(title: str, tops: str, top: float, *lines: tuple[str, str, str, list[Point]]) -> Chart:
        drawn = [
            (
                kind,
                name,
                value,
                line(points, begin_s, end_s, top),
                area(points, begin_s, end_s, top) if number == 0 else "",
            )
            for number, (kind, name, value, points) in enumerate(lines)
        ]
        text = ", ".join(f"{name} {value}" for _, name, value, _ in lines)
        return Chart(title, tops, drawn, f"{title}: {text}; the upper edge is {tops}")

    hits = rates([(each.time_s, each.hits) for each in samples])
    misses = rates([(each.time_s, each.misses) for each in samples])
    others = rates([(each.time_s, each.others) for each in samples])
    top = _round_up(max((value or 0 for _, value in [*hits, *misses, *others]), default=0))
    yield chart(
        "Requests a second",
        f"{top:g}/s",
        top,
        ("hit", "hits", _rate_text(hits), hits),
        ("miss", "misses", _rate_text(misses), misses),
        ("other", "other", _rate_text(others), others),
    )
    ratios: list[Point] = []
    for (time_s, hit), (_, miss) in zip(hits, misses, strict=True):
        asked = (hit or 0) + (miss or 0)
        ratios.append((time_s, (hit or 0) / asked if asked else None))
    yield chart(
        "Hit ratio", "100 %", 1, ("hit", "now", ratio_text(ratios[-1][1] if ratios else None), ratios)
    )
    running: list[Point] = [(each.time_s, each.running) for each in samples]
    waiting: list[Point] = [(each.time_s, each.waiting) for each in samples]
    top = _round_up(max((value or 0 for _, value in [*running, *waiting]), default=0))
    gauges = reading.gauges
    yield chart(
        "Renders",
        f"{top:g}",
        top,
        ("hit", "running", f"{gauges.get('renders_running', 0):g}", running),
        ("miss", "waiting", f"{gauges.get('renders_waiting', 0):g}", waiting),
    )
    sizes: list[Point] = [(each.time_s, each.bytes) for each in samples]
    budget: list[Point] = [(each.time_s, each.capacity) for each in samples]
    highest = max((value or 0 for _, value in [*sizes, *budget]), default=0)
    yield chart(
        "Cache",
        size_text(highest),
        highest,
        ("hit", "bytes", size_text(reading.bytes), sizes),
        ("other", "budget", size_text(reading.capacity), budget),
    )


def _rate_text(points: list[Point]) -> str:
    value = points[-1][1] if points else 0
    return f"{value or 0:.1f}"


def _round_up(value: float) -> float:
    """The next of 1, 2, 5, 10, 20, ...: a chart's upper edge that does not move all the time."""
    power = 10 ** math.floor(math.log10(value)) if value >= 1 else 1
    return next(step * power for step in (1, 2, 5, 10) if step * power >= value)
