"""The Flask door: the ``ImageFactory`` extension for an app of someone else's, and the stand-alone app.

Only our own rules are touched: all methods and all errors of our addresses are answered here, so that a
host app keeps its error handlers, its slashes and its 405.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import cast

from flask import (
    Blueprint,
    Flask,
    Response,
    has_request_context,
    request,
    send_from_directory,
)
from flask.blueprints import BlueprintSetupState
from werkzeug.exceptions import HTTPException
from werkzeug.exceptions import NotFound as FlaskNotFound
from werkzeug.routing import BaseConverter
from werkzeug.wsgi import wrap_file

from .. import config as configs
from ..config import Config
from ..config.values import prefixes
from ..engine.generator import Answer, Generator
from ..errors import BadParameter, ConfigError, MethodNotAllowed, RequestError, Unauthorized, Unavailable
from ..markup import Pictures
from ..model.job import Renderer
from ..monitoring.numbers import Reader
from ..monitoring.prometheus import CONTENT_TYPE, exposition
from ..storage.store import Body
from ..urls.client_hints import NO_LEEWAY, Leeway, read_hints
from ..urls.query import Request, leeway_of
from ..workers.rendering import open_renderer
from .auth import is_authorized
from .clients import is_local
from .explain import NAME as EXPLAIN
from .explain import explain
from .fastpath import FastPath
from .flask_response import headed, textual
from .host_app import NAME, has_hooks, is_bare, is_guarded
from .pages.dashboard import blueprint as dashboard_blueprint
from .pages.playground import playground
from .pages.script import blueprint as script_blueprint
from .purge import blueprint as ops_blueprint
from .purge import purge_picture
from .responses import (
    CHUNK,
    METHODS,
    FilePart,
    Reply,
    accelerated,
    error_reply,
    json_reply,
    may_accelerate,
    note_answer,
    options_reply,
    picture_reply,
)

__all__ = ["ImageFactory", "create_app"]

_log = logging.getLogger(__name__)


class _AnyPath(BaseConverter):
    """Everything behind the prefix, also nothing and slashes: what is no canonical path is our own 404."""

    part_isolating = False
    regex = "(?s:.*)"  # also newlines


class ImageFactory:
    """Serves the pictures of a Flask app; ``app.extensions["imagefactory"]``.

    *config* is a ``Config``, a mapping with the sections and keys of config.toml, or the path of such a
    file; by default ``app.config["IMAGEFACTORY"]``. Relative paths of a mapping are relative to
    ``app.root_path``. *url_prefix* replaces ``[http] prefixes``, which is /picture here. Raises ConfigError.
    """

    config: Config
    generator: Generator
    pictures: Pictures
    fastpath: FastPath | None = None
    _app: Flask

    def __init__(
        self,
        app: Flask | None = None,
        config: Config | Mapping[str, object] | str | os.PathLike[str] | None = None,
        url_prefix: str | None = None,
        renderer: Renderer | None = None,
    ) -> None:
        self._config = config
        self._url_prefix = url_prefix
        self._renderer = renderer
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask) -> None:
        """Serve pictures in *app*. One extension object can serve several apps, each with its own state."""
        if NAME in app.extensions:
            raise ConfigError(NAME, "this app has an ImageFactory already; one serves several prefixes")
        state = self if not hasattr(self, "generator") else ImageFactory()
        state._app = app
        state.config = _read_config(app, self._config, self._url_prefix)
        state.generator = Generator(state.config, self._renderer or open_renderer(state.config.render))
        state.pictures = _AppPictures(app, state.generator)
        for name, helper in state.pictures.helpers().items():
            app.jinja_env.globals.setdefault(name, helper)
        app.extensions[NAME] = state
        app.register_blueprint(state._blueprint())
        app.register_blueprint(script_blueprint())
        if state.config.admin.token:
            app.register_blueprint(ops_blueprint(state.generator))
            app.register_blueprint(dashboard_blueprint(state.generator))
        if is_bare(app):
            state.fastpath = FastPath(app.wsgi_app, state.generator)
            app.wsgi_app = state.fastpath  # type: ignore[method-assign]  # Flask's own way to add middleware
        else:
            _log.info("app.wsgi_app is wrapped already: pictures are answered behind that, not before it")

    def _blueprint(self) -> Blueprint:
        blueprint = Blueprint(NAME, __name__)

        def add_rules(setup: BlueprintSetupState) -> None:
            app = setup.app
            app.url_map.converters.setdefault("imagefactory_path", _AnyPath)
            endpoint = f"{NAME}.picture"
            for prefix in self.config.http.prefixes:
                # Not by add_url_rule, which can't say "all methods". Two slashes stay two, no redirect.
                rule = app.url_rule_class(
                    f"{prefix}/<imagefactory_path:path>", endpoint=endpoint, merge_slashes=False, methods=None
                )
                app.url_map.add(rule)
            app.view_functions[endpoint] = self.picture

        blueprint.record_once(add_rules)
        return blueprint

    def picture(self, path: str) -> Response:
        """The view: a picture, or an error as JSON."""
        http, leeway, pairs = self.config.http, None, None
        allowed = (*METHODS, "DELETE") if self.config.admin.token else METHODS
        self.generator.keeper.start()
        try:
            with suppress(BadParameter):
                pairs = _pairs()
            if request.method == "OPTIONS":
                self.generator.tally.add("requests options - 204")
                return textual(options_reply(allowed, self._leeway(pairs), http))
            if request.method not in allowed:
                raise MethodNotAllowed(request.method, allowed)
            if request.method == "DELETE":
                reply = purge_picture(self.generator, request.environ, path)
                self.generator.tally.add(f"requests purge - {reply.status}")
                return textual(reply)
            if http.explain and pairs is not None and (EXPLAIN, "1") in pairs:
                pairs = [pair for pair in pairs if pair[0] != EXPLAIN]
                values = explain(self.generator, path, pairs, request.environ)
                self.generator.tally.add("requests explain - 200")
                return textual(json_reply(200, values))
            grant = self.generator.access.check(path, pairs, self.generator.now_s())
            hints = read_hints(request.environ, http, self.config.limits.ladder)
            wanted = self.generator.rules.request(_pairs() if pairs is None else pairs, hints)
            wanted, leeway = replace(wanted, grant=grant), wanted.leeway
            for is_again in (False, True, True):
                answer = self.generator.answer(
                    path, wanted, request.headers.get("Accept", ""), must_open=is_again
                )
                reply = picture_reply(answer, wanted, request.environ, http, self.generator.now_s())
                if not reply.has_body or request.method == "HEAD":
                    self._remember(wanted, answer)
                    note_answer(self.generator.tally, answer, reply.status, 0)
                    return textual(reply)
                body = self.generator.open(answer)
                if body is None:
                    continue
                try:
                    response = self._send(reply, body, answer.bytes)
                except (FlaskNotFound, FileNotFoundError):
                    continue  # removed between the look and the open
                self._remember(wanted, answer)
                note_answer(self.generator.tally, answer, reply.status, reply.stop - reply.start)
                return response
            raise Unavailable("the picture changes all the time", retry_after_s=1)
        except RequestError as error:
            self.generator.tally.add(f"requests {error.code} - {error.status}")
            return textual(error_reply(error, leeway or self._leeway(pairs), http))
        except Exception:
            self.generator.tally.add("requests internal - 500")
            raise

    def _leeway(self, pairs: list[tuple[str, str]] | None) -> Leeway:
        """What a query leaves to the browser, whatever else is wrong with it; None is one that is no text."""
        return NO_LEEWAY if pairs is None else leeway_of(pairs, self.generator.rules.presets)

    def _send(self, reply: Reply, body: Body, length: int) -> Response:
        if body.data is not None:
            return headed(Response(body.data[reply.start : reply.stop]), reply)
        is_whole = (reply.start, reply.stop) == (0, length)
        if body.file is not None:
            if is_whole:
                wrapped = wrap_file(request.environ, body.file, CHUNK)
                return headed(Response(wrapped, direct_passthrough=True), reply)
            return headed(Response(FilePart(body.file, reply.start, reply.stop)), reply)
        if may_accelerate(reply, request.environ, self.config.http):
            return headed(Response(), accelerated(reply, body, self.config.http))
        if is_whole:
            # Conditions were judged: Werkzeug would read them differently. Its headers are replaced by ours.
            return headed(send_from_directory(body.root, body.name, conditional=False, etag=False), reply)
        file = (body.root / body.name).open("rb")
        return headed(Response(FilePart(file, reply.start, reply.stop)), reply)

    def _remember(self, wanted: Request, answer: Answer) -> None:
        """Let the fast path give this answer again, unless the host has put something before the view."""
        app = self._app
        if self.fastpath is not None and not is_guarded(app, self.picture) and not has_hooks(app):
            self.fastpath.remember(request.environ, wanted, answer)


class _AppPictures(Pictures):
    """The template helpers of *app*: in debug with it, and below where the request found it."""

    def __init__(self, app: Flask, generator: Generator) -> None:
        super().__init__(generator)
        self._app = app

    def root(self) -> str:
        return request.root_path if has_request_context() else ""

    def is_debug(self) -> bool:
        return self._app.debug


def _pairs() -> list[tuple[str, str]]:
    """The names and values of the query. Raises BadParameter where it is no text."""
    try:
        return list(request.args.items(multi=True))
    except UnicodeDecodeError:
        problem = "the query has bytes that are not UTF-8; write what is not ASCII as UTF-8, percent-encoded"
        raise BadParameter("", problem) from None


def _read_config(
    app: Flask,
    config: Config | Mapping[str, object] | str | os.PathLike[str] | None,
    url_prefix: str | None,
) -> Config:
    values = app.config.get("IMAGEFACTORY", {}) if config is None else config
    defaults: dict[str, dict[str, object]] = {"http": {"prefixes": ["/picture"]}}
    if isinstance(values, Config):
        read = values
    elif isinstance(values, str | os.PathLike):
        read = configs.load(Path(app.root_path, values), os.environ, defaults)
    elif isinstance(values, Mapping):
        read = configs.from_mapping(values, Path(app.root_path), os.environ, defaults)
    else:
        raise ConfigError(
            "IMAGEFACTORY", f"{type(values).__name__} is neither a mapping nor the path of a file"
        )
    if url_prefix is None:
        return read
    try:
        return replace(read, http=replace(read.http, prefixes=prefixes([url_prefix])))
    except ValueError as error:
        raise ConfigError("url_prefix", str(error)) from error


# --- the stand-alone server -------------------------------------------------------------------------------


def create_app(
    config: Config | Mapping[str, object] | str | os.PathLike[str] | None = None,
    renderer: Renderer | None = None,
) -> Flask:
    """The app that serves pictures on its own, with a playground at ``/``, ``/healthz`` and ``/metrics``.

    *config* is a ``Config``, a mapping, or the path of a config.toml; by default the file that
    IMAGEFACTORY_CONFIG names, else config.toml in the current folder. Raises ConfigError.
    """
    if config is None:
        config = configs.load(None, os.environ)
    elif isinstance(config, str | os.PathLike):
        config = configs.load(Path(config), os.environ)
    elif not isinstance(config, Config):
        config = configs.from_mapping(config, Path.cwd(), os.environ)
    app = Flask(__name__, static_folder=None)
    factory = ImageFactory(app, config, renderer=renderer)
    if factory.config.server.playground:
        app.add_url_rule("/", "playground", playground(factory.generator))
    app.add_url_rule("/healthz", "healthz", lambda: _health(factory))
    reader = Reader(factory.generator)
    app.add_url_rule("/metrics", "metrics", lambda: _metrics(factory, reader))
    app.register_error_handler(Exception, _show_error)
    return app


def _health(factory: ImageFactory) -> Response:
    """200 while pictures can be shown, ``degraded`` when the cache is in trouble; else 503."""
    health = factory.generator.health()
    is_up = health["pictures"] and health["render"]
    status = "down" if not is_up else "degraded" if health["cache"] else "ok"
    body = json.dumps({"status": status, **health}) + "\n"
    response = Response(body, 200 if is_up else 503, mimetype="application/json")
    response.headers["Cache-Control"] = "no-store"
    if not is_up:
        response.headers["Retry-After"] = "5"
    return response


def _metrics(factory: ImageFactory, reader: Reader) -> Response:
    """The numbers for Prometheus: for programs on this machine, and for who has the admin token."""
    try:
        if not is_local(request.environ) and not is_authorized(request.environ, factory.config.admin.token):
            raise Unauthorized
        response = Response(exposition(reader.take()), content_type=CONTENT_TYPE)
    except RequestError as error:
        return textual(error_reply(error))
    response.headers["Cache-Control"] = "no-store"
    response.headers["X-Content-Type-Options"] = "nosniff"
    return response


def _show_error(error: Exception) -> Response:
    """The errors of the stand-alone server's other addresses, in the same form as a picture's."""
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
