"""Removes positions from the chunks of a PNG (third edition of its specification): EXIF, XMP, and texts of
ImageMagick."""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator
from io import BytesIO

from . import exif_positions, xmp_positions
from .blocks import Block

__all__ = ["remove"]

_TEXTS = (b"tEXt", b"zTXt", b"iTXt")
_PACKET = b"XML:com.adobe.xmp"
# ImageMagick's profiles in hexadecimal: a name, a length, the bytes. APP1 is either of the others.
_PROFILE = re.compile(rb"Raw profile type (exif|app1|xmp)", re.IGNORECASE)
_HEADING = re.compile(rb"\s*\S+\s+\d+\s")
# It writes properties as texts of their own, too: "exif:GPSLatitude", then the number.
_PROPERTY = re.compile(rb"([^:]+:)?gps", re.IGNORECASE)
_NAMESPACE = b"http://ns.adobe.com/xap/1.0/\0"
# A keyword has up to 79 bytes. Between it and the text of an iTXt are a language, and the keyword in it.
_HEAD_BYTES = 2**12
# What a text inflates to at the most. Pillow reads no text of more than 1 MB.
_MAX_TEXT_BYTES = 4 * 2**20


def remove(data: Block) -> Iterator[bool]:
    """Remove positions from the PNG that *data* is: for each chunk with metadata, whether it had any.

    A text with positions that is compressed or hexadecimal can't be changed in place. Its chunk becomes an
    empty comment of the same length, and so does one that inflates to more than 4 MB.
    """
    at = 8
    while at + 8 <= data.length:
        length, kind = data.unpack(">I4s", at)
        chunk = data.part(at + 8, length)
        is_found = False
        if kind == b"eXIf":
            is_found = exif_positions.remove(exif_positions.structure_in(chunk))
        elif kind in _TEXTS:
            is_found = _remove_from_text(chunk, kind)
            if not is_found and _has_positions(chunk, kind):
                data.write(at + 4, b"tEXt")
                chunk.fill(0, length, b" ")
                chunk.write(0, b"Comment"[: max(0, length - 1)] + b"\0")
                is_found = True
        if is_found:
            checksum = 0
            for part in data.part(at + 4, 4 + length).parts():
                checksum = zlib.crc32(part, checksum)
            data.write(at + 8 + length, struct.pack(">I", checksum))
        yield is_found
        at += 12 + length


def _remove_from_text(chunk: Block, kind: bytes) -> bool:
    """Blank the positions in a chunk that is XMP as it stands; whether there were any."""
    keyword, is_compressed, at = _head(chunk, kind)
    if keyword != _PACKET or is_compressed or not at:
        return False
    return xmp_positions.blank(chunk.part(at, chunk.length))


def _head(chunk: Block, kind: bytes) -> tuple[bytes, bool, int]:
    """The keyword of a text, whether it is compressed, and where it begins; 0 where that can't be found."""
    head = chunk.read(0, _HEAD_BYTES)
    keyword, _, rest = head.partition(b"\0")
    if kind != b"iTXt":
        is_compressed = kind == b"zTXt"  # and has a byte for the method
        return keyword, is_compressed, len(keyword) + 1 + is_compressed
    parts = rest[2:].split(b"\0", 2)
    at = len(head) - len(parts[2]) if len(parts) == 3 else 0
    return keyword, rest[:1] == b"\1", at


def _has_positions(chunk: Block, kind: bytes) -> bool:
    """Whether a text is of those that are looked at, and has positions or can't be judged."""
    keyword, is_compressed, at = _head(chunk, kind)
    if _PROPERTY.match(keyword):
        return True
    profile = _PROFILE.fullmatch(keyword)
    if not profile and keyword != _PACKET:
        return False
    if not at:
        return True
    if not profile and not is_compressed:
        return False
    text = _text(chunk.part(at, chunk.length), is_compressed)
    if text is None:
        return True
    if not profile:
        return xmp_positions.has_positions(text, chunk.work)
    heading = _HEADING.match(text)
    try:
        found = bytes.fromhex(text[heading.end() if heading else 0 :].decode("ascii"))
    except ValueError:  # no reader takes it either
        return False
    if found.startswith(_NAMESPACE) or profile[1].lower() == b"xmp":
        return xmp_positions.has_positions(found.removeprefix(_NAMESPACE), chunk.work)
    copy = Block(BytesIO(found), ((0, len(found)),), chunk.work)
    return exif_positions.remove(exif_positions.structure_in(copy))


def _text(block: Block, is_compressed: bool) -> bytes | None:
    """The text in *block*; None for more than ``_MAX_TEXT_BYTES``. What is broken ends where it breaks."""
    if not is_compressed:
        return block.read(0, block.length) if block.length <= _MAX_TEXT_BYTES else None
    inflate, found = zlib.decompressobj(), b""
    for part in block.parts():
        try:
            found += inflate.decompress(part, _MAX_TEXT_BYTES + 1 - len(found))
        except zlib.error:
            break
        if len(found) > _MAX_TEXT_BYTES:
            return None
        if inflate.eof:
            break
    block.work.spend(len(found))
    return found
