"""What an operator asks for over HTTP: ``DELETE`` of a picture, and ``POST /-/purge``.

Registered only with a token in ``[admin]``, also in a host app. A purge is answered when it is done and the
hooks, which purge a CDN in front, were told.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from flask import Blueprint, request
from werkzeug.exceptions import ClientDisconnected, RequestEntityTooLarge

from ..common.units import parse_seconds
from ..errors import BadParameter, BodyTooLarge, WrongType, nearest
from ..factory import Parts
from ..storage.originals import check_path
from ..upkeep.purge.selection import Selection
from .http.auth import authorize
from .http.responses import Reply, json_reply
from .http.routes import by_method, make_blueprint

__all__ = ["blueprint", "purge_picture"]

_MAX_BODY = 64 * 1024
_JSON = "application/json"


def blueprint(parts: Parts) -> Blueprint:
    """The route ``POST /-/purge``."""
    view = by_method({"POST": lambda: _purge(parts)})
    return make_blueprint("imagefactory-ops", "purge", ["/-/purge"], view)


def purge_picture(parts: Parts, environ: Mapping[str, object], path: str) -> Reply:
    """The reply to DELETE of the picture at *path*.

    Raises Unauthorized, NotFound for what is no canonical path, Unavailable when the cache can't be changed.
    """
    authorize(environ, parts.config.admin.token)
    check_path(path)
    return _purge_reply(parts, Selection(paths=(path,)), is_dry_run=False)


def _purge(parts: Parts) -> Reply:
    """The reply to ``POST /-/purge``."""
    authorize(request.environ, parts.config.admin.token)
    if request.mimetype != _JSON:  # a form of another site can't send this without asking (Fetch, CORS)
        raise WrongType(request.mimetype, _JSON)
    selection, is_dry_run = _selection(_body())
    return _purge_reply(parts, selection, is_dry_run)


def _body() -> bytes:
    request.max_content_length = _MAX_BODY + 1  # of a body in chunks Werkzeug cuts off what is above
    try:
        body = request.get_data(cache=False)
    except RequestEntityTooLarge:
        raise BodyTooLarge(_MAX_BODY) from None
    except ClientDisconnected:
        raise BadParameter("", "the request ended before its body did") from None
    if len(body) > _MAX_BODY:
        raise BodyTooLarge(_MAX_BODY)
    return body


def _purge_reply(parts: Parts, selection: Selection, is_dry_run: bool) -> Reply:
    return json_reply(200, parts.purger.purge(selection, is_dry_run=is_dry_run).as_json())


# --- what is asked for


def _selection(body: bytes) -> tuple[Selection, bool]:
    """What the JSON *body* selects, and whether nothing is to be removed. Raises BadParameter."""
    try:
        found = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise BadParameter("", f"the body is no JSON: {error}") from None
    if not isinstance(found, dict):
        example = '{"paths": ["cats/tom.jpg"]}'
        raise BadParameter("", f"the body is no JSON object; write one such as {example}")
    values: dict[str, Any] = {}
    for name, value in found.items():
        if name not in _KEYS:
            near = nearest(name, _KEYS) or f"; there are {', '.join(_KEYS)}"
            raise BadParameter(name, f"unknown key {name[:80]!r}{near}")
        field, read = _KEYS[name]
        try:
            values[field] = read(value)
        except ValueError as error:
            raise BadParameter(name, f"{name}: {error}") from None
    is_dry_run = values.pop("is_dry_run", False)
    return Selection(**values), is_dry_run


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{_quoted(value)} is not text")
    return value


def _texts(value: object) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise ValueError(f"{_quoted(value)} is not a list")
    return tuple(_text(item) for item in value)


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"{_quoted(value)} is not true or false")
    return value


def _quoted(value: object) -> str:
    # Not what is in a list: it may be nested as deep as json.loads can just read, and dumps can't.
    if isinstance(value, list | dict):
        return "a list" if isinstance(value, list) else "an object"
    return json.dumps(value)[:80]


_KEYS: Mapping[str, tuple[str, Callable[[object], object]]] = {
    "paths": ("paths", _texts),
    "digests": (
        "digests",
        lambda value: tuple(text.removeprefix("sha256:").lower() for text in _texts(value)),
    ),
    "prefix": ("prefix", _text),
    "glob": ("glob", _text),
    "older_than": ("older_than_s", lambda value: parse_seconds(_text(value))),
    "stale": ("is_stale", _flag),
    "all": ("is_all", _flag),
    "dry_run": ("is_dry_run", _flag),
}
