"""Small line charts as SVG paths: from numbers over time to the ``d`` of a path. Used by the dashboard."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

__all__ = ["HEIGHT", "WIDTH", "area", "line", "rates"]

WIDTH, HEIGHT = 300, 64
_EDGE = 2  # so that a line at the bottom or the top is drawn whole

Point = tuple[float, float | None]  # unix time; None: nothing is known of that moment


def rates(counts: Sequence[tuple[float, float]]) -> list[Point]:
    """How fast the counts of (time, count) grew, per second, at the end of each step; a count that fell was
    begun anew and grew by what it is now."""
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
        found.append(f"M{first},{HEIGHT} L{' L'.join(corners)} L{last},{HEIGHT} Z")
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
        x = WIDTH * (time_s - begin_s) / (end_s - begin_s)
        y = HEIGHT - _EDGE - (HEIGHT - 2 * _EDGE) * min(1.0, value / top if top else 0.0)
        parts[-1].append(f"{x:.1f},{y:.1f}")
    return [" ".join(part) for part in parts if len(part) > 1]
