"""Removes positions from files that are made of boxes (ISO/IEC 14496-12): HEIF and AVIF, where metadata are
items, and JPEG 2000."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from . import exif_positions, xmp_positions
from .blocks import Block, Exhausted

__all__ = ["remove_of_heif", "remove_of_jpeg2000"]

_MAX_TABLE_BYTES = 4 * 2**20
# Of the entry of an item: its name and its media type are short.
_ENTRY_BYTES = 2**10
_PACKET = b"application/rdf+xml"
_MAX_PACKET_BYTES = 4 * 2**20
# Where a structure of EXIF begins that is not where its item says.
_SEARCHED_BYTES = 64
# ISO 16684-3 §1.1.4, and the two that writers of EXIF have agreed upon.
_JP2_PACKET = bytes.fromhex("be7acfcb97a942e89c71999491e3afac")
_JP2_EXIF = (b"JpgTiffExif->JP2", bytes.fromhex("0537cdab9d0c4431a72afa561f2a113e"))


class _Item(NamedTuple):
    """An item with metadata. *coding*: how it is compressed; *type_block*: where its type stands."""

    kind: bytes
    coding: bytes
    type_block: Block


def remove_of_heif(data: Block) -> Iterator[bool]:
    """Remove positions from the HEIF or AVIF that *data* is: for each item with metadata, whether it had any.

    Compressed XMP that has positions is lost: its item gets the type ``free``, and its bytes become zeros.
    """
    for kind, box in _boxes(data):
        if kind == b"meta":
            yield from _remove_of_meta(data, box.part(4, box.length))


def remove_of_jpeg2000(data: Block) -> Iterator[bool]:
    """Remove positions from the JPEG 2000 that *data* is: for each box with metadata, whether it had any.

    A bare codestream has no boxes.
    """
    for kind, box in _boxes(data):
        name = box.read(0, 16) if kind == b"uuid" else b""
        if name == _JP2_PACKET:
            yield xmp_positions.blank(box.part(16, box.length))
        elif name in _JP2_EXIF:
            yield exif_positions.remove(exif_positions.structure_in(box.part(16, box.length)))


def _boxes(data: Block, at: int = 0) -> Iterator[tuple[bytes, Block]]:
    """The boxes in *data* from *at* on: type and contents."""
    while at + 8 <= data.length:
        length, kind = data.unpack(">I4s", at)
        head = 8
        if length == 1:
            (length,) = data.unpack(">Q", at + 8)
            head = 16
        elif length == 0:  # up to the end
            length = data.length - at
        if length < head:
            return
        yield kind, data.part(at + head, length - head)
        at += length


def _remove_of_meta(data: Block, meta: Block) -> Iterator[bool]:
    found = dict(_boxes(meta))
    if b"iinf" not in found or b"iloc" not in found:
        return
    items = dict(_items(found[b"iinf"]))
    places = [
        (items.get(number), _placed(data, found.get(b"idat"), method, pieces))
        for number, method, pieces in _locations(found[b"iloc"])
    ]
    pictures = sorted(piece for item, block in places if item is None for piece in block.pieces)
    for item, block in places:
        if item is not None:
            yield _remove_of_item(item, _owned(block, pictures))


def _items(iinf: Block) -> Iterator[tuple[int, _Item]]:
    """Numbers and items of EXIF and XMP (ISO/IEC 14496-12 §8.11.6)."""
    (version,) = iinf.unpack("B", 0)
    for kind, infe in _boxes(iinf, 8 if version else 6):
        if kind != b"infe":
            continue
        (version,) = infe.unpack("B", 0)
        layout = ">4xI2x4s" if version > 2 else ">4xH2x4s"
        if version < 2:  # no type: the name comes at once
            layout = ">4xH2x0s"
        number, item_type = infe.unpack(layout, 0)
        at = struct.calcsize(layout)
        _, media_type, coding, *_ = [*infe.read(at, _ENTRY_BYTES).split(b"\0", 3), b"", b"", b""]
        type_block = infe.part(at - len(item_type), len(item_type))
        if item_type == b"Exif" or (item_type in (b"mime", b"") and media_type == _PACKET):
            yield number, _Item(item_type, coding if item_type != b"Exif" else b"", type_block)


def _locations(iloc: Block) -> Iterator[tuple[int, int, list[tuple[int, int]]]]:
    """Each item's number, construction method and pieces (start, length) (ISO/IEC 14496-12 §8.11.3)."""
    if iloc.length > _MAX_TABLE_BYTES:
        raise Exhausted
    table = iloc.read(0, iloc.length)
    version, sizes, more_sizes = table[0], table[4], table[5]
    offset_size, length_size, base_size = sizes >> 4, sizes & 15, more_sizes >> 4
    index_size = more_sizes & 15 if version else 0
    at = 6

    def number(size: int) -> int:
        nonlocal at
        if at + size > len(table):
            raise struct.error("cut off")
        at += size
        return int.from_bytes(table[at - size : at], "big")

    for _ in range(number(4 if version > 1 else 2)):
        item = number(4 if version > 1 else 2)
        method = number(2) & 15 if version else 0
        is_elsewhere = number(2) != 0
        base = number(base_size)
        pieces = []
        for _ in range(number(2)):
            number(index_size)
            start, length = number(offset_size), number(length_size)
            if length:
                pieces.append((base + start, length))
            if not offset_size + length_size + index_size:
                break
        yield item, -1 if is_elsewhere else method, pieces


