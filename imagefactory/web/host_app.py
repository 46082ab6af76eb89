"""The app that we are in: whether it has something before our view, which the fast path would pass by."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from types import FunctionType

from flask import Flask, Request, Response, appcontext_pushed, request_finished, request_started
from flask.sessions import SecureCookieSessionInterface
from werkzeug.middleware.proxy_fix import ProxyFix
from werkzeug.routing import Map

__all__ = ["NAME", "VIEW", "HostApp", "is_unwrapped"]

_log = logging.getLogger(__name__)

# Of the extension, and of the blueprint of its pictures.
NAME = "imagefactory"
VIEW = f"{NAME}.picture"

# What a host may replace of a Flask app without a say in the answer to a picture: its set-up, its templates,
# its tests, its static files, its errors. All else may be a login: names that a later Flask adds, too.
_HARMLESS = {
    *("add_url_rule", "config_class", "default_config", "logger", "make_config", "name", "run", "wsgi_app"),
    *(
        "register_blueprint",
        "get_send_file_max_age",
        "send_static_file",
        "_static_folder",
        "_static_url_path",
    ),
    *("create_global_jinja_loader", "create_jinja_environment", "inject_url_defaults", "jinja_env"),
    *("jinja_environment", "jinja_loader", "jinja_options", "json_provider_class"),
    *("select_jinja_autoescape", "update_template_context", "url_for"),
    *("make_shell_context", "test_cli_runner", "test_cli_runner_class", "test_client", "test_client_class"),
    *("aborter_class", "handle_exception", "handle_http_exception", "handle_url_build_error"),
    *("handle_user_exception", "log_exception", "make_aborter", "should_ignore_error", "trap_http_exception"),
}
_OF_FLASK = {name for name in dir(Flask) if not name.startswith("__")} - _HARMLESS | {"__getattribute__"}
# Steps of every request that tools for tracing replace in Flask itself.
_STEPS = ("wsgi_app", "full_dispatch_request", "preprocess_request", "dispatch_request", "process_response")
# Sent before an answer, or with it. A receiver at the end of a request has no say in it any more, like a
# function for teardown, which most apps have (Flask-SQLAlchemy).
_SIGNALS = (appcontext_pushed, request_started, request_finished)


def is_unwrapped(app: Flask) -> bool:
    """Whether *app* has no middleware yet that a fast path around all of it would pass by. Werkzeug's
    ProxyFix asks for no login, and changes no answer."""
    inner: object = app.wsgi_app
    while type(inner) is ProxyFix:
        inner = inner.app
    return getattr(inner, "__func__", None) is Flask.wsgi_app


class HostApp:
    """*app*, in which every request to a picture has to end in *view*.

    ``is_bare`` looks at all that may stand before the view. Flask takes no more hooks after its first
    request. But a host may connect a receiver to a signal at any time, set a method on the app, or exchange
    the view. So the fast path looks at these at each hit, without a call: whether the app has as many
    *attributes* as were *known*, whether the one of its *views* is *ours*, whether the signals *pushed*,
    *started* and *finished* have receivers.
    """

    def __init__(self, app: Flask, view: Callable[..., object]) -> None:
        self._app = app
        self._view = view
        self._told: set[str] = set()
        self.attributes = vars(app)
        self.known = 0
        self.views = app.view_functions
        self.ours: object = None
        self.pushed, self.started, self.finished = _SIGNALS

    def is_bare(self) -> bool:
        """Whether nothing stands before our view: no login, nothing that rewrites a request or an answer. The
        log says once what does."""
        known, ours = len(self.attributes), self.views.get(VIEW)
        obstacle = next(self._obstacles(), "")
        if not obstacle:
            self.known, self.ours = known, ours
        elif obstacle not in self._told:
            self._told.add(obstacle)
            _log.info("pictures are answered by Flask, and not before it: the app has %s", obstacle)
        return not obstacle

    def has_receivers(self) -> bool:
        """Whether the app, and not another one of this process, has a receiver of a signal."""
        return any(signal.has_receivers_for(self._app) for signal in _SIGNALS)

    def _obstacles(self) -> Iterator[str]:
        """What stands before our view, in words."""
        app = self._app
        if app.view_functions.get(VIEW) != self._view:
            yield "a function around the view"
        hosts = app.url_map.host_matching or app.subdomain_matching or app.config.get("TRUSTED_HOSTS")
        if hosts or type(app.url_map) is not Map:  # else the path alone chooses the view
            yield "a choice of hosts"
        for functions in (app.before_request_funcs, app.after_request_funcs, app.url_value_preprocessors):
            if functions.get(None) or functions.get(NAME):
                yield "request hooks"
        if self.has_receivers():
            yield "receivers of signals"
        own_classes = [each for each in type(app).__mro__ if each not in Flask.__mro__]
        for names in (self.attributes, *map(vars, own_classes)):
            for name in sorted(_OF_FLASK & names.keys()):
                yield f"a {name} of its own"
        for step in _STEPS:
            method = vars(Flask)[step]
            if type(method) is not FunctionType or method.__globals__["__name__"] != "flask.app":
                yield f"a {step} that is not Flask's"
        is_flasks = app.request_class is Request and app.response_class is Response
        if not is_flasks or type(app.session_interface) is not SecureCookieSessionInterface:
            yield "classes that are not Flask's"
