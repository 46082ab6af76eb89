"""The ``ImageFactory`` extension: serves pictures in a Flask app.

Only our own rules are touched: we answer all methods and all errors at our URLs, so a host app keeps its
error handlers, its slashes and its 405.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

from flask import Flask, has_request_context, request
from werkzeug.routing import BaseConverter

from .. import config as configs
from ..config import Config
from ..config.values import prefixes
from ..engine.generator import Generator
from ..errors import ConfigError
from ..factory import Parts, assemble
from ..markup import Pictures
from ..markup.ready import ready_markup
from ..model.job import Renderer
from .fastpath import FastPath
from .host_app import NAME, is_unwrapped
from .http.routes import make_blueprint
from .jobs import blueprint as jobs_blueprint
from .pages.dashboard import blueprint as dashboard_blueprint
from .pages.script import blueprint as script_blueprint
from .picture import PictureView
from .pictures import blueprint as pictures_blueprint
from .purge import blueprint as purge_blueprint
from .uploads import blueprint as uploads_blueprint

__all__ = ["ImageFactory"]

_log = logging.getLogger(__name__)


class _AnyPath(BaseConverter):
    """Everything behind the prefix, also nothing and slashes: what is no canonical path is our own 404."""

    part_isolating = False
    regex = "(?s:.*)"  # also newlines


class ImageFactory:
    """Serves the pictures of a Flask app; ``app.extensions["imagefactory"]``.

    *config* is a ``Config``, a mapping with the sections and keys of config.toml, or the path of such a
    file; by default ``app.config["IMAGEFACTORY"]``. Relative paths of a mapping are relative to
    ``app.root_path``. *url_prefix* replaces ``[http] prefixes``, which is /picture here. *renderer* and
    *clock* (unix seconds) are for tests. Raises ConfigError."""

    config: Config
    generator: Generator
    parts: Parts
    pictures: Pictures
    fastpath: FastPath | None

    def __init__(
        self,
        app: Flask | None = None,
        config: Config | Mapping[str, object] | str | os.PathLike[str] | None = None,
        url_prefix: str | None = None,
        renderer: Renderer | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._config = config
        self._url_prefix = url_prefix
        self._renderer = renderer
        self._clock = clock
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask) -> None:
        """Serve pictures in *app*. One extension object can serve several apps, each with its own state."""
        if NAME in app.extensions:
            raise ConfigError(NAME, "this app has an ImageFactory already; one serves several prefixes")
        state = self if not hasattr(self, "generator") else ImageFactory()
        state.config = _read_config(app, self._config, self._url_prefix)
        state.parts = assemble(state.config, self._renderer, self._clock)
        state.generator = state.parts.generator
        state.pictures = _AppPictures(app, state.parts)
        for name, helper in state.pictures.helpers().items():
            app.jinja_env.globals.setdefault(name, helper)
        app.extensions[NAME] = state
        view = PictureView(app, state.parts)
        state.fastpath = FastPath(app.wsgi_app, state.parts, view.host) if is_unwrapped(app) else None
        view.fastpath = state.fastpath
        app.url_map.converters["imagefactory_path"] = _AnyPath
        rules = [f"{prefix}/<imagefactory_path:path>" for prefix in state.config.http.prefixes]
        if state.config.has_uploads:
            rules += state.config.http.prefixes  # POST /picture?scalex=640
        # Two slashes stay two, without a redirect.
        app.register_blueprint(make_blueprint(NAME, "picture", rules, view.picture, merge_slashes=False))
        app.register_blueprint(script_blueprint())
        taking = state.parts.taking
        if taking is not None:
            taking.markup = partial(ready_markup, state.pictures)
            state.parts.keeper.watchers.append(taking.look)  # in each process that serves
            if state.config.has_uploads:
                app.register_blueprint(uploads_blueprint(state.parts, taking, view.admission))
            app.register_blueprint(jobs_blueprint(state.parts, taking))
        if state.config.admin.token:
            app.register_blueprint(purge_blueprint(state.parts))
            if taking is not None:
                app.register_blueprint(pictures_blueprint(state.parts, taking))
            app.register_blueprint(dashboard_blueprint(state.parts))
        if state.fastpath is None:
            _log.info("app.wsgi_app is wrapped already: pictures are answered behind that, not before it")
        else:
            app.wsgi_app = state.fastpath  # type: ignore[method-assign]  # Flask's own way to add middleware


class _AppPictures(Pictures):
    """The template helpers of *app*: in debug with it, and below where the request found it."""

    def __init__(self, app: Flask, parts: Parts) -> None:
        super().__init__(parts)
        self._app = app

    def root(self) -> str:
        return request.root_path if has_request_context() else ""

    def is_debug(self) -> bool:
        return self._app.debug


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
