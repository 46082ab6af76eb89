"""The folder of pictures: from a path in a URL to a file that may be shown.

One canonical spelling per file: whatever is spelled in another way, hidden, outside of the folder (also
through a link) or no regular file is NotFound, with one text for all. What is opened, hashed and rendered is
opened beneath the folder (``beneath``), and the stamp is that of the open file.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from io import BufferedReader
from pathlib import Path

from ..errors import NotFound, RequestError, SourceChanged, TooLarge, Unavailable
from ..model.source import Stamp
from .beneath import Opener, open_beneath
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
_LINK = frozenset({errno.ELOOP, errno.ENOTDIR})
# How often a link is followed whose target is another one when it is opened.
_TRIES = 3
# Opening a pipe would wait for its writer; O_NONBLOCK does not, and means nothing for a file.
_READ = os.O_RDONLY | os.O_NONBLOCK
_LIST = os.O_RDONLY | os.O_DIRECTORY
_LOOK = getattr(os, "O_PATH", _READ)  # macOS has none
_ROOT = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_CLOEXEC


class Originals:
    """The regular files below *root*. *max_bytes* is the greatest size of a source.

    *follow_links* says where symbolic links may lead: ``inside`` of the root, also to a folder or file
    below one of *link_roots* (``listed``), or nowhere (``none``). The root itself may be a link. *opener*
    opens what has no link on its way.
    """

    def __init__(
        self,
        root: Path,
        max_bytes: int,
        follow_links: str = "inside",
        link_roots: Sequence[Path] = (),
        opener: Opener = open_beneath,
    ) -> None:
        self.root = root
        self._root = str(root)
        self.max_bytes = max_bytes
        self._may_follow = follow_links != "none"
        self._roots = [self._root, *map(str, link_roots)] if follow_links == "listed" else [self._root]
        self._open_beneath = opener

    def stamp(self, path: str) -> Stamp:
        """The stamp of the file at *path*: one stat, which follows every link.

        A stamp that is equal to that of a file which passed ``open`` proves that it is the same file. Whether
        that can still be reached without leaving the folder is what ``look`` and ``open`` find out. Raises
        NotFound, or Unavailable when the disk fails.
        """
        check_path(path)
        try:
            status = os.stat(f"{self._root}/{path}")  # noqa: PTH116  # a Path costs as much as the stat itself
        except (OSError, ValueError) as error:
            raise _refusal(error) from error
        if not stat.S_ISREG(status.st_mode):
            raise NotFound
        return Stamp.of(status)

    def look(self, path: str) -> Stamp:
        """As ``stamp``, and no link has led out of the folder."""
        number = self._opened(path, _LOOK)
        try:
            status = os.fstat(number)
        finally:
            os.close(number)
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
        clock could share a younger one. One of the future is from before the clock was set back, and no
        write of now gets it."""
        return abs(now_s * 1e9 - int(stamp.version)) >= _RACY_NS

    def locate(self, path: str) -> Path:
        """The full path for a canonical *path*; nothing on disk is looked at. Raises NotFound."""
        check_path(path)
        return self.root / path

    @contextmanager
    def fetch(self, path: str, stamp: Stamp) -> Iterator[LocalFile]:
        """The file at *path* itself, open. Raises SourceChanged unless it has *stamp*, else as ``open``."""
        file, found = self.open(path)
        with file:
            if found != stamp:
                raise SourceChanged
            yield LocalFile(self.locate(path), stamp, file.fileno())

    def open(self, path: str) -> tuple[BufferedReader, Stamp]:
        """The file at *path*, open for reading, and its stamp; no link has led out of the folder.

        Raises NotFound, TooLarge when it has too many bytes, Unavailable when the disk fails.
        """
        number = self._opened(path, _READ)
        status = os.fstat(number)
        is_small = status.st_size <= self.max_bytes
        if stat.S_ISREG(status.st_mode) and is_small:
            return os.fdopen(number, "rb"), Stamp.of(status)
        os.close(number)
        raise NotFound if is_small else TooLarge("bytes", status.st_size, self.max_bytes)

    def _opened(self, path: str, flags: int) -> int:
        """The descriptor of the file or folder at *path*. Raises NotFound, Unavailable."""
        check_path(path)
        place = self._root, path
        try:
            for _ in range(_TRIES):
                try:
                    return self._open_in(*place, flags)
                except OSError as error:
                    if error.errno not in _LINK or not self._may_follow:
                        raise
                place = self._followed(path)
        except (OSError, ValueError, RuntimeError) as error:  # RuntimeError: too many links after each other
            raise _refusal(error) from error
        raise NotFound

    def _open_in(self, root: str, path: str, flags: int) -> int:
        """The descriptor of what lies at *path* below the folder *root*, without a link between them."""
        # Opened each time: a deployment may put another folder, or another link, in its place.
        folder = os.open(root, _ROOT)
        try:
            return self._open_beneath(folder, path, flags)
        finally:
            os.close(folder)

    def _followed(self, path: str) -> tuple[str, str]:
        """Where the links on the way to *path* lead: one of the roots, and a path below it without links.

        What the disk says here may be wrong when it is opened: then a name there is a link, and the opener
        refuses it. Raises NotFound, OSError.
        """
        real = os.path.realpath(f"{self._root}/{path}", strict=True)
        for root in map(os.path.realpath, self._roots):
            if real == root:
                return root, "."
            below = real.removeprefix(f"{root.rstrip('/')}/")
            if below != real:
                if any(part.startswith(".") for part in below.split("/")):
                    raise NotFound
                return root, below
        raise NotFound

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
        """The canonical paths of all files that ``open`` shows, or of those in the folder with the path
        *below*; sorted within each folder.

        A folder is listed once. Links to folders are followed after all else, and lead to what was not listed
        before: that lies in a link root, or outside of *below*.
        """
        todo, seen = [below], set()
        linked: list[str] = []
        while todo or linked:
            folder = todo.pop() if todo else linked.pop(0)
            start = f"{folder}/" if folder else ""
            folders, names, links = [], [], []
            # os.walk and a Path for each file take six times as long. Only names are kept of a large folder.
            with suppress(OSError, NotFound, Unavailable), self._listed(folder) as number:
                status = os.fstat(number)
                if (status.st_dev, status.st_ino) in seen:
                    continue
                seen.add((status.st_dev, status.st_ino))
                with os.scandir(number) as entries:
                    for entry in entries:
                        with suppress(OSError):
                            if not _NAME.fullmatch(entry.name):
                                continue
                            if entry.is_symlink():
                                links.append(entry.name)
                            elif entry.is_dir(follow_symlinks=False):
                                folders.append(entry.name)
                            elif entry.is_file(follow_symlinks=False):
                                names.append(entry.name)
            for name in links:
                try:
                    self.look(f"{start}{name}")
                    names.append(name)
                except RequestError:  # no file: perhaps a folder
                    linked.append(f"{start}{name}")
            for name in sorted(names):
                yield f"{start}{name}"
            todo += [f"{start}{name}" for name in sorted(folders, reverse=True)]

    @contextmanager
    def _listed(self, folder: str) -> Iterator[int]:
        """The folder at the path *folder*, open to be listed. Raises OSError, NotFound, Unavailable."""
        number = self._opened(folder, _LIST) if folder else os.open(self._root, _LIST | os.O_CLOEXEC)
        try:
            yield number
        finally:
            os.close(number)

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
