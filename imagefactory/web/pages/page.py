"""A page from a template: the headers that keep others out, and a nonce for its own styles and scripts.

The Jinja is one of our own: templates, filters and context of a host app take no part in our pages.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from typing import Any

from flask import Response
from jinja2 import Environment, PackageLoader

__all__ = ["HEADERS", "Pages"]

HEADERS = {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"}


class Pages:
    """Pages with *headers*, and with *policy* as their Content-Security-Policy: its ``{nonce}`` is a new one
    for each page. Templates may use *filters*, and have the ``nonce``."""

    def __init__(
        self, policy: str, headers: Mapping[str, str], filters: Mapping[str, Callable[..., object]]
    ) -> None:
        self._policy = policy
        self._headers = headers
        self._jinja = Environment(
            loader=PackageLoader(__package__), autoescape=True, trim_blocks=True, lstrip_blocks=True
        )
        self._jinja.filters |= filters

    def render(self, template: str, status: int = 200, **values: Any) -> Response:
        """The page that *template* makes of *values*."""
        nonce = secrets.token_urlsafe(16)
        html = self._jinja.get_template(template).render(values, nonce=nonce)
        # The name of a file or folder that is not UTF-8 has lone surrogates.
        response = Response(html.encode("utf-8", "backslashreplace"), status)
        response.headers.update(self._headers)
        response.headers["Content-Security-Policy"] = self._policy.format(nonce=nonce)
        return response
