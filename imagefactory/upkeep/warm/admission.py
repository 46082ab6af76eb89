"""When the render of a variant may begin, so that a warming keeps its budget of bytes and of time."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from .orders import Budget
from .progress import Progress

__all__ = ["Admission"]

_PULSE_S = 0.2


class Admission:
    """Has renders begin, in all threads, as long as they fit into *budget*; then it ends *progress*.

    A render under way counts against the bytes as the largest variant so far. So only the last one may go
    over the budget, by as much as it is larger than those before.
    """

    def __init__(self, budget: Budget, progress: Progress) -> None:
        self._budget = budget
        self._progress = progress
        self._changed = threading.Condition()
        self._running = self._largest = 0

    @contextmanager
    def admitted(self) -> Iterator[bool]:
        """Around the making of one variant; says whether it may begin. Waits until that is known."""
        may_begin = self._begin()
        try:
            yield may_begin
        finally:
            if may_begin:
                with self._changed:
                    self._running -= 1
                    self._changed.notify_all()

    def _begin(self) -> bool:
        progress, budget = self._progress, self._budget
        with self._changed:
            while not progress.is_over:
                if budget.seconds is not None and progress.seconds >= budget.seconds:
                    progress.end("budget")
                elif budget.bytes is None or self._fits(budget.bytes):
                    self._running += 1
                    return True
                elif self._running:
                    self._changed.wait(_PULSE_S)
                else:
                    progress.end("budget")
            return False

    def _fits(self, limit: int) -> bool:
        """Whether one more fits into *limit* bytes. As long as no size is known one is made at a time."""
        if not self._largest:
            return not self._running
        return self._progress.bytes + (self._running + 1) * self._largest <= limit

    def note_size(self, size: int) -> None:
        """A variant has *size* bytes."""
        with self._changed:
            self._largest = max(self._largest, size)

    def expected_bytes(self) -> int:
        """What the renders under way may come to; 0 as long as no size is known."""
        return self._running * self._largest
