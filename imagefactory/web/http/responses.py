"""From an answer of the generator to status and headers, for the view and the fast path; no Flask, no PIL.

The header sets here are a contract, pinned by tests. The Flask view and the WSGI fast path send the same.
"""

from __future__ import annotations

import json
import os
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import BinaryIO
from urllib.parse import quote

from werkzeug.datastructures import Headers
from werkzeug.http import http_date

from ...config import Http
from ...engine.answer import Answer
from ...errors import MethodNotAllowed, RequestError, TooMany, Unauthorized, Unavailable
from ...storage.body import Body
from ...urls.cache_tags import tag_header
from ...urls.client_hints import NOTHING_NEGOTIATED, Negotiated
from ...urls.query import Request
from .conditions import Verdict, content_range, judge

__all__ = [
    "CHUNK",
    "SMALL",
    "FilePart",
    "Reply",
    "accelerated",
    "error_reply",
    "json_reply",
    "may_accelerate",
    "options_reply",
    "picture_reply",
    "stream_reply",
]

CHUNK = 64 * 1024
# Larger bodies come from the file, by sendfile where the server has it.
SMALL = 128 * 1024
# An original may be anything that a browser would run as a page, were it not told otherwise.
_CSP = "default-src 'none'; sandbox"
# What these need to be shown, and no more: an SVG its own styles; a film itself, which Chromium does not load
# into a sandbox of another origin. It shows no PDF in a sandbox at all; its viewer runs none of the scripts
# of a PDF in our origin.
_FILM_CSP = "default-src 'none'; media-src 'self'; style-src 'unsafe-inline'; sandbox allow-same-origin"
_CSP_OF = {
    "image/svg+xml": "default-src 'none'; style-src 'unsafe-inline'; img-src data:; font-src data:; sandbox",
    "application/pdf": "default-src 'none'; object-src 'self'; style-src 'unsafe-inline'",
    **dict.fromkeys(("video/mp4", "video/quicktime", "video/webm", "video/x-matroska"), _FILM_CSP),
}


@dataclass(frozen=True, slots=True)
class Reply:
    """Status and headers, and which bytes go with them: those of the answer from *start* up to *stop*
    (exclusive), or the *text* of an error."""

    status: int
    headers: list[tuple[str, str]]
    start: int = 0
    stop: int = 0
    text: bytes = b""

    @property
    def has_body(self) -> bool:
        """Whether bytes of the picture are sent (to a HEAD, would be sent)."""
        return self.status in (200, 206)


