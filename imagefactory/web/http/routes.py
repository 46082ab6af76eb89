"""URLs of which we answer all methods and all errors, so that a host app has no part in them.

Flask's ``add_url_rule`` can't say "all methods": it would answer OPTIONS and 405 by itself, the latter with
the error page of the host.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from flask import Blueprint, Response, request
from flask.blueprints import BlueprintSetupState

from ...errors import MethodNotAllowed, RequestError
from .flask_response import to_flask
from .responses import Reply, error_reply, options_reply

__all__ = ["by_method", "chosen", "make_blueprint"]

_Handler = TypeVar("_Handler", bound=Callable[..., object])


def make_blueprint(
    name: str, endpoint: str, rules: Iterable[str], view: Callable[..., Response], **options: Any
) -> Blueprint:
    """The blueprint *name* whose *view* answers all methods at *rules*. *options* are those of a rule."""
    found = Blueprint(name, __name__)
    endpoint = f"{name}.{endpoint}"

    def add_rules(setup: BlueprintSetupState) -> None:
        for rule in rules:
            setup.app.url_map.add(setup.app.url_rule_class(rule, endpoint=endpoint, methods=None, **options))
        setup.app.view_functions[endpoint] = view

    found.record_once(add_rules)
    return found


def by_method(methods: Mapping[str, Callable[..., Reply]]) -> Callable[..., Response]:
    """A view that answers a request by the function of its method. OPTIONS is answered with the names of
    *methods*, other methods with 405; a RequestError becomes its reply."""
    allowed = (*methods, "OPTIONS")
    handlers = {**methods, "OPTIONS": lambda **values: options_reply(allowed)}

    def view(**values: str) -> Response:
        try:
            return to_flask(chosen(handlers, request.method)(**values))
        except RequestError as error:
            return to_flask(error_reply(error))

    return view


def chosen(handlers: Mapping[str, _Handler], method: str) -> _Handler:
    """The handler of *method*. Raises MethodNotAllowed, which names those that there are, in their order."""
    if method not in handlers:
        raise MethodNotAllowed(method, tuple(handlers))
    return handlers[method]
