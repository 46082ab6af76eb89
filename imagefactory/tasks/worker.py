"""The workers of a process: threads that take jobs out of the queue and have them done.

    lease     one job a thread: what is killed with its process is only what was under way
    work      by the function of its kind, while the lease is renewed
    report    done; or failed; or to be tried again, later each time

While nothing comes, one thread of a process asks the queue once a second, and later every five seconds;
``wake`` is for a process that has put something in. While the catalog can't be used, the workers wait.
"""

from __future__ import annotations

import atexit
import logging
import os
import secrets
import threading
import time
import weakref
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from ..catalog.jobs import JobRow, JobRows, new_owner
from ..config.intake import Tasks
from ..engine.counters import Counters
from ..errors import ImageFactoryError, RequestError
from .leases import Leases

__all__ = ["Kind", "Workers", "Worked"]

_log = logging.getLogger(__name__)

# Does the work of a job and returns its result, for JSON. A job may be begun any number of times, so it is to
# find what is there already. The function that it gets takes (steps done, steps in all). RequestError with a
# status of 4xx: it will never work; any other error: it may work later.
Kind = Callable[[JobRow, Callable[[int, int], None]], Mapping[str, object]]

_IDLE_S = 1.0
_LONG_IDLE_S = 5.0  # when nothing came for _QUIET_S
_QUIET_S = 60.0
_MAX_TROUBLE_S = 30.0
_MAX_RETRY_S = 300.0
_PROGRESS_S = 0.5  # a job of a hundred quick steps does not write a hundred times
_STOP_S = 2.0  # how long the end of the process waits for a job under way
_PRUNE_S = 3600.0
_KEPT_S = 7 * 86_400.0


@dataclass(frozen=True, slots=True)
class Worked:
    """How many jobs were *done*, have *failed* for good, and are *retried* later."""

    done: int = 0
    failed: int = 0
    retried: int = 0


class _LeaseLost(Exception):
    """Another worker has the job."""


