"""Pictures of any number of bytes, no two with the same ones."""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator

from support.drawing import encoded, quarters

__all__ = ["MB", "jpeg", "large_jpeg"]

MB = 1_000_000
_SMALL = encoded(quarters(64, 48), "JPEG")
_LONGEST = 65_533
_NOISE = random.Random(0).randbytes(_LONGEST)


def _segment(data: bytes) -> bytes:
    """An application segment that no program knows."""
    return b"\xff\xef" + struct.pack(">H", len(data) + 2) + data


def jpeg(mark: str, size: int = 0) -> bytes:
    """A JPEG of about *size* bytes, up to 65 kB, that no other *mark* gives."""
    noise = random.Random(mark).randbytes(max(16, min(_LONGEST, size - len(_SMALL) - 4)))
    return _SMALL[:2] + _segment(noise) + _SMALL[2:]


def large_jpeg(mark: str, size: int) -> Iterator[bytes]:
    """The pieces of a JPEG of *size* bytes: half of it are segments before the pixels, the other half lies
    behind the end."""
    start = jpeg(mark)
    segments = _segment(_NOISE)
    count = size // 2 // len(segments)
    yield start[:2]
    for _ in range(count):
        yield segments
    yield start[2:]
    left = size - len(start) - count * len(segments)
    while left > 0:
        yield _NOISE[:left]
        left -= len(_NOISE)
