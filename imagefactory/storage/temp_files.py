"""Files that are being written, in the folder ``tmp`` of a cache. Each is locked by its writer; the lock of a
file that a dead process left is free, and then it may be removed.
"""

from __future__ import annotations

import fcntl
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ..errors import StorageError
from .folders import PRIVATE, make_folder

__all__ = ["Temp", "TempFiles", "remove_abandoned"]


class Temp:
    """A file that is being written, at *path*; locked, so that nobody takes it for left behind."""

    def __init__(self, path: Path, number: int) -> None:
        self.path = path
        self.number = number

    def size(self) -> int:
        """The bytes that were written. Raises StorageError."""
        try:
            return os.fstat(self.number).st_size
        except OSError as error:
            raise StorageError("objects", f"a temporary file can't be read: {error.strerror}") from error

    def read(self) -> bytes:
        """All that was written. Raises StorageError."""
        try:
            with open(self.number, "rb", closefd=False) as file:
                file.seek(0)
                return file.read()
        except OSError as error:
            raise StorageError("objects", f"a temporary file can't be read: {error.strerror}") from error


class TempFiles:
    """The files in *folder*."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @contextmanager
    def create(self) -> Iterator[Temp]:
        """A new empty file; gone at the end of the block unless it was published. Raises StorageError."""
        try:
            temp = self._create()
        except OSError as error:
            raise StorageError("objects", f"no file can be written in the cache: {error.strerror}") from error
        try:
            yield temp
        finally:
            with suppress(OSError):
                temp.path.unlink()
            with suppress(OSError):  # a late word of the disk about bytes that nobody wants any more
                os.close(temp.number)

    def _create(self) -> Temp:
        make_folder(self.folder, PRIVATE)
        while True:
            path = self.folder / secrets.token_hex(12)
            number = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.fstat(number).st_nlink:
                    return Temp(path, number)
            except BlockingIOError:
                pass  # somebody sweeps at this moment, and was quicker
            except BaseException:
                os.close(number)
                raise
            os.close(number)

    def sweep(self) -> int:
        """Remove files that a dead process left; how many there were.

        Not those with a suffix, which mean more than a render that was not finished.
        """
        count = 0
        with suppress(OSError), os.scandir(self.folder) as entries:
            for entry in entries:
                if "." not in entry.name and entry.is_file(follow_symlinks=False):
                    count += remove_abandoned(entry.path)
        return count


def remove_abandoned(path: str) -> bool:
    """Remove the file at *path* if nobody has its lock; whether that was so."""
    try:
        number = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
        Path(path).unlink()  # with the lock: its writer, if it comes now, sees that the file has no name
    except OSError:
        return False
    finally:
        os.close(number)
    return True
