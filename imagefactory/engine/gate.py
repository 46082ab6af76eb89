"""What a crowd may cost: one render for all who ask, a bounded number at once, a failure told from memory.

Used by the generator, on misses only; a hit never comes here.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Generic, TypeVar

from ..errors import Busy, RequestError, TimedOut

__all__ = ["Failures", "Flights", "Gate", "Recent"]

T = TypeVar("T")
_BATCH_S = 0.5


class Flights(Generic[T]):
    """Work under way in this process, by key: who comes second waits for the first one's result."""

    def __init__(self) -> None:
        self._futures: dict[Hashable, Future[T]] = {}
        self._lock = threading.Lock()

    def run(self, key: Hashable, work: Callable[[], T], timeout_s: float) -> tuple[T, bool]:
        """What *work* returns, and whether another thread did it. Errors reach everybody who waited.

        Raises TimedOut when the other thread has no result within *timeout_s* seconds.
        """
        with self._lock:
            future = self._futures.get(key)
            is_leader = future is None
            if future is None:
                future = self._futures[key] = Future()
        if not is_leader:
            try:
                return future.result(timeout_s), True
            except RequestError as error:
                raise error.again() from None
            except TimeoutError:
                if future.done():
                    raise
                raise TimedOut("the picture is still being made for somebody else") from None
        try:
            result = work()
        except BaseException as error:
            future.set_exception(error.again() if isinstance(error, RequestError) else error)
            raise
        else:
            future.set_result(result)
            return result, False
        finally:
            with self._lock:
                del self._futures[key]


class _Ticket:
    """A place in the queue for a render of *group*; *turn* is set when it may begin."""

    def __init__(self, group: str) -> None:
        self.group = group
        self.since_s = time.monotonic()
        self.turn = threading.Event()


class Gate:
    """At most *renders* at a time, *queue* waiting for their turn, and *inside* requests in all.

    Who came first goes first. But within half a second of that, the variants of one source go one after the
    other: the worker that has decoded it makes them from what it has in memory.
    """

    def __init__(self, renders: int, queue: int, inside: int) -> None:
        self._renders = self._free = renders
        self._queue = queue
        self._limit = inside
        self._waiting: list[_Ticket] = []
        self._inside = 0
        self._lock = threading.Lock()

    @property
    def waiting(self) -> int:
        """How many wait for their turn now."""
        return len(self._waiting)

    @property
    def running(self) -> int:
        """How many renders are under way now."""
        return self._renders - self._free

    @contextmanager
    def enter(self) -> Iterator[None]:
        """Be one of the requests that render, queue or follow. Raises Busy at once when there are too many.

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
            raise TimedOut("no render got free in time")

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


class Recent(Generic[T]):
    """Values by text, forgotten after *seconds* where nothing else is said; at most *limit* of them."""

    def __init__(self, seconds: float, limit: int = 10_000) -> None:
        self._seconds = seconds
        self._limit = limit
        self._values: dict[str, tuple[float, T]] = {}

    def get(self, key: str) -> T | None:
        """The value put under *key* a short while ago."""
        deadline, value = self._values.get(key, (0.0, None))
        if value is not None and time.monotonic() >= deadline:
            self._values.pop(key, None)
            return None
        return value

    def put(self, key: str, value: T, seconds: float | None = None) -> None:
        """Remember *value*."""
        now = time.monotonic()
        if len(self._values) >= self._limit:
            self._values.clear()
        for old, (deadline, _) in list(self._values.items()):  # the oldest come first
            if now < deadline:
                break
            self._values.pop(old, None)
        self._values.pop(key, None)
        self._values[key] = (now + (self._seconds if seconds is None else seconds), value)


class Failures:
    """What did not work, by its cause, for as long as another try is not worth it (``lasts_s``)."""

    def __init__(self) -> None:
        self._errors: Recent[RequestError] = Recent(RequestError.lasts_s)

    def note(self, cause: str, error: RequestError) -> None:
        """Remember *error*, if that is worth it."""
        if error.lasts_s:
            self._errors.put(cause, error.again(), error.lasts_s)

    def recall(self, *causes: str) -> None:
        """Raise what the first of *causes* came to that failed a moment ago."""
        for cause in causes:
            error = self._errors.get(cause)
            if error is not None:
                raise error.again()
