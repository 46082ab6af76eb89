"""Whether the app that we are in has something before our view, which the fast path would pass by."""

from __future__ import annotations

from collections.abc import Callable

from flask import Flask
from werkzeug.middleware.proxy_fix import ProxyFix

__all__ = ["NAME", "has_hooks", "is_bare", "is_guarded"]

# Of the extension, and of the blueprint of its pictures.
NAME = "imagefactory"

# What of a Flask app every request goes through.
_STEPS = (
    "request_context",
    "create_url_adapter",
    "full_dispatch_request",
    "preprocess_request",
    "dispatch_request",
    "make_response",
    "finalize_request",
    "process_response",
)


def is_bare(app: Flask) -> bool:
    """Whether nothing lies before the view that a fast path around all of it would pass by: no login, no
    rewriting, in a middleware or in a class made of Flask. Werkzeug's ProxyFix does neither."""
    inner: object = app.wsgi_app
    while type(inner) is ProxyFix:
        inner = inner.app
    is_flasks = all(getattr(type(app), step) is getattr(Flask, step) for step in _STEPS)
    return is_flasks and getattr(inner, "__func__", None) is Flask.wsgi_app


def has_hooks(app: Flask) -> bool:
    """Whether the host has a say in each request: code before or after it that may ask for a login or set
    headers, hosts that are not to be answered. Flask takes no more such code after its first request."""
    has_hosts = app.url_map.host_matching or app.subdomain_matching or app.config.get("TRUSTED_HOSTS")
    return bool(has_hosts) or any(
        functions.get(name)
        for functions in (app.before_request_funcs, app.after_request_funcs, app.url_value_preprocessors)
        for name in (None, NAME)
    )


def is_guarded(app: Flask, view: Callable[..., object]) -> bool:
    """Whether the host has put a function of its own around our *view*."""
    return app.view_functions.get(f"{NAME}.picture") != view
