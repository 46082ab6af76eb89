"""Bodies of requests: read in pieces, counted, and never believed to be whole because they ended.

gunicorn, gevent and granian show a client that vanished as a normal end of the body, and all servers say
``wsgi.input_terminated``, so Werkzeug counts nothing either.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ...errors import (
    BadParameter,
    BodyTooLarge,
    LengthRequired,
    RequestError,
    Truncated,
    WrongType,
)

__all__ = ["Body", "Reader", "body_of", "read_small"]

_PIECE = 64 * 1024
_DIGITS = re.compile("[0-9]{1,15}", re.ASCII)
_DIGEST = re.compile(r"\s*([a-z0-9*_.-]+)\s*=\s*:([A-Za-z0-9+/=]*):(?:;[^,]*)?\s*")


@dataclass(frozen=True, slots=True)
class Body:
    """A body to be read: its *length* in bytes, None where it comes in chunks, and its sha256 in hex where
    the client sent that."""

    reader: Reader
    length: int | None
    digest: str | None


class Reader:
    """The pieces of a body of *length* bytes, or up to its end. Raises Truncated, and BodyTooLarge above
    *limit* bytes, where that is set; *error* is what it raised."""

    def __init__(self, stream: Any, length: int | None) -> None:
        self._stream = stream
        self._length = length
        self.got = 0
        self.limit: int | None = None
        self.error: RequestError | None = None

    def __iter__(self) -> Iterator[bytes]:
        try:
            yield from self._pieces()
        except RequestError as error:
            self.error = error
            raise

    def _pieces(self) -> Iterator[bytes]:
        while self._length is None or self.got < self._length:
            left = _PIECE if self._length is None else min(_PIECE, self._length - self.got)
            try:
                piece: bytes = self._stream.read(left)
            except Exception as error:  # gunicorn's NoMoreData is no OSError, and its chunks raise others
                raise Truncated(self.got, self._length) from error
            if not piece:
                if self._length is not None:
                    raise Truncated(self.got, self._length)
                return
            self.got += len(piece)
            if self.limit is not None and self.got > self.limit:
                raise BodyTooLarge(self.limit)
            yield piece


def body_of(environ: Mapping[str, Any], *, must_prove: bool = True) -> Body:
    """The body of a request. With *must_prove* one in chunks needs a digest, as its end proves nothing.

    Raises LengthRequired, WrongType for one that is packed, BadParameter for a malformed header.
    """
    coding = str(environ.get("HTTP_CONTENT_ENCODING", "")).strip().lower()
    if coding not in ("", "identity"):
        raise WrongType(f"{coding[:40]} in Content-Encoding", "a body as it is")
    digest = _digest(str(environ.get("HTTP_CONTENT_DIGEST", "")))
    text = str(environ.get("CONTENT_LENGTH") or "").strip()
    if environ.get("HTTP_TRANSFER_ENCODING") or (not text and environ.get("wsgi.input_terminated")):
        if must_prove and digest is None:
            raise LengthRequired
        return Body(Reader(environ["wsgi.input"], None), None, digest)
    if not text:
        raise LengthRequired
    if not _DIGITS.fullmatch(text):
        raise BadParameter("Content-Length", f"Content-Length is {text[:40]!r}, which is no length")
    length = int(text)
    return Body(Reader(environ["wsgi.input"], length), length, digest)


def read_small(environ: Mapping[str, Any], limit: int) -> bytes:
    """The whole body, of *limit* bytes at most. Raises BodyTooLarge and as ``body_of``."""
    body = body_of(environ, must_prove=False)
    if body.length is not None and body.length > limit:
        raise BodyTooLarge(limit)
    data = bytearray()
    for piece in body.reader:
        data += piece
        if len(data) > limit:
            raise BodyTooLarge(limit)
    return bytes(data)


def _digest(header: str) -> str | None:
    """The sha256 in hex of a Content-Digest (RFC 9530 §2); None where it names none."""
    if not header:
        return None
    found = None
    for each in header.split(","):
        match = _DIGEST.fullmatch(each)
        if match is None:
            raise BadParameter("Content-Digest", "Content-Digest is to be sha-256=:BASE64: (RFC 9530)")
        if match[1] == "sha-256":
            try:
                value = base64.b64decode(match[2], validate=True)
            except binascii.Error:
                value = b""
            if len(value) != 32:
                raise BadParameter("Content-Digest", "its sha-256 is not the base64 of 32 bytes")
            found = value.hex()
    return found
