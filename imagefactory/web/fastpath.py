"""The fast path: a WSGI middleware that answers sure hits before Flask, and hands everything else on.

It remembers what a URL was answered with (the source's stamp, the epoch, the headers, and the bytes of a
small body), and gives the same again as long as one stat of the source and one of the epoch say that nothing
has changed. So a purge in another process, or a replaced source, is seen at the next request. Views fill it
(``remember``); it looks nothing up and renders nothing. Conditions and ranges are judged by the same code
as in the view, and its answers are the same, header by header.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NoReturn

from werkzeug.http import HTTP_STATUS_CODES
from werkzeug.wsgi import FileWrapper

from ..common.memo import Memo
from ..config import Config
from ..engine.answer import Answer
from ..errors import RequestError
from ..factory import Parts
from ..model.formats import default_encoding
from ..model.source import Stamp
from ..storage.body import Body
from ..urls.client_hints import NOTHING_NEGOTIATED, Negotiated, read_hints
from ..urls.negotiation import negotiate
from ..urls.query import Request
from .host_app import VIEW, HostApp
from .http.counting import count_answer
from .http.responses import CHUNK, SMALL, FilePart, accelerated, may_accelerate, picture_reply

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

__all__ = ["FastPath", "NotSure", "SureHits"]

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
    stamp: Stamp
    epoch: int
    headers: list[tuple[str, str]]
    answer: Answer
    request: Request
    until_s: float | None = None  # from then on its max-age would be too long
    data: bytes | None = None
    hits: int = 0  # whole bodies sent from memory since they were counted


class FastPath:
    """The middleware around *app*, the inside of *host*; its memo takes at most ``[cache] memory_bytes``."""

    def __init__(self, app: WSGIApplication, parts: Parts, host: HostApp) -> None:
        self.app = app
        self._host = host
        self._config = parts.config
        self._http = parts.config.http
        self._clock = parts.clock
        self._sources = parts.sources
        self._notices = parts.store.notices
        self._finder = parts.finder
        self._memo: Memo[_Key, _Entry | _Negotiation] = Memo(parts.config.cache.memory_bytes)
        self._counters = parts.counters
        self._counters.feeders.append(self._feed)
        self._counters.meters.append(self._measure)
        self._hit: list[_Entry] = []  # whose hits are above 0

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        key = (environ.get("PATH_INFO", ""), environ.get("QUERY_STRING", ""), "")
        slot = self._memo.slots.get(key)
        if slot is not None and isinstance(slot.value, _Negotiation):
            slot.is_used = True
            key = (key[0], key[1], slot.value.secondary_key(environ, self._config))
            slot = self._memo.slots.get(key)
        entry = slot and slot.value
        if slot is None or not isinstance(entry, _Entry) or environ["REQUEST_METHOD"] not in _METHODS:
            return self.app(environ, start_response)
        host = self._host
        if (
            len(host.attributes) != host.known
            or host.views.get(VIEW) is not host.ours
            or (
                (host.started.receivers or host.pushed.receivers or host.finished.receivers)
                and host.has_receivers()
            )
        ):
            return self.app(environ, start_response)
        slot.is_used = True
        if (
            not self._sources.is_current(entry.path, entry.stamp)
            or self._notices.epoch() != entry.epoch
            or (entry.until_s is not None and self._clock() >= entry.until_s)
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
        source, now_s = answer.source, self._clock()
        is_lasting = answer.is_stable and not source.is_racy and source.stamp.modified_ns < now_s * 1e9
        epoch, ends_s = answer.epoch, request.grant.expires_s
        until_s = None if ends_s is None else ends_s - self._http.max_age_s
        if epoch is None or not is_lasting or (until_s is not None and now_s >= until_s):
            return
        answer = replace(answer, result="hit", body=None, seconds={})
        headers = picture_reply(answer, request, {"REQUEST_METHOD": "GET"}, self._http, now_s).headers
        key = (environ.get("PATH_INFO", ""), environ.get("QUERY_STRING", ""), "")
        negotiated = request.negotiated.heeded(self._http)
        if negotiated != NOTHING_NEGOTIATED and source.header is not None:
            if request.texts and source.header.programs:
                return  # what is sent without a word in Accept depends on the run
            negotiation = _Negotiation(negotiated, default_encoding(source.header))
            self._memo.put(key, negotiation, _weight(key, _OWN_BYTES))
            key = (key[0], key[1], negotiation.secondary_key(environ, self._config))
        entry = _Entry(source.path, source.stamp, epoch, headers, answer, request, until_s)
        self._memo.put(key, entry, _weight(key))

    def _send(
        self, key: _Key, entry: _Entry, environ: WSGIEnvironment, start_response: StartResponse
    ) -> Iterable[bytes] | None:
        """The answer that takes more than a look: a condition, a range, or a body that is not in memory.

        None when the body is gone: then the view looks again.
        """
        answer, http = entry.answer, self._http
        reply = picture_reply(answer, entry.request, environ, http, self._clock())
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
                return None
            if isinstance(content, bytes):
                body = [content if is_whole else content[reply.start : reply.stop]]
            elif is_elsewhere and content.name:
                content.close()
                reply, body = accelerated(reply, content, http), []
            else:
                file = content.open()
                part = file if is_whole else FilePart(file, reply.start, reply.stop)
                body = environ.get("wsgi.file_wrapper", FileWrapper)(part, CHUNK)
        start_response(f"{reply.status} {HTTP_STATUS_CODES[reply.status].upper()}", reply.headers)
        self._note(entry, reply.status, reply.stop - reply.start if environ["REQUEST_METHOD"] == "GET" else 0)
        return body

    def _note(self, entry: _Entry, status: int, sent: int) -> None:
        """Count an answer of *sent* bytes."""
        count_answer(self._counters, entry.answer, status, sent)

    def _measure(self) -> dict[str, float]:
        """What the memo takes."""
        return {"memo_bytes": self._memo.bytes, "memo_entries": len(self._memo)}

    def _feed(self) -> None:
        """Count the hits since the last time."""
        entries, self._hit = self._hit, []
        for entry in entries:
            hits = entry.hits
            entry.hits -= hits
            count_answer(self._counters, entry.answer, 200, entry.answer.bytes, hits)

    def _content(self, key: _Key, entry: _Entry, is_elsewhere: bool) -> bytes | Body | None:
        """The bytes of an entry, or a body to send by its file; None if they are gone, which the view shall
        find out about. A small body that is sent by us is kept."""
        answer = entry.answer
        try:
            body = self._finder.open(answer, may_hash=False)
            if body is not None and body.data is None:
                is_sent_by_us = self._http.accel == "off" or answer.variant is None
                if is_elsewhere or answer.bytes > SMALL or not is_sent_by_us:
                    return body
            data = None if body is None else body.read()
        except (RequestError, OSError):
            body = data = None
        if body is None or data is None or len(data) != answer.bytes:
            self._memo.drop(key)
            return None
        if body.data is None and self._memo.put(key, entry, _weight(key) + len(data)):
            entry.data = data
        return data


class NotSure(BaseException):
    """This is no sure hit, and nothing was done about it. No Exception, which on its way something could take
    for a mistake."""


class SureHits(FastPath):
    """A WSGI app for a server that answers where it reads: from the memory of *fastpath*, what takes no file,
    no wait and no Flask. For all else it raises NotSure."""

    def __init__(self, fastpath: FastPath) -> None:
        vars(self).update(vars(fastpath))
        self.app = _refuse
        self._hit = []
        self._counters.feeders.append(self._feed)

    def _content(self, key: _Key, entry: _Entry, is_elsewhere: bool) -> None:
        return None

    def pause_s(self, environ: WSGIEnvironment) -> float:
        """How many seconds the disk takes now for what a hit of *environ* asks of it."""
        began = time.perf_counter()
        key = (environ.get("PATH_INFO", ""), environ.get("QUERY_STRING", ""), "")
        slot = self._memo.slots.get(key)
        if slot is not None and isinstance(slot.value, _Negotiation):
            slot = self._memo.slots.get((key[0], key[1], slot.value.secondary_key(environ, self._config)))
        if slot is not None and isinstance(slot.value, _Entry):
            self._sources.is_current(slot.value.path, slot.value.stamp)
        else:  # forgotten: a disk that failed after a while had it look changed
            self._sources.is_readable()
        self._notices.epoch()
        return time.perf_counter() - began


def _refuse(environ: WSGIEnvironment, start_response: StartResponse) -> NoReturn:
    raise NotSure


def _weight(key: _Key, bytes_: int = _ENTRY_BYTES) -> int:
    """The bytes that what is remembered under *key* takes without a body, if it takes *bytes_* by itself."""
    return bytes_ + _CHARACTER_BYTES * (len(key[0]) + len(key[1]))
