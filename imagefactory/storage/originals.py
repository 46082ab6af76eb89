"""The folder of pictures: from a path in a URL to a file that may be shown.

One canonical spelling per file: whatever is spelled in another way, hidden, outside of the folder (also
through a link) or no regular file is NotFound, with one text for all.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BufferedReader
from pathlib import Path

from ..errors import NotFound, SourceChanged, TooLarge, Unavailable
from ..model.source import Stamp
from .protocols import LocalFile

__all__ = ["Originals", "check_path"]

# Not empty, not hidden, no control characters, no backslash (a separator elsewhere), no bytes that are no
# UTF-8, and not U+FFFD, which Werkzeug makes of them.
_PART = r"(?!\.)[^/\\\x00-\x1f\x7f\ufffd\ud800-\udfff]+"
_NAME = re.compile(_PART)
_PATH = re.compile(rf"{_PART}(?:/{_PART})*")
_RACY_NS = 2_000_000_000
_ABSENT = frozenset(
    {errno.ENOENT, errno.ENOTDIR, errno.EACCES, errno.EPERM, errno.ELOOP, errno.ENAMETOOLONG, errno.EISDIR}
    | {errno.EINVAL, errno.EILSEQ, errno.ENXIO}
)


class Originals:
    """The regular files below *root*. *max_bytes* is the greatest size of a source."""

    def __init__(self, root: Path, max_bytes: int) -> None:
        self.root = root
        self._root = str(root)
        self.max_bytes = max_bytes

    def stamp(self, path: str) -> Stamp:
        """The stamp of the file at *path*: one stat.

        A stamp that is equal to that of a file which passed ``open`` proves that it is the same file; so a
        hit needs no look at the links on the way. Raises NotFound, or Unavailable when the disk fails.
        """
        check_path(path)
        try:
            status = os.stat(f"{self._root}/{path}")  # noqa: PTH116  # a Path costs as much as the stat itself
        except (OSError, ValueError) as error:
            raise _refusal(error) from error
        if not stat.S_ISREG(status.st_mode):
            raise NotFound
        return Stamp.of(status)

    def is_current(self, path: str, stamp: Stamp) -> bool:
        """Whether the file at *path*, which passed ``open``, still has *stamp*: one stat."""
        try:
            status = os.stat(f"{self._root}/{path}")  # noqa: PTH116
        except (OSError, ValueError):
            return False
        return (status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns) == stamp

    def is_settled(self, stamp: Stamp, now_s: float) -> bool:
        """Whether *stamp* was two seconds old when the bytes were read: a second write within a tick of the
        clock could share a younger one."""
        return now_s * 1e9 - int(stamp.version) >= _RACY_NS

    def locate(self, path: str) -> Path:
        """The full path for a canonical *path*; nothing on disk is looked at. Raises NotFound."""
        check_path(path)
        return self.root / path

    @contextmanager
    def fetch(self, path: str, stamp: Stamp) -> Iterator[LocalFile]:
        """The file at *path* itself."""
        yield LocalFile(self.locate(path), stamp)

    def open(self, path: str) -> tuple[BufferedReader, Stamp]:
        """The file at *path*, open for reading, and its stamp; no link has led out of the folder.

        Raises NotFound, TooLarge when it has too many bytes, Unavailable when the disk fails.
        """
        full = self.locate(path)
        try:
            root = self.root.resolve(strict=True)
            real = full.resolve(strict=True).relative_to(root)
            if any(part.startswith(".") for part in real.parts):
                raise NotFound
            # Opening a pipe would wait for its writer; O_NONBLOCK does not, and means nothing for a file.
            number = os.open(root / real, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW)
        except (OSError, ValueError, RuntimeError) as error:
            raise _refusal(error) from error
        status = os.fstat(number)
        is_small = status.st_size <= self.max_bytes
        if stat.S_ISREG(status.st_mode) and is_small:
            return os.fdopen(number, "rb"), Stamp.of(status)
        os.close(number)
        raise NotFound if is_small else TooLarge("bytes", status.st_size, self.max_bytes)

    def digest(self, path: str) -> tuple[str, Stamp]:
        """The sha256 in hex of the bytes at *path*, and their stamp.

        Raises SourceChanged when they changed under the reader, else as ``open``.
        """
        file, stamp = self.open(path)
        try:
            with file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
                if Stamp.of(os.fstat(file.fileno())) != stamp:
                    raise SourceChanged
        except OSError as error:
            raise _refusal(error) from error
        return digest, stamp

    def walk(self, below: str = "") -> Iterator[str]:
        """The canonical paths of all regular files, or of those in the folder with the path *below*; sorted
        within each folder; links to folders are not followed."""
        todo = [below]
        while todo:
            folder = todo.pop()
            folders, names = [], []
            # os.walk and a Path for each file take six times as long. Only names are kept of a large folder.
            with suppress(OSError), os.scandir(self.root / folder) as entries:
                for entry in entries:
                    with suppress(OSError):
                        if not _NAME.fullmatch(entry.name):
                            continue
                        if entry.is_dir(follow_symlinks=False):
                            folders.append(entry.name)
                        elif entry.is_file():
                            names.append(entry.name)
            start = f"{folder}/" if folder else ""
            for name in sorted(names):
                yield f"{start}{name}"
            todo += [f"{start}{name}" for name in sorted(folders, reverse=True)]

    def is_readable(self) -> bool:
        """Whether the folder can be listed now."""
        try:
            with os.scandir(self.root) as entries:
                next(entries, None)
        except OSError:
            return False
        return True


def check_path(path: str) -> None:
    """Raise NotFound for what is no canonical path of a picture."""
    if _PATH.fullmatch(path) is None:
        raise NotFound


def _refusal(error: Exception) -> NotFound | Unavailable:
    if isinstance(error, OSError) and error.errno not in _ABSENT:
        return Unavailable("the picture can't be read at the moment")
    return NotFound()
