"""Encoded pictures -> a file, or bytes in memory; and which failure is the disk's and which the picture's."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import IO

from ..errors import Undecodable

__all__ = ["Save", "ready", "write"]

# Writes a variant into a file that is open for writing.
Save = Callable[[IO[bytes]], None]

_ENCODER_ERRORS = (OSError, ValueError, RuntimeError, OverflowError, struct.error)
_UNENCODABLE = "its pixels can't be written in this encoding"


def ready(data: bytes) -> Save:
    """How to write a picture that is encoded already."""

    def save(file: IO[bytes]) -> None:
        file.write(data)

    return save


def write(save: Save, target: Path | None) -> bytes | None:
    """Write into *target*, or return the bytes when that is None.

    Raises OSError when the target can't be written, Undecodable when the picture can't be encoded.
    """
    try:
        if target is not None:
            with target.open("w+b") as file:
                save(file)
            return None
        if hasattr(os, "memfd_create"):
            # A descriptor, for JPEG's sake: into a BytesIO it is encoded with the GIL held (57 ms for 12 MP).
            with os.fdopen(os.memfd_create("variant"), "w+b") as file:
                save(file)
                file.seek(0)
                return file.read()
        return _in_buffer(save)
    except OSError as error:
        if error.errno is not None:
            raise
    except _ENCODER_ERRORS as error:
        raise Undecodable(_UNENCODABLE) from error
    # C code wrote and did not say why it failed ("encoder error -2", or a file that is cut off): a full disk
    # or a picture that can't be encoded? In a buffer only the second fails; then Python's own write of the
    # bytes tells the first.
    body = _in_buffer(save)
    if target is None:
        return body
    target.write_bytes(body)
    return None


def _in_buffer(save: Save) -> bytes:
    buffer = BytesIO()
    try:
        save(buffer)
    except _ENCODER_ERRORS as error:
        raise Undecodable(_UNENCODABLE) from error
    return buffer.getvalue()
