"""Two places on the disk that change their contents in one step: at no moment one of them is empty."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

import pytest

__all__ = ["exchanged"]

_AT_FDCWD, _RENAME_EXCHANGE = -100, 2
_libc = ctypes.CDLL(None, use_errno=True)


def exchanged(one: Path, other: Path) -> None:
    """Have *one* and *other* change places (renameat2); skips the test where the system can't do that."""
    if not hasattr(_libc, "renameat2"):
        pytest.skip("this system has no renameat2")
    names = os.fsencode(one), os.fsencode(other)
    if _libc.renameat2(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_EXCHANGE):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(one))
