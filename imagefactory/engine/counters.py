"""What happened in this process since somebody last asked: which variants were used, and counts by name.

Filled by the doors and the generator, emptied by the keeper, who writes the sums down. A hit notes itself
without a lock: appending to a deque can't be interrupted.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping

__all__ = ["BUCKETS_S", "Counters"]

# What is not collected must not fill the memory: the oldest notes fall out.
_MAX_NOTES = 200_000
# Upper bounds of the histograms, in seconds.
BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class Counters:
    """Notes of one process. A name is words with one space between them, such as
    ``requests hit webp 200``.

    *feeders* are called before the notes are taken: what keeps sums of its own hands them in there. *meters*
    say what this process does at the moment.
    """

    def __init__(self) -> None:
        self.feeders: list[Callable[[], None]] = []
        self.meters: list[Callable[[], Mapping[str, float]]] = []
        self._uses: deque[tuple[str, int]] = deque(maxlen=_MAX_NOTES)
        self._counts: deque[tuple[str, float]] = deque(maxlen=_MAX_NOTES)

    def use(self, key: str, times: int = 1) -> None:
        """Note that the variant with this text of its key was handed out."""
        self._uses.append((key, times))

    def add(self, name: str, amount: float = 1) -> None:
        """Add *amount* to the count of *name*."""
        self._counts.append((name, amount))

    def observe(self, name: str, seconds: float) -> None:
        """Add *seconds* to the histogram *name*: to its sum, and to the first bucket that is as large."""
        bucket = next((str(limit) for limit in BUCKETS_S if seconds <= limit), "+Inf")
        self.add(f"{name} sum", seconds)
        self.add(f"{name} {bucket}")

    def gauges(self) -> dict[str, float]:
        """What this process does at the moment, by name."""
        return {name: value for meter in self.meters for name, value in meter().items()}

    def take(self) -> tuple[Mapping[str, int], Mapping[str, float]]:
        """All uses by key and all counts by name since the last time."""
        for feed in self.feeders:
            feed()
        uses: dict[str, int] = {}
        for key, times in _drain(self._uses):
            uses[key] = uses.get(key, 0) + times
        counts: dict[str, float] = {}
        for name, amount in _drain(self._counts):
            counts[name] = counts.get(name, 0) + amount
        return uses, counts


def _drain(notes: deque[tuple[str, float]] | deque[tuple[str, int]]) -> list[tuple[str, int]]:
    """Take what is there now; what comes meanwhile stays for the next time."""
    return [notes.popleft() for _ in range(len(notes))]  # type: ignore[misc]  # ints where ints went in
