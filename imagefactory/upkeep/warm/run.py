"""Render ahead what visitors will ask for: the work behind ``imagefactory warm``.

    skip      500 pictures at a time: one stat each, their rows and the keys of their variants in a few
              statements. What is there is counted; no source and no object is opened.
    work      a worker takes a picture of which something is missing. It makes the largest size first, and the
              encodings of a size after each other, so that a render process decodes once, and resizes once
              for each size.

A worker has a site that renders one variant at a time. Two threads share it: one variant is written to
the disk while the next one is rendered. At the end workers that have nothing left help the others. All is
made by ``Generator.answer``, as for a visitor: the same keys, the same claims against other processes, the
same bounds. So it may end at any moment, and the next run goes on.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice

from ...storage.disk import DiskStore
from .admission import Admission
from .cache_space import CacheSpace
from .orders import Budget, Order, Warmed
from .plans import Plans
from .progress import Progress
from .scheduling import Schedule
from .skipping import skip_complete
from .worker import RenderingSite, Worker

__all__ = ["THREADS_PER_WORKER", "warm"]

_AT_ONCE = 500  # pictures: as many as the index asks for in one statement
THREADS_PER_WORKER = 2
_JOIN_S = 0.2
_FLUSH_S = 5.0


def warm(
    sites: Sequence[RenderingSite],
    store: DiskStore,
    orders: Iterable[Order],
    budget: Budget,
    stop: threading.Event,
    report: Callable[[int, int], None],
    clock: Callable[[], float],
    *,
    is_dry: bool = False,
) -> Warmed:
    """Have all that *orders* want, made by *sites*, which share *store*.

    When *stop* is set, what is being made is finished, and that was it. *report* is called now and then, in
    the calling thread, with the number of variants reached and of bytes written. *clock* gives seconds. With
    *is_dry* nothing is rendered, and *rendered* says what would be; rows of sources are written all the same,
    so *store* is to be a copy then.

    Raises StorageError when the cache can't be used.
    """
    progress = Progress(stop, clock)
    plans = Plans(sites[0].resolver)
    began_s = sites[0].clock()
    store.index.variants.end_future_uses(began_s - 1)  # else they could not make room
    space = CacheSpace(store, began_s)
    admission = Admission(budget, progress)
    schedule = Schedule(progress)
    workers = [
        Worker(site, store.index, plans, schedule, schedule.queue(), admission, space, progress, is_dry)
        for site in sites
    ]
    threads = _Threads(workers, schedule, progress)

    def pause() -> None:
        report(progress.reached, progress.bytes)
        threads.flush()

    try:
        for some in _batches(orders):
            for order in skip_complete(some, sites[0].sources, store.index, plans, space, progress):
                threads.start()
                while not progress.is_over and not schedule.put(order):
                    pause()
            pause()
            if progress.is_over:
                break
        while not threads.is_finished():
            pause()
    except BaseException:  # a second Ctrl-C: the workers shall not go on by themselves
        progress.end("interrupted")
        raise
    finally:
        threads.flush(is_last=True)
    report(progress.reached, progress.bytes)
    return progress.result()


def _batches(orders: Iterable[Order]) -> Iterator[list[Order]]:
    """*orders* in lists."""
    iterator = iter(orders)
    while some := list(islice(iterator, _AT_ONCE)):
        yield some


class _Threads:
    """The threads of the *workers*, for the calling thread."""

    def __init__(self, workers: Sequence[Worker], schedule: Schedule, progress: Progress) -> None:
        self._workers = workers
        self._schedule = schedule
        self._progress = progress
        self._threads: list[threading.Thread] = []
        self._flushed_s = 0.0

    def start(self) -> None:
        """Start the threads, unless they run."""
        if self._threads:
            return
        self._threads = [
            threading.Thread(target=worker.work, name="imagefactory-warm", daemon=True)
            for worker in self._workers
            for _ in range(THREADS_PER_WORKER)
        ]
        for thread in self._threads:
            thread.start()

    def is_finished(self) -> bool:
        """Whether the workers have come to their end; waits a moment for it. No order may follow."""
        self._schedule.close()
        for thread in self._threads:
            thread.join(_JOIN_S)
            if thread.is_alive():
                return False
        return True

    def flush(self, *, is_last: bool = False) -> None:
        """Write down what the workers counted, every few seconds: their counters are bounded."""
        if is_last or self._progress.seconds - self._flushed_s > _FLUSH_S:
            self._flushed_s = self._progress.seconds
            for worker in self._workers:
                worker.site.keeper.flush()
