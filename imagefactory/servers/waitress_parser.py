"""How waitress reads a request, with the expectations of RFC 9110 §10.1.1: the ``parser_class`` of a channel.

waitress 3.0.2 answers ``100 Continue`` also where no body is to come, and then waits for it for ever. A body
that is too large it asks for before it refuses it, and it ignores expectations that it does not know.
"""

from __future__ import annotations

from typing import Any

from waitress.parser import HTTPRequestParser
from waitress.utilities import Error

from ..engine.flights import Waiter

__all__ = ["Parser"]

_CONTINUE = "100-continue"


class _ExpectationFailed(Error):  # type: ignore[misc]  # waitress has no types
    code = 417
    reason = "Expectation Failed"


class Parser(HTTPRequestParser):  # type: ignore[misc]
    """One request. *error* is the answer to what is no request, or one that we do not take; by *waiter* it
    waits for what another one makes."""

    error: Error | None = None

    def __init__(self, adj: Any) -> None:
        super().__init__(adj)
        self.waiter = Waiter(comes_again=True)

    def received(self, data: bytes) -> int:
        """How many bytes of *data* belong to the request."""
        count: int = super().received(data)
        if self.error:
            self.completed = True
        if self.completed:
            # "A server MAY omit sending a 100 [...] if the framing indicates that there is no content".
            self.expect_continue = False
        return count

    def parse_header(self, header_plus: bytes) -> None:
        """Read the request line and the headers."""
        super().parse_header(header_plus)
        if self.version != "1.1":  # "MUST ignore that expectation" of HTTP/1.0
            return
        # A list, of which members may be empty (§5.6.1).
        expected = {each.strip(" \t").lower() for each in self.headers.get("EXPECT", "").split(",")} - {""}
        self.expect_continue = _CONTINUE in expected
        unknown = sorted(expected - {_CONTINUE})
        if unknown:
            self.error = _ExpectationFailed(f"expect={unknown[0][:100]!r} is not {_CONTINUE}")
