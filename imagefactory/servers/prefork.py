"""Several processes that serve on the same sockets, for a server that is one process by itself."""

from __future__ import annotations

import logging
import os
import select
import signal
import sys
import time
from collections.abc import Callable

from .common import DRAIN_S

__all__ = ["run"]

_log = logging.getLogger(__name__)
_PAUSE_S = 1.0
_POLL_S = 0.1
_STOPS = (signal.SIGTERM, signal.SIGINT)

# Gets what it calls when it has begun, and what tells whether its parent lives.
_Work = Callable[[Callable[[], object], Callable[[], bool]], None]


def run(workers: int, work: _Work, on_ready: Callable[[], None]) -> None:
    """Have *workers* processes do *work* until SIGTERM or SIGINT, and start another one for each that dies.

    *on_ready* is called when the first has begun. Where none can, this ends as that one did, by SystemExit.
    To be called in the main thread, before there are others.
    """
    begun, tell = os.pipe()
    is_stopping = False

    def stop(*_: object) -> None:
        nonlocal is_stopping
        is_stopping = True

    for number in _STOPS:
        signal.signal(number, stop)
    children = {_start(work, tell): time.monotonic() for _ in range(workers)}
    is_ready, code = False, 0
    while not is_stopping:
        if not is_ready and select.select([begun], [], [], 0)[0]:
            is_ready = True
            on_ready()
        pid, status = os.waitpid(-1, os.WNOHANG)
        if not pid:
            time.sleep(_POLL_S)
            continue
        began = children.pop(pid, None)
        if began is None:  # as process 1 of a container it gets the render processes of a worker that died
            continue
        code = os.waitstatus_to_exitcode(status)
        if not is_ready:
            break
        _log.error("a server process ended with %d; another one begins", code)
        time.sleep(max(0.0, began + _PAUSE_S - time.monotonic()))
        children[_start(work, tell)] = time.monotonic()
    _stop(children)
    if not is_ready and not is_stopping:
        raise SystemExit(code)


def _start(work: _Work, tell: int) -> int:
    """The id of a new process that does *work*, and then ends as this program does."""
    parent = os.getpid()
    # A stop between the fork and the child's own handlers ends it at once.
    signal.pthread_sigmask(signal.SIG_BLOCK, _STOPS)
    try:
        pid = os.fork()
        if pid:
            return pid
        for number in _STOPS:
            signal.signal(number, signal.SIG_DFL)
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOPS)
    work(lambda: os.write(tell, b"."), lambda: os.getppid() == parent)
    sys.exit(0)


def _stop(children: dict[int, float]) -> None:
    """Have all *children* end: what was asked is answered first."""
    for pid in children:
        os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + DRAIN_S + _PAUSE_S
    while children:
        pid, _ = os.waitpid(-1, os.WNOHANG)
        children.pop(pid, None)
        if time.monotonic() > deadline:
            for pid in children:
                os.kill(pid, signal.SIGKILL)
            deadline += DRAIN_S
        if not pid:
            time.sleep(_POLL_S / 10)
