"""Claims: one process at a time makes a variant, on one machine.

A claim is a POSIX record lock on one byte of a file, at an offset made from the variant's key: no two
variants wait for each other, the kernel frees it when its owner dies, and it costs about a microsecond.
Such a lock belongs to the process and is lost as soon as the process closes *any* descriptor of the file,
so there is one descriptor per process and file, never closed; and threads of one process do not exclude
each other by it, so the offsets held are kept in a set beside it.

Tried and rejected: flock on a file per key (inherited by forked workers, outlives the dead leader), a fixed
number of stripes (unrelated misses wait for each other), diskcache.Lock (spins, outlives a killed holder).
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ..common.turns import resting
from ..errors import StorageError, TimedOut
from .folders import PRIVATE, make_folder

__all__ = ["FileClaims"]

_POLL_S = 0.002
_MAX_POLL_S = 0.05


class _File:
    """The one descriptor that this process has of a claims file, and the offsets it holds."""

    def __init__(self, path: str) -> None:
        make_folder(Path(path).parent, PRIVATE)
        self.number = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self.held: set[int] = set()
        self.lock = threading.Lock()
        self.inode = os.fstat(self.number).st_ino

    def is_at(self, path: str) -> bool:
        """Whether *path* leads to this file still."""
        try:
            return Path(path).stat().st_ino == self.inode
        except FileNotFoundError:
            return False

    def take(self, offset: int) -> bool:
        """Whether the byte at *offset* is this thread's now; does not wait."""
        with self.lock:
            if offset in self.held:
                return False
            try:
                fcntl.lockf(self.number, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, offset)
            except (BlockingIOError, PermissionError):  # EAGAIN or EACCES, POSIX allows both
                return False
            self.held.add(offset)
            return True

    def give(self, offset: int) -> None:
        """Let go of the byte at *offset*."""
        with self.lock:
            self.held.discard(offset)
            with suppress(OSError):  # what was made under it is an answer all the same
                fcntl.lockf(self.number, fcntl.LOCK_UN, 1, offset)


_files: dict[str, _File] = {}
_files_lock = threading.Lock()


def _forget() -> None:
    # A forked child owns none of its parent's locks. Closing its copy of the descriptor would be harmless
    # (the locks are the parent's), but a new one is opened only when it is needed.
    global _files_lock
    _files_lock = threading.Lock()
    _files.clear()


os.register_at_fork(after_in_child=_forget)


class FileClaims:
    """Claims on the keys of one cache, by bytes of the file *path*."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @contextmanager
    def take(self, key: str, timeout_s: float) -> Iterator[bool]:
        """Hold *key* for the time of the block; tells whether somebody else held it before.

        Waits for at most *timeout_s* seconds, then raises TimedOut. A holder that died is no holder.
        Raises StorageError when the file can't be opened or locked.
        """
        try:
            file = self._file()
            offset = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") >> 2  # 62 bits
            deadline = time.monotonic() + timeout_s
            has_waited, poll_s = False, _POLL_S
            while not file.take(offset):
                has_waited = True
                if time.monotonic() >= deadline:
                    raise TimedOut("another process is still making this picture")
                with resting():
                    time.sleep(poll_s)
                poll_s = min(poll_s * 1.5, _MAX_POLL_S)
        except OSError as error:
            raise StorageError("claims", f"claims can't be locked: {error.strerror}") from error
        try:
            yield has_waited
        finally:
            file.give(offset)

    def _file(self) -> _File:
        name = os.path.realpath(self.path)
        file = _files.get(name)
        if file is None or not file.is_at(name):
            with _files_lock:
                file = _files.get(name)
                if file is None or not file.is_at(name):  # never opened, or somebody emptied the cache folder
                    file = _files[name] = _File(name)
        return file
