"""Which variant a worker makes next.

Orders wait in one queue. A worker takes one, and has the variants that are missing of its picture in a queue
of its own: so one render process decodes a picture once. A worker without an order takes variants from the
others.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from queue import Full as QueueFull
from queue import Queue
from typing import NamedTuple

from .orders import Order, Wish
from .progress import Progress

__all__ = ["Schedule", "Task", "WorkerQueue"]

_MAX_WAITING = 1000  # orders
_PULSE_S = 0.2
_GLANCE_S = 0.01


class Task(NamedTuple):
    """One variant to make: the *wish* of an *order*."""

    order: Order
    wish: Wish


class WorkerQueue:
    """What one worker has yet to make of its picture."""

    def __init__(self) -> None:
        self.tasks: deque[Task] = deque()
        self.lock = threading.Lock()
        self.is_refilling = False  # waits for an order, or looks at one


class Schedule:
    """The orders, and the queues of the workers. Gives nothing more once *progress* is over."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._orders: Queue[Order | None] = Queue(_MAX_WAITING)  # None: no more will come
        self._is_closed = False
        self._queues: list[WorkerQueue] = []

    def queue(self) -> WorkerQueue:
        """A queue for one more worker, before the first one begins."""
        queue = WorkerQueue()
        self._queues.append(queue)
        return queue

    # --- for the thread that has the orders

    def put(self, order: Order) -> bool:
        """Whether a worker will take *order*; False if too many wait, also after a moment."""
        try:
            self._orders.put(order, timeout=_PULSE_S)
        except QueueFull:
            return False
        return True

    def close(self) -> None:
        """Say that no order will follow; to be called again, as it waits a moment only."""
        if not self._is_closed:
            with suppress(QueueFull):
                self._orders.put(None, timeout=_PULSE_S)
                self._is_closed = True

    # --- for the threads of the workers

    def next(self, own: WorkerQueue, missing: Callable[[Order], Sequence[Wish]]) -> Task | None:
        """What the worker of the queue *own* makes next; None when nothing is left. Waits for orders;
        *missing* says what of them is to be made."""
        with own.lock:
            while not own.tasks and not self._progress.is_over and self._refill(own, missing):
                pass
            with suppress(IndexError):  # another worker may have taken the last one
                return own.tasks.popleft()
        return self._steal()

    def _refill(self, own: WorkerQueue, missing: Callable[[Order], Sequence[Wish]]) -> bool:
        """Take the next order into *own*; False if there is none."""
        own.is_refilling = True
        try:
            order = self._orders.get()
            if order is None:
                self._orders.put(None)  # for the other threads
                return False
            own.tasks.extend(Task(order, wish) for wish in missing(order))
            return True
        finally:
            own.is_refilling = False

    def _steal(self) -> Task | None:
        """The smallest variant of the worker that has the most to do. Its source is decoded once more for
        that, but no processor idles while the last pictures are made."""
        while not self._progress.is_over:
            with suppress(IndexError):
                return max(self._queues, key=lambda queue: len(queue.tasks)).tasks.pop()
            if not any(queue.is_refilling for queue in self._queues):
                return None
            self._progress.stop.wait(_GLANCE_S)
        return None
