"""The ``ImageFactory`` extension: serves pictures in a Flask app.

Only our own rules are touched: all methods and all errors of our addresses are answered here, so that a
host app keeps its error handlers, its slashes and its 405.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from flask import Blueprint, Flask, has_request_context, request
from flask.blueprints import BlueprintSetupState
from werkzeug.routing import BaseConverter

from .. import config as configs
from ..config import Config
from ..config.values import prefixes
from ..engine.generator import Generator
from ..errors import ConfigError
from ..markup import Pictures
from ..model.job import Renderer
from ..workers.rendering import open_renderer
from .fastpath import FastPath
from .host_app import NAME, is_bare
from .pages.dashboard import blueprint as dashboard_blueprint
from .pages.script import blueprint as script_blueprint
from .picture import PictureView
from .purge import blueprint as ops_blueprint

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
    ``app.root_path``. *url_prefix* replaces ``[http] prefixes``, which is /picture here. Raises ConfigError.
    """

    config: Config
    generator: Generator
    pictures: Pictures
    fastpath: FastPath | None = None

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
        state.config = _read_config(app, self._config, self._url_prefix)
        state.generator = Generator(state.config, self._renderer or open_renderer(state.config.render))
        state.pictures = _AppPictures(app, state.generator)
        for name, helper in state.pictures.helpers().items():
            app.jinja_env.globals.setdefault(name, helper)
        app.extensions[NAME] = state
        fastpath = FastPath(app.wsgi_app, state.generator) if is_bare(app) else None
        view = PictureView(app, state.generator, fastpath)
        app.register_blueprint(_blueprint(view, state.config.http.prefixes))
        app.register_blueprint(script_blueprint())
        if state.config.admin.token:
            app.register_blueprint(ops_blueprint(state.generator))
            app.register_blueprint(dashboard_blueprint(state.generator))
        if fastpath is None:
            _log.info("app.wsgi_app is wrapped already: pictures are answered behind that, not before it")
        else:
            state.fastpath = fastpath
            app.wsgi_app = fastpath  # type: ignore[method-assign]  # Flask's own way to add middleware


class _AppPictures(Pictures):
    """The template helpers of *app*: in debug with it, and below where the request found it."""

    def __init__(self, app: Flask, generator: Generator) -> None:
        super().__init__(generator)
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


def _blueprint(view: PictureView, prefixes: Sequence[str]) -> Blueprint:
    blueprint = Blueprint(NAME, __name__)

    def add_rules(setup: BlueprintSetupState) -> None:
        app = setup.app
        app.url_map.converters.setdefault("imagefactory_path", _AnyPath)
        endpoint = f"{NAME}.picture"
        for prefix in prefixes:
            # Not by add_url_rule, which can't say "all methods". Two slashes stay two, no redirect.
            rule = app.url_rule_class(
                f"{prefix}/<imagefactory_path:path>", endpoint=endpoint, merge_slashes=False, methods=None
            )
            app.url_map.add(rule)
        app.view_functions[endpoint] = view.picture

    blueprint.record_once(add_rules)
    return blueprint
