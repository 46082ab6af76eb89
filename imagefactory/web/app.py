"""The app that serves pictures on its own: its playground, its health, its numbers, its error pages."""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import cast

from flask import Flask, Response, request
from werkzeug.exceptions import HTTPException

from .. import config as configs
from ..config import Config
from ..errors import RequestError, Unauthorized
from ..model.job import Renderer
from ..monitoring.numbers import Reader
from ..monitoring.prometheus import CONTENT_TYPE, exposition
from .extension import ImageFactory
from .http.auth import is_authorized
from .http.clients import is_local
from .http.flask_response import to_flask
from .http.responses import error_reply
from .pages.playground import playground

__all__ = ["create_app"]

_log = logging.getLogger(__name__)


def create_app(
    config: Config | Mapping[str, object] | str | os.PathLike[str] | None = None,
    renderer: Renderer | None = None,
    clock: Callable[[], float] = time.time,
) -> Flask:
    """The app that serves pictures on its own, with a playground at ``/``, ``/healthz`` and ``/metrics``.

    *config* is a ``Config``, a mapping, or the path of a config.toml; by default the file that
    IMAGEFACTORY_CONFIG names, else config.toml in the current folder. *renderer* and *clock* (unix
    seconds) are for tests. Raises ConfigError.
    """
    if config is None:
        config = configs.load(None, os.environ)
    elif isinstance(config, str | os.PathLike):
        config = configs.load(Path(config), os.environ)
    elif not isinstance(config, Config):
        config = configs.from_mapping(config, Path.cwd(), os.environ)
    app = Flask(__name__, static_folder=None)
    factory = ImageFactory(app, config, renderer=renderer, clock=clock)
    if factory.config.server.playground:
        app.add_url_rule("/", "playground", playground(factory.parts))
    app.add_url_rule("/healthz", "healthz", lambda: _health(factory))
    reader = Reader(factory.parts)
    app.add_url_rule("/metrics", "metrics", lambda: _metrics(factory, reader))
    app.register_error_handler(Exception, _show_error)
    return app


def _health(factory: ImageFactory) -> Response:
    """200 while pictures can be shown, ``degraded`` when the cache is in trouble; else 503."""
    parts = factory.parts
    pictures, render = parts.sources.is_readable(), parts.renderer.is_working()
    troubles, is_up = parts.health.check(), pictures and render
    catalog = parts.taking.database.problem if parts.taking is not None else ""
    status = "down" if not is_up else "degraded" if troubles or catalog else "ok"
    values = {"status": status, "pictures": pictures, "render": render, "cache": troubles}
    if parts.taking is not None:  # the reason may name a host or a file: it stands in the log
        values["catalog"] = not catalog
    body = json.dumps(values) + "\n"
    response = Response(body, 200 if is_up else 503, mimetype="application/json")
    response.headers["Cache-Control"] = "no-store"
    if not is_up:
        response.headers["Retry-After"] = "5"
    return response


def _metrics(factory: ImageFactory, reader: Reader) -> Response:
    """The numbers for Prometheus: for programs on this machine, and with the admin token."""
    try:
        if not is_local(request.environ) and not is_authorized(request.environ, factory.config.admin.token):
            raise Unauthorized
        response = Response(exposition(reader.take()), content_type=CONTENT_TYPE)
    except RequestError as error:
        return to_flask(error_reply(error))
    response.headers["Cache-Control"] = "no-store"
    response.headers["X-Content-Type-Options"] = "nosniff"
    return response


def _show_error(error: Exception) -> Response:
    """The errors of the stand-alone server's other URLs, in the same form as a picture's."""
    if isinstance(error, HTTPException):
        response = cast(Response, error.get_response(request.environ))
        code, detail = error.name.lower().replace(" ", "_"), error.description or error.name
    else:
        _log.exception("an error that nobody expected, at %r", request.path)
        response = Response(status=500)
        code, detail = "internal", "the server made a mistake"
    response.set_data(json.dumps({"error": code, "detail": detail}) + "\n")
    response.mimetype = "application/json"
    response.headers["Cache-Control"] = "no-store"
    return response
