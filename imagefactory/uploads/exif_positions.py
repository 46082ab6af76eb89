"""Removes positions from EXIF, which is a TIFF structure (TIFF 6.0, Exif 3.0 §4.6.3), and from TIFF files.

No number in a structure is believed: directories may form a circle, lie behind the end, or overlap each other
and pixels. Only bytes that no picture and no other entry uses are overwritten, and none outside of the block.
"""

from __future__ import annotations

import struct
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

from . import xmp_positions
from .blocks import Block, Exhausted

__all__ = ["remove", "structure_in"]

_POSITIONS, _XMP = 0x8825, 700
_BELOW = (0x8769, 0xA005, 0x014A)  # entries that lead to other directories: Exif, Interoperability, SubIFDs
# Where pixels or a thumbnail begin, and how long they are: strips, tiles, JPEGInterchangeFormat.
_PICTURES = {273: 279, 324: 325, 513: 514}
_KEPT = frozenset((_POSITIONS, _XMP, *_BELOW, *_PICTURES, *_PICTURES.values()))
# By the type of an entry: the bytes of one value, and how numbers among them are unpacked.
_TYPES = {1: (1, 2, 6, 7), 2: (3, 8), 4: (4, 9, 11, 13), 8: (5, 10, 12, 16, 17, 18)}
_BYTES = {kind: size for size, kinds in _TYPES.items() for kind in kinds}
_NUMBERS = {3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}
# How many entries or numbers are unpacked at a time, and what one of them costs (``Work``).
_SOME, _NUMBER_COST = 2**14, 16
_ENTRY_COST = 48
_LOOKED_AT = 4
_MAX_DIRECTORIES = 2**14
_MAX_RANGES = 100_000
# Exif 3.0 has 32 entries for positions. What claims to have more than this many is something else.
_MAX_POSITION_ENTRIES = 512
_MAX_VALUE_BYTES = 2**16

_Range = tuple[int, int]  # (start, end) in bytes of the block, exclusive


class _Entry(NamedTuple):
    tag: int
    kind: int
    at: int  # where its value is: in the entry if it is short, else elsewhere
    size: int  # of its value, in bytes
    is_outside: bool


@dataclass(frozen=True, slots=True)
class _Directory:
    at: int
    count: int  # how many entries it claims to have
    end: int  # behind its entries and the offset of the next directory, in the block
    entries: Mapping[int, _Entry]  # by their tags, those of ``_KEPT``; the first one of each


def remove(block: Block) -> bool:
    """Remove positions from the structure that *block* is, its XMP included; whether there were any.

    The GPS directory and its values become zeros. The entry that leads to it is removed, also where it leads
    nowhere: the entries behind it move up.
    """
    structure = _Structure.of(block)
    if structure is None:
        return False
    directories = list(structure.directories())
    having = [each for each in directories if _POSITIONS in each.entries]
    packets = [each.entries[_XMP] for each in directories if _XMP in each.entries]
    if not having and not packets:
        return False
    doomed = _few(found for each in having for found in structure.positions(each))
    concerned = [*doomed, *((each.at, each.end) for each in having)]
    values = structure.values(directories, _Ranges(concerned)) if having else []
    concerned += [(packet.at, packet.at + packet.size) for packet in packets]
    pictures = structure.pictures(directories, _Ranges(concerned))
    tables = [(each.at, each.end) for each in directories]
    for start, end in _Ranges(doomed).without(_Ranges([*pictures, *tables, *values])):
        block.fill(start, end - start)
    owned = _Owned(pictures, tables)
    kept = _Ranges(values)
    is_found = False
    for each in having:
        is_found |= structure.shorten(each, owned.end(each.at, each.end), kept)
    for packet in packets:
        end = owned.end(packet.at, packet.at + packet.size)
        is_found |= xmp_positions.blank(block.part(packet.at, end - packet.at))
    return is_found


def structure_in(block: Block) -> Block:
    """The structure in *block*, without the identifier of JPEGs that some writers put in front of it."""
    return block.part(6, block.length) if block.read(0, 6) == b"Exif\0\0" else block


