"""An SVG as PNG on standard output: ``svg.py --width W --height H FILE``, also compressed (``.svgz``).

A program of its own, started as ``imagefactory-svg`` in the sandbox: it imports nothing of this package.
resvg runs no script and opens no address. It does read pictures from the disk (``<image href="/a.png">``), so
all references but those into the file itself are taken out before. Fonts are those of the system.
"""

from __future__ import annotations

import argparse
import codecs
import contextlib
import re
import resource
import sys
import zlib
from pathlib import Path
from xml.parsers import expat

import resvg_py

_VERSION = f"resvg_py {resvg_py.__version__}, resvg {resvg_py.__resvg_version__}"
_MAX_TEXT = 64 * 1024 * 1024
_LONGEST_NATURAL_PX = 4096
_MOST_PIXELS = 100_000_000
# resvg takes up to 30 kB of stack for an element in an element, and allows a thousand of them: with the
# usual 8 MB it dies by a signal.
_STACK_BYTES = 64 * 1024 * 1024
# CSS Values 4 §6.2, in pixels; em and ex as resvg takes them at its default of 16 px
_UNITS = {
    "": 1,
    "px": 1,
    "pt": 96 / 72,
    "pc": 16,
    "in": 96,
    "mm": 96 / 25.4,
    "cm": 96 / 2.54,
    "em": 16,
    "ex": 8,
}
_LENGTH = re.compile(r"\s*\+?(\d+\.?\d*|\.\d+)(?:[eE]([+-]?\d{1,2}))?([a-z]{0,2})\s*")
_BOMS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
_DECLARED = re.compile(rb"""<\?xml[^>]*\sencoding\s*=\s*["']([A-Za-z0-9._-]+)["']""")
_TAG = re.compile(rb"""<(?:[^<>"']|"[^"]*"|'[^']*')*>""")
_SIZES = re.compile(rb"""\s(width|height|viewBox|preserveAspectRatio)\s*=\s*(?:"[^"]*"|'[^']*')""")
_LINK = re.compile(rb"""(?<=[\s:"'])href(?=\s*=)""")


def main() -> None:
    """Print the picture that the command line asks for; exit with 1 and a line if there is none."""
    parser = argparse.ArgumentParser(prog="imagefactory-svg")
    parser.add_argument("--version", action="version", version=_VERSION)
    parser.add_argument("--width", type=int, default=0, help="pixels; 0 for both: its own size")
    parser.add_argument("--height", type=int, default=0)
    parser.add_argument("file")
    asked = parser.parse_args()
    with contextlib.suppress(ValueError):  # where the hard limit is lower
        resource.setrlimit(
            resource.RLIMIT_STACK, (_STACK_BYTES, resource.getrlimit(resource.RLIMIT_STACK)[1])
        )
    try:
        sys.stdout.buffer.write(picture(Path(asked.file).read_bytes(), asked.width, asked.height))
    except (ValueError, LookupError, OverflowError, OSError, expat.ExpatError, zlib.error) as error:
        sys.exit(f"imagefactory-svg: {error}")


def picture(data: bytes, width: int, height: int) -> bytes:
    """The PNG of an SVG, *width* x *height*, or where both are 0 in its own size, a CSS pixel for a pixel.

    Raises ValueError, LookupError, ExpatError or zlib.error for what is no SVG, is broken, or too large.
    """
    drawing = Drawing(_text(data))
    own = drawing.size()
    if own and not (width and height):
        scale = min(1, _LONGEST_NATURAL_PX / max(own))
        width, height = (max(1, round(side * scale)) for side in own)
    if width * height > _MOST_PIXELS:
        raise ValueError(f"{width} x {height} is more than {_MOST_PIXELS} pixels")
    picture: bytes = resvg_py.svg_to_bytes(
        svg_string=drawing.closed(width, height).decode(),
        width=width or None,
        height=height or None,
        dpi=96,  # its default of 0 makes a width in mm an error
        skip_system_fonts=not drawing.has_text,  # 40 ms for a few dozen
    )
    return picture


