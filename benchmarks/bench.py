"""What the sections share: the pictures, the stage, how long to measure, where results go."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from .pictures import Pictures
from .rounds import Row
from .servers import Absent, Server, Stage

__all__ = ["Bench"]

_T = TypeVar("_T")


@dataclass
class Bench:
    """One run. *rows* are the table, *details* the numbers behind it by section, *skipped* says what was not
    there and how to install it. *qualities* (see ``calibrate``) and *variants* (``hits``) are made once."""

    stage: Stage
    pictures: Pictures
    is_quick: bool
    say: Callable[[str], None]
    rows: list[Row] = field(default_factory=list)
    details: dict[str, Any] = field(default_factory=dict)
    skipped: list[str] = field(default_factory=list)
    qualities: dict[tuple[str, str], int] = field(default_factory=dict)
    variants: object = None
    load: float = field(default_factory=lambda: os.getloadavg()[0])

    def pick(self, quick: _T, full: _T) -> _T:
        """*quick* in a quick run, else *full*."""
        return quick if self.is_quick else full

    def add(self, row: Row) -> None:
        """Put *row* into the table, and say it."""
        self.rows.append(row)
        self.say(
            f"  {row.ours} / {row.other}: {row.ratio:.2f} ({row.low:.2f}-{row.high:.2f}) {row.target} "
            f"{row.verdict}  [{row.our_value:,.4g} / {row.other_value:,.4g} {row.unit}]"
        )

    def skip(self, text: str) -> None:
        """Note once that something is not there."""
        if text not in self.skipped:
            self.skipped.append(text)
            self.say(f"  skipped: {text}")

    def maybe(self, start: Callable[[], Server]) -> Server | None:
        """What *start* starts; None, with a line that says how to install it, if it is not there."""
        try:
            return start()
        except Absent as absent:
            self.skip(str(absent))
            return None
