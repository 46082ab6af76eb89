"""A still PNG -> its pixels, in half to four fifths of the time that Pillow alone takes.

libdeflate inflates all rows at once, and Pillow makes pixels of them. References are to the PNG
specification, third edition.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import IO, Any

from PIL import Image, PngImagePlugin

from . import libdeflate
from .source_file import SourceFile

__all__ = ["inflated", "load"]

# The bits of a pixel of a PNG, by Pillow's name for how pixels are packed.
_PNG_BITS = {"1": 1, "L;2": 2, "L;4": 4, "L": 8, "I;16B": 16, "LA": 16, "LA;16B": 32, "P;1": 1, "P;2": 2}
_PNG_BITS |= {"P;4": 4, "P": 8, "RGB": 24, "RGB;16B": 48, "RGBA": 32, "RGBA;16B": 64}
_STRIP_BYTES = 2**16
_PART_BYTES = 2**16
_STORED_BYTES = 2**16 - 1  # the most that a block holds


def load(picture: Image.Image, file: SourceFile) -> bool:
    """Load a still PNG. False where that is left to Pillow: an interlaced, damaged or large one, and any
    without the extra "fast"."""
    rows = _rows_of(picture, file)
    if rows is None:
        return False
    _load_rows(picture, rows)
    return True


def _rows_of(picture: Image.Image, file: SourceFile) -> bytes | bytearray | None:
    """The rows of a still PNG, each behind its filter type; None where Pillow has to inflate them."""
    if not isinstance(picture, PngImagePlugin.PngImageFile) or len(picture.tile) != 1:
        return None
    if "interlace" in picture.info or picture.custom_mimetype == "image/apng":
        return None
    tile = picture.tile[0]
    bits = _PNG_BITS.get(str(tile.args))
    if bits is None:
        return None
    size = (1 + (picture.width * bits + 7) // 8) * picture.height
    rows = inflated(file, tile.offset - len("sizeIDAT"), size)
    file.reads = 0
    return rows


def _load_rows(picture: Any, rows: bytes | bytearray) -> None:
    """``picture.load()`` with *rows* in place of what it would read and inflate.

    The rest is as ever: Pillow undoes filters, unpacks pixels, and goes through all chunks up to the last.
    """
    tile, stride, view = picture.tile[0], len(rows) // picture.height, memoryview(rows)
    strips: Iterator[bytes | memoryview]
    if rows[::stride].count(0) == picture.height:  # no filters: what to skip is a byte in front of each row
        picture.tile = [tile._replace(codec_name="raw", args=(tile.args, stride, 1))]
        size = max(1, _STRIP_BYTES // stride) * stride
        strips = (view[at : at + size] for at in range(1, len(view), size))
    else:
        strips = _stored(view)
    # Pillow asks for a part when it is done with the last. In one piece, which does not fit into the cache of
    # a processor, they take longer than all does by Pillow alone.
    picture.load_read = lambda _: next(strips, b"")
    try:
        picture.load()
    finally:
        del picture.load_read  # and the rows


def inflated(file: IO[bytes], offset: int, size: int) -> bytes | bytearray | None:
    """What the IDAT chunks from *offset* on inflate to: all rows, each behind its filter type.

    None without the extra "fast", for more than 64 MB, and where they are not one sound zlib stream of *size*
    bytes: what becomes of a damaged file is for Pillow to say. Lets other threads run.

    libdeflate passes over rules of RFC 1951 that zlib insists on, as that there are 286 lengths of codes at
    most. No compressor breaks them, and an accident would have to hit upon the right Adler-32.
    """
    inflate = libdeflate.decompressor()
    if inflate is None or size > libdeflate.MAX_BYTES:
        return None
    file.seek(offset)
    data = bytearray()
    try:
        for part in _idat(file):
            data += part
            if not part or len(data) > size + size // 8 + _PART_BYTES:  # no compressor makes it larger
                return None
        rows = inflate(data, size)
    except MemoryError:  # Pillow needs less
        return None
    return rows if len(rows) == size else None


def _idat(file: IO[bytes]) -> Iterator[bytes]:
    """The data of IDAT chunks that follow each other (§5.6), in parts; b"" at last where the file is cut off.

    Their CRCs are not looked at. Pillow does not either, and what they protect has an Adler-32 of its own.
    """
    head = file.read(8)
    while head[4:] == b"IDAT":
        length = int.from_bytes(head[:4], "big")
        while length:
            part = file.read(min(length, _PART_BYTES))
            yield part
            if not part:
                return
            length -= len(part)
        head = file.read(12)[4:]  # behind the CRC


def _stored(data: memoryview) -> Iterator[bytes]:
    """*data* as a zlib stream that compresses nothing (RFC 1950 §2.2, RFC 1951 §3.2.4), some at a time.

    Without its end: Pillow reads no further than to the last row.
    """
    yield b"\x78\x01"
    for start in range(0, len(data), _STORED_BYTES):
        part = data[start : start + _STORED_BYTES]
        yield b"".join((struct.pack("<BHH", 0, len(part), len(part) ^ 0xFFFF), part))