def picture_reply(
    answer: Answer, request: Request, environ: Mapping[str, object], http: Http, now_s: float
) -> Reply:
    """The reply with a picture, or 304, 412 or 416, as the conditions in *environ* have it."""
    modified_s = max(0, min(answer.source.stamp.modified_ns // 1_000_000_000, int(now_s)))
    verdict = judge(environ, answer.etag, modified_s, answer.bytes, now_s)
    if verdict.status in (412, 416):
        return _failed(verdict, answer.bytes, request, http)
    headers = [
        ("ETag", answer.etag),
        ("Cache-Control", _cache_control(answer, request, http, now_s)),
        ("X-Content-Type-Options", "nosniff"),
        ("Content-Security-Policy", _CSP_OF.get(answer.media_type, _CSP)),
        ("X-Cache", answer.result),
    ]
    headers += _url_headers(request.negotiated, http)
    if http.cache_tags:
        headers.append(tag_header(http.cache_tags, answer.source.path, answer.source.digest))
    if answer.seconds:
        timing = ", ".join(f"{name};dur={seconds * 1000:.1f}" for name, seconds in answer.seconds.items())
        headers.append(("Server-Timing", timing))
    if verdict.status == 304:
        return Reply(304, headers)
    start, stop = (verdict.start, verdict.stop) if verdict.status == 206 else (0, answer.bytes)
    headers += [  # none of these in a 304 (RFC 9110 §15.4.5)
        ("Last-Modified", http_date(modified_s)),
        ("Content-Type", answer.media_type),
        ("Content-Length", str(stop - start)),
        ("Accept-Ranges", "bytes"),
        ("Content-Disposition", _disposition(answer.source.path, answer.suffix, request.download)),
    ]
    if verdict.status == 206:
        headers.append(("Content-Range", content_range(verdict, answer.bytes)))
    return Reply(verdict.status, headers, start, stop)


def stream_reply(answer: Answer, request: Request, http: Http) -> Reply:
    """The reply with a picture that is still made: there is nothing yet that a cache could keep, or a client
    compare or take a part of."""
    headers = [
        ("Cache-Control", "no-store"),
        ("X-Content-Type-Options", "nosniff"),
        ("Content-Security-Policy", _CSP_OF.get(answer.media_type, _CSP)),
        ("X-Cache", answer.result),
        *_url_headers(request.negotiated, http),
        ("Content-Type", answer.media_type),
        ("Content-Disposition", _disposition(answer.source.path, answer.suffix, request.download)),
    ]
    return Reply(200, headers)


def may_accelerate(reply: Reply, environ: Mapping[str, object], http: Http) -> bool:
    """Whether the web server in front may send the body of *reply*.

    Not where it would judge the request again by the date of its file, and refuse what we have allowed.
    """
    is_judged = "HTTP_IF_MATCH" in environ or "HTTP_IF_UNMODIFIED_SINCE" in environ
    return http.accel != "off" and reply.status == 200 and not is_judged


def accelerated(reply: Reply, body: Body, http: Http) -> Reply:
    """*reply* without its body, which the web server in front sends from the file that a header names."""
    headers = [(name, value) for name, value in reply.headers if name != "Content-Length"]
    if http.accel == "x-accel-redirect":
        headers.append(("X-Accel-Redirect", f"{http.accel_prefix}{body.name}"))
    else:
        headers.append(("X-Sendfile", str(body.root / body.name)))
    return Reply(reply.status, headers)


class FilePart:
    """The bytes of *file* from *start* up to *stop*, as a file. It has no descriptor: a server that sends
    files by themselves would send the rest as well."""

    def __init__(self, file: BinaryIO, start: int, stop: int) -> None:
        self._file = file
        self._start = start
        self._length = stop - start
        self._at = 0
        file.seek(start)

    def read(self, size: int = -1) -> bytes:
        """The next *size* bytes, or all that are left."""
        left = self._length - self._at
        data = self._file.read(left if size < 0 else min(size, left))
        self._at += len(data)
        return data

    def seekable(self) -> bool:
        """Waitress keeps what it can go back in as it is, and copies the rest."""
        return True

    def tell(self) -> int:
        """How many bytes of the part lie before the next one."""
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """As ``io.IOBase.seek``, within the part."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._length}[whence]
        self._at = min(max(0, base + offset), self._length)
        self._file.seek(self._start + self._at)
        return self._at

    def close(self) -> None:
        """Close the file; a server does so also when its client went away."""
        self._file.close()


# What [http] allows the scripts of other origins is for pictures. Other replies they may not read.
_NO_PICTURES = Http()


def error_reply(
    error: RequestError, negotiated: Negotiated = NOTHING_NEGOTIATED, http: Http = _NO_PICTURES
) -> Reply:
    """The reply for *error*: JSON with its code and its public text. At the URL of a picture it has the
    headers of *http*, and those of what is *negotiated* there."""
    extra = []
    if isinstance(error, Unavailable | TooMany):
        extra.append(("Retry-After", str(error.retry_after_s)))
    if isinstance(error, Unauthorized):
        extra.append(("WWW-Authenticate", 'Bearer realm="imagefactory"'))
    if isinstance(error, MethodNotAllowed):
        extra.append(("Allow", ", ".join(error.allowed)))
    return _json_reply(error.status, error.code, str(error), extra + _url_headers(negotiated, http))


def options_reply(
    allowed: tuple[str, ...], negotiated: Negotiated = NOTHING_NEGOTIATED, http: Http = _NO_PICTURES
) -> Reply:
    """The reply to OPTIONS (RFC 9110 §9.3.7); *negotiated* and *http* as in ``error_reply``."""
    headers = [("Allow", ", ".join(allowed)), ("Cache-Control", "no-store")]
    return Reply(204, headers + _url_headers(negotiated, http))


def _failed(verdict: Verdict, length: int, request: Request, http: Http) -> Reply:
    extra = _url_headers(request.negotiated, http)
    if verdict.status == 416:
        detail = f"the picture has {length} bytes, the range lies outside of them"
        extra.append(("Content-Range", content_range(verdict, length)))
        return _json_reply(416, "range_not_satisfiable", detail, extra)
    return _json_reply(412, "precondition_failed", "the picture is not the one that the request names", extra)


def _json_reply(status: int, code: str, detail: str, extra: list[tuple[str, str]]) -> Reply:
    return json_reply(status, {"error": code, "detail": detail}, extra)


def json_reply(status: int, values: Mapping[str, object], extra: Iterable[tuple[str, str]] = ()) -> Reply:
    """A reply with *values* as JSON, which no cache may keep."""
    text = json.dumps(values).encode() + b"\n"
    headers = [
        ("Content-Type", "application/json"),
        ("Content-Length", str(len(text))),
        ("Cache-Control", "no-store"),
        ("X-Content-Type-Options", "nosniff"),
    ]
    return Reply(status, [*headers, *extra], text=text)


def _url_headers(negotiated: Negotiated, http: Http) -> list[tuple[str, str]]:
    """The headers that every answer at the URL of a picture has, whatever its status."""
    headers, negotiated = [], negotiated.heeded(http)
    for name, value in (
        ("Vary", negotiated.vary()),
        ("Accept-CH", negotiated.accept_ch()),
        ("Access-Control-Allow-Origin", http.access_control_allow_origin),
        ("Cross-Origin-Resource-Policy", http.cross_origin_resource_policy),
        ("Timing-Allow-Origin", http.timing_allow_origin),
    ):
        if value:
            headers.append((name, value))
    return headers


def _cache_control(answer: Answer, request: Request, http: Http, now_s: float) -> str:
    if not answer.is_stable:
        return "no-store"
    scope = "private" if request.grant.is_private else "public"
    if request.grant.expires_s is not None:  # no copy outlives its URL
        return f"{scope}, max-age={max(0, min(http.max_age_s, int(request.grant.expires_s - now_s)))}"
    if request.version and request.version == answer.version:
        return f"{scope}, max-age=31536000, immutable"
    if http.stale_while_revalidate_s:
        return f"{scope}, max-age={http.max_age_s}, stale-while-revalidate={http.stale_while_revalidate_s}"
    return f"{scope}, max-age={http.max_age_s}"


@lru_cache(maxsize=4096)
def _disposition(path: str, suffix: str, download: str | None) -> str:
    """Content-Disposition (RFC 6266) as Werkzeug's send_file writes it."""
    stem = path.rpartition("/")[2].rpartition(".")[0] or path.rpartition("/")[2]
    name = download or f"{stem}.{suffix}"
    if "." not in name:
        name = f"{name}.{suffix}"
    kind = "inline" if download is None else "attachment"
    headers = Headers()
    if name.isascii():
        headers.set("Content-Disposition", kind, filename=name)
    else:
        simple = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode("ascii")
        simple = simple.replace("/", "_").replace("\\", "_")  # U+2100 is a/c in ASCII
        exact = f"UTF-8''{quote(name, safe='!#$&+-.^_`|~')}"
        headers.set("Content-Disposition", kind, **{"filename": simple, "filename*": exact})
    return headers["Content-Disposition"]
