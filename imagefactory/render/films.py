"""How long a film is, read from its headers: no process and no library.

The engine asks, to space the pictures of a contact sheet and to tell pages. Sizes in a file are claims: no
read and no loop is longer because a file says so.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from typing import BinaryIO

__all__ = ["duration_s"]

# Real files have a few dozen boxes at a level, and a fragment for each second or more.
_MAX_BOXES = 4096
_MAX_READ = 64 * 1024
_LONGEST_S = 1000 * 3600.0
_UNKNOWN = (0xFFFFFFFF, 0xFFFFFFFFFFFFFFFF)
# Matroska (RFC 9559 §5) and EBML (RFC 8794 §11)
_EBML, _SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"
_INFO, _CLUSTER = b"\x15\x49\xa9\x66", b"\x1f\x43\xb6\x75"
_TIMESTAMP_SCALE, _DURATION = b"\x2a\xd7\xb1", b"\x44\x89"

# A box or an element: its kind, and where its content starts and ends, both in bytes from the file's start.
Part = tuple[bytes, int, int]


def duration_s(file: BinaryIO) -> float:
    """Seconds that the film in *file* lasts: MP4 and QuickTime (also fragmented), Matroska and WebM.

    0.0 where its headers don't say, and for anything else. *file* can seek; its position is lost. An OSError
    is the file's own.
    """
    end = file.seek(0, 2)
    try:
        if _read(file, 0, 4) == _EBML:
            seconds = _of_matroska(file, end)
        else:
            seconds = _of_mp4(file, end)
    except (struct.error, IndexError, ZeroDivisionError, OverflowError):
        return 0.0
    return seconds if math.isfinite(seconds) and 0 < seconds <= _LONGEST_S else 0.0


def _of_mp4(file: BinaryIO, end: int) -> float:
    """ISO/IEC 14496-12: ``mvhd`` in ``moov``; in a fragmented film ``mehd``, or what ``sidx`` adds up to."""
    indexed: dict[int, float] = {}  # by track
    for kind, start, stop in _boxes(file, 0, end):
        if kind == b"sidx":
            track, seconds = _indexed_s(_read(file, start, min(stop - start, _MAX_READ)))
            indexed[track] = indexed.get(track, 0.0) + seconds
        elif kind == b"moov":
            inner = {name: at for name, at, _ in _boxes(file, start, stop)}
            scale, duration = _scale_and_duration(_read(file, inner.get(b"mvhd", end), 32))
            if not duration and b"mvex" in inner:
                heads = (at for name, at, _ in _boxes(file, inner[b"mvex"], stop) if name == b"mehd")
                duration = _duration_of_mehd(_read(file, next(heads, end), 12))
            if duration:
                return float(duration / scale)
    return max(indexed.values(), default=0.0)


def _boxes(file: BinaryIO, at: int, end: int) -> Iterator[Part]:
    for _ in range(_MAX_BOXES):
        header = _read(file, at, 16)
        if at + 8 > end or len(header) < 8:
            return
        size, kind = struct.unpack_from(">I4s", header)
        length = 8
        if size == 1:
            (size,) = struct.unpack_from(">Q", header, 8)
            length = 16
        elif size == 0:
            size = end - at
        if size < length:
            return
        yield kind, at + length, min(at + size, end)
        at += size


def _scale_and_duration(data: bytes) -> tuple[int, int]:
    """Units a second, and the duration in them, of ``mvhd`` (§8.2.2); 0 where it isn't known."""
    wide = data[0] == 1
    scale, duration = struct.unpack_from(">IQ" if wide else ">II", data, 20 if wide else 12)
    return scale, 0 if duration in _UNKNOWN else duration


def _duration_of_mehd(data: bytes) -> int:
    """§8.8.2; 0 where there is no such box."""
    return int(struct.unpack_from(">Q" if data[0] == 1 else ">I", data, 4)[0]) if data else 0


def _indexed_s(data: bytes) -> tuple[int, float]:
    """The track of ``sidx``, and the seconds of all its references (§8.16.3)."""
    track, scale = struct.unpack_from(">II", data, 4)
    at = 32 if data[0] == 1 else 24
    (count,) = struct.unpack_from(">H", data, at - 2)
    rows = data[at : at + 12 * count]
    lasts = sum(lasts for _, lasts, _ in struct.iter_unpack(">III", rows[: len(rows) // 12 * 12]))
    return track, float(lasts / scale)


def _of_matroska(file: BinaryIO, end: int) -> float:
    segment = next((part for part in _elements(file, 0, end) if part[0] == _SEGMENT), None)
    if segment is None:
        return 0.0
    for name, start, stop in _elements(file, segment[1], segment[2]):
        if name == _CLUSTER:  # all writers have what tells of the whole before it
            break
        if name == _INFO:
            scale, duration = 1_000_000, 0.0
            for inner, at, after in _elements(file, start, stop):
                data = _read(file, at, min(after - at, 8))
                if inner == _TIMESTAMP_SCALE:
                    scale = int.from_bytes(data, "big")
                elif inner == _DURATION:
                    (duration,) = struct.unpack(">d" if len(data) == 8 else ">f", data)
            return duration * scale / 1e9
    return 0.0


def _elements(file: BinaryIO, at: int, end: int) -> Iterator[Part]:
    for _ in range(_MAX_BOXES):
        header = _read(file, at, 12)
        if at >= end or len(header) < 2 or header[0] == 0 or header[0] < 0x10:
            return
        id_length = 9 - header[0].bit_length()
        first = header[id_length]
        size_length = 9 - first.bit_length()
        size = int.from_bytes(header[id_length : id_length + size_length], "big") & (
            (1 << 7 * size_length) - 1
        )
        start = at + id_length + size_length
        is_open = size == (1 << 7 * size_length) - 1  # of unknown size, as live streams are: to the end
        at = end if is_open else min(start + size, end)
        yield header[:id_length], start, at


def _read(file: BinaryIO, at: int, count: int) -> bytes:
    file.seek(at)
    return file.read(count)
