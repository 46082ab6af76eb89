"""The fast path: a WSGI middleware that answers sure hits before Flask, and hands everything else on.

It remembers what a URL was answered with (the source's stamp, the epoch, the headers, and the bytes of a
small body), and gives the same again as long as one stat of the source and one of the epoch say that nothing
has changed. So a purge in another process, or a replaced source, is seen at the next request. Views fill it
(``remember``); it looks nothing up and renders nothing. Conditions and ranges are judged by the same code
as in the view, and its answers are the same, header by header.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, BinaryIO

from werkzeug.http import HTTP_STATUS_CODES
from werkzeug.wsgi import FileWrapper

from ..common.memo import Memo
from ..config import Config
from ..engine.generator import Answer, Generator
from ..model.formats import default_encoding
from ..storage.disk import Body
from ..urls.client_hints import NOTHING_NEGOTIATED, Negotiated, read_hints
from ..urls.negotiation import negotiate
from ..urls.query import Request
from .counting import count_answer
from .responses import CHUNK, FilePart, accelerated, may_accelerate, picture_reply

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

__all__ = ["FastPath"]

# Larger bodies come from the file, by sendfile where the server has it.
_SMALL = 128 * 1024
# What an entry takes beside its body and for each character of its URL, which may be very long: 2,700 to
# 3,200 and 1 to 5 were measured.
_ENTRY_BYTES = 3000
_CHARACTER_BYTES = 5
# The same for a negotiation: 200 beside the strings that it shares with its entries.
_OWN_BYTES = 500
_METHODS = ("GET", "HEAD")
_CONDITIONS = frozenset(
    f"HTTP_{name}"
    for name in ("IF_MATCH", "IF_NONE_MATCH", "IF_MODIFIED_SINCE", "IF_UNMODIFIED_SINCE", "RANGE")
)
_OK = "200 OK"

# PATH_INFO, QUERY_STRING, and the secondary key: what was negotiated, empty where nothing is.
_Key = tuple[str, str, str]


@dataclass(frozen=True, slots=True)
class _Negotiation:
    """What of the answers at a URL is negotiated; *own* is the source's own encoding."""

    negotiated: Negotiated
    own: str

    def secondary_key(self, environ: Mapping[str, object], config: Config) -> str:
        """What the headers in *environ* choose, in words, of which there are few; never empty."""
        is_auto = self.negotiated.encoding
        encoding = negotiate(str(environ.get("HTTP_ACCEPT", "")), self.own) if is_auto else "-"
        if self.negotiated == _ENCODING:
            return encoding
        hints = read_hints(environ, config.http, config.limits.ladder, self.negotiated)
        return f"{encoding} {hints.width} {hints.dpr} {hints.is_saving}"


_ENCODING = Negotiated(encoding=True)


@dataclass(slots=True)
class _Entry:
    """A remembered answer. *data* comes with the first request that wants it."""

    path: str
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int
    epoch: int
    headers: list[tuple[str, str]]
    answer: Answer
    request: Request
    until_s: float | None = None  # from then on its max-age would be too long
    data: bytes | None = None
    hits: int = 0  # whole bodies sent from memory since they were counted


