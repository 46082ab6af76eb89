"""A program and all that it starts: whether it has ended, whether they are too many, and their end.

For the supervisor, which is the parent of all orphans among them. Where the kernel does not tell the children
of a process (macOS), only the program and its own group are known.
"""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from pathlib import Path

__all__ = ["MOST_PROCESSES", "Family", "children", "end_orphans"]

# For root no limit of the kernel holds for the number of processes; for others it is one for all of a user.
MOST_PROCESSES = 64
_KILL_S = 5.0  # what waits for a broken disk can't be killed


class Family:
    """The program and its descendants. *news* can be read after one of them ended."""

    def __init__(self) -> None:
        self.program = 0
        self.status: int | None = None
        self.news, tell = os.pipe()
        os.set_blocking(self.news, False)
        os.set_blocking(tell, False)
        signal.set_wakeup_fd(tell, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)

    def has_ended(self) -> bool:
        """Whether the program has; also takes the exit status of orphans, so that no zombies pile up."""
        with suppress(BlockingIOError):
            os.read(self.news, 65_536)
        self._reap()
        return self.status is not None

    def is_crowd(self) -> bool:
        """Whether there are too many of them."""
        found = [os.getpid()]
        for process in found:  # it grows meanwhile
            found += children(process)
            if len(found) > MOST_PROCESSES:
                return True
        return False

    def end(self) -> None:
        """Kill all of them. The children of one that is killed become ours, and are killed next."""
        until = time.monotonic() + _KILL_S
        with suppress(OSError):
            os.killpg(self.program, signal.SIGKILL)
        while self._reap() and time.monotonic() < until:
            for process in children(os.getpid()) or [self.program]:
                with suppress(OSError):
                    os.kill(process, signal.SIGKILL)
            time.sleep(0.0002)

    def _reap(self) -> bool:
        """Whether there are still children."""
        with suppress(ChildProcessError):
            while True:
                process, status = os.waitpid(-1, os.WNOHANG)
                if process == self.program:
                    self.status = status
                if not process:
                    return True
        return False


def end_orphans(known: set[int]) -> None:
    """Kill all children of this process, and theirs, but those *known* before."""
    until = time.monotonic() + _KILL_S
    while (found := set(children(os.getpid())) - known) and time.monotonic() < until:
        for process in found:
            with suppress(OSError):
                os.kill(process, signal.SIGKILL)
                os.waitpid(process, os.WNOHANG)
        time.sleep(0.0002)


def children(process: int) -> list[int]:
    """Those of all its threads; none where the kernel does not tell."""
    found: list[int] = []
    with suppress(OSError):
        for thread in Path(f"/proc/{process}/task").iterdir():
            found += map(int, (thread / "children").read_text().split())
    return found
