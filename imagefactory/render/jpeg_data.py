"""Whether the data of a JPEG has all of its pixels, which Pillow does not say.

libjpeg makes grey of what is lacking, with a warning that Pillow drops. So libjpeg gets the same data here in
other files, in whose pixels a lack shows. References are to ITU-T T.81.
"""

from __future__ import annotations

import hashlib
import io
import re
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from PIL import JpegImagePlugin

from ..errors import Undecodable

__all__ = ["check_data"]

# A marker, behind any number of fill bytes (§B.1.1.2); FF 00 is a data byte.
_MARKER = re.compile(rb"\xff+([\x01-\xfe])")
_BARE_MARKERS = frozenset((0x01, *range(0xD0, 0xD9)))
_HUFFMAN_TABLES, _START_OF_SCAN, _END, _QUANTISATION, _INTERVAL = 0xC4, 0xDA, 0xD9, 0xDB, 0xDD
_SEQUENTIAL, _PROGRESSIVE, _LOSSLESS = (0xC0, 0xC1), 0xC2, 0xC3
_FRAMES = frozenset(range(0xC0, 0xD0)) - {_HUFFMAN_TABLES, 0xC8, 0xCC}
_MAX_SIDE = 65_500  # of libjpeg
_MAX_INTERVAL = 65_535
_BLOCK = 8
# What stands behind the data of a part: nothing, for which libjpeg takes zeros and then grey; or bytes
# without a meaning (and without an FF), which begin with the bits 10, 01, 11. As many as fill the blocks of
# an MCU that are not shown: 33 bytes did not. Where a table has few codes, each of three was once read as the
# end of the last block, of which a byte was lacking.
_FILLERS = (
    b"",
    *(
        bytes([start]) + bytes(byte % 254 + 1 for byte in hashlib.shake_256(bytes([start])).digest(255))
        for start in (0x9A, 0x6D, 0xE3, 0xB1, 0x47, 0xD6, 0x2C)
    ),
)
_LEAST_FILLER = 32
_ALL_FILLERS = 2**22  # bytes in a file
_FEW_CODES = 6
_STRIP_ROWS = 256


class _Component(NamedTuple):
    """A component of the frame: its number, its sampling factors, its quantisation table."""

    id: int
    across: int
    down: int
    table: int


@dataclass(slots=True)
class _Scan:
    """A scan: its header with the marker, the tables before it, the *interval* of restarts in MCUs (0 for
    none), and its data in *parts* with a restart marker between them, whose numbers are *restarts*."""

    header: bytes
    tables: bytes
    interval: int
    parts: list[bytes] = field(default_factory=list)
    restarts: list[int] = field(default_factory=list)

    @property
    def components(self) -> Sequence[int]:
        """The numbers of its components (§B.2.3)."""
        count = self.header[4]
        return self.header[5 : 5 + 2 * count : 2]

    def written(self, interval: int, filler: bytes = b"") -> bytes:
        """It as a part of a file, with *filler* behind each part of its data."""
        restarts = b"\xff\xdd\0\4" + interval.to_bytes(2, "big")
        marks = [b"\xff" + bytes([0xD0 + number]) for number in self.restarts] + [b""]
        data = b"".join(part + filler + mark for part, mark in zip(self.parts, marks, strict=True))
        return self.tables + restarts + self.header + data