class Workers:
    """Does the jobs in *rows* by their *kinds*, as *settings* say. What is done is counted in *counters*.

    ``start`` begins ``settings.workers`` threads in this process; ``run_until_empty`` needs none of them.
    """

    def __init__(self, rows: JobRows, kinds: Mapping[str, Kind], settings: Tasks, counters: Counters) -> None:
        self._rows = rows
        self._kinds = dict(kinds)
        self._settings = settings
        self._counters = counters
        self._process = 0
        self._reset()

    def _reset(self) -> None:
        """All that a fork copies, and that only threads of the parent use."""
        self._leases = Leases(self._rows, self._settings.lease_s)
        self._trouble = _Trouble()
        self._looking = threading.Lock()
        self._stopping = threading.Event()
        self._stopped = threading.Event()
        self._wakes: list[threading.Event] = []
        self._threads: list[threading.Thread] = []
        self._next_s = 0.0  # when to ask the queue again
        self._busy_s = time.monotonic()  # when there was something in it
        self._pruned_s = time.monotonic()
        self._calls = 0

    # --- for the process

    def start(self) -> None:
        """Begin to work in this process, again after a fork; nothing the second time."""
        if self._process == os.getpid() or not self._settings.workers:
            return
        self._process = os.getpid()
        self._reset()
        self._wakes = [threading.Event() for _ in range(self._settings.workers)]
        # Not the workers themselves: an app that nobody uses any more shall end, and its threads with it.
        weakref.finalize(self, _end, self._stopping, self._stopped, self._wakes).atexit = False
        atexit.register(_finish, weakref.ref(self))
        reference = weakref.ref(self)
        self._threads = [
            threading.Thread(
                target=_run, args=(reference, self._stopping, wake), name="imagefactory-worker", daemon=True
            )
            for wake in self._wakes
        ]
        self._leases.start(self._stopped)
        for thread in self._threads:
            thread.start()

    @property
    def is_running(self) -> bool:
        """Whether this process has its threads."""
        return self._process == os.getpid()

    def wake(self) -> None:
        """Something was put into the queue: look now. Waits for nothing."""
        if not self.is_running:  # an event that was copied by a fork may be locked for ever
            return
        self._calls += 1
        self._next_s = 0.0
        for wake in self._wakes:
            wake.set()

    def begin_stop(self) -> None:
        """Take no further job. May be called by the handler of a signal."""
        self._stopping.set()
        for wake in self._wakes:
            wake.set()

    def stop(self, timeout_s: float) -> None:
        """End the threads: jobs under way are finished, and those that take longer than *timeout_s* seconds
        are given back for others."""
        if not self.is_running:
            return
        self.begin_stop()
        until_s = time.monotonic() + timeout_s
        for thread in self._threads:
            thread.join(max(0.0, until_s - time.monotonic()))
        self._leases.hand_back()
        self._stopped.set()
        self._process = 0

    def run_until_empty(self) -> Worked:
        """Work until nothing is due, or ``begin_stop``, in as many threads; what came of it. Raises
        CatalogUnavailable, NoSpace."""
        found: Counter[str] = Counter()
        errors: list[BaseException] = []
        over, adding = threading.Event(), threading.Lock()

        def drain() -> None:
            owner = new_owner()
            try:
                while not self._stopping.is_set() and (job := self._lease(owner)):
                    outcome = self._do(job, owner)
                    with adding:
                        found[outcome] += 1
            except BaseException as error:  # raised again by the calling thread
                errors.append(error)

        threads = [
            threading.Thread(target=drain, name="imagefactory-worker", daemon=True)
            for _ in range(max(1, self._settings.workers))
        ]
        self._leases.start(over)
        try:
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        finally:
            over.set()
        if errors:
            raise errors[0]
        return Worked(found["done"], found["failed"], found["retried"])

    # --- a job after the other

    def _look(self, owner: str) -> float:
        """Do one job, if there is one; for how many seconds to wait then."""
        try:
            job = self._next(owner)
            if job is not None:
                self._do(job, owner)
                return 0.0
        except Exception:  # the thread must live on
            _log.exception("a worker made a mistake")
            return _MAX_TROUBLE_S
        return max(0.0, self._next_s - time.monotonic())

    def _next(self, owner: str) -> JobRow | None:
        """A job for *owner*; None where there is none, or where another thread has just asked."""
        with self._looking:
            if self._stopping.is_set() or time.monotonic() < self._next_s:
                return None
            calls = self._calls
            try:
                job = self._lease(owner)
                if job is None and time.monotonic() - self._pruned_s > _PRUNE_S:
                    self._pruned_s = time.monotonic()
                    self._rows.prune(_KEPT_S)
            except ImageFactoryError as error:
                self._next_s = time.monotonic() + self._trouble.note(error)
                return None
            now_s = time.monotonic()
            if job is not None or self._leases.is_empty:  # else a look may succeed where nobody can write
                self._trouble.end()
            if job is not None:
                self._busy_s = now_s
            elif calls == self._calls:
                self._next_s = now_s + (_IDLE_S if now_s - self._busy_s < _QUIET_S else _LONG_IDLE_S)
            return job

    def _lease(self, owner: str) -> JobRow | None:
        settings = self._settings
        found = self._rows.lease(tuple(self._kinds), 1, owner, settings.lease_s, settings.attempts)
        return found[0] if found else None

    def _do(self, job: JobRow, owner: str) -> str:
        """Do *job*, which *owner* has: ``done``, ``failed`` or ``retried``; empty where another worker has it
        by now, or where nothing could be written."""
        began_s = time.monotonic()
        with self._leases.held(job, owner):
            try:
                result = self._kinds[job.kind](job, _Progress(self._rows, self._leases, job, owner))
                is_ours = self._reported(partial(self._rows.finish, job.token, owner, result))
                outcome = "done"
            except _LeaseLost:
                is_ours, outcome = False, ""
            except Exception as error:
                retry_in_s = self._retry_in_s(job, error)
                outcome = "failed" if retry_in_s is None else "retried"
                is_ours = self._reported(partial(self._rows.fail, job.token, owner, _text(error), retry_in_s))
                _log_failure(job, error, retry_in_s)
        if not is_ours:
            _log.info("the job %s of %r went to another worker", job.kind, job.subject)
            return ""
        self._counters.observe(f"job_seconds {job.kind} -", time.monotonic() - began_s)
        self._counters.add(f"jobs_finished {job.kind} {outcome}")
        return outcome

    def _retry_in_s(self, job: JobRow, error: Exception) -> float | None:
        """When to try *job* again after *error*; None where it has failed for good."""
        is_final = isinstance(error, RequestError) and 400 <= error.status < 500
        if is_final or job.attempts >= self._settings.attempts:
            return None
        # What failed together shall not come back together.
        return min(_MAX_RETRY_S, 2.0**job.attempts) * secrets.SystemRandom().uniform(0.75, 1.0)

    def _reported(self, write: Callable[[], bool]) -> bool:
        """What *write* gives, tried for as long as a lease lasts: nobody else can write either."""
        until_s = time.monotonic() + self._settings.lease_s
        while True:
            try:
                is_ours = write()
            except ImageFactoryError as error:
                pause_s = self._trouble.note(error)
                if time.monotonic() + pause_s > until_s or self._stopping.wait(pause_s):
                    return False  # the lease ends, and another worker finds what was made here
            else:
                self._trouble.end()
                return is_ours


