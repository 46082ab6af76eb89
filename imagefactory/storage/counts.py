"""What was counted, in all processes since the index was begun; and the last use of each variant.

state counters      tag "state"
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from .database import Database, Execute, Row, seal

__all__ = ["DiskCounts"]

_KEY = "state counters"


class DiskCounts:
    """The sums in *database*."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, uses: Mapping[str, int], counts: Mapping[str, float], now_s: float) -> None:
        """Note that the variants with the key texts of *uses* were used so often, the last time at unix time
        *now_s*; and add *counts* to the counters. One transaction."""

        def work(cache: Any, sql: Execute) -> None:
            for text, times in uses.items():
                sql(
                    "UPDATE Cache SET access_time = max(access_time, ?), access_count = access_count + ? "
                    "WHERE key = ? AND raw = 1",
                    (now_s, times, f"variant {text}"),
                )
            if counts:
                sums = self.all()
                for name, amount in counts.items():
                    sums[name] = sums.get(name, 0) + amount
                cache.set(_KEY, Row(seal(_KEY, sums)), tag="state", retry=False)

        self._database.write(work)

    def all(self) -> dict[str, float]:
        """All that was counted since the index was begun, by name."""
        found = self._database.get(_KEY)
        return cast("dict[str, float]", found) if isinstance(found, dict) else {}
