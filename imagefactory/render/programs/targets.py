"""The files that external programs write into, and read finished pixels from."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ...model.program import Program
from .running import run

__all__ = ["encode", "opened"]


@contextmanager
def opened(target: Path | None) -> Iterator[int]:
    """The descriptor of the file *target*, which exists, emptied; or of a file without a name where that is
    None."""
    if target is not None:
        number = os.open(target, os.O_RDWR | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW)
    elif hasattr(os, "memfd_create"):
        number = os.memfd_create("made", os.MFD_CLOEXEC)
    else:
        number, name = tempfile.mkstemp()
        Path(name).unlink()
    try:
        yield number
    finally:
        os.close(number)


def encode(
    program: Program, pixels: bytes, size: tuple[int, int], quality: int | None, encoding: str
) -> bytes:
    """*pixels*, a picture in the format that *program* reads, of *size* in pixels, as the program writes it
    in *encoding*. Raises ProgramFailed, ProgramStopped."""
    values = {"width": str(size[0]), "height": str(size[1]), "quality": str(quality or 0)}
    with opened(None) as source, opened(None) as target:
        rest = memoryview(pixels)
        while rest:
            rest = rest[os.write(source, rest) :]
        run(program, values, source, target, encoding)
        return os.pread(target, os.fstat(target).st_size, 0)