class _Ranges:
    """Ranges, sorted, of which none touches another."""

    def __init__(self, ranges: Iterable[_Range]) -> None:
        self._merged: list[list[int]] = []
        for start, end in sorted(ranges):
            if self._merged and start <= self._merged[-1][1]:
                self._merged[-1][1] = max(end, self._merged[-1][1])
            elif start < end:
                self._merged.append([start, end])
        self._starts = [start for start, _ in self._merged]

    def touch(self, start: int, end: int) -> bool:
        number = bisect_right(self._starts, start)
        is_after = number < len(self._starts) and self._starts[number] < end
        return start < end and (is_after or (number > 0 and self._merged[number - 1][1] > start))

    def after(self, at: int, end: int) -> int:
        """Where the first between *at* and *end* begins, else *end*."""
        number = bisect_left(self._starts, at)
        return min(self._starts[number], end) if number < len(self._starts) else end

    def without(self, others: _Ranges) -> Iterator[_Range]:
        """What is in none of *others*."""
        for start, end in self._merged:
            number = max(0, bisect_right(others._starts, start) - 1)
            while number < len(others._merged) and others._merged[number][0] < end:
                if start < others._merged[number][0]:
                    yield start, others._merged[number][0]
                start = max(start, others._merged[number][1])
                number += 1
            if start < end:
                yield start, end


class _Owned:
    """Which bytes a directory or a packet has for itself, where it lies over *pictures* or *tables*."""

    def __init__(self, pictures: Sequence[_Range], tables: Sequence[_Range]) -> None:
        self._pictures = _Ranges(pictures)
        self._starts = sorted(start for start, _ in (*pictures, *tables))

    def end(self, start: int, end: int) -> int:
        """Where what is said to lie from *start* to *end* has its end: at the first of the others."""
        if self._pictures.touch(start, start + 1):
            return start
        number = bisect_right(self._starts, start)
        return min(end, self._starts[number]) if number < len(self._starts) else end