def _placed(data: Block, idat: Block | None, method: int, pieces: Sequence[tuple[int, int]]) -> Block:
    """The bytes of an item: of the file (method 0), or of the box idat (1)."""
    base = {0: data, 1: idat}.get(method)
    if base is None:
        return data.part(0, 0)
    return data.part(0, 0).joined(base.part(start, length) for start, length in pieces)


def _owned(block: Block, pictures: Sequence[tuple[int, int]]) -> Block:
    """*block* up to the first byte that is of *pictures*, too."""
    at = 0
    for start, length in block.pieces:
        others = [each for each in pictures if each[0] < start + length and sum(each) > start]
        if others:
            return block.part(0, at + max(0, others[0][0] - start))
        at += length
    return block


def _remove_of_item(item: _Item, block: Block) -> bool:
    if item.kind == b"Exif":
        return exif_positions.remove(_structure_in(block))
    if not item.coding:
        return xmp_positions.blank(block)
    packet = _inflated(block)
    if packet is not None and not xmp_positions.has_positions(packet, block.work):
        return False
    item.type_block.write(0, b"free")
    block.fill(0, block.length)
    return True


def _structure_in(block: Block) -> Block:
    """The structure in an item (ISO/IEC 23008-12 §A.2.1): four bytes say how many are between them and it."""
    (skipped,) = block.unpack(">I", 0)
    found = exif_positions.structure_in(block.part(4 + skipped, block.length))
    if found.read(0, 2) in (b"II", b"MM"):
        return found
    head = block.read(0, _SEARCHED_BYTES)
    at = min((at for at in (head.find(b"II*\0"), head.find(b"MM\0*")) if at >= 0), default=0)
    return block.part(at, block.length)


def _inflated(block: Block) -> bytes | None:
    """A packet that is compressed, as ``deflate`` or ``compress_zlib``; None for a long or another one."""
    if block.length > _MAX_PACKET_BYTES:
        return None
    packed = block.read(0, block.length)
    for window in (zlib.MAX_WBITS | 32, -zlib.MAX_WBITS):  # with a header of zlib or gzip, or without
        inflate = zlib.decompressobj(window)
        try:
            packet = inflate.decompress(packed, _MAX_PACKET_BYTES)
        except zlib.error:
            continue
        block.work.spend(len(packet))
        return packet if inflate.eof else None
    return None
