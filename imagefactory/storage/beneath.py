"""Opens a file or a folder beneath an open folder, so that no link leads out of it.

A path that is checked first and opened then can lead elsewhere in between: another process may exchange a
folder and a link. Here each name of the path is opened in the folder that was opened before it, and no name
may be a link. ``originals`` follows links itself, and opens their targets here.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import struct
import sys
from collections.abc import Callable

__all__ = ["Opener", "open_at_once", "open_beneath", "open_by_parts"]

# The descriptor of what lies at a path below the folder with another descriptor, for flags of os.open. Raises
# OSError: ELOOP or ENOTDIR where a name on the way is a link, or is a file.
Opener = Callable[[int, str, int], int]

_OPENAT2 = 437  # on all architectures but alpha and MIPS, where this number is no call: ENOSYS
_RESOLVE_NO_SYMLINKS, _RESOLVE_BENEATH = 0x04, 0x08
_OPEN_HOW = struct.Struct("=QQQ")  # flags, mode, resolve
# Linux before 5.6; a seccomp profile that does not know the call; gVisor.
_IS_NOT_THERE = frozenset({errno.ENOSYS, errno.EPERM})
# macOS has no O_PATH. There a folder has to be readable, too.
_FOLDER = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

_libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


def open_beneath(folder: int, path: str, flags: int) -> int:
    """The descriptor of what lies at *path*, names with ``/`` between them, below *folder*.

    Raises OSError, with ELOOP or ENOTDIR where a name on the way is a link.
    """
    try:
        return open_at_once(folder, path, flags)
    except OSError as error:
        if error.errno not in _IS_NOT_THERE:
            raise
    return open_by_parts(folder, path, flags)


def open_at_once(folder: int, path: str, flags: int) -> int:
    """As ``open_beneath``, by one system call, openat2. Raises OSError with ENOSYS where there is none."""
    if _libc is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    name = os.fsencode(path)
    how = _OPEN_HOW.pack(flags | os.O_CLOEXEC, 0, _RESOLVE_BENEATH | _RESOLVE_NO_SYMLINKS)
    while True:
        number: int = _libc.syscall(_OPENAT2, folder, ctypes.c_char_p(name), how, len(how))
        if number >= 0:
            return number
        if ctypes.get_errno() != errno.EINTR:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), path)


def open_by_parts(folder: int, path: str, flags: int) -> int:
    """As ``open_beneath``, name by name, for any POSIX system."""
    *names, last = path.split("/")
    number = folder
    try:
        for name in names:
            below = os.open(name, _FOLDER, dir_fd=number)
            if number != folder:
                os.close(number)
            number = below
        found = os.open(last, flags | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=number)
        if stat.S_ISLNK(os.fstat(found).st_mode):  # with O_PATH a link itself is opened
            os.close(found)
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
        return found
    finally:
        if number != folder:
            os.close(number)
