"""An app whose two doors, the fast path and the view behind it, are asked one by one."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote_to_bytes

from flask import Flask
from werkzeug.test import create_environ

from imagefactory.factory import Parts
from imagefactory.web.fastpath import FastPath
from support.clock import Clock

DATE_S = 784_111_777


@dataclass(frozen=True)
class Answer:
    """What a door said; *is_fast* where the view was not asked."""

    status: str
    headers: list[tuple[str, str]]
    body: bytes
    is_fast: bool

    def told(self) -> tuple[object, ...]:
        """All that a visitor sees, in a form that is short to print."""
        return self.status, self.headers, len(self.body), hashlib.sha256(self.body).hexdigest()

    def __getitem__(self, name: str) -> str:
        return dict(self.headers).get(name, "")

    @property
    def is_right(self) -> bool:
        """Whether this is a 200 whose ETag is the digest of its body."""
        return self.status == "200 OK" and self["ETag"] == f'"{hashlib.sha256(self.body).hexdigest()[:32]}"'


def environ_of(url: str, method: str = "GET", headers: dict[str, str] | None = None) -> dict[str, Any]:
    """The environ that a server makes of a request; two slashes stay two."""
    path, _, query = url.partition("?")
    environ = create_environ(
        "/", f"http://{(headers or {}).get('Host', 'localhost')}", method=method, headers=headers
    )
    return {**environ, "PATH_INFO": unquote_to_bytes(path).decode("latin-1"), "QUERY_STRING": query}


def send(app: Any, environ: dict[str, Any]) -> tuple[str, list[tuple[str, str]], bytes]:
    """Status, headers and body, read to its end and closed as a server does."""
    begun: list[tuple[str, list[tuple[str, str]]]] = []

    def start_response(status: str, headers: list[tuple[str, str]], error: object = None) -> object:
        begun.append((status, headers[:]))
        headers.clear()  # the list is the server's now (PEP 3333)
        return lambda data: None

    chunks: Iterable[bytes] = app(environ, start_response)
    try:
        body = b"".join(chunks)
    finally:
        if hasattr(chunks, "close"):
            chunks.close()
    ((status, headers),) = begun
    return status, headers, body


class Site:
    """An app whose doors are asked one by one, each within *outer*; its ``Clock`` is set ahead, so that the
    pictures are old enough for their stamps to be trusted."""

    def __init__(self, app: Flask, outer: Callable[[Any], Any] = lambda inner: inner) -> None:
        assert isinstance(app.wsgi_app, FastPath)
        self.app, self.fast, self.view = app, app.wsgi_app, app.wsgi_app.app
        self.parts: Parts = app.extensions["imagefactory"].parts
        self.clock: Clock = self.parts.clock
        self.clock.ahead_s = 10
        self._handed_on = threading.local()
        self.fast.app = self._hand_on
        self._doors = outer(self.fast), outer(self.view)

    def _hand_on(self, environ: Any, start_response: Any) -> Iterable[bytes]:
        self._handed_on.is_true = True
        return self.view(environ, start_response)

    def send(self, environ: dict[str, Any]) -> Answer:
        """The answer of the fast path, or of the view behind it."""
        self._handed_on.is_true = False
        return Answer(*send(self._doors[0], environ), not self._handed_on.is_true)

    def ask(self, url: str, method: str = "GET", headers: dict[str, str] | None = None) -> Answer:
        return self.send(environ_of(url, method, headers))

    def ask_view(self, url: str, method: str = "GET", headers: dict[str, str] | None = None) -> Answer:
        """The answer of the view, with no fast path before it."""
        return Answer(*send(self._doors[1], environ_of(url, method, headers)), False)

    def warm(self, url: str, headers: dict[str, str] | None = None) -> Answer:
        """The third answer to *url*: it comes from the fast path."""
        answers = [self.ask(url, headers=headers) for _ in range(3)]
        assert answers[2].is_fast, url
        assert answers[2].is_right
        return answers[2]
