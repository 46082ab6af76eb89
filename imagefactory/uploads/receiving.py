"""What is being received: a file in ``.uploads/tmp``, hashed while it arrives, and never whole in memory.

The file is locked while its request lives. What a dead process left is removed at the next start.
"""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ..errors import BodyTooLarge, DigestMismatch, NoSpace, StorageError, Truncated, Unavailable
from ..storage.folders import PRIVATE, make_folder
from ..storage.temp_files import Temp, TempFiles

__all__ = ["Received", "Receiver", "from_disk"]

_LOOK_BYTES = 64 * 2**20


@dataclass(slots=True)
class Received:
    """A body that has arrived: its bytes lie in *temp*; *digest* is their sha256 in hex."""

    temp: Temp
    bytes: int
    digest: str


class Receiver:
    """Receives into *folder*, a file of *max_bytes* at most, as long as *min_free* bytes stay free there."""

    def __init__(self, folder: Path, max_bytes: int, min_free: int) -> None:
        self.folder = folder
        self.max_bytes = max_bytes
        self._min_free = min_free
        self._temps = TempFiles(folder)

    def sweep(self) -> int:
        """Remove what dead processes left; how many files."""
        return self._temps.sweep()

    @contextmanager
    def receive(
        self, chunks: Iterable[bytes], length: int | None = None, digest: str | None = None
    ) -> Iterator[Received]:
        """The body that comes in *chunks*; its file is gone after the block unless it was published.

        *length* is what was announced, in bytes, and *digest* its sha256 in hex. Raises Truncated,
        BodyTooLarge, DigestMismatch, NoSpace, Unavailable.
        """
        if length is not None and length > self.max_bytes:
            raise BodyTooLarge(self.max_bytes, "a file")
        self.check_room(length or 0)
        try:
            make_folder(self.folder.parent, PRIVATE)
        except OSError as error:
            raise from_disk(error) from error
        try:
            with self._temps.create() as temp:
                found = self._write(temp, chunks)
                if length is not None and found.bytes != length:
                    raise Truncated(found.bytes, length)
                if digest is not None and found.digest != digest:
                    raise DigestMismatch(found.digest)
                yield found
        except StorageError as error:
            raise from_disk(error.__cause__) from error

    def check_room(self, wanted: int) -> None:
        """Raise NoSpace where *wanted* bytes more would take the disk below its reserve."""
        folder = self.folder
        while not folder.is_dir():
            folder = folder.parent
        try:
            found = os.statvfs(folder)
        except OSError as error:
            raise from_disk(error) from error
        if found.f_bavail * found.f_frsize - wanted < self._min_free:
            raise NoSpace

    def _write(self, temp: Temp, chunks: Iterable[bytes]) -> Received:
        hashed, size, looked = hashlib.sha256(), 0, 0
        for chunk in chunks:
            size += len(chunk)
            if size > self.max_bytes:
                raise BodyTooLarge(self.max_bytes, "a file")
            if size - looked > _LOOK_BYTES:
                self.check_room(0)
                looked = size
            hashed.update(chunk)
            try:
                left = memoryview(chunk)
                while left:
                    left = left[os.write(temp.number, left) :]
            except OSError as error:
                raise from_disk(error) from error
        return Received(temp, size, hashed.hexdigest())


def from_disk(error: BaseException | None) -> Unavailable:
    """What a visitor hears of a disk that fails with *error*."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return NoSpace()
    return Unavailable("the pictures can't be written at the moment", retry_after_s=10)
