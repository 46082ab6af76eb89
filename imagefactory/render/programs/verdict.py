"""What came of a run: the size of its output, or why there is none.

the program                                the error, of this variant alone
ends with a code, makes nothing, makes     ProgramFailed (422)
too much or another format, or takes too
much processor time
crashes, or starts too many processes      ProgramFailed, for ten seconds
takes too much wall time, is killed, or    ProgramStopped (503), for ten seconds
could not be started
"""

from __future__ import annotations

import errno
import os
import signal
from contextlib import suppress
from signal import Signals

from ...common.units import count_text, size_text
from ...errors import ProgramFailed, ProgramStopped
from ...model.formats import HEAD_BYTES, starts_as
from ...model.program import Program
from .family import MOST_PROCESSES
from .supervising import SAID_CHARACTERS, Outcome

__all__ = ["cpu_s", "size_of_output", "unstarted"]

_CRASHES = frozenset(
    {signal.SIGILL, signal.SIGTRAP, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGSEGV}
) | {signal.SIGSYS}
_LIMITS = frozenset({signal.SIGXCPU, signal.SIGXFSZ})
_FROM_OUTSIDE = frozenset({signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP})
_CRASH_LASTS_S = 10.0
_FULL_BYTES = 2**20


def size_of_output(program: Program, outcome: Outcome, target: int, expected: str) -> int:
    """How many bytes *target* has, of the format *expected*.

    Raises ProgramFailed and ProgramStopped as in the table above, and OSError where its disk can't take them.
    """
    if outcome.disk_error:
        raise OSError(outcome.disk_error, os.strerror(outcome.disk_error))
    size = max(os.fstat(target).st_size, outcome.result_bytes)
    problem = _problem(program, outcome, size) or _problem_of_output(program, outcome, target, expected)
    if problem is None:
        return size
    if _is_full(target):  # that may be all that is wrong
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from problem
    raise problem


def cpu_s(program: Program) -> int:
    """The processor time that each of its processes may take, in seconds."""
    return max(1, program.timeout_s * 2 // 3)


def unstarted(program: Program, number: int) -> ProgramStopped:
    """The error for a program that could not be started for the errno *number*."""
    return ProgramStopped(program.name, f"could not be started: {os.strerror(number).lower()}")


def _problem(program: Program, outcome: Outcome, size: int) -> ProgramFailed | ProgramStopped | None:
    """Why there is no output, of how the program ended."""
    said = _clean(outcome.said)
    name, code, ended_by = program.name, outcome.status, _signal_of(outcome.status)
    match outcome.how:
        case "late":
            return ProgramStopped(name, f"took more than {count_text(program.timeout_s, 'second')}", said)
        case "alone":
            return ProgramStopped(name, "was stopped with its server", said)
        case "lost":
            return ProgramStopped(name, "was stopped with its supervisor", said)
        case "unstarted":
            return unstarted(program, outcome.error)
        case "unsandboxed":
            return ProgramStopped(name, "could not be put into its sandbox", said)
        case "crowd":
            return _failed(name, f"started more than {MOST_PROCESSES} processes", said, _CRASH_LASTS_S)
    if ended_by == signal.SIGXFSZ or 0 < program.output_bytes < size:
        return _failed(name, f"made more than {size_text(program.output_bytes)}", said)
    if ended_by == signal.SIGXCPU or (ended_by == signal.SIGKILL and outcome.cpu_s >= cpu_s(program)):
        return _failed(name, f"took more than {count_text(cpu_s(program), 'second')} of processor time", said)
    if ended_by in _CRASHES:
        return _failed(name, f"crashed ({ended_by.name})", said, _CRASH_LASTS_S)
    if ended_by:
        return ProgramStopped(name, f"was ended by {ended_by.name}", said)
    return _failed(name, f"ended with exit code {code}", said) if code else None


def _problem_of_output(
    program: Program, outcome: Outcome, target: int, expected: str
) -> ProgramFailed | None:
    said = _clean(outcome.said)
    if not outcome.is_file:
        return _failed(program.name, "made something else than a file", said)
    head = _head(target)
    if not head:
        error = _failed(program.name, "gave nothing", said)
        error.is_empty = True
        return error
    if expected and not starts_as(expected, head):
        return _failed(program.name, f"gave something that is no {expected}", said)
    return None


def _failed(name: str, reason: str, said: str, lasts_s: float = ProgramFailed.lasts_s) -> ProgramFailed:
    error = ProgramFailed(name, reason, said)
    error.blames, error.lasts_s = "variant", lasts_s
    return error


def _signal_of(code: int) -> Signals | None:
    """What a process with this exit code was ended by. A shell, and bubblewrap, say 128 + its number."""
    if code < 0:
        return Signals(-code)
    told = code - 128
    return Signals(told) if told in _CRASHES | _FROM_OUTSIDE | _LIMITS else None


def _clean(said: str) -> str:
    """Its end, on one line, for a log."""
    return "".join(each if each.isprintable() else " " for each in said).strip()[-SAID_CHARACTERS:]


def _head(target: int) -> bytes:
    """The first bytes of what may be open for writing alone."""
    with suppress(OSError):
        return os.pread(target, HEAD_BYTES, 0)
    number = os.open(f"/proc/self/fd/{target}", os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.pread(number, HEAD_BYTES, 0)
    finally:
        os.close(number)


def _is_full(target: int) -> bool:
    """Whether the disk that *target* is on has no room. One in memory says that it has no blocks at all."""
    disk = os.fstatvfs(target)
    return disk.f_blocks > 0 and disk.f_bavail * disk.f_frsize < _FULL_BYTES
