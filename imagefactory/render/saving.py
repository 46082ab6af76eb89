"""How pictures are encoded -> their bytes; and bytes -> a file.

First all in memory, then to the disk in one place: so a failure is either the picture's or the disk's, and
what was written can be compared with what there was to write.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import IO

from ..errors import Undecodable

__all__ = ["Save", "encoded", "put"]

# Writes a variant into a file that is open for writing.
Save = Callable[[IO[bytes]], None]

_ENCODER_ERRORS = (OSError, ValueError, RuntimeError, OverflowError, struct.error)
_UNENCODABLE = "its pixels can't be written in this encoding"


def encoded(save: Save) -> bytes:
    """The bytes that *save* writes. Raises Undecodable when the picture can't be encoded."""
    try:
        if hasattr(os, "memfd_create"):
            # A descriptor, for JPEG's sake: into a BytesIO it is encoded with the GIL held (57 ms for 12 MP).
            with os.fdopen(os.memfd_create("variant"), "w+b") as file:
                save(file)
                file.seek(0)
                return file.read()
    except OSError:
        pass  # no descriptor, or no room: a buffer may do; or no such picture: a buffer says so, too
    except _ENCODER_ERRORS as error:
        raise Undecodable(_UNENCODABLE) from error
    return _in_buffer(save)


def put(body: bytes, target: Path) -> None:
    """Write *body* into the file *target*, which exists. Raises OSError when not all of it can be written.

    A target that is gone, with its folder perhaps, is FileNotFoundError: a new file of that name would not be
    the one that the caller holds.
    """
    number = os.open(target, os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        rest = memoryview(body)
        while rest:
            rest = rest[os.write(number, rest) :]
    finally:
        os.close(number)


def _in_buffer(save: Save) -> bytes:
    buffer = BytesIO()
    try:
        save(buffer)
    except _ENCODER_ERRORS as error:
        raise Undecodable(_UNENCODABLE) from error
    return buffer.getvalue()
