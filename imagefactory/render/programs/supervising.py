"""One program, and the process that watches over it: a child of the render worker and its parent.

    render worker ── supervisor ── the program, or bubblewrap and in it the program ── whatever it starts

The supervisor is a fork of the worker: that has one thread, so a fork is safe, and starting an interpreter
would take ten times as long. It waits for the program to end, for its time to be over, or for the worker or
the server to end. Then it kills whatever is left, takes what the program made, and says how it went.

It is the parent of all orphans among its descendants (PR_SET_CHILD_SUBREAPER), so a daemon that left its
group and session is found as well. The worker could not do that: the kernel may kill the worker, too. If
the supervisor is killed, the kernel kills the program with it (PR_SET_PDEATHSIG), and the worker, which
adopts orphans while it waits, the others. macOS has none of this; there the program's own group is killed.
"""

from __future__ import annotations

import errno
import gc
import json
import os
import resource
import select
import signal
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal, cast

from . import kernel, private_folder
from .family import Family, children, end_orphans
from .starting import Start, become, close_all_but

__all__ = ["SAID_CHARACTERS", "Outcome", "supervised"]

SAID_CHARACTERS = 2000

How = Literal["ended", "late", "alone", "crowd", "unstarted", "unsandboxed", "lost"]

_SAID_BYTES = 4 * SAID_CHARACTERS  # of UTF-8
_CHUNK = 65_536
_LOOK_S = 0.1
# A peer that hung up is told from one that has sent something; macOS tells a hang-up alone.
_HANG_UP = getattr(select, "POLLRDHUP", 0)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How it went: it ``ended`` with *status*, an exit code or the negative number of a signal; it was
    ``late``; it was left ``alone`` by worker or server; it made a ``crowd`` of processes; it was
    ``unstarted``, or ``unsandboxed``, for *error*, an errno; or its supervisor was ``lost``.

    *cpu_s* is the processor time of all its processes. *is_file* is false for a result that is a link or a
    folder; *disk_error* is the errno with which the result could not be put into its target.
    """

    how: How
    status: int = 0
    error: int = 0
    said: str = ""
    cpu_s: float = 0.0
    result_bytes: int = 0
    is_file: bool = True
    disk_error: int = 0


def supervised(start: Start, watched: int | None) -> Outcome:
    """Run it, and return when no process of it is left. All are ended when the peer of *watched* hangs up,
    and when this process ends. Raises OSError when there can be no process."""
    known = set(children(os.getpid()))
    text = b""
    kernel.adopt_orphans()
    try:
        text = _told_by_supervisor(start, watched)
    finally:
        if not text:  # it was killed, and what was its own is ours now
            end_orphans(known)
            private_folder.clear(start.folder)
        kernel.adopt_orphans(False)
    return Outcome(**json.loads(text)) if text else Outcome("lost")


def _told_by_supervisor(start: Start, watched: int | None) -> bytes:
    ours, theirs = socket.socketpair()
    with ours:
        with theirs:
            supervisor = _forked(lambda: _supervise(start, theirs, watched))
        try:
            return b"".join(iter(lambda: ours.recv(_CHUNK), b""))
        finally:
            ours.close()  # tells it to end, if this is an interrupt
            os.waitpid(supervisor, 0)


def _forked(work: Callable[[], object]) -> int:
    """The id of a new process that does *work* and ends. It flushes no buffer and runs no exit function of
    its parent's."""
    process = os.fork()
    if process == 0:
        try:
            gc.disable()  # it would touch, and so copy, all of the parent's memory
            work()
        finally:
            os._exit(0)
    return process


# --- the supervisor


def _supervise(start: Start, channel: socket.socket, watched: int | None) -> None:
    os.setsid()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    kernel.adopt_orphans()
    watch = [channel.fileno(), *([] if watched is None else [watched])]
    close_all_but({2, *watch, *start.descriptors.values(), start.target})
    try:
        if start.folder:
            Path(start.folder).mkdir(mode=0o700)
        outcome = _outcome(start, watch)
    except OSError as error:
        outcome = Outcome("unstarted", error=error.errno or 0)
    finally:
        private_folder.clear(start.folder)
    with suppress(OSError):
        channel.sendall(json.dumps(asdict(outcome)).encode())


def _outcome(start: Start, watch: Sequence[int]) -> Outcome:
    family = Family()
    said, to_said = os.pipe()
    report, to_report = os.pipe()
    supervisor = os.getpid()
    family.program = _forked(lambda: become(start, to_said, to_report, supervisor))
    os.close(to_said)
    os.close(to_report)
    end, reported = bytearray(), bytearray()
    how = _wait(family, said, end, watch, start.timeout_s)
    family.end()
    for number, text in ((said, end), (report, reported)):
        os.set_blocking(number, False)  # of a process that can't be killed they stay open
        while _read(number, text):
            pass
    error = 0
    if how == "ended":
        how, error = _beginning(reported.decode(errors="replace"), start.reports)
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    outcome = Outcome(
        how,
        os.waitstatus_to_exitcode(family.status or 0),
        error,
        end.decode(errors="replace"),
        usage.ru_utime + usage.ru_stime,
    )
    return _with_result(outcome, start) if start.result and how == "ended" else outcome


def _wait(family: Family, said: int, end: bytearray, watch: Sequence[int], timeout_s: float) -> How:
    """Return when the program has ended, or has to be ended. *end* gets the last bytes of the pipe *said*."""
    deadline = time.monotonic() + timeout_s
    poll = select.poll()
    poll.register(family.news, select.POLLIN)
    poll.register(said, select.POLLIN)
    for number in watch:
        poll.register(number, _HANG_UP)
    while (left_s := deadline - time.monotonic()) > 0:
        for number, _ in poll.poll(min(left_s, _LOOK_S) * 1000 + 1):
            if number in watch:
                return "alone"
            if number == said and not _read(said, end):
                poll.unregister(said)
        if family.has_ended():
            return "ended"
        if family.is_crowd():
            return "crowd"
    return "late"


def _read(number: int, end: bytearray) -> bool:
    """Read some more, and keep the last of it. False when there is no more."""
    try:
        some = os.read(number, _CHUNK)
    except BlockingIOError:
        return False
    end += some
    del end[:-_SAID_BYTES]
    return bool(some)


def _beginning(reported: str, is_bubblewrap: bool) -> tuple[How, int]:
    """Whether the program was begun, and else the error. bubblewrap reports an exit code only of what it
    began; ``become`` reports a failure."""
    failed, _, error = reported.partition(" ")
    if failed in ("unstarted", "unsandboxed"):
        return cast(How, failed), int(error)
    if is_bubblewrap and '"exit-code"' not in reported:
        return "unsandboxed", 0
    return "ended", 0


def _with_result(outcome: Outcome, start: Start) -> Outcome:
    size = private_folder.bytes_of(start.result)
    outcome = replace(outcome, result_bytes=size)
    if outcome.status or (start.result_bytes and size > start.result_bytes):
        return outcome
    try:
        return replace(outcome, is_file=private_folder.take(start.result, start.target))
    except FileNotFoundError:
        return outcome
    except OSError as error:
        return replace(outcome, disk_error=error.errno or errno.EIO)
