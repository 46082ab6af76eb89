"""A JPEG whose mark of the end is missing gets it: all its pixels are there, as the check has found, and with
the mark every reader shows them."""

from __future__ import annotations

import os
from typing import BinaryIO

__all__ = ["complete"]

_END, _SCAN = b"\xff\xd9", b"\xff\xda"
_PIECE = 2**20


def complete(file: BinaryIO) -> bool:
    """Write the mark behind the JPEG in *file*, open for reading and writing, unless there is one behind its
    first scan; whether it was missing. Files with something else behind the mark stay as they are."""
    end = file.seek(0, os.SEEK_END)
    file.seek(max(0, end - 2))
    if file.read(2) == _END or _has_end(file):
        return False
    file.seek(0, os.SEEK_END)
    file.write(_END)
    file.flush()
    return True


def _has_end(file: BinaryIO) -> bool:
    at = 2
    while True:  # over the segments before the first scan: a thumbnail in one of them has an end, too
        file.seek(at)
        head = file.read(4)
        if len(head) < 4 or head[0] != 0xFF:
            return False
        if head[:2] == _SCAN:
            break
        at += 1 if head[1] == 0xFF else 2 + int.from_bytes(head[2:], "big")
    last = b""
    while piece := file.read(_PIECE):
        if _END in last + piece:
            return True
        last = piece[-1:]
    return False
