"""A ``Reply`` as a response of Flask."""

from __future__ import annotations

from flask import Response, request

from .responses import Reply

__all__ = ["with_headers", "to_flask"]


def with_headers(response: Response, reply: Reply) -> Response:
    """*response* with the status and exactly the headers of *reply*."""
    response.status_code = reply.status
    response.automatically_set_content_length = False
    response.headers.clear()
    response.headers.extend(reply.headers)
    return response


def to_flask(reply: Reply) -> Response:
    """A reply without bytes of a picture; of its text, nothing for HEAD."""
    return with_headers(Response(b"" if request.method == "HEAD" else reply.text), reply)
