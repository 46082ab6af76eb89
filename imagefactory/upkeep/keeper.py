"""The keeper of a server process: a thread that does what no request shall wait for.

Every second it writes down what was counted and used, and has the cache brought within its budget; at once
when an object found no room. It touches nothing while nothing happens. When the index was lost, or may lack
rows, it has the objects looked through, in a thread of its own and without haste.
"""

from __future__ import annotations

import atexit
import logging
import os
import threading
import time
import weakref
from collections.abc import Callable
from itertools import islice
from math import inf

from ..engine.counters import Counters
from ..engine.health import Health
from ..errors import Full, StorageError, TimedOut
from ..storage.disk import DiskStore
from ..storage.protocols import Store
from .evict import evict
from .rebuild import fill

__all__ = ["Keeper"]

_log = logging.getLogger(__name__)
_PAUSE_S = 1.0
_SHARE = 20  # writing takes a twentieth of a core at most
_AT_ONCE = 500  # rows in one transaction: others wait for its end
_MAX_PENDING = 100_000
_EVICT_S = 1.0  # to wait for somebody else who evicts: he makes room for all
_STOP_S = 2.0  # how long the end of the process waits for an eviction under way
_REST = 2  # looking through the objects takes a third of a core


class Keeper:
    """Writes down in *store* what *counters* have noted, and keeps *disk*, which is the store where that lies
    on the disk, within its budget.

    *clock* gives unix seconds. Nothing happens by itself before ``start``; without it ``make_room`` is noted
    in *health*.
    """

    def __init__(
        self,
        store: Store,
        disk: DiskStore | None,
        counters: Counters,
        health: Health,
        clock: Callable[[], float],
    ) -> None:
        self._store = store
        self._disk = disk
        self._counters = counters
        self._health = health
        self.watchers: list[Callable[[], None]] = []  # called at each look
        self._clock = clock
        self._uses: dict[str, int] = {}
        self._counts: dict[str, float] = {}
        self._wanted = 0
        self._looked_s = inf
        self._flushing = threading.Lock()
        self._evicting = threading.Lock()
        self._process = 0
        self._wake = threading.Event()
        self._filler: threading.Thread | None = None

    def start(self) -> None:
        """Begin to keep, in a thread of this process; nothing the second time."""
        if self._process == os.getpid():
            return
        self._process = os.getpid()
        self._flushing = threading.Lock()
        self._evicting = threading.Lock()
        self._wake = threading.Event()
        self._filler = None
        # Not the keeper itself: an app that nobody uses any more shall end, and its thread with it.
        weakref.finalize(self, self._wake.set).atexit = False
        atexit.register(_finish, weakref.ref(self))
        threading.Thread(
            target=_run, args=(weakref.ref(self), self._wake), name="imagefactory-keeper", daemon=True
        ).start()

    @property
    def is_running(self) -> bool:
        """Whether this process has its thread."""
        return self._process == os.getpid()

    def wake(self) -> None:
        """Have a look now."""
        self._wake.set()

    def make_room(self, error: Full) -> None:
        """Something was too large to be stored: make room for the next one like it."""
        self._counters.add("bypasses budget")
        if not self.is_running:
            self._health.note(error)
            return
        self._wanted = max(self._wanted, error.wanted)
        self._wake.set()

    def look(self) -> None:
        """Do now what is to be done: write down, evict."""
        self.flush()
        if self._disk is not None:
            try:
                self._keep_times(self._disk)
                self._keep_whole(self._disk)
                with self._evicting:
                    self._keep_within_budget(self._disk)
            except StorageError as error:
                self._health.note(error)
            except TimedOut:
                pass  # somebody else evicts
        for watch in self.watchers:
            watch()

    def _keep_times(self, store: DiskStore) -> None:
        """At the first look, and when the clock was set back."""
        now_s = self._clock()
        if now_s < self._looked_s:
            store.index.variants.end_future_uses(now_s)
        self._looked_s = now_s

    def _keep_whole(self, store: DiskStore) -> None:
        if store.has_orphans:
            store.index.completeness.set_whole(False)
            store.has_orphans = False
        is_at_it = self._filler is not None and self._filler.is_alive()
        if self.is_running and not is_at_it and not store.index.completeness.is_whole():
            self._filler = threading.Thread(
                target=_fill, args=(weakref.ref(self), store), name="imagefactory-filler", daemon=True
            )
            self._filler.start()

    def _keep_within_budget(self, store: DiskStore) -> None:
        wanted, self._wanted = self._wanted, 0
        is_tight, store.is_tight = store.is_tight, False
        total, capacity, goal = store.room()
        if wanted > capacity:
            if capacity < store.max_bytes:  # evicting all would not help: others have filled the disk
                self._health.note(Full(wanted, "the disk has no room for the cache beside its min_free"))
            wanted = 0
        if not wanted and not is_tight and total <= capacity:
            return
        goal = max(0, min(goal, capacity - wanted))
        if total > goal:
            evicted = evict(store, goal, timeout_s=_EVICT_S)
            self._counters.add("evicted variants", evicted.variants)
            self._counters.add("evicted bytes", evicted.bytes)
            _log.debug("evicted %d variants of %d bytes", evicted.variants, evicted.bytes)

    def flush(self) -> bool:
        """Write down what was counted since the last time; whether there was anything.

        What can't be written now is kept for the next time.
        """
        with self._flushing:
            uses, counts = self._counters.take()
            self._store.processes.report(self._counters.gauges())
            for name, amount in counts.items():
                self._counts[name] = self._counts.get(name, 0) + amount
            for key, times in uses.items():
                self._uses[key] = self._uses.get(key, 0) + times
            if not self._uses and not self._counts:
                return False
            for key in list(islice(self._uses, max(0, len(self._uses) - _MAX_PENDING))):
                del self._uses[key]
            try:
                while self._uses or self._counts:
                    some = list(islice(self._uses, _AT_ONCE))
                    counts, self._counts = self._counts, {}
                    try:
                        self._store.index.counts.add(
                            {key: self._uses[key] for key in some}, counts, self._clock()
                        )
                    except BaseException:
                        self._counts = counts
                        raise
                    for key in some:
                        del self._uses[key]
            except StorageError as error:
                self._health.note(error)
            return True


