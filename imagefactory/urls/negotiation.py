"""Which encoding a visitor's browser gets for ``encoding=auto``: proactive negotiation (RFC 9110 §12.1).

A file of its own because it needs Werkzeug, which a render worker has no use for.
"""

from __future__ import annotations

from functools import lru_cache

from werkzeug.datastructures import MIMEAccept
from werkzeug.http import parse_accept_header

from ..model.formats import CLASSIC, ENCODINGS, MODERN

__all__ = ["negotiate"]

_LONGEST = 2000  # browsers send 100; more of them are not to fill the memory


def negotiate(accept: str, own: str) -> str:
    """The encoding for ``encoding=auto``: what *accept* names explicitly with the highest q, else *own*.

    *own* is the source's default encoding. Wildcards are not explicit: every browser sends ``*/*``, and
    those that can show AVIF or WebP say so by name. A q of 0 refuses (RFC 9110 §12.5.1), and *own* is sent
    all the same when nothing else is left.
    """
    return _negotiate(accept[:_LONGEST], own)


@lru_cache(maxsize=512)
def _negotiate(accept: str, own: str) -> str:
    explicit = {
        media_type.lower(): quality
        for media_type, quality in parse_accept_header(accept, MIMEAccept)
        if "*" not in media_type
    }
    best, best_quality = own, 0.0
    for name in (*MODERN, own, *CLASSIC):  # of equals the smallest, then the source's
        quality = explicit.get(ENCODINGS[name].media_type, 0.0)
        if quality > best_quality:
            best, best_quality = name, quality
    return best
