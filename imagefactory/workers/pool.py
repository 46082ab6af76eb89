"""The render pool: a bounded number of worker processes of our own, and what happens when one of them fails.

A ``Renderer`` for the generator. Not ``ProcessPoolExecutor``: its workers survive a killed parent, and one
crash breaks all of it. A worker is a fresh interpreter, started by ``posix_spawn`` and never forked from a
process with threads; so it is safe under threads, prefork servers, gevent and preloading. Workers are
started when the first picture is to be rendered, and replaced at once when they end.

    the worker                      the answer
    crashes on a job                once more in another worker; again: Undecodable (422), for ten seconds
    is killed                       once more in another worker; again: Unavailable (503), for ten seconds
    uses too much processor time    Undecodable, for as long as the decoder's own no
    is over the wall time           it is killed, TimedOut (503), for ten seconds
    runs out of memory              OutOfMemory (422), by its own MemoryError; or a crash
    can't be started                Unavailable, tried again after a second

Only processor time is proof against a picture. A worker that was stopped, with its machine or by a signal,
has used none of it when its wall time is over. One that was killed may have been the kernel's choice when
another process took all memory.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import TypeVar

from ..errors import RequestError, TimedOut, Unavailable, Undecodable
from ..model.job import Job, Rendered
from ..model.program import ProgramJob
from ..model.source import Header
from . import messages

__all__ = ["MALLOC", "Pool"]

_log = logging.getLogger(__name__)
_T = TypeVar("_T")

_START_S = 30.0  # to load Pillow; on a machine that is overloaded, too
_TRIES = 10
_PATROL_S = 1.0
_PAUSE_S = 1.0
_CODE = (
    "import sys,json;sys.path[:]=json.loads(sys.argv.pop());"
    "from imagefactory.workers.worker import main;main()"
)
# For how long a failure that proves nothing is remembered: a crowd in front of one variant takes a worker, or
# a slot for all of ``timeout_s``, no more often than that.
_UNPROVEN_S = 10.0

# glibc gives large blocks back to the kernel when they are freed, and for each picture gets them again page
# by page: 7,000 page faults for a 3 MP PNG, 41 ms instead of 26. A worker keeps them until it is idle.
MALLOC = {
    "MALLOC_MMAP_THRESHOLD_": str(32 * 2**20),  # the greatest that it takes; Pillow's blocks have 16 MiB
    "MALLOC_TRIM_THRESHOLD_": str(512 * 2**20),
    "MALLOC_TOP_PAD_": str(16 * 2**20),
}

_pools: weakref.WeakSet[Pool] = weakref.WeakSet()
# Workers of pools that are gone, whose exit status nobody has taken yet.
_orphans: list[_Worker] = []


class _Ended(Exception):  # news, not an error: the worker is gone
    """The worker ended; *signal_number* is what ended it, 0 if unknown."""

    def __init__(self, signal_number: int) -> None:
        self.signal_number = signal_number


class Pool:
    """At most *processes* workers. A job gets *timeout_s* seconds of wall time and two thirds of it of
    processor time; a worker *memory_bytes* of address space, 0 for no bound.

    Safe in threads; who asks for more jobs at once than there are workers waits for one.
    """

    def __init__(self, processes: int, timeout_s: float, memory_bytes: int = 0) -> None:
        self._processes = processes
        self._timeout_s = timeout_s
        self._memory_bytes = memory_bytes
        self._begin()

    def _begin(self) -> None:
        self._process = os.getpid()
        self._changed = threading.Condition()
        self._workers: set[_Worker] = set()
        self._idle: list[_Worker] = []  # the one used last comes last
        self._stuck: list[_Worker] = []  # killed, but not gone yet
        self._paused_until = 0.0
        self._patrol: threading.Thread | None = None

    # --- the Renderer

    def probe(self, source: Path, descriptor: int | None = None) -> Header | None:
        """See ``pipeline.probe``; also raises TimedOut and Unavailable."""
        return self._ask({"probe": str(source)}, str(source), descriptor, messages.header_from)

    def check(self, source: Path, max_pixels: int, descriptor: int | None = None) -> Header | None:
        """See ``checking.check``; also raises TimedOut and Unavailable."""
        task = {"check": str(source), "max_pixels": max_pixels}
        return self._ask(task, str(source), descriptor, messages.header_from)

    def render(self, job: Job) -> Rendered:
        """See ``pipeline.render``; also raises TimedOut and Unavailable."""
        more_s = job.encoder.timeout_s if job.encoder else 0
        task = messages.job_message(job)
        return self._ask(task, str(job.source), job.descriptor, messages.rendered_from, more_s)

    def run(self, job: ProgramJob) -> Rendered:
        """See ``making.make``; also raises TimedOut and Unavailable."""
        task = {"program": messages.program_job_message(job)}
        return self._ask(task, str(job.source), job.descriptor, messages.rendered_from, job.timeout_s)

    def is_working(self) -> bool:
        """Whether workers start; true before the first one was tried. Waits for nothing."""
        return self._paused_until == 0.0

    # --- workers

    def start(self) -> None:
        """Start all workers now, not at the first job. Returns before they are ready."""
        with self._changed:
            self._adopt()
            self._fill()

    def close(self) -> None:
        """End all workers now."""
        with self._changed:
            workers, self._workers, self._idle = self._workers, set(), []
            self._changed.notify_all()
        for worker in workers:
            worker.kill()

    def pids(self) -> list[int]:
        """The process ids of the workers that there are."""
        return sorted(worker.pid for worker in self._workers)

    def _ask(
        self,
        task: messages.Message,
        source: str,
        descriptor: int | None,
        read: Callable[[messages.Message, bytes], _T],
        more_s: float = 0,
    ) -> _T:
        """What *read* makes of the answer to *task*, which has *more_s* seconds more than others; of a second
        worker's if the first one crashes on it."""
        crashes = 0
        for _ in range(_TRIES):
            with self._taken(source) as worker:
                try:
                    message, body = worker.ask(task, descriptor, self._timeout_s + more_s)
                except TimeoutError:
                    worker.kill()
                    raise self._timed_out() from None
                except _Ended as end:
                    if end.signal_number == signal.SIGXCPU:
                        error = Undecodable("rendering it takes too much processor time")
                        error.blames = "variant" if worker.was_decoded else "source"
                        error.cost_a_worker = True
                        raise error from None
                    if end.signal_number == signal.SIGALRM:  # stopped together with us, and quicker
                        raise self._timed_out() from None
                    crashes += worker.was_begun  # else it was dead before it got the job
                    if crashes == 2:
                        raise _crashed(end.signal_number) from None
                    _log.warning("a render worker ended (signal %s), trying another", end.signal_number)
                    continue
            try:
                if message.get("is") != "error":
                    return read(message, body)
                failure = messages.error_from(message)
            except (LookupError, TypeError, ValueError, AttributeError):  # who knows what a picture did to it
                failure = Undecodable("the process that renders it gave no answer that makes sense")
            raise failure
        raise Unavailable("pictures can't be rendered at the moment")

    def _timed_out(self) -> RequestError:
        return _unproven(TimedOut(f"rendering it takes more than {self._timeout_s:g} seconds"))

    @contextmanager
    def _taken(self, source: str) -> Iterator[_Worker]:
        worker = self._take(source)
        try:
            yield worker
        except BaseException:
            if worker.is_asked:  # whatever it says next would be taken for the answer to another job
                worker.kill()
            raise
        finally:
            self._give_back(worker)

    def _take(self, source: str) -> _Worker:
        """A worker that is ready: the one that had *source* before, else the one used last."""
        for _ in range(_TRIES):
            worker = self._claim(source)
            try:
                worker.await_ready()
                self._paused_until = 0.0
                return worker
            except (OSError, EOFError) as error:
                worker.kill()
                with self._changed:
                    self._drop(worker)
                    if not worker.was_killed:
                        self._pause(error)
                        self._changed.notify_all()
                        break
        raise Unavailable("pictures can't be rendered at the moment")

    def _claim(self, source: str) -> _Worker:
        deadline = time.monotonic() + self._timeout_s
        with self._changed:
            self._adopt()
            while True:
                if len(self._workers) < self._processes:
                    self._fill()
                ready = [worker for worker in self._idle if worker.is_ready] or self._idle
                if ready:
                    worker = next((each for each in ready if each.source == source), ready[-1])
                    self._idle.remove(worker)
                    if worker.has_ended():
                        self._workers.discard(worker)
                        continue
                    worker.source = source
                    return worker
                if not self._workers:
                    raise Unavailable("pictures can't be rendered at the moment")
                if not self._changed.wait(deadline - time.monotonic()):
                    raise TimedOut("no render worker got free in time")

    def _drop(self, worker: _Worker) -> None:
        self._workers.discard(worker)
        if not worker.has_ended():
            self._stuck.append(worker)

    def _pause(self, error: Exception) -> None:
        self._paused_until = time.monotonic() + _PAUSE_S
        _log.error("a render worker can't be started: %s", str(error) or "it ended at once")

    def _give_back(self, worker: _Worker) -> None:
        with self._changed:
            if worker.is_asked:  # it did not live to answer
                self._drop(worker)
                self._fill()
            elif worker in self._workers:
                self._idle.append(worker)
            self._changed.notify()

    def _fill(self) -> None:
        """Start as many workers as are missing; the lock is held."""
        if self._patrol is None:
            self._patrol = threading.Thread(
                target=_patrol, args=(weakref.ref(self),), name="imagefactory-patrol", daemon=True
            )
            self._patrol.start()
        for worker in [each for each in self._idle if each.has_ended()]:
            self._idle.remove(worker)
            self._workers.discard(worker)
        for worker in list(_orphans):
            if worker.has_ended():
                with suppress(ValueError):  # another pool may have been quicker
                    _orphans.remove(worker)
        if time.monotonic() < self._paused_until:
            return
        while len(self._workers) < self._processes:
            try:
                worker = _Worker(self._memory_bytes, self._timeout_s)
            except OSError as error:
                self._pause(error)
                return
            self._workers.add(worker)
            self._idle.insert(0, worker)

    def _adopt(self) -> None:
        """After a fork: workers belong to the parent."""
        if self._process != os.getpid():
            self.leave()
        if self not in _pools:
            _watch_forks()
            _pools.add(self)

    def leave(self) -> None:
        """In a forked child: let go of the parent's workers, which would else not see its end."""
        for worker in self._workers:
            worker.channel.close()
        self._begin()

    def look_after(self) -> None:
        """Replace workers that ended while idle, and see whether those that were started are ready."""
        with self._changed:
            self._stuck = [worker for worker in self._stuck if not worker.has_ended()]
            if self._workers or self._paused_until:
                self._fill()
                for worker in self._idle:
                    if not worker.is_ready and worker.has_spoken():
                        with suppress(OSError, EOFError):  # then it is found to have ended
                            worker.await_ready()
                            self._paused_until = 0.0
                self._changed.notify_all()


