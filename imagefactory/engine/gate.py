"""How much may be made at a time: a bounded number of renders, of requests that wait, and of requests in all.

Misses only pass here; a hit never does. Large files are hashed in turn, too.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext

from ..common.turns import resting
from ..errors import Busy, TimedOut

__all__ = ["Gate", "Hashing"]

_BATCH_S = 0.5
# So many bytes are hashed in a few milliseconds.
_SMALL = 2 * 2**20


class _Ticket:
    """A place in the queue for a render of *group*; *turn* is set when it may begin."""

    def __init__(self, group: str) -> None:
        self.group = group
        self.since_s = time.monotonic()
        self.turn = threading.Event()


class Gate:
    """At most *renders* at a time, *queue* waiting for their turn, and *inside* requests in all. Of those
    three quarters may be followers, who wait for what another one makes.

    Who came first goes first. But within half a second of that, the variants of one source go one after the
    other: the worker that has decoded it makes them from what it has in memory.
    """

    def __init__(self, renders: int, queue: int, inside: int) -> None:
        self._renders = self._free = renders
        self._queue = queue
        self._limit = inside
        self._waiting: list[_Ticket] = []
        self._inside = 0
        self._followers = 0
        self._lock = threading.Lock()

    @property
    def waiting(self) -> int:
        """How many wait for their turn now."""
        return len(self._waiting)

    @property
    def running(self) -> int:
        """How many renders are under way now."""
        return self._renders - self._free

    def gauges(self) -> Mapping[str, float]:
        """Both, by the names of gauges."""
        return {"renders_waiting": self.waiting, "renders_running": self.running}

    @contextmanager
    def enter(self) -> Iterator[None]:
        """Be one of the requests that render or queue. Raises Busy at once when there are too many.

        The threads that are left over answer hits while all of these wait.
        """
        with self._lock:
            if self._inside >= self._limit:
                raise Busy("too many pictures are being made at the moment")
            self._inside += 1
        try:
            yield
        finally:
            with self._lock:
                self._inside -= 1

    @contextmanager
    def follow(self, is_patient: bool = False) -> Iterator[None]:
        """Be one of the requests that wait for another one's picture, with a thread. Raises Busy at once when
        there are so many that other pictures would find no place; the last few are for those that ask for
        patience."""
        most = self._limit - max(1, self._limit // 4)
        if not is_patient and most > 1:
            most -= max(1, most // 8)
        with self._lock:
            if self._followers >= most or self._inside >= self._limit:
                raise Busy("too many are waiting for this picture at the moment", retry_after_s=1)
            self._inside += 1
            self._followers += 1
        try:
            yield
        finally:
            with self._lock:
                self._inside -= 1
                self._followers -= 1

    @contextmanager
    def render(self, timeout_s: float, group: str = "") -> Iterator[None]:
        """Hold a slot for a render of *group* (a source digest).

        Raises Busy at once when the queue is full, TimedOut when no slot gets free.
        """
        with self._lock:
            ticket = None
            if self._free:
                self._free -= 1
            elif len(self._waiting) >= self._queue:
                raise Busy("too many pictures are waiting to be made")
            else:
                ticket = _Ticket(group)
                self._waiting.append(ticket)
        with resting():
            if ticket is not None:
                self._await(ticket, timeout_s)
            try:
                yield
            finally:
                with self._lock:
                    self._hand_on(group)

    def _await(self, ticket: _Ticket, timeout_s: float) -> None:
        has_come = False
        try:
            has_come = ticket.turn.wait(timeout_s)
        finally:
            if not has_come:
                with self._lock:
                    if ticket in self._waiting:
                        self._waiting.remove(ticket)
                    elif ticket.turn.is_set():  # its turn came at this very moment
                        self._hand_on(ticket.group)
        if not has_come:
            raise TimedOut("its turn did not come in time")

    def _hand_on(self, group: str) -> None:
        """Give a slot to who is next; the lock is held."""
        if not self._waiting:
            self._free += 1
            return
        following = self._waiting[0]
        if time.monotonic() - following.since_s < _BATCH_S:
            following = next((ticket for ticket in self._waiting if ticket.group == group), following)
        self._waiting.remove(following)
        following.turn.set()


class Hashing:
    """Where files are hashed: at most *places* large ones at a time, *queue* waiting for *timeout_s* seconds.

    80 files of 95 MB at once would leave hits neither threads nor the disk.
    """

    def __init__(self, places: int, queue: int, timeout_s: float) -> None:
        self._gate = Gate(places, queue, places + queue)
        self._timeout_s = timeout_s

    @staticmethod
    def is_large(size: int) -> bool:
        """Whether a file of *size* bytes has to wait for its turn."""
        return size > _SMALL

    def turn(self, size: int) -> AbstractContextManager[None]:
        """Hold a place for a file of *size* bytes. Raises as ``Gate.render``."""
        return self._gate.render(self._timeout_s) if self.is_large(size) else nullcontext()
