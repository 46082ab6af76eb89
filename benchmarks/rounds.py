"""Interleaved rounds and what is made of them: A B C A B C, never A A B B, since a machine has moods.

A ratio is taken within each round, between neighbours in time; the median of the rounds is shown, with the
lowest and the highest.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, TypeVar

__all__ = ["Row", "compare", "interleave"]

_T = TypeVar("_T")


def interleave(contenders: Mapping[str, Callable[[], _T]], rounds: int) -> dict[str, list[_T]]:
    """What each of *contenders* gave, one value a round."""
    found: dict[str, list[_T]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, measure in contenders.items():
            found[name].append(measure())
    return found


@dataclass(frozen=True)
class Row:
    """One line of the table: *ratio* of ours to the other, its lowest and highest round, and the absolute
    values with their *unit*. *at_least* or *at_most* is the target, where there is one."""

    section: str
    ours: str
    other: str
    ratio: float
    low: float
    high: float
    our_value: float
    other_value: float
    unit: str
    at_least: float | None = None
    at_most: float | None = None

    @property
    def verdict(self) -> str:
        """Empty where there is no target."""
        if self.at_least is not None:
            return "met" if self.ratio >= self.at_least else "short"
        if self.at_most is not None:
            return "met" if self.ratio <= self.at_most else "short"
        return ""

    @property
    def target(self) -> str:
        if self.at_least is not None:
            return f"≥ {self.at_least:g}"
        return "" if self.at_most is None else f"≤ {self.at_most:g}"


def compare(
    section: str,
    ours: tuple[str, Sequence[float]],
    other: tuple[str, Sequence[float]],
    unit: str,
    **targets: Any,
) -> Row:
    """The row for the values of two contenders, round by round. Raises ValueError without a round."""
    pairs = list(zip(ours[1], other[1], strict=True))
    if not pairs:
        raise ValueError(f"{section}: no round of {ours[0]} and {other[0]}")
    ratios = [a / b if b else float("inf") for a, b in pairs]
    return Row(
        section, ours[0], other[0], median(ratios), min(ratios), max(ratios),
        median(ours[1]), median(other[1]), unit, **targets,
    )  # fmt: skip
