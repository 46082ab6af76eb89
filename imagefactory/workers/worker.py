"""A render worker: the process in which pictures are decoded and encoded, one at a time.

Started by ``pool``; its standard input is the socket over which it gets jobs. It ends when that is closed,
be it because its server was killed. What it does to itself before the first job, and before each one:

- a lower priority than the server's (nice 10), and the first choice of the kernel's out-of-memory killer;
- a bound for its address space, and none of the terminal's signals;
- a budget of processor time (SIGXCPU) and of wall time (SIGALRM) for each job, after which the kernel ends
  it, also when its server is gone and C code keeps the interpreter from running.
"""

from __future__ import annotations

import ctypes
import os
import resource
import select
import signal
import socket
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ImageFactoryError, OutOfMemory
from ..model.job import Job, Rendered
from . import messages

if TYPE_CHECKING:
    from ..render.memory import Memory

__all__ = ["main"]

_NICE = 10
_IDLE_S = 3.0


def main() -> None:
    """Do jobs until the socket on standard input is closed. Arguments: bytes of address space (0 for no
    bound), seconds of processor time a job, seconds of wall time a job."""
    memory_bytes, cpu_s, wall_s = (int(argument) for argument in sys.argv[1:4])
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    _limit_process(memory_bytes)
    from ..render.decoders import use_one_thread
    from ..render.memory import Memory

    use_one_thread()
    with socket.socket(fileno=0) as channel, suppress(OSError, EOFError):
        memory = Memory()
        messages.send(channel, {"is": "ready"})
        while True:
            # What the memory has is for jobs that come at once: an idle worker holds no pictures.
            if not select.select([channel], [], [], _IDLE_S)[0]:
                memory.clear()
                _give_back()
            with messages.receive_task(channel) as (task, descriptor):
                _limit_time(cpu_s, wall_s + _more_s(task))
                messages.send(channel, {"is": "begun"})
                message, body = _do(task, descriptor, memory, channel)
            signal.setitimer(signal.ITIMER_REAL, 0)
            messages.send(channel, message, body)


def _do(
    task: Mapping[str, Any], descriptor: int | None, memory: Memory, channel: socket.socket
) -> tuple[messages.Message, bytes]:
    from ..render.pipeline import probe

    try:
        if "probe" in task:
            return messages.header_message(probe(Path(task["probe"]), descriptor)), b""
        if "check" in task:
            from ..render.checking import check

            memory.clear()  # a check takes memory of its own
            header = check(Path(task["check"]), task["max_pixels"], descriptor)
            return messages.header_message(header), b""
        if "program" in task:
            from ..render.making import make

            memory.clear()  # a fork copies what maps the memory: 25 ms with 500 MB, 7 without
            program_job = messages.program_job_from(task["program"], descriptor)
            return messages.rendered_message(make(program_job, channel.fileno()))
        job = messages.job_from(task, descriptor)
        return messages.rendered_message(
            _render(job, memory, lambda: messages.send(channel, {"is": "decoded"}))
        )
    except (ImageFactoryError, OSError, MemoryError) as error:
        memory.clear()
        return messages.error_message(error), b""


def _more_s(task: Mapping[str, Any]) -> int:
    """The seconds of wall time that an external program of *task* may take."""
    if "program" in task:
        return int(task["program"]["timeout_s"]) + 5
    return int(task["encoder"]["timeout_s"]) + 5 if task.get("encoder") else 0


def _render(job: Job, memory: Memory, tell: Callable[[], None]) -> Rendered:
    from ..render.pipeline import render

    try:
        return render(job, memory, tell)
    except OutOfMemory:
        pass  # its traceback holds pictures, until here
    memory.clear()  # what it remembers of the source counts against the bound too
    return render(job, memory, tell)


def _give_back() -> None:
    """Give the memory that was freed to the kernel, where that is not done by itself (glibc)."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def _limit_process(memory_bytes: int) -> None:
    """Take the place of one that may be stopped, slowed and killed, where the system lets us."""
    with suppress(OSError):
        os.nice(_NICE)
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("500")
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    if memory_bytes:
        with suppress(OSError, ValueError):  # macOS knows the limit and does not keep it
            resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, resource.getrlimit(resource.RLIMIT_AS)[1]))


def _limit_time(cpu_s: int, wall_s: int) -> None:
    """From now on: *cpu_s* more seconds of processor time, *wall_s* of wall time, then the kernel ends us."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    soft = int(usage.ru_utime + usage.ru_stime) + cpu_s + 1
    resource.setrlimit(
        resource.RLIMIT_CPU, (soft if hard == resource.RLIM_INFINITY else min(soft, hard), hard)
    )
    signal.setitimer(signal.ITIMER_REAL, wall_s)
