"""Objects read and hashed, on all cores, at the speed of the disk.

Small files are a matter of system calls: open, fstat, read, close, and nothing else. Large ones go through a
buffer of 1 MiB that each thread keeps; reading and hashing let go of the GIL.
"""

from __future__ import annotations

import hashlib
import os
import stat
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

__all__ = ["Look", "ahead", "look"]

_T = TypeVar("_T")
_U = TypeVar("_U")

_SMALL = 2**18
_BUFFER = 2**20
_O_NOATIME = getattr(os, "O_NOATIME", 0)  # to look is not to use
_kept = threading.local()


@dataclass(frozen=True, slots=True)
class Look:
    """What a file has: the sha256 of its bytes in hex, how many *bytes*, and when it was used last (its atime
    or mtime, unix seconds). *digest* is empty for what can't be read as a file."""

    digest: str
    bytes: int = 0
    used_s: float = 0.0


def look(path: str) -> Look | None:
    """What lies at *path*; None if nothing does."""
    try:
        number = _open(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError:  # a folder, a link, no rights, a bad sector: nothing that could be served
        return Look("")
    try:
        status = os.fstat(number)
        if not stat.S_ISREG(status.st_mode):
            return Look("")
        used_s = max(status.st_mtime, status.st_atime)
        if status.st_size < _SMALL:
            data = os.read(number, status.st_size + 1)
            return Look(hashlib.sha256(data).hexdigest(), len(data), used_s)
        digest, size = _hash(number)
        return Look(digest, size, used_s)
    except OSError:
        return Look("")
    finally:
        os.close(number)


def _open(path: str) -> int:
    # Not blocking: a pipe that somebody put there would wait for its other end.
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        return os.open(path, flags | _O_NOATIME)
    except PermissionError:  # only the owner may ask for that
        return os.open(path, flags)


def _hash(number: int) -> tuple[str, int]:
    buffer = getattr(_kept, "buffer", None)
    if buffer is None:
        buffer = _kept.buffer = memoryview(bytearray(_BUFFER))
    found, size = hashlib.sha256(), 0
    stop = getattr(_kept, "stop", None)
    while count := os.readv(number, [buffer]):
        if stop is not None and stop.is_set():
            raise CancelledError
        found.update(buffer[:count])
        size += count
    return found.hexdigest(), size


def ahead(work: Callable[[_T], _U], items: Iterable[_T], threads: int) -> Iterator[_U]:
    """What *work* gives for each of *items*, in order; done by *threads* threads, a few items ahead.

    Without a thread it is done by the caller. When the iterator is closed, what was not begun is left.
    """
    if threads < 1:
        yield from map(work, items)
        return
    stop = threading.Event()
    pool = ThreadPoolExecutor(threads, "imagefactory-look", lambda: setattr(_kept, "stop", stop))
    waiting: deque[Future[_U]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) > 2 * threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        stop.set()  # nobody waits for the end of a large file
        pool.shutdown(cancel_futures=True)