@dataclass(slots=True)
class _File:
    """What counts for the pixels of a JPEG: the start of its frame, its quantisation tables, its scans."""

    process: int = 0
    width: int = 0
    height: int = 0
    precision: int = 0
    components: list[_Component] = field(default_factory=list)
    quantisation: bytes = b""
    scans: list[_Scan] = field(default_factory=list)

    def frame(self, width: int, height: int) -> bytes:
        """The header of the frame (§B.2.2), with another size in pixels."""
        rows = b"".join(bytes((id, across << 4 | down, table)) for id, across, down, table in self.components)
        head = struct.pack(">BHHB", self.precision, height, width, len(self.components))
        return b"\xff" + bytes([self.process]) + struct.pack(">H", 2 + len(head + rows)) + head + rows

    @property
    def sampling(self) -> tuple[int, int]:
        """The largest sampling factors, across and down."""
        return max(each.across for each in self.components), max(each.down for each in self.components)

    def units(self, scan: _Scan) -> int:
        """How many MCUs a scan has (§A.2)."""
        across, down = self.sampling
        side = 1 if self.process == _LOSSLESS else _BLOCK
        if len(scan.components) > 1:
            return -(-self.width // (side * across)) * -(-self.height // (side * down))
        own = next(each for each in self.components if each.id == scan.components[0])
        columns = -(-self.width * own.across // across)
        rows = -(-self.height * own.down // down)
        return -(-columns // side) * -(-rows // side)


def check_data(data: bytes) -> bool:
    """True where every pixel of the JPEG *data* comes from its data; the end marker may be missing. False for
    rare kinds (arithmetic coding), which are left to the decoder. Raises Undecodable where pixels are
    lacking.

    What is damaged without a lack of data can't be told: a decoder makes other pixels of it.
    """
    jpeg = _parsed(data)
    if jpeg.process not in (*_SEQUENTIAL, _PROGRESSIVE, _LOSSLESS):
        return False
    if not (_is_covered(jpeg) and all(_has_restarts(jpeg, scan) for scan in jpeg.scans)):
        raise _lacking()
    is_whole = _is_whole(jpeg)
    if not (_needs_no_more(jpeg) if is_whole is None else is_whole):
        raise _lacking()
    return True


def _lacking() -> Undecodable:
    return Undecodable("it is broken or cut off")


# --- the parts of a file ------------------------------------------------------------------------------------


def _parsed(data: bytes) -> _File:
    jpeg, tables, interval = _File(), b"", 0
    at = 2
    while (found := _MARKER.search(data, at)) and (marker := found[1][0]) != _END:
        at = found.end()
        if marker in _BARE_MARKERS:
            continue
        end = at + int.from_bytes(data[at : at + 2], "big")
        if end > len(data):
            break
        segment = b"\xff" + data[at - 1 : end]
        if marker in _FRAMES and not jpeg.components:
            jpeg.process = marker
            jpeg.precision, jpeg.height, jpeg.width, count = struct.unpack_from(">BHHB", segment, 4)
            rows = struct.iter_unpack("3B", segment[10 : 10 + 3 * count])
            jpeg.components = [_Component(id, both >> 4, both & 15, table) for id, both, table in rows]
        elif marker == _QUANTISATION:
            jpeg.quantisation += segment
        elif marker == _HUFFMAN_TABLES:
            tables += segment
        elif marker == _INTERVAL:
            interval = int.from_bytes(segment[4:6], "big")
        elif marker == _START_OF_SCAN:
            scan = _Scan(segment, tables, interval)
            end, tables = _read_scan(data, end, scan), b""
            jpeg.scans.append(scan)
        at = end
    if len(jpeg.components) == 1:  # one component is never interleaved, whatever its factors (§A.2.2)
        jpeg.components = [jpeg.components[0]._replace(across=1, down=1)]
    return jpeg


def _read_scan(data: bytes, at: int, scan: _Scan) -> int:
    """Read the data of *scan* from *at* on; where the next marker begins."""
    for found in _MARKER.finditer(data, at):
        scan.parts.append(data[at : found.start()])
        if not 0xD0 <= (marker := found[1][0]) <= 0xD7:
            return found.start()
        scan.restarts.append(marker - 0xD0)
        at = found.end()
    scan.parts.append(data[at:].rstrip(b"\xff"))  # the first half of an end marker
    return len(data)


def _is_covered(jpeg: _File) -> bool:
    """Whether there are scans for all coefficients of all components, down to their last bit (§G.1.1.1)."""
    if jpeg.process != _PROGRESSIVE:
        return {each.id for each in jpeg.components} <= {id for scan in jpeg.scans for id in scan.components}
    lowest: dict[tuple[int, int], int] = {}
    for scan in jpeg.scans:
        first, last, bits = scan.header[-3:]
        for place in ((id, k) for id in scan.components for k in range(first, last + 1)):
            if bits >> 4 and lowest.get(place) != bits >> 4:  # a scan between is missing
                return False
            lowest[place] = bits & 15
    return all(lowest.get((each.id, k)) == 0 for each in jpeg.components for k in range(64))


def _has_restarts(jpeg: _File, scan: _Scan) -> bool:
    """Whether no part between two restarts is missing: their numbers go round from 0 to 7 (§B.2.1)."""
    if not scan.interval:
        return True
    wanted = -(-jpeg.units(scan) // scan.interval) - 1
    return scan.restarts[:wanted] == [number % 8 for number in range(wanted)]


# --- what libjpeg makes of it -------------------------------------------------------------------------------


def _is_whole(jpeg: _File) -> bool | None:
    """Whether the data of a sequential file with one scan is whole, exactly; None for other files. A quick
    decode (at 1/8), or two."""
    scan = jpeg.scans[0]
    if jpeg.process not in _SEQUENTIAL or len(scan.components) != len(jpeg.components):
        return None
    grey = _grey_parts(jpeg, scan.parts)
    if not grey:
        return None if grey is None else True
    # Lacking, or as grey as the end of the picture.
    parts = list(scan.parts)
    for number in grey:
        parts[number] = _nudged(jpeg, number)
    changed = {number for number in grey if parts[number] != scan.parts[number]}
    return not (changed and changed.intersection(_grey_parts(jpeg, parts) or ()))


def _grey_parts(jpeg: _File, parts: Sequence[bytes]) -> list[int] | None:
    """Which of *parts*, the data of the one scan, have a grey MCU behind their end; None where that can't be
    seen.

    The file is decoded with one MCU more behind each part. Where bits were lacking before, libjpeg leaves
    this MCU grey, and all up to the next restart; else it begins to decode it, from the bits that fill the
    last byte.
    """
    [across, down], scan = jpeg.sampling, jpeg.scans[0]
    total = jpeg.units(scan)
    each = scan.interval or total
    count = -(-total // each)
    if count > 1 and each == _MAX_INTERVAL:
        return None
    places = [*range(each, (count - 1) * (each + 1), each + 1), total + count - 1]
    # MCUs have no place of their own: any width will do.
    most = _MAX_SIDE // (_BLOCK * down)
    columns = max(-(-jpeg.width // (_BLOCK * across)), -(-(places[-1] + 1) // most))
    rows = -(-(places[-1] + 1) // columns)
    if columns > _MAX_SIDE // (_BLOCK * across):
        return None
    tables = sorted({component.table for component in jpeg.components})
    # A coefficient of 1 shows in the reduced picture.
    quantisation = b"".join(b"\xff\xdb\0\x43" + bytes([table]) + b"\x08" * 64 for table in tables)
    frame = jpeg.frame(columns * across * _BLOCK, rows * down * _BLOCK)
    longer = replace(scan, parts=list(parts[:count]), restarts=scan.restarts[: count - 1])
    body = longer.written(each + 1 if count > 1 else 0)
    picture = _opened(b"".join((b"\xff\xd8", quantisation, frame, body, b"\xff\xd9")))
    picture.draft(None, (picture.width // _BLOCK, picture.height // _BLOCK))
    picture.load()
    grey = 127 if picture.mode == "CMYK" else 128  # Pillow turns the values of CMYK round
    samples, stride = picture.tobytes(), picture.width * len(picture.getbands())
    row = bytes([grey]) * (across * len(picture.getbands()))
    found = []
    for number, place in enumerate(places):
        start = place // columns * down * stride + place % columns * len(row)
        if all(samples.startswith(row, start + line * stride) for line in range(down)):
            found.append(number)
    return found


def _nudged(jpeg: _File, number: int) -> bytes:
    """Part *number* with another difference of a DC coefficient, so that what comes behind it can't be grey:
    all later blocks of its component are as much lighter or darker. As it is where it is whole, and has no
    difference in it. Raises Undecodable where it is at its end before."""
    scan = jpeg.scans[0]
    total = jpeg.units(scan)
    each = scan.interval or total
    data = bytearray(scan.parts[number].replace(b"\xff\0", b"\xff"))
    place = _first_difference(jpeg, data, min(each, total - number * each))
    if place is not None:
        data[place // 8] ^= 0x80 >> place % 8  # its sign
    return bytes(data).replace(b"\xff", b"\xff\0")


def _first_difference(jpeg: _File, data: bytearray, units: int) -> int | None:
    """Where the bits of the first DC difference that is not 0 begin, in the *data* of so many MCUs without
    stuffed bytes (§F.2.2); None where there is none. Raises Undecodable at the end of the data, and for no
    code."""
    scan = jpeg.scans[0]
    tables = _tables(scan.tables)
    sampling = {each.id: each.across * each.down for each in jpeg.components}
    pairs = zip(scan.components, scan.header[6 : 6 + 2 * len(scan.components) : 2], strict=True)
    blocks = [(both >> 4, 16 | both & 15) for id, both in pairs for _ in range(sampling[id])]
    at, end = 0, 8 * len(data)

    def symbol(table: Mapping[tuple[int, int], int]) -> int:
        nonlocal at
        code = 0
        for length in range(1, 17):
            if at == end:
                raise _lacking()
            code = code << 1 | data[at >> 3] >> 7 - (at & 7) & 1
            at += 1
            if (length, code) in table:
                return table[length, code]
        raise _lacking()

    for _ in range(units):
        for dc, ac in blocks:
            if size := symbol(tables[dc]):
                if at + size > end:
                    raise _lacking()
                return at
            k = 1
            while k < 64:
                run, size = divmod(symbol(tables[ac]), 16)
                if not size and run < 15:
                    break
                k += run + 1
                at += size
                if at > end:
                    raise _lacking()
    return None


def _tables(segments: bytes) -> dict[int, dict[tuple[int, int], int]]:
    """The Huffman tables: a symbol for each length of a code and its bits (§B.2.4.2, §C.2). Those for AC
    coefficients have numbers from 16 on."""
    tables: dict[int, dict[tuple[int, int], int]] = {}
    at = 0
    while at < len(segments):
        end = at + 2 + int.from_bytes(segments[at + 2 : at + 4], "big")
        at += 4
        while at < end:
            number, counts = segments[at], segments[at + 1 : at + 17]
            table, code = tables.setdefault(number, {}), 0
            table.clear()
            at += 17
            for length, count in enumerate(counts, 1):
                for symbol in segments[at : at + count]:
                    table[length, code] = symbol
                    code += 1
                at += count
                code <<= 1
    return tables


def _needs_no_more(jpeg: _File) -> bool:
    """Whether the pixels are the same whatever follows the data of each part, from where a decoder takes the
    bits that are lacking. Three full decodes or, where a table has few codes, eight; two where they
    differ."""
    codes = (len(table) for scan in jpeg.scans for table in _tables(scan.tables).values())
    first, *others = _FILLERS if min(codes, default=0) < _FEW_CODES else _FILLERS[:3]
    expected = _pixels(jpeg, first)
    return all(_pixels(jpeg, filler) == expected for filler in others)


def _pixels(jpeg: _File, filler: bytes) -> bytes:
    """The digest of the pixels with *filler* behind each part."""
    head = b"\xff\xd8" + jpeg.quantisation + jpeg.frame(jpeg.width, jpeg.height)
    filler = filler[: max(_LEAST_FILLER, _ALL_FILLERS // sum(len(scan.parts) for scan in jpeg.scans))]
    scans = (scan.written(scan.interval, filler) for scan in jpeg.scans)
    picture = _opened(b"".join((head, *scans, b"\xff\xd9")))
    picture.load()
    digest = hashlib.sha1(usedforsecurity=False)
    for top in range(0, picture.height, _STRIP_ROWS):  # no second copy of all pixels
        digest.update(picture.crop((0, top, picture.width, top + _STRIP_ROWS)).tobytes())
    return digest.digest()


def _opened(data: bytes) -> JpegImagePlugin.JpegImageFile:
    return JpegImagePlugin.JpegImageFile(io.BytesIO(data))