class FastPath:
    """The middleware around *app*; its memo takes at most ``[cache] memory_bytes``."""

    def __init__(self, app: WSGIApplication, generator: Generator) -> None:
        self.app = app
        self._generator = generator
        self._http = generator.config.http
        self._memo: Memo[_Key, _Entry | _Negotiation] = Memo(generator.config.cache.memory_bytes)
        self._tally = generator.tally
        self._tally.feeders.append(self._feed)
        generator.meters.append(self._measure)
        self._hit: list[_Entry] = []  # whose hits are above 0

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        key = (environ.get("PATH_INFO", ""), environ.get("QUERY_STRING", ""), "")
        entry = self._memo.get(key)
        if isinstance(entry, _Negotiation):
            key = (key[0], key[1], entry.secondary_key(environ, self._generator.config))
            entry = self._memo.get(key)
        if not isinstance(entry, _Entry) or environ["REQUEST_METHOD"] not in _METHODS:
            return self.app(environ, start_response)
        try:
            status = os.stat(entry.path)  # noqa: PTH116  # a Path costs as much as the stat itself
        except (OSError, ValueError):
            status = None
        if (
            status is None
            or status.st_mtime_ns != entry.mtime_ns
            or status.st_ino != entry.inode
            or status.st_size != entry.size
            or status.st_ctime_ns != entry.ctime_ns
            or self._generator.store.epoch() != entry.epoch
            or (entry.until_s is not None and self._generator.now_s() >= entry.until_s)
        ):
            self._memo.drop(key)
            return self.app(environ, start_response)
        if entry.data is not None and _CONDITIONS.isdisjoint(environ):
            if environ["REQUEST_METHOD"] != "GET":
                start_response(_OK, entry.headers[:])
                self._note(entry, 200, 0)
                return []
            entry.hits += 1  # no thread comes in between: CPython changes threads at calls and jumps back
            if entry.hits == 1:  # counted before the call: _feed may run in there, and must find it
                self._hit.append(entry)
            start_response(_OK, entry.headers[:])
            # A list: granian sends that without iterating, in seven eighths of the time.
            return [entry.data]
        body = self._send(key, entry, environ, start_response)
        return self.app(environ, start_response) if body is None else body

    def remember(self, environ: WSGIEnvironment, request: Request, answer: Answer) -> None:
        """Give *answer* again at this URL, as long as nothing changes.

        Left out is what holds for the moment only: a source that may change within the tick of its clock,
        or whose date lies in the future, and what was not stored.
        """
        source, now_s = answer.source, self._generator.now_s()
        is_lasting = answer.is_stable and not source.is_racy and source.stamp.mtime_ns < now_s * 1e9
        epoch, ends_s = answer.epoch, request.grant.expires_s
        until_s = None if ends_s is None else ends_s - self._http.max_age_s
        if epoch is None or not is_lasting or (until_s is not None and now_s >= until_s):
            return
        answer = replace(answer, result="hit", body=None, seconds={})
        headers = picture_reply(answer, request, {"REQUEST_METHOD": "GET"}, self._http, now_s).headers
        path = str(self._generator.sources.locate(source.path))
        key = (environ.get("PATH_INFO", ""), environ.get("QUERY_STRING", ""), "")
        negotiated = request.negotiated.heeded(self._http)
        if negotiated != NOTHING_NEGOTIATED and source.header is not None:
            negotiation = _Negotiation(negotiated, default_encoding(source.header))
            self._memo.put(key, negotiation, _weight(key, _OWN_BYTES))
            key = (key[0], key[1], negotiation.secondary_key(environ, self._generator.config))
        entry = _Entry(path, *source.stamp, epoch, headers, answer, request, until_s)
        self._memo.put(key, entry, _weight(key))

    def _send(
        self, key: _Key, entry: _Entry, environ: WSGIEnvironment, start_response: StartResponse
    ) -> Iterable[bytes] | None:
        """The answer that takes more than a look: a condition, a range, or a body that is not in memory.

        None when the body is gone: then the view looks again.
        """
        answer, http = entry.answer, self._http
        reply = picture_reply(answer, entry.request, environ, http, self._generator.now_s())
        body: Iterable[bytes]
        if environ["REQUEST_METHOD"] == "HEAD":
            body = []
        elif not reply.has_body:
            body = [reply.text]
        else:
            is_whole = (reply.start, reply.stop) == (0, answer.bytes)
            is_elsewhere = answer.variant is not None and may_accelerate(reply, environ, http)
            content = entry.data if entry.data is not None else self._content(key, entry, is_elsewhere)
            if content is None:
                self._memo.drop(key)
                return None
            if isinstance(content, bytes):
                body = [content if is_whole else content[reply.start : reply.stop]]
            elif isinstance(content, Body):
                reply, body = accelerated(reply, content, http), []
            elif is_whole:
                body = environ.get("wsgi.file_wrapper", FileWrapper)(content, CHUNK)
            else:
                body = FilePart(content, reply.start, reply.stop)
        start_response(f"{reply.status} {HTTP_STATUS_CODES[reply.status].upper()}", reply.headers)
        self._note(entry, reply.status, reply.stop - reply.start if environ["REQUEST_METHOD"] == "GET" else 0)
        return body

    def _note(self, entry: _Entry, status: int, sent: int) -> None:
        """Count an answer of *sent* bytes."""
        count_answer(self._tally, entry.answer, status, sent)

    def _measure(self) -> dict[str, float]:
        """What the memo takes."""
        return {"memo_bytes": self._memo.bytes, "memo_entries": len(self._memo)}

    def _feed(self) -> None:
        """Count the hits since the last time."""
        entries, self._hit = self._hit, []
        for entry in entries:
            hits = entry.hits
            entry.hits -= hits
            count_answer(self._tally, entry.answer, 200, entry.answer.bytes, hits)

    def _content(self, key: _Key, entry: _Entry, is_elsewhere: bool) -> bytes | BinaryIO | Body | None:
        """The bytes of an entry, a file that has them, or where the web server in front finds them."""
        answer = entry.answer
        if is_elsewhere:
            body = self._generator.open(answer)
            return body and (body if body.data is None else body.data)
        content = self._generator.stream(answer)
        is_sent_by_us = self._http.accel == "off" or answer.variant is None
        if content is None or isinstance(content, bytes) or answer.bytes > _SMALL or not is_sent_by_us:
            return content
        try:
            with content:
                data = content.read()
        except OSError:  # the view finds out what it is
            return None
        if len(data) != answer.bytes:
            return None
        if self._memo.put(key, entry, _weight(key) + len(data)):
            entry.data = data
        return data


def _weight(key: _Key, bytes_: int = _ENTRY_BYTES) -> int:
    """The bytes that what is remembered under *key* takes without a body, if it takes *bytes_* by itself."""
    return bytes_ + _CHARACTER_BYTES * (len(key[0]) + len(key[1]))
