"""How waitress reads a request, with the expectations of RFC 9110 §10.1.1: the ``parser_class`` of a channel.

waitress 3.0.2 answers ``100 Continue`` also where no body is to come, and then waits for it for ever. A body
that is too large it asks for before it refuses it, and it ignores expectations that it does not know.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from waitress.parser import HTTPRequestParser, ParsingError
from waitress.utilities import Error
from werkzeug.http import HTTP_STATUS_CODES

from ..engine.flights import Waiter
from ..errors import BodyTooLarge, RequestError, Unauthorized
from ..web.http.admission import SMALL_BODY
from ..web.http.responses import error_reply

__all__ = ["Parser"]

_CONTINUE = "100-continue"

# What of method, decoded path and Authorization may have how long a body, in bytes. Raises RequestError.
BodyLimit = Callable[[str, str, str], int]


class _ExpectationFailed(Error):  # type: ignore[misc]  # waitress has no types
    code = 417
    reason = "Expectation Failed"


class _Refused(Error):  # type: ignore[misc]
    """One of our errors, in the form in which the app answers it."""

    def __init__(self, error: RequestError) -> None:
        super().__init__(str(error))
        self._reply = error_reply(error)

    def to_response(self, ident: str | None = None) -> tuple[str, list[tuple[str, str]], bytes]:
        status = self._reply.status
        return f"{status} {HTTP_STATUS_CODES[status]}", list(self._reply.headers), self._reply.text


class Parser(HTTPRequestParser):  # type: ignore[misc]
    """One request. *error* is the answer to what is no request, or one that we do not take; by *waiter* it
    waits for what another one makes. Its body may have *most* bytes: waitress reads it before the app is
    asked, so who may send a large one is judged by the header."""

    error: Error | None = None
    most = SMALL_BODY
    is_cut = False

    def __init__(self, adj: Any) -> None:
        super().__init__(adj)
        self.waiter = Waiter(comes_again=True)

    def received(self, data: bytes) -> int:
        """How many bytes of *data* belong to the request."""
        count: int = super().received(data)
        if not self.error and self.body_bytes_received > self.most:
            self.error = _Refused(BodyTooLarge(self.most))
        if self.error:
            self.completed = True
        if self.completed:
            # "A server MAY omit sending a 100 [...] if the framing indicates that there is no content".
            self.expect_continue = False
        return len(data) if self.is_cut else count

    def parse_header(self, header_plus: bytes) -> None:
        """Read the request line and the headers."""
        try:
            super().parse_header(header_plus)
        except ValueError as error:  # a length with more digits than int() takes
            raise ParsingError("Content-Length is invalid") from error
        if "TRANSFER_ENCODING" in self.headers or (self.chunked and "CONTENT_LENGTH" in self.headers):
            # A proxy may see another end of the body than we do, and take it for a request (RFC 9112 §6.1).
            raise ParsingError("Transfer-Encoding has no place beside Content-Length, nor in HTTP/1.0")
        self._limit()
        if self.version != "1.1":  # "MUST ignore that expectation" of HTTP/1.0
            return
        # A list, of which members may be empty (§5.6.1).
        expected = {each.strip(" \t").lower() for each in self.headers.get("EXPECT", "").split(",")} - {""}
        self.expect_continue = _CONTINUE in expected
        unknown = sorted(expected - {_CONTINUE})
        if unknown:
            self.error = _ExpectationFailed(f"expect={unknown[0][:100]!r} is not {_CONTINUE}")

    def _limit(self) -> None:
        """Refuse a body that is too long, or that only the token would allow."""
        if not self.content_length and not self.chunked:
            return
        limit: BodyLimit | None = getattr(self.adj, "body_limit", None)
        try:
            if limit is not None:
                path = self.path.encode("latin-1", "replace").decode("utf-8", "replace")
                self.most = limit(self.command, path, self.headers.get("AUTHORIZATION", ""))
            if self.content_length > self.most:
                raise BodyTooLarge(self.most)
        except Unauthorized:
            self._leave_body()
        except RequestError as error:
            self.error = _Refused(error)

    def _leave_body(self) -> None:
        """Hand the request on without its body, as the last one of its connection: the app refuses it, and
        counts who guesses."""
        self.is_cut = True
        self.content_length, self.chunked, self.body_rcv = 0, False, None
        self.headers |= {"CONTENT_LENGTH": "0", "CONNECTION": "close"}
