"""The numbers of a running server, over all of its processes: read for ``/metrics`` and the dashboard.

What was counted is what the index has: it only grows, also when a worker restarts or is killed. What holds
for the moment only (who waits for a render) every process tells in its session file, and the sum is taken.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

from ..errors import RequestError, StorageError
from ..factory import Parts
from ..upkeep.stats import answered

__all__ = ["History", "Reader", "Reading", "Sample"]

_TROUBLE = "trouble "


@dataclass(frozen=True, slots=True)
class Reading:
    """The numbers at unix time *time_s*; sizes in bytes.

    *counters* by name (see ``Counters``). *capacity* is what the cache may have now, *free* what the disk has
    left (None in memory mode). *gauges* are sums over *processes*. *troubles* are the parts of the cache
    that fail in any process. *is_fresh*: the index could be read; else its last known numbers are given.
    *jobs* counts the background work by state.
    """

    time_s: float
    counters: Mapping[str, float] = field(default_factory=dict)
    variants: int = 0
    bytes: int = 0
    max_bytes: int = 0
    capacity: int = 0
    free: int | None = None
    gauges: Mapping[str, float] = field(default_factory=dict)
    processes: int = 0
    troubles: frozenset[str] = frozenset()
    is_fresh: bool = True
    jobs: Mapping[str, int] = field(default_factory=dict)


class Reader:
    """Reads the numbers of *parts* and of the other processes on their cache."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._last = Reading(0.0)

    def take(self) -> Reading:
        """The numbers now, with what this process has counted until now. Raises nothing: what can't be read
        is as it was the last time."""
        parts, last = self._parts, self._last
        store = parts.store
        parts.keeper.flush()
        counters, variants, bytes_, capacity = last.counters, last.variants, last.bytes, last.capacity
        free, is_fresh = last.free, True
        try:
            counters = store.index.counts.all()
            variants, bytes_ = store.index.variants.count(), store.index.variants.total_bytes()
            capacity, free = store.capacity(), store.free_bytes()
        except StorageError:
            is_fresh = False
        reports = [each for each in store.processes.reports() if each]  # a command reports nothing
        gauges: dict[str, float] = {}
        for each in reports or [parts.counters.gauges()]:
            for name, value in each.items():
                gauges[name] = gauges.get(name, 0) + value
        troubles = {name.removeprefix(_TROUBLE) for name, on in gauges.items() if on and _TROUBLE in name}
        self._last = Reading(
            parts.clock(),
            counters,
            variants,
            bytes_,
            store.max_bytes,
            capacity,
            free,
            gauges,
            max(1, len(reports)),
            frozenset(troubles | parts.health.troubles.keys()),
            is_fresh,
            self._jobs(),
        )
        return self._last

    def _jobs(self) -> Mapping[str, int]:
        taking = self._parts.taking
        try:
            return taking.jobs.counts() if taking is not None else {}
        except RequestError:
            return self._last.jobs


@dataclass(frozen=True, slots=True)
class Sample:
    """What the charts show of one moment: counts since the beginning, and the others at that time."""

    time_s: float
    hits: int
    misses: int
    others: int
    waiting: float
    running: float
    bytes: int
    capacity: int


class History:
    """The samples of the last minutes: one for each *step_s* seconds of the clock, *length* at most.

    Each process has its own; as all take the sums of all, and at the same times, they show the same.
    """

    def __init__(self, reader: Reader, step_s: int = 5, length: int = 121) -> None:
        self.step_s = step_s
        self.length = length
        self._reader = reader
        self._samples: deque[Sample] = deque(maxlen=length)

    def samples(self) -> list[Sample]:
        """All of them, the oldest first."""
        return list(self._samples)

    def look(self, now_s: float) -> Reading | None:
        """Take a sample if it is time for one; the reading that it was made of."""
        if self._samples and now_s // self.step_s == self._samples[-1].time_s // self.step_s:
            return None
        reading = self._reader.take()
        sums = answered(reading.counters)
        self._samples.append(
            Sample(
                now_s,
                sums.hits,
                sums.misses,
                sums.originals + sums.errors,
                reading.gauges.get("renders_waiting", 0),
                reading.gauges.get("renders_running", 0),
                reading.bytes,
                reading.capacity,
            )
        )
        return reading
