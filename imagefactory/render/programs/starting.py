"""What a program is started with, and the forked child that becomes the program.

Between fork and exec the child takes a group of its own, and gives up what a program has no business with:
open files, signal handlers, the environment, rights.
"""

from __future__ import annotations

import fcntl
import os
import resource
import signal
import sys
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from . import kernel

__all__ = ["REPORT", "SOURCE", "Start", "become", "close_all_but"]

# Where a program finds its source, and what bubblewrap, or ``become``, reports to.
SOURCE, REPORT = 3, 4


@dataclass(frozen=True, slots=True)
class Start:
    """What is started, and with what.

    *descriptors* are what the program gets, by its own numbers; *limits* are triples of ``setrlimit``.
    *confine* is called in the child. *reports*: it is bubblewrap. *folder* is made before and removed after;
    *result* is the file in it that is put into *target*, if it has *result_bytes* at most (0: any number).
    """

    arguments: list[str]
    environment: Mapping[str, str]
    descriptors: Mapping[int, int]
    limits: Iterable[tuple[int, int, int]]
    timeout_s: float
    confine: Callable[[], None] | None = None
    reports: bool = False
    folder: str = ""
    result: str = ""
    result_bytes: int = 0
    target: int = -1


def become(start: Start, said: int, report: int, supervisor: int) -> None:
    """Become the program, a child of the process *supervisor*, which says all to the pipe *said*.

    Returns when that fails, after the pipe *report* got the stage and the errno; else exec closes that pipe.
    """
    stage = "unsandboxed"
    try:
        os.setpgid(0, 0)
        if not kernel.die_with_parent(supervisor):
            return
        nothing = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        numbers = {0: nothing, 1: said, **start.descriptors, 2: said, REPORT: report}
        _arrange(numbers, closes=set() if start.reports else {REPORT})
        with suppress(OSError):  # of all processes it is the first that the kernel may kill for memory
            Path("/proc/self/oom_score_adj").write_text("1000")
        os.chdir("/")
        if start.confine:
            start.confine()
        for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
            with suppress(OSError, ValueError):
                signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        for limit, soft, hard in start.limits:
            resource.setrlimit(limit, (soft, hard))
        stage = "unstarted"
        os.execve(start.arguments[0], start.arguments, start.environment)  # noqa: S606  # no shell
    except OSError as error:
        os.write(REPORT, f"{stage} {error.errno}".encode())
    except Exception:
        os.write(REPORT, f"{stage} 0".encode())


def _arrange(numbers: Mapping[int, int], closes: set[int]) -> None:
    """Have the open files under these numbers, and no others. *closes* are closed by exec."""
    high = {number: fcntl.fcntl(old, fcntl.F_DUPFD_CLOEXEC, 10) for number, old in numbers.items()}
    for number, old in high.items():
        os.dup2(old, number, inheritable=number not in closes)
    close_all_but(numbers)


def close_all_but(numbers: Iterable[int]) -> None:
    """Also those that a C library left open for what it starts."""
    folder = "/proc/self/fd" if sys.platform == "linux" else "/dev/fd"
    for number in {int(each.name) for each in Path(folder).iterdir()} - set(numbers):
        with suppress(OSError):
            os.close(number)