class Drawing:
    """What has to be known of an SVG, and changed in it, before it is rendered."""

    def __init__(self, text: bytes) -> None:
        self.text = text
        self.has_text = False
        self.root: dict[str, str] = {}
        self.root_at = -1
        self._open_at: list[int] = []  # tags with a reference that leads out of the file
        self._parser = expat.ParserCreate("utf-8")  # as resvg reads it, whatever its first line says
        self._parser.StartElementHandler = self._start
        self._parser.Parse(text, True)
        if self.root_at < 0:
            raise ValueError("it is no SVG")

    def size(self) -> tuple[float, float] | None:
        """Width and height in CSS pixels; None where the file has none, and its content decides."""
        wide, high = (_pixels(self.root.get(side, "")) for side in ("width", "height"))
        if wide and high:
            return wide, high
        box = self.view_box()
        if box is None:
            return None
        if wide:
            return wide, wide * box[3] / box[2]
        return (high * box[2] / box[3], high) if high else (box[2], box[3])

    def view_box(self) -> list[float] | None:
        """Left, top, width and height; None where there is no such box."""
        box = [float(number) for number in re.findall(r"[-+.\deE]+", self.root.get("viewBox", ""))]
        return box if len(box) == 4 and box[2] > 0 and box[3] > 0 else None

    def closed(self, width: int, height: int) -> bytes:
        """Its text without references that lead out of it, and with this size if it is not 0.

        resvg itself keeps the ratio and rounds up: a line more, or less, than asked for.
        """
        parts, last = [], 0
        for at in sorted({self.root_at, *self._open_at}):
            tag = _TAG.match(self.text, at)
            if tag is None:  # it stands in an entity
                raise ValueError("a reference that leads out of the file stands in an entity")
            new = tag[0]
            if at in self._open_at:
                new = _LINK.sub(b"left-out", new)
            if at == self.root_at and width and (own := self.size()):
                box = " ".join(map(str, self.view_box() or [0, 0, *own]))
                sizes = f' width="{width}" height="{height}" viewBox="{box}" preserveAspectRatio="none"'
                end = 2 if new.endswith(b"/>") else 1
                new = _SIZES.sub(b"", new[:-end]) + sizes.encode() + new[-end:]
            parts += [self.text[last:at], new]
            last = tag.end()
        return b"".join([*parts, self.text[last:]])

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        if self.root_at < 0:
            if name.rpartition(":")[2] != "svg":
                raise ValueError("it is no SVG")
            self.root, self.root_at = attributes, self._parser.CurrentByteIndex
        kind = name.rpartition(":")[2]
        self.has_text = self.has_text or kind == "text"
        if kind in ("image", "feImage"):
            links = [text.strip() for key, text in attributes.items() if key.rpartition(":")[2] == "href"]
            inside = ("data:", "#") if kind == "feImage" else ("data:",)
            if not all(text.startswith(inside) for text in links):
                self._open_at.append(self._parser.CurrentByteIndex)


def _pixels(text: str) -> float:
    """A length in pixels; 0 for a percentage and what is no length."""
    found = _LENGTH.fullmatch(text)
    if found is None or found[3] not in _UNITS:
        return 0
    return float(f"{found[1]}e{found[2] or 0}") * _UNITS[found[3]]


def _text(data: bytes) -> bytes:
    """The text of a file in UTF-8, unpacked."""
    if data[:2] == b"\x1f\x8b":
        unpacking = zlib.decompressobj(31)
        data = unpacking.decompress(data, _MAX_TEXT)
        if unpacking.unconsumed_tail:
            raise ValueError(f"it unpacks to more than {_MAX_TEXT} bytes")
    encoding = next((name for mark, name in _BOMS.items() if data.startswith(mark)), "")
    if not encoding:
        declared = _DECLARED.match(data)
        encoding = declared[1].decode() if declared else "utf-8"
    return data.decode(encoding).encode()


if __name__ == "__main__":
    main()
