"""How many threads of a process run Python at a time: each makes all others wait for the interpreter.

With 64 of them at work, a thread that answers a hit waits for its lock a dozen milliseconds, several times.
So those that serve requests take turns, two at a time, and let others have theirs while they wait for a
render. It is a courtesy and no bound: who has waited for a quarter of a second goes on anyway, as the two
may hang in a disk. 70 connections that ask for pages without a pause: p99 of hits 120 to 230 ms before, 11
with it.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["resting", "working"]

_PLACES = 2
_PATIENCE_S = 0.25

_places = threading.Semaphore(_PLACES)
_own = threading.local()  # has_place: whether this thread has one now


@contextmanager
def working() -> Iterator[None]:
    """Serve a request, in turn with others."""
    _own.has_place = _places.acquire(timeout=_PATIENCE_S)
    try:
        yield
    finally:
        if _own.has_place:
            _places.release()
        _own.has_place = False


@contextmanager
def resting() -> Iterator[None]:
    """Wait for something, in a thread that may be ``working``: others get its turn meanwhile."""
    if not getattr(_own, "has_place", False):
        yield
        return
    _places.release()
    _own.has_place = False
    try:
        yield
    finally:
        _own.has_place = _places.acquire(timeout=_PATIENCE_S)
