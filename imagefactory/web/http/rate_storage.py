"""Where ``limits`` keeps the requests of the last moments, in memory.

Its own memory storage starts a thread for a timer with almost each request: 0.55 ms of processor time, for
what takes 3 us here. Imported by ``rates`` alone, when the first request is counted: it takes the extra.
"""

from __future__ import annotations

import threading
import time
from collections import deque

from limits.storage import MovingWindowSupport, Storage

__all__ = ["WindowStorage"]

_SWEEP = 1000  # requests between two looks for those who ask no more
_MOST_KEYS = 100_000


class WindowStorage(Storage, MovingWindowSupport):
    """The times of requests by key, at most 100,000 keys: then those go that were used first."""

    STORAGE_SCHEME = None

    def __init__(self) -> None:
        super().__init__()
        self._times: dict[str, deque[float]] = {}
        self._lock = threading.Lock()
        self._calls = 0

    @property
    def base_exceptions(self) -> type[Exception]:
        """What it raises itself: nothing."""
        return ValueError

    def acquire_entry(self, key: str, limit: int, expiry: int, amount: int = 1) -> bool:
        """Whether *amount* more requests of *key* are within *limit* in *expiry* seconds; then they count."""
        now_s = time.monotonic()
        with self._lock:
            times = self._current(key, now_s - expiry)
            if len(times) + amount > limit:
                return False
            times.extend([now_s] * amount)
            self._times[key] = times
            self._calls += 1
            if self._calls % _SWEEP == 0 or len(self._times) > _MOST_KEYS:
                self._sweep(now_s - expiry)
            return True

    def get_moving_window(self, key: str, limit: int, expiry: int) -> tuple[float, int]:
        """When the first request of the window came, in unix seconds, and how many there are."""
        now_s = time.monotonic()
        with self._lock:
            times = self._current(key, now_s - expiry)
            return time.time() - (now_s - times[0] if times else 0), len(times)

    def _current(self, key: str, since_s: float) -> deque[float]:
        times = self._times.get(key) or deque()
        while times and times[0] <= since_s:
            times.popleft()
        return times

    def _sweep(self, since_s: float) -> None:
        self._times = {key: times for key, times in self._times.items() if times and times[-1] > since_s}
        if len(self._times) > _MOST_KEYS:  # a tenth at once: this takes milliseconds, and others wait
            for key in list(self._times)[: _MOST_KEYS // 10]:
                del self._times[key]

    # --- what other strategies would need

    def incr(self, key: str, expiry: int, amount: int = 1) -> int:
        raise NotImplementedError

    def get(self, key: str) -> int:
        return len(self._times.get(key, ()))

    def get_expiry(self, key: str) -> float:
        raise NotImplementedError

    def check(self) -> bool:
        return True

    def reset(self) -> int | None:
        with self._lock:
            count = len(self._times)
            self._times.clear()
        return count

    def clear(self, key: str) -> None:
        self._times.pop(key, None)
