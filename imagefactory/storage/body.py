"""The bytes of an answer, wherever they lie."""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

__all__ = ["Body"]


@dataclass(frozen=True, slots=True)
class Body:
    """Bytes in memory (*data*), or a *file* that is open at its start. A web server can send the file by
    itself where it has a *name*, its path below the folder *root*. Open files are the caller's to close."""

    data: bytes | None = None
    file: BinaryIO | None = None
    root: Path = Path()
    name: str = ""

    def open(self) -> BinaryIO:
        """The bytes as a file at its start, once."""
        return self.file or BytesIO(self.data or b"")

    def read(self) -> bytes:
        """All bytes; closes the file. Raises OSError."""
        with self.open() as file:
            return file.read()

    def close(self) -> None:
        """Let go of the file where the bytes are not wanted, or are sent by name."""
        if self.file is not None:
            self.file.close()
