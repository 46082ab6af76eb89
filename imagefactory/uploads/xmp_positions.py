"""Puts spaces over positions in XMP (ISO 16684-1): attributes and elements whose name begins with GPS.

The prefix does not matter: ``exif:GPSLatitude`` and DJI's ``drone-dji:GpsLatitude`` are such names. The name
of a place (``photoshop:City``) is no position.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from .blocks import PART_BYTES, Block, Work

__all__ = ["blank", "has_positions"]

# A packet is taken into memory to be read. Phones and cameras write some kB, with a depth map some MB.
_MAX_BYTES = 8 * 2**20
# In UTF-8, UTF-16 or UTF-32: the beginning of a name, before which the element, its prefix or a space stands.
_MENTION = re.compile(rb"[<:\s/]\0{0,3}g\0{0,3}p\0{0,3}s", re.IGNORECASE)
_MENTION_BYTES = 16
# What a tag or an attribute costs (``Work``): about 1 us.
_TOKEN_COST = 48
# Each part takes what it can and gives nothing back (``++``), so a packet is read once, whatever is in it.
# A tag that is broken ends with the packet or where the next one begins.
_TOKEN = re.compile(
    rb"""<!--.*?(?:-->|\Z)
    | <!\[CDATA\[.*?(?:\]\]>|\Z)
    | <\?.*?(?:\?>|\Z)
    | <(?P<end>/?)(?P<name>[^\s<>"'/=!?]++)
      (?P<rest>(?:[^<>"']++|"[^"<]*+(?:"|(?=<)|\Z)|'[^'<]*+(?:'|(?=<)|\Z))*+)(?:>|(?=<)|\Z)""",
    re.DOTALL | re.VERBOSE,
)
_ATTRIBUTE = re.compile(rb"""(?<![^\s"'/])([^\s"'=/<>]++)\s*+=\s*+(?:"[^"]*+(?:"|\Z)|'[^']*+(?:'|\Z))""")


def blank(block: Block) -> bool:
    """Put spaces over the positions in the packet in *block*; whether there were any.

    What is well-formed stays so. One of more than 8 MiB that mentions positions is blanked as a whole.
    """
    if not _is_mentioned(block):
        return False
    width, space = _unit(block.read(0, 4))
    if block.length > _MAX_BYTES:
        block.fill(0, block.length, space)
        return True
    packet = bytearray(block.read(0, block.length))
    is_found = False
    for start, end in _positions(_in_bytes(packet, width, space), block.work):
        packet[start * width : end * width] = space * (end - start)
        is_found = True
    if is_found:
        block.write(0, packet)
    return is_found


def has_positions(packet: bytes, work: Work) -> bool:
    """Whether ``blank`` would find any in *packet*."""
    width, space = _unit(packet[:4])
    return _MENTION.search(packet) is not None and any(
        True for _ in _positions(_in_bytes(packet, width, space), work)
    )


def _is_mentioned(block: Block) -> bool:
    before = b""
    for part in block.parts():
        if _MENTION.search(before + part):
            return True
        before = part[-_MENTION_BYTES:] if len(part) == PART_BYTES else b""
    return False


def _unit(head: bytes) -> tuple[int, bytes]:
    """How many bytes a character of ASCII takes, and a space, in a packet that starts with *head*."""
    for encoding in ("utf-32-le", "utf-32-be", "utf-16-le", "utf-16-be"):
        marks = tuple(mark.encode(encoding) for mark in "<\ufeff \n")
        if head.startswith(marks):
            return len(marks[0]), " ".encode(encoding)
    return 1, b" "


def _in_bytes(packet: bytes | bytearray, width: int, space: bytes) -> bytes:
    """*packet* with a byte for each unit; 0xFF for what is no ASCII, which is in no syntax of XML."""
    if width == 1:
        return bytes(packet)
    columns = [packet[number::width] for number in range(width)]
    low = columns.pop(space.index(b" "))
    return bytes(0xFF if any(high) else value for value, *high in zip(low, *columns, strict=False))


def _positions(text: bytes, work: Work) -> Iterator[tuple[int, int]]:
    """Where positions are in *text*: (start, end), exclusive, one behind the other.

    An element ends where as many have ended as have begun. One that never ends, as the packet is cut off or
    broken, goes with its text up to the next tag, and so does each one behind it.
    """
    at = depth = start = 0  # where the outermost element of a position began, and how deep we are in it
    is_broken = False
    while True:
        for token in _TOKEN.finditer(text, at):
            work.spend(_TOKEN_COST)
            name = token["name"]
            opens = name is not None and not token["end"] and not token["rest"].endswith(b"/")
            if depth and name is not None:
                depth += 1 if opens else -1 if token["end"] else 0
                if not depth:
                    yield start, token.end()
            elif depth:
                pass
            elif name is None:
                if token[0].startswith(b"<!--") and _MENTION.search(token[0]):
                    yield token.span()
            elif not _is_position(name):
                yield from _attributes(text, token, work)
            elif is_broken:
                found = text.find(b"<", token.end())
                yield token.start(), len(text) if found < 0 else found
            elif opens:
                start, depth = token.start(), 1
            else:
                yield token.span()
        if not depth:
            return
        at, depth, is_broken = start, 0, True


def _attributes(text: bytes, token: re.Match[bytes], work: Work) -> Iterator[tuple[int, int]]:
    start, end = token.span("rest")
    for found in _ATTRIBUTE.finditer(text, start, end):
        work.spend(_TOKEN_COST)
        if _is_position(found[1]):
            yield found.span()


def _is_position(name: bytes) -> bool:
    prefix, _, local = name.rpartition(b":")
    return local[:3].upper() == b"GPS" and prefix != b"xmlns"
