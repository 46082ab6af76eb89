"""A ``Reply`` as a response of Flask: for all doors that Flask opens."""

from __future__ import annotations

from flask import Response, request

from .responses import Reply

__all__ = ["headed", "textual"]


def headed(response: Response, reply: Reply) -> Response:
    """*response* with the status and exactly the headers of *reply*."""
    response.status_code = reply.status
    response.automatically_set_content_length = False
    response.headers.clear()
    response.headers.extend(reply.headers)
    return response


def textual(reply: Reply) -> Response:
    """A reply without bytes of a picture; of its text, nothing for HEAD."""
    return headed(Response(b"" if request.method == "HEAD" else reply.text), reply)
