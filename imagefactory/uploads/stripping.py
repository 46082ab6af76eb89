"""A picture that came in -> the same file without positions: no pixel, no other fact and no length changes.

Receiving an upload calls it before the stored file is hashed and becomes visible. This file knows where each
format keeps EXIF and XMP, ``exif_positions`` and ``xmp_positions`` know what to remove there.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import BinaryIO

from . import boxes, exif_positions, png_positions, xmp_positions
from .blocks import PART_BYTES, Block, Exhausted

__all__ = ["strip_gps"]

_EXIF, _PACKET = b"Exif\0", b"http://ns.adobe.com/xap/1.0/\0"
_FURTHER = b"http://ns.adobe.com/xmp/extension/\0"
# JPEG: APP1, its length, what it is (Exif 3.0 §4.7.2; ISO 16684-3 §1.1.3).
_KINDS = b"|".join(map(re.escape, (_EXIF, _PACKET, _FURTHER)))
_APP1 = re.compile(rb"\xff\xe1(..)(%b)" % _KINDS, re.DOTALL)
_APP1_BYTES = 64
# That are kept until the file is read. A depth map of 20 MB takes 320.
_MAX_SEGMENTS = 20_000
_GIF_XMP = b"\x0bXMP DataXMP"
# The end of XMP in a GIF. The text is not cut into sub-blocks. A reader that takes its bytes for lengths of
# sub-blocks arrives somewhere in here, and each of these leads to the last zero (ISO 16684-3 §1.1.2).
_GIF_TRAILER = b"\x01" + bytes(range(0xFF, -1, -1)) + b"\0"


def strip_gps(file: BinaryIO, kind: str) -> bool:
    """Remove positions from the picture in *file*, which is open for reading and writing; whether it had any.

    *kind* is what ``model.formats.starts_as`` calls the format. JPEG, PNG, WebP, GIF, TIFF, HEIF, AVIF and
    JPEG 2000 are searched; nothing of other kinds is read.

    Positions are the GPS directory of EXIF, and what has a name in XMP that begins with GPS. They are
    overwritten in place: the length of the file stays the same. Where a PNG has them in a compressed or
    hexadecimal text, or a HEIF in compressed XMP, all of that text is lost. So is XMP of more than 8 MiB that
    has positions. Names of places, notes of camera makers, data of maps (GeoTIFF) and films behind the
    picture are left as they are.

    Raises OSError where the file can't be read or written, and no error for what is in it. The work is
    bounded by the length of the file: in one that is made of millions of blocks, the last of them are not
    searched.
    """
    look = _LOOKS.get(kind)
    if look is None:
        return False
    data = Block.of(file)
    is_found = False
    try:
        for has_some in look(data):
            is_found |= has_some
    except (Exhausted, struct.error):  # the latter where a file is cut off
        pass
    if is_found:
        file.flush()
    return is_found


def _jpeg(data: Block) -> Iterator[bool]:
    """All segments of the file, also of previews and of further pictures behind the end of the first one.

    What looks like one is one: in the data of a scan, 0xFF is never followed by 0xE1 (ITU-T T.81 §B.1.1.2).
    """
    structure: list[Block] = []  # the last EXIF: it may go on in segments that have no header
    further: dict[bytes, list[tuple[int, Block]]] = {}
    count = 0
    for kind, segment in _segments(data):
        count += kind != _PACKET
        if count > _MAX_SEGMENTS:
            raise Exhausted
        if kind == _PACKET:
            yield xmp_positions.blank(segment)
        elif kind == _FURTHER:  # 32 bytes of digest, the length of all, the offset of this
            (offset,) = segment.unpack(">36xI", 0)
            further.setdefault(segment.read(0, 32), []).append((offset, segment.part(40, segment.length)))
        else:
            if segment.read(1, 2) in (b"II", b"MM"):
                yield _remove_of_exif(structure)
                structure = []
            structure.append(segment.part(1, segment.length))
    yield _remove_of_exif(structure)
    for parts in further.values():
        first, *others = (part for _, part in sorted(parts, key=lambda each: each[0]))
        yield xmp_positions.blank(first.joined(others))


def _remove_of_exif(parts: Sequence[Block]) -> bool:
    return bool(parts) and exif_positions.remove(parts[0].joined(parts[1:]))


def _segments(data: Block) -> Iterator[tuple[bytes, Block]]:
    """APP1 segments of ``_APP1``: what they are, and what follows that."""
    for at in range(0, data.length, PART_BYTES):
        for found in _APP1.finditer(data.read(at, PART_BYTES + _APP1_BYTES)):
            if found.start() < PART_BYTES:
                length = int.from_bytes(found[1], "big") - 2 - len(found[2])
                yield found[2], data.part(at + found.end(), length)


def _webp(data: Block) -> Iterator[bool]:
    at = 12
    while at + 8 <= data.length:
        kind, length = data.unpack("<4sI", at)
        if kind == b"EXIF":
            yield exif_positions.remove(exif_positions.structure_in(data.part(at + 8, length)))
        elif kind == b"XMP ":
            yield xmp_positions.blank(data.part(at + 8, length))
        at += 8 + length + length % 2


def _gif(data: Block) -> Iterator[bool]:
    (flags,) = data.unpack("B", 10)
    at = 13 + _palette_length(flags)
    while (mark := data.read(at, 1)) not in (b"", b";"):
        at += 1
        if mark == b",":
            (flags,) = data.unpack("8xB", at)
            at += 10 + _palette_length(flags)
        elif mark == b"!":
            at += 1
        else:  # junk between blocks, which all readers skip
            continue
        start, pieces = at, []
        is_xmp = mark == b"!" and data.read(start, len(_GIF_XMP)) == _GIF_XMP
        while size := int.from_bytes(data.read(at, 1), "big"):
            if is_xmp:
                pieces.append((at + 1, size))
                if len(pieces) > _MAX_SEGMENTS:
                    raise Exhausted
            at += size + 1
        if is_xmp:
            text = start + len(_GIF_XMP)
            end = at + 1 - len(_GIF_TRAILER)
            if data.read(end, len(_GIF_TRAILER)) == _GIF_TRAILER:
                yield xmp_positions.blank(data.part(text, end - text))
            else:
                yield xmp_positions.blank(Block(data.file, tuple(pieces[1:]), data.work))
        at += 1


def _palette_length(flags: int) -> int:
    return 3 << (flags % 8 + 1) if flags & 0x80 else 0


def _tiff(data: Block) -> Iterator[bool]:
    yield exif_positions.remove(data)


_LOOKS: Mapping[str, Callable[[Block], Iterator[bool]]] = {
    "jpeg": _jpeg,
    "png": png_positions.remove,
    "webp": _webp,
    "gif": _gif,
    "tiff": _tiff,
    "heif": boxes.remove_of_heif,
    "avif": boxes.remove_of_heif,
    "jpeg2000": boxes.remove_of_jpeg2000,
}
