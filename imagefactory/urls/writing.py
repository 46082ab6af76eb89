"""Canonical URLs: parameters under their canonical names, in the order of the table, percent-encoded."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from urllib.parse import quote

from .parameters import NAMES, PARAMETERS

__all__ = ["by_canonical_name", "in_order", "picture_url", "query_text"]

_ORDER = {name: number for number, name in enumerate(PARAMETERS)}


def in_order(query: Mapping[str, str]) -> dict[str, str]:
    """*query*, which has canonical names, in the order of the table."""
    return dict(sorted(query.items(), key=lambda item: _ORDER[item[0]]))


def by_canonical_name(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """The values of *pairs* that mean something here. Where two names say one thing it is the one that does:
    a side of 0, or of nothing, follows from the others."""
    found: dict[str, str] = {}
    for name, text in pairs:
        canonical = NAMES.get(name, "")
        if canonical and (text.strip("0.") or canonical not in found):
            found[canonical] = text
    return found


def query_text(pairs: Iterable[tuple[str, str]]) -> str:
    """*pairs* with canonical names as they stand in a URL. Halves of characters, as names of files have them,
    become question marks."""
    return "&".join(f"{name}={quote(value, safe='', errors='replace')}" for name, value in pairs)


def picture_url(prefix: str, path: str, pairs: Iterable[tuple[str, str]] = ()) -> str:
    """The URL of the picture at *path* below *prefix*, with *pairs* as its query."""
    query = query_text(pairs)
    return f"{prefix}/{quote(path, safe='/', errors='replace')}{'?' if query else ''}{query}"
