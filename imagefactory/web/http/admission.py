"""Who may bring something, how often, and how much: asked before a byte of the body is read."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from ...config import Config
from ...errors import Busy, Unauthorized
from .auth import has_bearer
from .clients import Proxies
from .rates import Rates, network_of

__all__ = ["CHECK_BODY", "SMALL_BODY", "Admission", "body_limit"]

SMALL_BODY = 64 * 1024  # a purge
CHECK_BODY = 256 * 1024  # a thousand digests as JSON


class Admission:
    """The rules of ``[uploads]``: its token, its rate, and at most ``concurrent`` at a time in a process, but
    no more than half of its threads: the others are for those who want to see pictures."""

    def __init__(self, config: Config) -> None:
        self._token = config.uploads.token
        self._proxies = Proxies(config.server.trusted_proxies)
        self._rates = Rates(config.uploads.rate)
        places = min(config.uploads.concurrent, max(1, config.server.threads // 2))
        self._places = threading.BoundedSemaphore(places)
        self.under_way = 0

    def admit(self, environ: Mapping[str, object]) -> None:
        """Raise Unauthorized, TooMany. Who has no token is counted, too: a token can't be guessed fast."""
        self.count(environ)
        if not self.has_token(environ):
            raise Unauthorized("uploads")
        self._rates.count("token", "")

    def count(self, environ: Mapping[str, object]) -> None:
        """Note a request of this address. Raises TooMany."""
        peer, forwarded = str(environ.get("REMOTE_ADDR", "")), str(environ.get("HTTP_X_FORWARDED_FOR", ""))
        self._rates.count("address", network_of(self._proxies.client(peer, forwarded)))

    def has_token(self, environ: Mapping[str, object]) -> bool:
        """Whether a request has the token."""
        return has_bearer(str(environ.get("HTTP_AUTHORIZATION", "")), self._token)

    @contextmanager
    def place(self) -> Iterator[None]:
        """Be one of the uploads under way. Raises Busy at once when there are too many."""
        if not self._places.acquire(blocking=False):
            raise Busy("too many uploads are under way at the moment")
        self.under_way += 1
        try:
            yield
        finally:
            self.under_way -= 1
            self._places.release()

    def gauges(self) -> Mapping[str, float]:
        """How many are under way, by the name of a gauge."""
        return {"uploads_in_progress": self.under_way}


def body_limit(config: Config, method: str, path: str, authorization: str) -> int:
    """How many bytes the body of a request may have, for a server that reads it before the app is asked.

    *path* is the decoded one, *authorization* that header. Raises Unauthorized where only the token would
    allow more than a small one.
    """
    uploads = config.uploads
    if not config.has_uploads:
        return SMALL_BODY
    wanted, is_posted = 0, method == "POST" and path.rstrip("/") in config.http.prefixes
    if path == f"{uploads.prefix}/check":
        wanted = CHECK_BODY
    elif path in (uploads.prefix, f"{uploads.prefix}/"):
        wanted = uploads.max_request_bytes
    elif path.startswith(f"{uploads.prefix}/") or is_posted:
        wanted = uploads.max_bytes
    if method not in ("PUT", "POST") or not wanted:
        return SMALL_BODY
    may_be_signed = is_posted and bool(config.signing.keys)
    if not has_bearer(authorization, uploads.token) and not may_be_signed:
        raise Unauthorized("uploads")
    return wanted
