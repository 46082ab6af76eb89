"""What the outer structure of a picture file says: whether it carries more than pixels, and how many frames,
scans or strips.

No picture library: blocks and chunks are walked, and no length in them is believed.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterator, Mapping

from ..errors import Undecodable

__all__ = ["gif_frames", "is_bare", "jpeg_scans", "tiff_strips"]

# Real files have blocks of up to 255 bytes and stay far below it. In blocks of one byte, a GIF of 100 MB
# would keep Pillow busy for 15 s before the first pixel.
_MAX_BLOCKS = 1_000_000
# Behind the data of a scan: a marker that is no stuffed 0xFF and no restart (ITU-T T.81 §B.1.1).
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
_SCAN, _END = 0xDA, 0xD9
_BARE_MARKERS = frozenset((0x01, *range(0xD0, 0xD9)))  # no length follows
# TIFF 6.0: StripOffsets, TileOffsets.
_STRIP_TAGS = (273, 324)


def gif_frames(data: bytes) -> int:
    """How many frames a GIF animates; 1 where a later frame leaves the canvas, which Pillow would let grow.

    Pillow's own ``n_frames`` reads byte by byte and without an end. Raises Undecodable for a file in more
    than a million blocks. A file that is cut off has the frames that begin in it.
    """
    frames = blocks = 0
    canvas = (0, 0)
    try:
        wide, high, flags = struct.unpack_from("<HHB", data, 6)
        at = 13 + _palette_length(flags)
        while (mark := data[at]) != 0x3B:
            at += 1
            blocks += 1
            if mark == 0x2C:
                left, top, width, height, flags = struct.unpack_from("<4HB", data, at)
                if frames == 0:
                    canvas = max(wide, left + width), max(high, top + height)
                elif left + width > canvas[0] or top + height > canvas[1]:
                    return 1
                frames += 1
                at += 9 + _palette_length(flags)
            if mark in (0x2C, 0x21):  # else it is junk between blocks, which all readers skip
                at += 1
                while size := data[at]:
                    at += size + 1
                    blocks += 1
                    if blocks > _MAX_BLOCKS:
                        break
                at += 1
            if blocks > _MAX_BLOCKS:
                raise Undecodable("it is cut into too many blocks")
    except (IndexError, struct.error):
        pass
    return max(frames, 1)


def jpeg_scans(data: bytes, enough: int) -> int:
    """How many scans a JPEG has up to its end marker; not counted beyond *enough*.

    A marker that a decoder finds is always these two bytes. So their number is a bound, which is quick to
    get; only above *enough* the segments are walked, as profiles, previews and what lies behind the end have
    such bytes, too.
    """
    bound = data.count(b"\xff\xda")
    return bound if bound <= enough else min(enough + 1, _walked_scans(data, enough))


def _walked_scans(data: bytes, enough: int) -> int:
    scans, at = 0, 2
    while scans <= enough and (found := _MARKER.search(data, at)):
        at, marker = found.end(), data[found.end() - 1]
        if marker == _END:
            break
        scans += marker == _SCAN
        if marker not in _BARE_MARKERS:
            at += int.from_bytes(data[at : at + 2], "big")
    return scans


def tiff_strips(data: bytes) -> int:
    """How many strips or tiles the first picture of a TIFF says that it has; 0 where that can't be read."""
    order = "<" if data[:1] == b"I" else ">"
    is_big = data[2:3] == b"+"  # as Pillow tells it: it reads no BigTIFF of Motorola's order
    at, count, entry = ("8xQ", "Q", "HHQ8x") if is_big else ("4xI", "H", "HHI4x")
    try:
        (start,) = struct.unpack_from(order + at, data)
        (entries,) = struct.unpack_from(order + count, data, start)
        first, size = start + struct.calcsize(order + count), struct.calcsize(order + entry)
        table = data[first : first + min(entries, 2**16) * size]
        rows = struct.iter_unpack(order + entry, table[: len(table) // size * size])
        return max((number for tag, _, number in rows if tag in _STRIP_TAGS), default=0)
    except struct.error:
        return 0


def is_bare(data: bytes, encoding: str) -> bool:
    """Whether *data*, a file in *encoding*, has nothing in it that a variant would not have.

    Only what is known to be harmless passes. Comments, EXIF, XMP, ICC profiles, thumbnails, dates, unknown
    chunks, and bytes behind the end do not.
    """
    walk = _WALKS.get(encoding)
    if walk is None:
        return False
    try:
        return all(walk(data))
    except (IndexError, ValueError):
        return False


def _jpeg(data: bytes) -> Iterator[bool]:
    """Tables, frame and scan headers, and of the application segments JFIF (APP0) and Adobe (APP14) alone."""
    yield data.startswith(b"\xff\xd8") and data.endswith(b"\xff\xd9")
    at = 2
    while data[at + 1] != 0xDA:  # up to the first scan; what lies behind it is data of scans
        yield data[at] == 0xFF
        marker, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        is_jfif = marker == 0xE0 and data[at + 4 : at + 9] == b"JFIF\0" and length == 16
        is_adobe = marker == 0xEE and data[at + 4 : at + 9] == b"Adobe" and length == 14
        yield is_jfif or is_adobe or marker in (0xDB, 0xC4, 0xDD) or marker in (0xC0, 0xC1, 0xC2)
        yield length >= 2
        at += 2 + length
    # In scans a 0xFF is followed by 0, a restart, or a table or scan of a progressive file; one end only.
    yield data.count(b"\xff\xd9", at) == 1
    yield not any(data.count(b"\xff" + bytes([marker]), at) for marker in (*range(0xE0, 0xF0), 0xFE))


def _png(data: bytes) -> Iterator[bool]:
    yield data.startswith(b"\x89PNG\r\n\x1a\n")
    at, kind = 8, b""
    allowed = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND", b"sRGB", b"pHYs", b"acTL", b"fcTL", b"fdAT")
    while at < len(data):
        kind = data[at + 4 : at + 8]
        yield kind in allowed
        at += 12 + int.from_bytes(data[at : at + 4], "big")
        yield (kind == b"IEND") == (at == len(data))
    yield kind == b"IEND"


def _webp(data: bytes) -> Iterator[bool]:
    yield data[:4] == b"RIFF" and data[8:12] == b"WEBP"
    yield int.from_bytes(data[4:8], "little") + 8 == len(data)
    at = 12
    while at < len(data):
        yield data[at : at + 4] in (b"VP8 ", b"VP8L", b"VP8X", b"ALPH", b"ANIM", b"ANMF")
        length = int.from_bytes(data[at + 4 : at + 8], "little")
        at += 8 + length + length % 2
    yield at == len(data)


def _gif(data: bytes) -> Iterator[bool]:
    yield data[:6] in (b"GIF87a", b"GIF89a")
    at = 13 + _palette_length(data[10])
    while data[at] != 0x3B:
        if data[at] == 0x21:  # an extension: graphic control, or the loop count
            is_loop = data[at + 1] == 0xFF and data[at + 3 : at + 14] == b"NETSCAPE2.0"
            yield data[at + 1] == 0xF9 or is_loop
            at += 2
        else:
            yield data[at] == 0x2C
            at += 11 + _palette_length(data[at + 9])
        while data[at]:  # sub-blocks, each with its length in front
            at += 1 + data[at]
        at += 1
    yield at == len(data) - 1


def _palette_length(flags: int) -> int:
    return 3 << (flags % 8 + 1) if flags & 0x80 else 0


def _avif(data: bytes) -> Iterator[bool]:
    at = 0
    while at < len(data):
        yield data[at + 4 : at + 8] in (b"ftyp", b"meta", b"mdat", b"moov")
        length = int.from_bytes(data[at : at + 4], "big")
        yield length >= 8
        at += length
    yield at == len(data)
    yield b"Exif" not in data and b"mime" not in data[:4096]


_WALKS: Mapping[str, Callable[[bytes], Iterator[bool]]] = {
    "jpeg": _jpeg,
    "png": _png,
    "webp": _webp,
    "gif": _gif,
    "avif": _avif,
}
