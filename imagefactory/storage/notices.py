"""The epoch: a small file, replaced by rename, that tells every process of a purge."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from ..errors import StorageError
from .temp_files import TempFiles

__all__ = ["EpochFile"]

_LAST_NS = 2**31 * 10**9  # before 2038, for older file systems


class EpochFile:
    """The epoch in the file *path*; a new one is written by *temps*."""

    def __init__(self, path: Path, temps: TempFiles) -> None:
        self._path = str(path)  # asked for at each hit
        self._temps = temps

    def epoch(self) -> int:
        """A number that changes with each purge; 0 before the first. One stat."""
        try:
            return os.stat(self._path).st_mtime_ns  # noqa: PTH116
        except OSError:
            return 0

    def renew(self) -> None:
        """Tell all processes that the cache was purged, or its index replaced. Raises StorageError.

        The file's time is a random number, so that one stat tells two epochs apart also when they follow
        each other within a tick of the clock and reuse an inode.
        """
        with self._temps.create() as temp:
            random_ns = secrets.randbelow(_LAST_NS - 1) + 1
            try:
                os.utime(temp.path, ns=(random_ns, random_ns))
                temp.path.rename(self._path)
            except OSError as error:
                raise StorageError("objects", f"the epoch can't be renewed: {error.strerror}") from error