def _finish(reference: weakref.ref[Keeper]) -> None:
    """Write down what was counted last, when the process ends; not in the middle of an eviction, which would
    leave rows without their objects to the next one."""
    keeper = reference()
    if keeper is not None and keeper.is_running:
        keeper._evicting.acquire(timeout=_STOP_S)  # for good: none begins any more
        keeper._process = 0
        keeper.flush()


def _run(reference: weakref.ref[Keeper], wake: threading.Event) -> None:
    pause_s = 0.0
    while True:
        wake.wait(pause_s)
        wake.clear()
        keeper = reference()
        if keeper is None or not keeper.is_running:
            return
        began = time.thread_time()
        try:
            keeper.look()
        except Exception:  # the thread must live on
            _log.exception("the keeper made a mistake")
        pause_s = max(_PAUSE_S, (time.thread_time() - began) * _SHARE)
        del keeper


def _fill(reference: weakref.ref[Keeper], store: DiskStore) -> None:
    """Have the index of *store* filled, one process at a time; stops with the keeper."""
    began = time.monotonic()

    def may_go_on() -> bool:
        nonlocal began
        time.sleep((time.monotonic() - began) * _REST)
        began = time.monotonic()
        keeper = reference()
        return keeper is not None and keeper.is_running

    try:
        with store.claims.take("rebuild", 0):
            filled = fill(store, 0, may_go_on=may_go_on)
        if filled.added or filled.removed:
            _log.info("the index got %d rows from objects; %d removed", filled.added, filled.removed)
    except TimedOut:
        pass  # another process does it
    except StorageError as error:
        keeper = reference()
        if keeper is not None:
            keeper._health.note(error)
    except Exception:  # the server must live on, and the next look tries again
        _log.exception("the keeper made a mistake")