def _patrol(reference: weakref.ref[Pool]) -> None:
    while True:
        time.sleep(_PATROL_S)
        pool = reference()
        if pool is None:
            return
        pool.look_after()
        del pool


@cache
def _watch_forks() -> None:
    os.register_at_fork(after_in_child=_leave_all)


def _leave_all() -> None:
    for pool in list(_pools):
        pool.leave()


class _Worker:
    """One worker process and the socket to it."""

    def __init__(self, memory_bytes: int, timeout_s: float) -> None:
        self.source = ""
        self.is_asked = False
        self.was_begun = False
        self.was_decoded = False
        self.is_ready = False  # it has said that it waits for a job
        self._signal: int | None = None
        self._was_told = False
        self.channel, theirs = socket.socketpair()
        with theirs:
            limits = (memory_bytes, _cpu_s(timeout_s), int(timeout_s * 2) + 2)
            try:
                self.pid = os.posix_spawn(
                    _python(),
                    [_python(), "-c", _CODE, *map(str, limits), json.dumps(sys.path)],
                    MALLOC | os.environ,
                    file_actions=[(os.POSIX_SPAWN_DUP2, theirs.fileno(), 0), *_outputs()],
                    setpgroup=0,  # Ctrl-C at a terminal is for the server alone
                    setsigmask=(),  # the thread that starts it may block some
                    setsigdef=(signal.SIGALRM, signal.SIGXCPU),  # which end it
                )
            except BaseException:
                self.channel.close()
                self._signal = 0  # there is no process to be waited for
                raise

    def __del__(self, orphans: list[_Worker] = _orphans) -> None:
        if self._signal is None:
            self.channel.close()  # the process ends by itself then
            orphans.append(self)

    def has_spoken(self) -> bool:
        """Whether there is a message to be read."""
        self.channel.setblocking(False)  # select() could not take a descriptor above 1023
        try:
            self.channel.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return False
        return True

    def await_ready(self) -> None:
        """Return when it waits for a job. Raises OSError or EOFError when it does not start."""
        if not self.is_ready:
            self.channel.settimeout(_START_S)
            message, _ = messages.receive(self.channel)
            if message.get("is") != "ready":
                raise OSError("this is no worker of ours")
            self.is_ready = True

    def ask(
        self, task: messages.Message, descriptor: int | None, timeout_s: float
    ) -> tuple[messages.Message, bytes]:
        """The answer to *task*, which the open file *descriptor* goes with. Raises TimeoutError, and _Ended
        when the worker does not live to give it."""
        deadline = time.monotonic() + timeout_s
        self.is_asked, self.was_begun, self.was_decoded = True, False, False
        try:
            while True:
                self.channel.settimeout(max(0.001, deadline - time.monotonic()))
                if task:
                    messages.send(self.channel, task, descriptor=descriptor)
                    task = {}
                message, body = messages.receive(self.channel)
                if message.get("is") not in ("begun", "decoded"):
                    self.is_asked = False
                    return message, body
                self.was_begun = True
                self.was_decoded = message["is"] == "decoded"
        except TimeoutError:
            raise
        except (OSError, EOFError):
            self.kill()
            raise _Ended(self._signal or 0) from None

    @property
    def was_killed(self) -> bool:
        """Whether somebody else ended it, by a signal."""
        return bool(self._signal) and not self._was_told

    def has_ended(self) -> bool:
        """Whether the process is gone. Takes its exit status, so that no zombie stays."""
        if self._signal is None:
            try:
                pid, status = os.waitpid(self.pid, os.WNOHANG)
            except ChildProcessError:  # a host that waits for all of its children was quicker
                pid, status = self.pid, 0
            if pid:
                self._signal = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
                self.channel.close()
        return self._signal is not None

    def kill(self) -> None:
        """End it, and wait until it has ended; two seconds at most, as one that waits for a broken disk
        can't be ended."""
        self.channel.close()
        began = time.monotonic()
        while not self.has_ended() and time.monotonic() < began + 2:
            if time.monotonic() > began + 0.05:  # till then it may die by a signal that tells more than ours
                self._was_told = True
                with suppress(ProcessLookupError):
                    os.kill(self.pid, signal.SIGKILL)
            time.sleep(0.001)


