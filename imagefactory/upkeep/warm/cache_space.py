"""Room for what is rendered ahead in a cache that is full."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from ...errors import StorageError, TimedOut
from ...storage.disk import DiskStore
from ..evict import evict

__all__ = ["CacheSpace"]

_MAX_PROTECTED = 100_000  # pictures
_AT_ONCE = 500  # pictures whose variants are noted as used in one statement


class CacheSpace:
    """Makes room in *store*: what was not used since *began_s*, the unix time when the warming began, may go.
    What was made since may not, nor what was found to be there."""

    def __init__(self, store: DiskStore, began_s: float) -> None:
        self._store = store
        self._began_s = began_s
        self._lock = threading.Lock()
        self._alone = threading.Lock()
        self._may_free = True
        # Found, and not yet noted as used: that is only done when something has to go, as it takes a write of
        # 18 us each. Bounded: those found first lose their protection.
        self._found: deque[tuple[str, Sequence[str]]] = deque(maxlen=_MAX_PROTECTED)

    def protect(self, digest: str, names: Sequence[str]) -> None:
        """Have the variants of one source with these *names* stay."""
        self._found.append((digest, names))

    @contextmanager
    def reserved(self, expected: Callable[[], int]) -> Iterator[None]:
        """Around the making of a variant, when all under way may come to *expected* bytes (0: not known).

        Where there is no room for so much, one is made at a time: the store looks at the sum before it
        writes, and several that look at once would all fit.
        """
        if not self._fits(expected()):
            with self._alone:
                if not self._fits(expected()):
                    yield
                    return
        yield

    def _fits(self, wanted: int) -> bool:
        return wanted > 0 and self.make_room(wanted)

    def make_room(self, wanted: int) -> bool:
        """Whether there is room for *wanted* bytes, now or after others went. Raises StorageError."""
        with self._lock:
            total, capacity, goal = self._store.room()
            if total + wanted <= capacity:
                return True
            if not self._may_free:
                return False
            self._mark_used()
            goal = max(0, min(goal, capacity - wanted))
            try:
                self._may_free = evict(self._store, goal, unused_since_s=self._began_s).bytes > 0
            except TimedOut as error:
                raise StorageError("budget", str(error)) from error
            total, capacity, _ = self._store.room()
            return total + wanted <= capacity

    def _mark_used(self) -> None:
        while self._found:
            uses: dict[str, int] = {}
            while self._found and len(uses) < _AT_ONCE:
                digest, names = self._found.popleft()
                uses |= {f"{digest} {name}": 0 for name in names}
            self._store.index.counts.add(uses, {}, self._began_s)
