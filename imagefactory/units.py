"""Numbers as people read and write them; used by the command line, the ops pages and the dashboard."""

from __future__ import annotations

import re

__all__ = ["count_text", "parse_seconds", "ratio_text", "size_text"]

_PREFIXES = ("", "k", "M", "G", "T", "P", "E")

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


def parse_seconds(text: str) -> float:
    """The seconds in a time such as ``30d``, ``12h``, ``90m``, ``45s`` or ``2w``; raises ValueError."""
    found = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,6})?) *([smhdw])", text.strip().lower())
    if found is None:
        raise ValueError(f"{text[:80]!r} is not a time; write a number with s, m, h, d or w, such as 30d")
    return float(found[1]) * _SECONDS[found[2]]


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
