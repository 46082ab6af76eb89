"""One piece of work for all threads that ask for it at the same time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from typing import Generic, TypeVar

from ..errors import RequestError, TimedOut

__all__ = ["Flights"]

T = TypeVar("T")


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
