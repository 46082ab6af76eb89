"""A source as decoders read it: opened once, with a bound on reads, and checked not to change."""

from __future__ import annotations

import io
import os
import stat
from pathlib import Path

from ..errors import SourceChanged, Undecodable
from ..model.source import Stamp

__all__ = ["MAX_READS", "BytesFile", "SourceFile", "check_unchanged"]

# Pillow reads in Python, block by block: 100 reads for a header, 8,000 for a frame of 1 MB in a GIF.
MAX_READS = 300_000


class _Bounded:
    """A file that gives up after 300,000 reads for a header or a frame.

    Decoders have no bound of their own: 100 MB in blocks of a byte or two would keep one busy for a minute
    before the first pixel.
    """

    reads = 0

    def read(self, size: int | None = -1, /) -> bytes:
        """As any file."""
        self.reads += 1
        if self.reads > MAX_READS:
            raise Undecodable("it is cut into too many blocks")
        return super().read(size)  # type: ignore[misc, no-any-return]  # of the file that this is mixed into


class BytesFile(_Bounded, io.BytesIO):
    """The bytes of a source that was read at once."""


class SourceFile(_Bounded, io.BufferedReader):
    """A source that is open for reading, with its first bytes as *head*: the file with *descriptor*, which
    stays open when this one is closed, else the one at *path*."""

    def __init__(self, path: Path, descriptor: int | None = None) -> None:
        if descriptor is None:
            super().__init__(io.FileIO(path, opener=_open_at_once))
        else:
            super().__init__(io.FileIO(os.dup(descriptor)))
            self.seek(0)  # another worker may have read it before, and failed
        if not stat.S_ISREG(os.fstat(self.fileno()).st_mode):
            self.close()
            raise SourceChanged("the source is no regular file any more")
        self.head = self.read(64)
        self.seek(0)

    @property
    def changed_ns(self) -> int:
        """When it was changed last (its ctime), in nanoseconds since 1970."""
        return os.fstat(self.fileno()).st_ctime_ns


def _open_at_once(path: str, flags: int) -> int:
    # A pipe that took the place of the source would have the open wait for its writer, for ever.
    return os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC)


def check_unchanged(file: SourceFile, stamp: Stamp) -> None:
    """Raise SourceChanged unless *file* has *stamp*."""
    if Stamp.of(os.fstat(file.fileno())) != stamp:
        raise SourceChanged("the source changed while it was read")
