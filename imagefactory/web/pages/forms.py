"""The dashboard's forms: no other site can have the admin's browser send one (CSRF)."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable

from flask import Request
from werkzeug.exceptions import RequestEntityTooLarge

__all__ = ["PurgeForms"]

_TICKET_S = 3600
_MAX_BODY = 4096


class PurgeForms:
    """Forms that purge what has a name: each holds a ticket for that name, sealed with the *token* of
    ``[admin]`` and good for an hour."""

    def __init__(self, token: str) -> None:
        self._token = token

    def ticket(self, name: str, now_s: float) -> str:
        """The value of the form's field ``ticket``."""
        until = str(int(now_s) + _TICKET_S)
        return f"{until}.{self._seal(until, name)}"

    def problem(self, request: Request, name: str, now_s: float) -> str:
        """Why the form in *request* may not purge *name*; empty where it may."""
        request.max_content_length = _MAX_BODY
        try:
            ticket = request.form.get("ticket", "")
        except RequestEntityTooLarge:
            ticket = ""
        if not _is_from_here(request.headers.get):
            return "Another site has sent this form."
        until, _, seal = ticket.partition(".")
        is_sealed = hmac.compare_digest(seal.encode(), self._seal(until, name).encode())
        if not (is_sealed and int(until) >= now_s):
            return "This form is too old. Go back, reload the page, and try again."
        return ""

    def _seal(self, until: str, name: str) -> str:
        text = f"imagefactory dashboard\npurge\n{until}\n{name}"
        return hmac.new(self._token.encode(), text.encode(), hashlib.sha256).hexdigest()


def _is_from_here(header: Callable[[str], str | None]) -> bool:
    """Whether a browser says that a page of this server has sent the form.

    ``Sec-Fetch-Site`` (W3C Fetch Metadata) can't be set by a page. Where it is missing, over plain HTTP, the
    Origin must be our host; ``null`` is what our own pages send, because of their Referrer-Policy.
    """
    site = header("Sec-Fetch-Site")
    if site is not None:
        return site == "same-origin"
    origin = header("Origin")
    return origin in (None, "null") or origin in (f"http://{header('Host')}", f"https://{header('Host')}")
