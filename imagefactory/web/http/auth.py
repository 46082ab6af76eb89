"""The token of ``[admin]``: a request that has it may do what an operator does."""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Mapping

from ...errors import Unauthorized

__all__ = ["authorize", "has_bearer", "is_authorized"]


def is_authorized(environ: Mapping[str, object], token: str) -> bool:
    """Whether a request has the *token*: as ``Bearer TOKEN`` (RFC 6750), or as the password of any user
    (``Basic``, RFC 7617), which is what browsers ask for. Never with an empty token.

    Compared in constant time; logged nowhere.
    """
    header = str(environ.get("HTTP_AUTHORIZATION", ""))
    scheme, _, given = header.partition(" ")
    if scheme.lower() != "basic":
        return has_bearer(header, token)
    try:
        secret = base64.b64decode(given.strip(), validate=True).partition(b":")[2]
    except (binascii.Error, ValueError):
        return False
    return bool(token) and hmac.compare_digest(secret, token.encode())


def has_bearer(authorization: str, token: str) -> bool:
    """Whether the header *authorization* is ``Bearer TOKEN``, and nothing else: a browser that knows a
    password would send it also with the form of another site. Never with an empty token."""
    scheme, _, given = authorization.partition(" ")
    # WSGI hands over bytes as Latin-1: without arguments, strip() takes the last byte of an "à" for a space.
    secret = given.strip(" \t").encode("latin-1", "replace")
    return scheme.lower() == "bearer" and bool(token) and hmac.compare_digest(secret, token.encode())


def authorize(environ: Mapping[str, object], token: str) -> None:
    """Raise Unauthorized unless the request has the *token*."""
    if not is_authorized(environ, token):
        raise Unauthorized
