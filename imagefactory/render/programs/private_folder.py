"""A folder for one run of a program, and the one file that is taken out of it.

What lies in it was made by a program that a hostile file may have taken over: links, folders without rights,
folders in folders beyond any path and any recursion.
"""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import stat
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

__all__ = ["bytes_of", "clear", "new_name", "take"]

_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
_CHUNK = 2**30


def new_name() -> str:
    """The path of a folder that is not there yet."""
    return str(Path(tempfile.gettempdir(), f"imagefactory-run-{secrets.token_hex(8)}"))


def bytes_of(path: str) -> int:
    """How many bytes the file at *path* has; 0 where there is none."""
    with suppress(OSError):
        return os.lstat(path).st_size
    return 0


def take(path: str, target: int) -> bool:
    """Put what is in the file at *path* into the open file *target*, copied by the kernel. False if there is
    something else at *path*: a link, a folder, a pipe. Raises OSError when *target* can't be written, and
    FileNotFoundError when there is nothing."""
    try:
        source = os.open(path, _FLAGS | os.O_NONBLOCK)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO):  # a link; a socket
            return False
        raise
    try:
        if not stat.S_ISREG(os.fstat(source).st_mode):
            return False
        _copy(source, target)
        return True
    finally:
        os.close(source)


def _copy(source: int, target: int) -> None:
    if sys.platform == "linux":
        while os.sendfile(target, source, None, _CHUNK):
            pass
    else:  # sendfile wants a socket there
        with open(source, "rb", closefd=False) as read, open(target, "wb", closefd=False) as write:
            shutil.copyfileobj(read, write)


def clear(folder: str) -> None:
    """Remove *folder* and all in it, if it is there.

    It is flattened rather than walked: what lies in an inner folder is moved up, then that folder is empty.
    """
    if not Path(folder).is_dir() or Path(folder).is_symlink():
        return
    with suppress(OSError):
        Path(folder).chmod(0o700)
        number = os.open(folder, _FLAGS | os.O_DIRECTORY)
        try:
            _empty(number)
        finally:
            os.close(number)
        Path(folder).rmdir()


def _empty(folder: int) -> None:
    prefix, moved = secrets.token_hex(8), 0
    while names := os.listdir(folder):
        for name in names:
            if not _is_folder(name, folder):
                os.unlink(name, dir_fd=folder)
                continue
            os.chmod(name, 0o700, dir_fd=folder)
            below = os.open(name, _FLAGS | os.O_DIRECTORY, dir_fd=folder)
            try:
                for inner in os.listdir(below):  # noqa: PTH208  # by descriptor
                    if _is_folder(inner, below):
                        os.chmod(inner, 0o700, dir_fd=below)  # a folder moves only where it may be written
                    moved += 1
                    os.rename(inner, f"{prefix}{moved}", src_dir_fd=below, dst_dir_fd=folder)
            finally:
                os.close(below)
            os.rmdir(name, dir_fd=folder)


def _is_folder(name: str, folder: int) -> bool:
    return stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode)