class _Progress:
    """What a job under way reports to. Raises _LeaseLost where another worker has the job: two shall not do
    the same work."""

    def __init__(self, rows: JobRows, leases: Leases, job: JobRow, owner: str) -> None:
        self._rows = rows
        self._leases = leases
        self._job = job
        self._owner = owner
        self._next_s = 0.0

    def __call__(self, done: int, total: int) -> None:
        if self._leases.is_lost(self._job):
            raise _LeaseLost
        now_s = time.monotonic()
        if now_s < self._next_s:
            return
        self._next_s = now_s + _PROGRESS_S
        try:
            is_ours = self._rows.progress(self._job.token, self._owner, done, total)
        except ImageFactoryError:  # said by those who lease and report
            return
        if not is_ours:
            raise _LeaseLost


class _Trouble:
    """Says once that the catalog can't be used, and once that it can again."""

    def __init__(self) -> None:
        self._pause_s = 0.0
        self._lock = threading.Lock()

    def note(self, error: ImageFactoryError) -> float:
        """For how many seconds to wait before the next try."""
        with self._lock:
            if not self._pause_s:
                reason = getattr(error, "reason", "")
                _log.warning("background work waits: %s%s", error, f" ({reason})" if reason else "")
            self._pause_s = min(_MAX_TROUBLE_S, self._pause_s * 2 or 1.0)
            return self._pause_s

    def end(self) -> None:
        """The catalog was used."""
        if self._pause_s:
            with self._lock:
                if self._pause_s:
                    self._pause_s = 0.0
                    _log.warning("background work goes on")


def _text(error: Exception) -> str:
    """*error* for people."""
    return str(error) if isinstance(error, ImageFactoryError) else f"{type(error).__name__}: {error}"


def _log_failure(job: JobRow, error: Exception, retry_in_s: float | None) -> None:
    if not isinstance(error, ImageFactoryError):
        _log.error("the job %s of %r made a mistake", job.kind, job.subject, exc_info=error)
    elif retry_in_s is None:
        _log.warning("the job %s of %r has failed: %s", job.kind, job.subject, error)


def _run(reference: weakref.ref[Workers], stopping: threading.Event, wake: threading.Event) -> None:
    owner, pause_s = new_owner(), 0.0
    while True:
        wake.wait(pause_s)
        wake.clear()
        workers = reference()
        if workers is None or stopping.is_set():
            return
        pause_s = workers._look(owner)
        del workers


def _end(stopping: threading.Event, stopped: threading.Event, wakes: list[threading.Event]) -> None:
    for event in (stopping, stopped, *wakes):
        event.set()


def _finish(reference: weakref.ref[Workers]) -> None:
    workers = reference()
    if workers is not None:
        workers.stop(_STOP_S)
