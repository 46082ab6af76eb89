"""How a file that was received becomes visible: by one link or rename, below the pictures and nowhere else.

Folders on the way are made; none of them may be a link. Without a word of the client nothing is overwritten:
``link`` fails where a name exists, so of two at once one is first.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ..errors import BadParameter, Exists
from ..model.source import Stamp
from ..storage.beneath import open_beneath
from ..storage.temp_files import Temp
from .receiving import from_disk

__all__ = ["Place", "place_of"]

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_FILE_MODE = 0o644  # whoever serves or copies the pictures reads them
_NO_LINKS = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK})


class Place:
    """A *name* in an open *folder*."""

    def __init__(self, folder: int, name: str) -> None:
        self._folder = folder
        self._name = name

    def stamp(self) -> Stamp | None:
        """The stamp of what is there now; None for nothing. Raises BadParameter for what is no file."""
        try:
            found = os.stat(self._name, dir_fd=self._folder, follow_symlinks=False)
        except FileNotFoundError:
            return None
        if not stat.S_ISREG(found.st_mode):
            raise BadParameter("path", "there is something at this path that is no file")
        return Stamp.of(found)

    @contextmanager
    def published(self, temp: Temp, *, may_replace: bool) -> Iterator[Stamp]:
        """Give the file of *temp* this name; its stamp now. Where the block fails, all is as it was before.

        Raises Exists where there is a file, unless it *may_replace* that; Unavailable, NoSpace.
        """
        before = temp.path.with_name(f"{temp.path.name}0")  # swept with the others if we die
        try:
            os.fchmod(temp.number, _FILE_MODE)
            if may_replace:
                with suppress(OSError):
                    os.link(self._name, before, src_dir_fd=self._folder, follow_symlinks=False)
                os.rename(temp.path, self._name, dst_dir_fd=self._folder)
            else:
                self._link(temp)
            stamp = Stamp.of(os.fstat(temp.number))
        except FileExistsError:
            raise Exists("a picture with this name was there first") from None
        except OSError as error:
            raise from_disk(error) from error
        try:
            yield stamp
        except BaseException:
            with suppress(OSError):
                if may_replace:
                    os.rename(before, self._name, dst_dir_fd=self._folder)
                else:
                    self.remove()
            raise
        finally:
            with suppress(OSError):
                before.unlink()

    def _link(self, temp: Temp) -> None:
        try:
            os.link(temp.path, self._name, dst_dir_fd=self._folder, follow_symlinks=False)
        except OSError as error:
            # A file system without links. The claim on the path holds off other uploads, and only these.
            if error.errno not in _NO_LINKS or self.stamp() is not None:
                raise
            os.rename(temp.path, self._name, dst_dir_fd=self._folder)
        else:
            temp.path.unlink()

    def remove(self) -> None:
        """Remove what has this name. Raises OSError."""
        os.unlink(self._name, dir_fd=self._folder)

    def settle(self) -> None:
        """Make the name durable. Raises Unavailable, NoSpace."""
        try:
            os.fsync(self._folder)
        except OSError as error:
            raise from_disk(error) from error


@contextmanager
def place_of(root: Path, path: str, *, must_make: bool = True) -> Iterator[Place]:
    """The place of *path* below *root*, whose folder is open for the time of the block, and made where it is
    missing and *must_make* is set. Raises BadParameter, Unavailable; FileNotFoundError without *must_make*.
    """
    *folders, name = path.split("/")
    number = None
    try:
        number = os.open(root, _FOLDER)
        for folder in folders:
            if must_make:
                with suppress(FileExistsError):
                    os.mkdir(folder, 0o755, dir_fd=number)
            below = open_beneath(number, folder, _FOLDER)
            os.close(number)
            number = below
        yield Place(number, name)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENOTDIR):
            problem = "a folder on the way to this path is a file or a symbolic link"
            raise BadParameter("path", problem) from error
        if error.errno == errno.ENAMETOOLONG:
            raise BadParameter("path", "this name is too long for the disk") from error
        if error.errno == errno.ENOENT and not must_make:
            raise FileNotFoundError(path) from error
        raise from_disk(error) from error
    finally:
        if number is not None:
            os.close(number)
