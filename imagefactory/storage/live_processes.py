"""Which processes use a cache: each has a file in ``locks``, locked while it lives, with what it reports.

A file whose lock is free was left by a process that died: it may have been about to write
the row of an object, so who finds such a file has the objects looked through. And what a process can say of
the moment only (how many wait for a render) is read from there by whoever is asked for numbers.
"""

from __future__ import annotations

import atexit
import fcntl
import json
import os
import secrets
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from .folders import PRIVATE, make_folder
from .temp_files import remove_abandoned

__all__ = ["LiveProcesses"]

_SUFFIX = ".session"
_MAX_BYTES = 4000  # within one block: neither a reader nor a full disk gets half of it


class LiveProcesses:
    """The processes that use one cache; *folder* has their files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._number: int | None = None
        self._path = Path()
        self._process = 0
        self._reported = b""

    def begin(self) -> int:
        """Make the file of this process; how many were found that processes left which died.

        Raises OSError.
        """
        count = self.remove_dead()
        if self._process != os.getpid():  # also after a fork: the parent's file is the parent's
            make_folder(self.folder, PRIVATE)
            path = self.folder / f"{secrets.token_hex(12)}{_SUFFIX}"
            # Locked before it has its name, so that nobody takes it for left behind.
            nameless = self.folder / path.stem
            number = os.open(nameless, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
            nameless.rename(path)
            self._number, self._path, self._process, self._reported = number, path, os.getpid(), b""
            atexit.register(self.end)
        return count

    def end(self) -> None:
        """Take the file of this process away: nothing of it is under way any more."""
        if self._number is not None and self._process == os.getpid():
            with suppress(OSError):
                self._path.unlink()
            os.close(self._number)
            self._number, self._process = None, 0
            atexit.unregister(self.end)

    def remove_dead(self) -> int:
        """Remove the files of processes that died; how many there were."""
        return sum(remove_abandoned(str(path)) for path in self._paths())

    def report(self, gauges: Mapping[str, float]) -> None:
        """Write *gauges* down for others, if they are not there yet. A disk that fails is no error here."""
        text = json.dumps(dict(gauges)).encode().ljust(_MAX_BYTES)
        if self._number is not None and self._process == os.getpid() and text != self._reported:
            with suppress(OSError):
                os.pwrite(self._number, text[:_MAX_BYTES], 0)
                self._reported = text

    def reports(self) -> list[Mapping[str, float]]:
        """What each living process has reported last."""
        found: list[Mapping[str, float]] = []
        for path in self._paths():
            with suppress(OSError, ValueError, RecursionError):
                numbers = json.loads(path.read_bytes() or b"{}")
                if isinstance(numbers, dict) and not _is_free(path):
                    found.append({name: value for name, value in numbers.items() if _is_number(value)})
        return found

    def _paths(self) -> list[Path]:
        try:
            return list(self.folder.glob(f"*{_SUFFIX}"))
        except OSError:
            return []


def _is_number(value: object) -> bool:
    """Whether *value* can be summed and drawn: a disk that fails may give back anything."""
    return isinstance(value, int | float) and abs(value) < 2**63


def _is_free(path: Path) -> bool:
    """Whether nobody holds the lock of the file at *path*."""
    number = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        fcntl.flock(number, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(number)
    return True