@dataclass(frozen=True, slots=True)
class _Structure:
    block: Block
    order: str  # of bytes, as struct has it
    is_big: bool  # BigTIFF: 64 bits

    @classmethod
    def of(cls, block: Block) -> _Structure | None:
        head = block.read(0, 4)
        order = {b"II": "<", b"MM": ">"}.get(head[:2])
        return _Structure(block, order, b"+" in head[2:]) if order else None

    @property
    def _offset(self) -> str:
        return self.order + ("Q" if self.is_big else "I")

    @property
    def _count(self) -> str:
        return self.order + ("Q" if self.is_big else "H")

    @property
    def _entry(self) -> struct.Struct:
        return struct.Struct(self.order + ("HHQ8s" if self.is_big else "HHI4s"))

    def directories(self) -> Iterator[_Directory]:
        """Each one that the first leads to, once."""
        todo, seen = [(self._number(self._offset, 8 if self.is_big else 4), True)], {0}
        while todo and len(seen) <= _MAX_DIRECTORIES:
            at, has_next = todo.pop()
            if at in seen or at >= self.block.length:
                continue
            seen.add(at)
            count = self._number(self._count, at)
            if not self._is_directory(at, count):
                continue
            entries: dict[int, _Entry] = {}
            for entry in self._entries(at, count):
                if entry.tag in _KEPT:
                    entries.setdefault(entry.tag, entry)
            yield _Directory(at, count, self._end(at, count), entries)
            if has_next:  # cameras leave the offset out in the others, or have a value there
                todo.append((self._number(self._offset, self._first(at) + count * self._entry.size), True))
            for tag in _BELOW:
                if tag in entries:
                    room = max(0, _MAX_DIRECTORIES - len(todo))
                    todo += [(below, False) for below in next(self._numbers(entries[tag]), ())[:room]]

    def _is_directory(self, at: int, count: int) -> bool:
        """Whether half of the first entries have types that exist: an offset may lead into any data."""
        known = [each.kind in _BYTES for each in self._entries(at, min(count, _LOOKED_AT))]
        return 2 * sum(known) >= len(known)

    def positions(self, directory: _Directory) -> Iterator[_Range]:
        """What the entry for positions of *directory* leads to: a directory and its values."""
        for at in next(self._numbers(directory.entries[_POSITIONS]), ())[:1]:
            count = self._number(self._count, at)
            if not 0 < count <= _MAX_POSITION_ENTRIES:
                continue
            yield at, self._end(at, count)
            for start, end in self._values(at, count):
                if end - start <= _MAX_VALUE_BYTES:
                    yield start, min(end, self.block.length)

    def pictures(self, directories: Iterable[_Directory], concerned: _Ranges) -> list[_Range]:
        """Where pixels are, as far as they touch what is *concerned*."""
        ranges = (each for directory in directories for each in self._pictures(directory))
        return _few(each for each in ranges if concerned.touch(*each))

    def values(self, directories: Iterable[_Directory], concerned: _Ranges) -> list[_Range]:
        """Where the values of entries are, other than those for positions, that touch what is *concerned*.

        One that leads out of the block is none.
        """
        ranges = (each for directory in directories for each in self._values(directory.at, directory.count))
        return _few(each for each in ranges if each[1] <= self.block.length and concerned.touch(*each))

    def shorten(self, directory: _Directory, end: int, values: _Ranges) -> bool:
        """Write *directory* without its entries for positions; whether there were any. Its bytes up to *end*
        belong to it alone."""
        first, size = self._first(directory.at), self._entry.size
        table = self.block.read(first, max(0, end - first))
        whole = min(directory.count, len(table) // size)
        entries = [table[at : at + size] for at in range(0, whole * size, size)]
        numbers = [number for number, each in enumerate(entries) if not self._is_other(each)]
        if not numbers:
            return False
        # A value stays in place, where the count is too large or the offset of the next directory left out.
        table = table[: values.after(first + (numbers[-1] + 1) * size, len(table) + first) - first]
        whole = min(directory.count, len(table) // size)
        moved = [each for each in entries[:whole] if self._is_other(each)]
        new = b"".join(moved) + table[whole * size :]
        self.block.write(directory.at, struct.pack(self._count, directory.count - len(numbers)) + new)
        for start, stop in _Ranges([(first + len(new), first + len(table))]).without(values):
            self.block.fill(start, stop - start)
        return True

    def _is_other(self, entry: bytes) -> bool:
        return bool(self._entry.unpack(entry)[0] != _POSITIONS)

    def _first(self, at: int) -> int:
        """Where the entries of a directory at *at* begin."""
        return at + struct.calcsize(self._count)

    def _end(self, at: int, count: int) -> int:
        """The end of a directory at *at* with *count* entries."""
        end = self._first(at) + count * self._entry.size + struct.calcsize(self._offset)
        return min(end, self.block.length)

    def _number(self, layout: str, at: int) -> int:
        """The offset or count at *at*; 0 behind the end."""
        try:
            return int(self.block.unpack(layout, at)[0])
        except struct.error:
            return 0

    def _entries(self, at: int, entries: int) -> Iterator[_Entry]:
        """The entries of a directory, as far as they are in the block."""
        size, room = self._entry.size, 8 if self.is_big else 4
        place, end = self._first(at), min(self._first(at) + entries * self._entry.size, self.block.length)
        while place + size <= end:
            table = self.block.read(place, min(end - place, _SOME * size))
            self.block.work.spend(len(table) // size * _ENTRY_COST)
            for tag, kind, count, value in self._entry.iter_unpack(table[: len(table) // size * size]):
                length = count * _BYTES.get(kind, 0)
                is_outside = length > room
                target = struct.unpack(self._offset, value)[0] if is_outside else place + size - room
                yield _Entry(tag, kind, target, length, is_outside)
                place += size

    def _values(self, at: int, count: int) -> Iterator[_Range]:
        """Where the values are that do not fit into their entries."""
        for entry in self._entries(at, count):
            if entry.is_outside and entry.tag not in (_POSITIONS, _XMP):
                yield entry.at, entry.at + entry.size

    def _pictures(self, directory: _Directory) -> Iterator[_Range]:
        entries = directory.entries
        for tag, length_tag in _PICTURES.items():
            if tag in entries and length_tag in entries:
                places = self._numbers(entries[tag]), self._numbers(entries[length_tag])
                for starts, lengths in zip(*places, strict=False):
                    for start, length in zip(starts, lengths, strict=False):
                        yield start, start + length

    def _numbers(self, entry: _Entry) -> Iterator[tuple[int, ...]]:
        """The numbers that are the value of *entry*, some at a time."""
        code = _NUMBERS.get(entry.kind)
        if code is None:
            return
        size = _BYTES[entry.kind]
        for at in range(0, entry.size, _SOME * size):
            data = self.block.read(entry.at + at, min(entry.size - at, _SOME * size))
            count = len(data) // size
            if not count:
                return
            self.block.work.spend(count * _NUMBER_COST)
            yield struct.unpack(f"{self.order}{count}{code}", data[: count * size])


def _few(ranges: Iterable[_Range]) -> list[_Range]:
    """*ranges*, which are none at all in a sound file. Raises Exhausted for more than can be kept."""
    found = list(islice(ranges, _MAX_RANGES + 1))
    if len(found) > _MAX_RANGES:
        raise Exhausted
    return found
