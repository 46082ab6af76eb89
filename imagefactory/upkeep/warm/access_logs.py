"""Requests out of access logs: our own JSON lines, and the common and combined format of Apache and nginx.

Log lines hold what strangers sent: none of them makes this raise,
and each takes time in proportion to its length.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

__all__ = ["LogEntry", "LogReader", "read_log"]

# The longest line that a server writes is a request of 32 kB with each byte as \xHH.
_MAX_LINE = 160 * 1024
# What follows the time in brackets: the request in quotes, status, bytes. Possessive repeats never go back.
_REQUEST = re.compile(r'"((?:[^"\\]|\\.)*+)" ([0-9]{3}|-) (?:[0-9]+|-)(?![^ \r\n])', re.DOTALL)
_METHOD = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,32}")  # a token, RFC 9110 §9.1
_VERSION = re.compile(rb"HTTP/[0-9](?:\.[0-9])?")
_ORIGIN = re.compile(rb"[A-Za-z][A-Za-z0-9+.-]{0,31}://[^/?#]*")
_ENCODING = re.compile(r"[a-z0-9.+-]{0,32}")
# nginx writes bytes as \x22, Apache has these letters besides.
_ESCAPE = re.compile(rb"\\(?:x([0-9A-Fa-f]{2})|(.))", re.DOTALL)
_LETTERS = {b"b": b"\b", b"n": b"\n", b"r": b"\r", b"t": b"\t", b"v": b"\v", b"f": b"\f"}


@dataclass(frozen=True, slots=True)
class LogEntry:
    """A request: *path* without percent-encoding, as UTF-8 with U+FFFD for what is none; *query* as it was
    sent, its bytes as Latin-1; *status* 0 and *encoding* (such as ``webp``) empty where the log has none.

    A query that imagefactory logged has ``***`` for the value of a signature.
    """

    method: str
    path: str
    query: str
    status: int
    encoding: str


class LogReader(Iterator[LogEntry]):
    """The requests in *lines*; *skipped* counts the lines so far that have none. Empty lines don't count."""

    def __init__(self, lines: Iterable[str]) -> None:
        self._lines = iter(lines)
        self.skipped = 0

    def __next__(self) -> LogEntry:
        for line in self._lines:
            if not line.strip():
                continue
            entry = _entry(line)
            if entry is not None:
                return entry
            self.skipped += 1
        raise StopIteration


def read_log(lines: Iterable[str]) -> LogReader:
    """The requests in *lines*, each of any of the three formats.

    Open a file with ``errors="surrogateescape"``: logs may hold bytes that are not UTF-8, and then they come
    back as they were.
    """
    return LogReader(lines)


def _entry(line: str) -> LogEntry | None:
    if len(line) > _MAX_LINE:
        return None
    line = line.lstrip("\ufeff \t")
    return _from_json(line) if line.startswith("{") else _from_text(line)


def _from_json(line: str) -> LogEntry | None:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return None
    match found:
        case {"method": str(method), "path": str(path), "status": int(status)} if path.startswith("/"):
            query, encoding = found.get("query", ""), found.get("encoding", "")
            is_read = isinstance(query, str) and isinstance(encoding, str) and 0 <= status <= 999
            if is_read and not isinstance(status, bool) and _METHOD.fullmatch(_bytes(method)):
                encoding = encoding if _ENCODING.fullmatch(encoding) else ""
                return LogEntry(method, _text(_bytes(path)), query, status, encoding)
    return None


def _from_text(line: str) -> LogEntry | None:
    """The common format, with whatever comes before its time and after its bytes.

    What comes before may hold the name that a visitor typed, but no quote without a backslash before it.
    """
    begin = line.find('] "')
    found = _REQUEST.match(line, begin + 2) if begin >= 0 else None
    if found is None:
        return None
    method, _, rest = _ESCAPE.sub(_unescaped, _bytes(found[1])).partition(b" ")
    target, blank, version = rest.rpartition(b" ")  # a target with blanks is a mistake that happens
    if not blank or not _VERSION.fullmatch(version):
        target = rest  # HTTP/0.9 had no version
    if not _METHOD.fullmatch(method):
        return None
    origin = _ORIGIN.match(target)  # requests to proxies have it, RFC 9112 §3.2.2
    if origin:
        target = target[origin.end() :]
    path, _, query = target.partition(b"#")[0].partition(b"?")
    if not path.startswith(b"/") and not (origin and not path):
        return None
    status = 0 if found[2] == "-" else int(found[2])
    return LogEntry(
        method.decode(), _text(unquote_to_bytes(path)) or "/", query.decode("latin-1"), status, ""
    )


def _unescaped(escape: re.Match[bytes]) -> bytes:
    if escape[1] is not None:
        return bytes.fromhex(escape[1].decode())
    return _LETTERS.get(escape[2], escape[2])


def _bytes(text: str) -> bytes:
    """The bytes that *text* was read from; lone surrogates that a file has none of become something else."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")
