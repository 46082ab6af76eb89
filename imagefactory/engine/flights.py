"""One piece of work for all threads that ask for it at the same time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Generic, TypeVar

from ..errors import RequestError, TimedOut

__all__ = ["Flights", "Underway", "Waiter"]

T = TypeVar("T")


class Underway(BaseException):
    """Another thread is at it; *future* ends when that does. No Exception: it is to reach the server, past
    all that handles mistakes."""

    def __init__(self, future: Future[Any]) -> None:
        super().__init__()
        self.future = future


class Waiter:
    """How a request waits for what another one makes. One that *comes_again* gets Underway, and is to ask
    again with the same waiter when the future has ended. Another one waits with its thread, but is to be kept
    waiting also where others are sent away: who sent it has seen to it that there are few."""

    def __init__(self, *, comes_again: bool) -> None:
        self.comes_again = comes_again
        self.followed: Hashable = None
        self.future: Future[Any] | None = None


class Flights(Generic[T]):
    """Work under way in this process, by key: who comes second waits for the first one's result."""

    def __init__(self) -> None:
        self._futures: dict[Hashable, Future[T]] = {}
        self._lock = threading.Lock()

    def run(
        self,
        key: Hashable,
        work: Callable[[], T],
        timeout_s: float,
        waiter: Waiter | None = None,
        following: Callable[[bool], AbstractContextManager[None]] = lambda _: nullcontext(),
    ) -> tuple[T, bool]:
        """What *work* returns, and whether another thread did it. Errors reach everybody who waited.

        Raises TimedOut when the other thread has no result within *timeout_s* seconds, and with a *waiter*
        that comes again Underway. Who waits with a thread is *following* meanwhile, patiently or not.
        """
        me = (id(self), key)
        if waiter is not None and waiter.future is not None and waiter.followed == me:
            future, waiter.followed, waiter.future = waiter.future, None, None
            return self._result(future, 0), True
        with self._lock:
            under_way = self._futures.get(key)
            if under_way is None:
                future = self._futures[key] = Future()
        if under_way is not None:
            if waiter is not None and waiter.comes_again:
                waiter.followed, waiter.future = me, under_way
                raise Underway(under_way)
            with following(waiter is not None):
                return self._result(under_way, timeout_s), True
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

    def _result(self, future: Future[T], timeout_s: float) -> T:
        try:
            return future.result(timeout_s)
        except RequestError as error:
            raise error.again() from None
        except TimeoutError:
            if future.done():
                raise
            raise TimedOut("the picture is still being made for somebody else") from None
