"""JSON of more than a kilobyte, packed for clients that take it."""

from __future__ import annotations

import gzip
import re
from collections.abc import Mapping
from dataclasses import replace

from .responses import Reply

__all__ = ["packed"]

_LEAST = 1000
_GZIP = re.compile(r"\s*(?:gzip|x-gzip|\*)\s*(?:;\s*q\s*=\s*([0-9.]+)\s*)?", re.IGNORECASE)


def packed(reply: Reply, environ: Mapping[str, object]) -> Reply:
    """*reply* with its text by gzip, where that is long and the client takes it (RFC 9110 §12.5.3)."""
    if len(reply.text) <= _LEAST:
        return reply
    headers = [*reply.headers, ("Vary", "Accept-Encoding")]
    found = [_GZIP.fullmatch(each) for each in str(environ.get("HTTP_ACCEPT_ENCODING", "")).split(",")]
    if not any(match and _weight(match[1]) > 0 for match in found):
        return replace(reply, headers=headers)
    text = gzip.compress(reply.text, 5, mtime=0)
    headers = [(name, value) for name, value in headers if name != "Content-Length"]
    headers += [("Content-Length", str(len(text))), ("Content-Encoding", "gzip")]
    return replace(reply, headers=headers, text=text)


def _weight(text: str | None) -> float:
    """The weight that *text* says; 1 for none, 0 for what is no number."""
    try:
        return 1.0 if text is None else float(text)
    except ValueError:
        return 0.0