def _cpu_s(timeout_s: float) -> int:
    """The processor time of a job, in whole seconds as the kernel counts it.

    Less than its wall time: a job that never ends shall run into this limit, as the other one may be a
    matter of how busy the machine is.
    """
    return max(1, int(timeout_s * 2 / 3))


def _outputs() -> list[tuple[int, int, int] | tuple[int, int, str, int, int]]:
    """Its standard output is our standard error: nothing of it may get into a command's output."""
    try:
        os.fstat(2)
        return [(os.POSIX_SPAWN_DUP2, 2, 1)]
    except OSError:  # a daemon that has closed its own
        return [(os.POSIX_SPAWN_OPEN, number, os.devnull, os.O_WRONLY, 0) for number in (1, 2)]


def _python() -> str:
    """The interpreter. In a server with an interpreter built in, ``sys.executable`` is that server."""
    name = Path(sys.executable).name
    return sys.executable if name.startswith(("python", "pypy")) else str(Path(sys.prefix, "bin", "python3"))


def _crashed(signal_number: int) -> RequestError:
    if signal_number == signal.SIGKILL:  # by an operator or the kernel: no decoder does that to itself
        return _unproven(Unavailable("the process that renders it was ended, twice"))
    error = Undecodable("the process that renders it crashed, twice")
    error.cost_a_worker = True
    return _unproven(error)


def _unproven(error: RequestError) -> RequestError:
    """*error*, to be remembered for seconds, of the variant alone."""
    error.lasts_s = _UNPROVEN_S
    error.blames = "variant"
    return error
