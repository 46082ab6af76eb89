"""Numbers as people read and write them."""

from __future__ import annotations

import re
from decimal import Decimal

from ..errors import shown

__all__ = ["count_text", "parse_bytes", "parse_seconds", "ratio_text", "size_text"]

_PREFIXES = ("", "k", "M", "G", "T", "P", "E")
_BYTES = {"": 1, "b": 1} | {
    f"{letter}{i}b": base**power
    for i, base in (("", 1000), ("i", 1024))
    for power, letter in enumerate("kmgt", start=1)
}
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


def parse_seconds(text: str) -> float:
    """The seconds in a time such as ``30d``, ``12h``, ``90m``, ``45s`` or ``2w``; raises ValueError."""
    found = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,6})?) *([smhdw])", text.strip().lower())
    if found is None:
        raise ValueError(f"{text[:80]!r} is not a time; write a number with s, m, h, d or w, such as 30d")
    return float(found[1]) * _SECONDS[found[2]]


def parse_bytes(text: str | int) -> int:
    """The number of bytes in a size such as ``500 MB`` (10^6) or ``10 GiB`` (2^30); raises ValueError.

    Units are B, kB, MB, GB, TB, KiB, MiB, GiB and TiB in any case; no unit means a whole number of bytes.
    """
    if isinstance(text, int) and not isinstance(text, bool):
        return text
    size = re.fullmatch(r"([0-9]{1,20}(\.[0-9]{1,20})?) *([kmgt]?i?b|)", str(text).strip().lower())
    if size and (size[3] or not size[2]) and size[3] in _BYTES:
        return int(Decimal(size[1]) * _BYTES[size[3]])
    form = "write bytes or a number with a unit, such as 500 MB or 10 GiB"
    raise ValueError(f"{shown(text)} is not a size; {form}")


def count_text(count: int, noun: str) -> str:
    """``1 variant``, ``2 variants``: for nouns that take an s."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def size_text(size: float) -> str:
    """Bytes with three digits and an SI prefix: ``999 B``, ``1.23 kB``, ``45.6 MB``, ``10.0 GB``."""
    power = 0
    while abs(size) >= 999.5 and power + 1 < len(_PREFIXES):
        size /= 1000
        power += 1
    digits = max(0, 3 - len(f"{abs(size):.0f}")) if power else 0
    return f"{size:.{digits}f} {_PREFIXES[power]}B"


def ratio_text(part: float | None) -> str:
    """A part of 1 as percent: ``97.3 %``; a dash where there is none."""
    return "-" if part is None else f"{100 * part:.1f} %"
