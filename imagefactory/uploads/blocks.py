"""A block of metadata: bytes of an open picture file, in one piece or in several, that are read and replaced.

``stripping`` finds the blocks, ``exif_positions`` and ``xmp_positions`` work on them.
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any, BinaryIO

__all__ = ["PART_BYTES", "Block", "Exhausted", "Work"]

# How much of a file is in memory at a time where it is read from one end to the other.
PART_BYTES = 2**20
# What one look at a file costs, told in bytes: about 2 us, as much as 128 bytes of tables take.
_LOOK_BYTES = 128
_FREE_BYTES = 64 * 2**20


class Exhausted(Exception):
    """More work than any sound file of this size makes. It never leaves this folder."""


class Work:
    """How much may still be done for a file of *size* bytes, told in bytes read.

    A PNG in chunks of 8 KiB takes a 60th of it, a GIF a half at most. It stops files that are made of
    millions of blocks, or of blocks that all claim the same bytes.
    """

    def __init__(self, size: int) -> None:
        self._left = _FREE_BYTES + size

    def spend(self, cost: int) -> None:
        """Raises Exhausted when all is spent."""
        self._left -= cost
        if self._left < 0:
            raise Exhausted


@dataclass(frozen=True, slots=True)
class Block:
    """*pieces* of *file*, (start, length) in bytes, one behind the other. Nothing is read or written behind
    its end."""

    file: BinaryIO
    pieces: tuple[tuple[int, int], ...]
    work: Work
    _ends: tuple[int, ...] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_ends", tuple(accumulate(length for _, length in self.pieces)))

    @classmethod
    def of(cls, file: BinaryIO) -> Block:
        """All of *file*."""
        size = file.seek(0, 2)
        return cls(file, ((0, size),), Work(size))

    @property
    def length(self) -> int:
        return self._ends[-1] if self._ends else 0

    def part(self, at: int, length: int) -> Block:
        """*length* bytes from *at* on, or what there is of them."""
        return Block(self.file, tuple(self._within(at, length)), self.work)

    def joined(self, others: Iterable[Block]) -> Block:
        """This block, and behind it the bytes of *others*, which are of the same file."""
        pieces = [*self.pieces, *(piece for other in others for piece in other.pieces)]
        return Block(self.file, tuple(pieces), self.work)

    def read(self, at: int, length: int) -> bytes:
        """*length* bytes from *at* on; fewer at the end. Raises Exhausted."""
        found = []
        for start, size in self._within(at, length):
            self.work.spend(size + _LOOK_BYTES)
            self.file.seek(start)
            found.append(self.file.read(size))
        return found[0] if len(found) == 1 else b"".join(found)

    def parts(self) -> Iterator[bytes]:
        """All of it, in parts of ``PART_BYTES``."""
        for at in range(0, self.length, PART_BYTES):
            yield self.read(at, PART_BYTES)

    def unpack(self, layout: str, at: int) -> tuple[Any, ...]:
        """What stands at *at*. Raises struct.error where the block is too short."""
        return struct.unpack(layout, self.read(at, struct.calcsize(layout)))

    def write(self, at: int, data: bytes | bytearray) -> None:
        """Put *data* in place of what is at *at*; what would lie behind the end is left out."""
        done = 0
        for start, size in self._within(at, len(data)):
            self.file.seek(start)
            self.file.write(data[done : done + size])
            done += size

    def fill(self, at: int, length: int, pattern: bytes = b"\0") -> None:
        """Write *pattern* again and again over *length* bytes from *at* on."""
        end = min(at + length, self.length)
        part = pattern * (min(PART_BYTES, end - at) // len(pattern) + 1)
        for start in range(at, end, len(part)):
            self.write(start, part[: end - start])

    def _within(self, at: int, length: int) -> Iterator[tuple[int, int]]:
        """Where in the file *length* bytes from *at* on lie."""
        if at < 0:
            return
        number = bisect_right(self._ends, at)
        while length > 0 and number < len(self.pieces):
            start, size = self.pieces[number]
            before = self._ends[number] - size
            size = min(size + before - at, length)
            yield start + at - before, size
            at, length, number = at + size, length - size, number + 1
