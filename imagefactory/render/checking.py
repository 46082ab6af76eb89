"""The strict check of a picture: whether its pixels are all there, and can be decoded to their end.

For what somebody sends, before it is stored. A render is more lenient, as what is stored is to be shown:
libjpeg makes grey of what a JPEG lacks, and Pillow looks neither at the checksums of a PNG's pixels nor at
the end of their zlib stream. Here only the mark of the end may be missing: EOI of a JPEG, IEND of a PNG, the
trailer of a GIF.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import IO

from PIL import Image
from PIL.IcoImagePlugin import IcoFile

from ..errors import OutOfMemory, Undecodable
from ..model.job import Job
from ..model.recipe import Recipe
from ..model.source import Header, Stamp
from . import decoders
from .jpeg_data import check_data
from .pipeline import probe
from .source_file import SourceFile, check_unchanged

__all__ = ["check"]

# As in ``pipeline``: a frame of an animation costs no less than this many pixels do.
_LEAST_FRAME = 4096
_PART_BYTES = 2**16
# Samples of a pixel by a PNG's type of colour (PNG, third edition, §11.2.1).
_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
# First column, first row, and the steps, of the passes of an interlaced PNG (§8.1).
_PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
# Chunks whose checksum is that of pixels. Of others Pillow's own checks will do.
_PIXEL_CHUNKS = frozenset((b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"acTL", b"fcTL", b"fdAT"))


def check(source: Path, max_pixels: int, descriptor: int | None = None) -> Header | None:
    """The header of a picture whose pixels are all there: decoded to its end. None if it is in no format of
    ours.

    It is read from *descriptor* if there is one. *max_pixels* is the budget of one frame. All frames of an
    animation are decoded where together they are within it too, else the first one, as for a variant.

    Raises Undecodable where pixels are lacking or broken, TooLarge over the budget, OutOfMemory,
    SourceChanged where the file changes meanwhile, OSError where it can't be read. Damage that leaves a JPEG
    with enough data (a flipped bit) is not seen: there are no checksums in it.
    """
    header = probe(source, descriptor)
    if header is None:
        return None
    try:
        with SourceFile(source, descriptor) as file:
            stamp = Stamp.of(os.fstat(file.fileno()))
            job = Job(source, stamp, Recipe(), "png", None, max_pixels, max_side=1)
            _check(job, file, decoders.open_within_budget(job, file), header)
            check_unchanged(file, stamp)
    except MemoryError as error:
        raise OutOfMemory from error
    return header


def _check(job: Job, file: SourceFile, picture: Image.Image, header: Header) -> None:
    pixels = max(picture.width * picture.height, _LEAST_FRAME)
    count = header.frames if header.frames * pixels <= job.max_pixels else 1
    first = decoders.first_frame(picture)
    position = file.tell()
    file.reads = 0
    with decoders.decoding(file, job):
        file.seek(0)
        match picture.format:
            case "JPEG" | "MPO":
                if check_data(file.read()):
                    return
            case "PNG":
                _check_png(file, first + count)
            case "ICO":
                _check_icon(file)
            case "GIF":
                _check_gif(file.read())
        file.seek(position)
    for number in range(first, first + count):
        decoders.load(job, file, picture, number)


def _broken() -> Undecodable:
    return Undecodable("it is broken or cut off")


# --- PNG ----------------------------------------------------------------------------------------------------


def _check_png(file: IO[bytes], frames: int) -> None:
    """Raise Undecodable unless the first *frames* (the default image counts) are whole: chunks with their
    checksums, and for each a zlib stream with all rows and a checksum of its own."""
    whole = part = (0, 0)
    bits, is_interlaced = 0, False
    rows: _Rows | None = None
    for kind, data in _chunks(file):
        if rows is not None and rows.kind != kind:
            rows.finish()
            rows, frames = None, frames - 1
            if not frames:
                return
        if kind in (b"IDAT", b"fdAT"):
            if rows is None:
                rows = _Rows(kind, _png_bytes(whole if kind == b"IDAT" else part, bits, is_interlaced))
            rows.add(data)
            continue
        content = b"".join(data)
        if kind == b"IHDR":
            wide, high, depth, colour, is_interlaced = struct.unpack_from(">IIBB2x?", content)
            whole, bits = (wide, high), depth * _SAMPLES[colour]
        elif kind == b"fcTL":
            part = struct.unpack_from(">4xII", content)
    raise _broken()


def _chunks(file: IO[bytes]) -> Iterator[tuple[bytes, Iterator[bytes]]]:
    """The chunks that pixels need, as their names and their data in parts, which have to be read. Another
    name is the last, where the file or the picture ends."""
    at = 8
    while True:
        file.seek(at)
        head = file.read(8)
        if len(head) < 8 or head[4:] == b"IEND":
            yield b"", iter(())
            return
        length, kind = struct.unpack(">I4s", head)
        yield kind, _checked(file, kind, length if kind in _PIXEL_CHUNKS else None)
        at += 12 + length


def _checked(file: IO[bytes], kind: bytes, length: int | None) -> Iterator[bytes]:
    """The data of a chunk, in parts. Raises Undecodable where it ends too early, or its checksum is another
    (§5.3)."""
    if length is None:
        return
    checksum = zlib.crc32(kind)
    while length:
        part = file.read(min(length, _PART_BYTES))
        if not part:
            raise _broken()
        yield part
        length -= len(part)
        checksum = zlib.crc32(part, checksum)
    if file.read(4) != checksum.to_bytes(4, "big"):
        raise _broken()


class _Rows:
    """What the chunks of a frame, all of one *kind*, have to inflate to: *size* bytes, and what is beyond is
    no fault."""

    def __init__(self, kind: bytes, size: int) -> None:
        self.kind = kind
        self._lacking = size
        self._inflate = zlib.decompressobj()

    def add(self, data: Iterator[bytes]) -> None:
        """Inflate one chunk more."""
        skip = 4 if self.kind == b"fdAT" else 0  # its number (§11.3.6.3)
        for part in data:
            rest, skip = part[skip:], max(0, skip - len(part))
            while rest and not self._inflate.eof and not self._is_over():
                self._lacking -= len(self._inflate.decompress(rest, _PART_BYTES))
                rest = self._inflate.unconsumed_tail

    def finish(self) -> None:
        """Raise Undecodable unless it was all."""
        self._lacking -= len(self._inflate.flush())
        if self._lacking > 0 or not (self._inflate.eof or self._is_over()):
            raise _broken()

    def _is_over(self) -> bool:
        return self._lacking < -_PART_BYTES  # a bomb would go on for minutes


def _png_bytes(size: tuple[int, int], bits: int, is_interlaced: bool) -> int:
    """The bytes of all rows of a frame, each behind its filter type (§7.3, §8.1)."""
    width, height = size
    passes = _PASSES if is_interlaced else ((0, 0, 1, 1),)
    total = 0
    for left, top, across, down in passes:
        columns, rows = -(-(width - left) // across), -(-(height - top) // down)
        total += (1 + (columns * bits + 7) // 8) * rows if columns > 0 and rows > 0 else 0
    return total


# --- others -------------------------------------------------------------------------------------------------


def _check_icon(file: SourceFile) -> None:
    """As ``_check_png``, where the picture of an ICO that is shown is a PNG."""
    file.seek(IcoFile(file).entry[0].offset)
    data = file.read()
    if data.startswith(b"\x89PNG"):
        _check_png(BytesIO(data), 1)


def _check_gif(data: bytes) -> None:
    """Raise Undecodable where the file ends within a block, or behind what announces a frame. Where it ends
    between two frames, only its trailer is missing, or all of the others, which nothing tells."""
    at, is_announced = 13 + _palette_bytes(data[10]), False
    while at < len(data) and (mark := data[at]) != 0x3B:
        at += 1
        if mark == 0x2C:
            is_announced = False
            at += 10 + _palette_bytes(data[at + 8])  # with the size of codes
        elif mark == 0x21:
            is_announced = is_announced or data[at] == 0xF9  # a graphic control extension
            at += 1
        else:  # junk between blocks, which all readers skip
            continue
        while size := data[at]:
            at += size + 1
        at += 1
    if is_announced and at >= len(data):
        raise _broken()


def _palette_bytes(flags: int) -> int:
    return 3 << (flags % 8 + 1) if flags & 0x80 else 0
