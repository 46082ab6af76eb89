"""Draws what Pillow can't: PDFs, and the raw file of a camera."""

from __future__ import annotations

import struct
from array import array
from collections.abc import Mapping, Sequence
from typing import Any

from PIL import Image

# The four quarters of a page of 200 x 100 points, as in support.drawing.
QUARTERS = (
    b"0.863 0.118 0.118 rg 0 50 100 50 re f 0.118 0.706 0.118 rg 100 50 100 50 re f "
    b"0.118 0.118 0.863 rg 0 0 100 50 re f 0.98 0.98 0.98 rg 100 0 100 50 re f"
)


def pdf(
    pages: Sequence[bytes] = (QUARTERS,),
    box: str = "0 0 200 100",
    page: bytes = b"",
    catalog: bytes = b"",
    trailer: bytes = b"",
    more: Sequence[bytes] = (),
) -> bytes:
    """A PDF: *pages* are what is drawn on each; *page*, *catalog* and *trailer* are entries of those
    dictionaries. *more* are objects with the numbers from 10 on."""
    kids = b" ".join(b"%d 0 R" % (100 + n) for n in range(len(pages)))
    objects = {
        1: b"<< /Type /Catalog /Pages 2 0 R %s >>" % catalog,
        2: b"<< /Type /Pages /Kids [%s] /Count %d >>" % (kids, len(pages)),
        **dict(enumerate(more, 10)),
    }
    for n, drawn in enumerate(pages):
        objects[200 + n] = stream(drawn)
        what = (box.encode(), 200 + n, page)
        objects[100 + n] = b"<< /Type /Page /Parent 2 0 R /MediaBox [%s] /Contents %d 0 R %s >>" % what
    out, offsets = b"%PDF-1.7\n", {}
    for number, content in objects.items():
        offsets[number] = len(out)
        out += b"%d 0 obj\n%s\nendobj\n" % (number, content)
    rows = b"".join(b"%d 1\n%010d 00000 n \n" % (number, at) for number, at in offsets.items())
    end = (
        b"xref\n0 1\n0000000000 65535 f \n%strailer << /Size 400 /Root 1 0 R %s >>\nstartxref\n%d\n%%%%EOF\n"
    )
    return out + end % (rows, trailer, len(out))


def stream(data: bytes, entries: bytes = b"") -> bytes:
    """The content of an object that is a stream."""
    return b"<< /Length %d %s >>\nstream\n%s\nendstream" % (len(data), entries, data)


def dng(
    image: Image.Image, orientation: int = 1, preview: bytes = b"", size: tuple[int, int] = (0, 0)
) -> bytes:
    """A raw file (DNG 1.4, without compression) of what a sensor sees of *image*: one colour for each pixel,
    red, green, green, blue. *preview* is a JPEG of *size*."""
    sees = [65535 * (v / 255 / 12.92 if v <= 10 else ((v / 255 + 0.055) / 1.055) ** 2.4) for v in range(256)]
    rgb = image.convert("RGB")
    width, height = rgb.size
    pixels, raw = rgb.tobytes(), array("H")
    for y in range(height):
        for x in range(width):
            raw.append(round(sees[pixels[(y * width + x) * 3 + y % 2 + x % 2]]))
    data = bytearray(b"II*\0\0\0\0\0")

    def put(content: bytes) -> int:
        at = len(data)
        data.extend(content + b"\0" * (len(content) % 2))
        return at

    def directory(tags: Mapping[int, tuple[str, Sequence[Any]]]) -> int:
        rows = []
        for tag, (kind, values) in sorted(tags.items()):
            number = {"B": 1, "s": 2, "H": 3, "I": 4, "II": 5, "ii": 10}[kind]
            if kind == "s":
                body, count = bytes(values) + b"\0", len(values) + 1
            else:
                rows_of = values if len(kind) == 2 else [(value,) for value in values]
                body, count = b"".join(struct.pack(f"<{kind}", *each) for each in rows_of), len(values)
            inline = body.ljust(4, b"\0") if len(body) <= 4 else struct.pack("<I", put(body))
            rows.append(struct.pack("<HHI", tag, number, count) + inline)
        return put(struct.pack("<H", len(rows)) + b"".join(rows) + b"\0\0\0\0")

    sensor = {
        254: ("I", [0]),
        256: ("I", [width]),
        257: ("I", [height]),
        258: ("H", [16]),
        259: ("H", [1]),
        262: ("H", [32803]),
        273: ("I", [put(raw.tobytes())]),
        277: ("H", [1]),
        278: ("I", [height]),
        279: ("I", [len(raw) * 2]),
        33421: ("H", [2, 2]),
        33422: ("B", [0, 1, 1, 2]),
        50714: ("I", [0]),
        50717: ("I", [65535]),
    }
    # sRGB's own matrix: the camera sees as a screen shows
    matrix = [32404542, -15371385, -4985314, -9692660, 18760108, 415560, 556434, -2040259, 10572252]
    first: dict[int, tuple[str, Sequence[Any]]] = {
        254: ("I", [1]),
        271: ("s", b"Drawn"),
        272: ("s", b"Test"),
        274: ("H", [orientation]),
        330: ("I", [directory(sensor)]),
        50706: ("B", [1, 4, 0, 0]),
        50708: ("s", b"Drawn Test"),
        50721: ("ii", [(n, 10**7) for n in matrix]),
        50728: ("II", [(1, 1)] * 3),
        50778: ("H", [21]),
    }
    if preview:
        first |= {256: ("I", [size[0]]), 257: ("I", [size[1]]), 258: ("H", [8, 8, 8]), 259: ("H", [7])}
        first |= {262: ("H", [6]), 273: ("I", [put(preview)]), 277: ("H", [3]), 278: ("I", [size[1]])}
        first |= {279: ("I", [len(preview)])}
    struct.pack_into("<I", data, 4, directory(first))
    return bytes(data)
