"""The script for pages with pictures, ``/-/imagefactory.<digest>.js``, and its tag for templates.

Registered in every app, also without a token in ``[admin]``. The name holds the digest of the bytes, so that
a browser keeps the file for good and asks for a new one after an upgrade. What it does: docs/script.md.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from flask import Blueprint, Response, request, url_for
from flask.blueprints import BlueprintSetupState
from markupsafe import Markup

from ...errors import MethodNotAllowed
from ..flask_response import textual
from ..responses import METHODS, Reply, error_reply, json_reply, options_reply

__all__ = ["blueprint", "imagefactory_script", "imagefactory_script_url"]

_NAME = "imagefactory-script"
_TEXT = Path(__file__).with_name("static").joinpath("imagefactory.js").read_bytes()
_DIGEST = hashlib.sha256(_TEXT).hexdigest()


def blueprint() -> Blueprint:
    """The route, and the functions for templates. All its methods and errors are answered here."""
    found = Blueprint(_NAME, __name__)

    def add_rules(setup: BlueprintSetupState) -> None:
        endpoint = f"{_NAME}.script"
        # Not by add_url_rule, which can't say "all methods".
        rule = setup.app.url_rule_class("/-/imagefactory.<digest>.js", endpoint=endpoint, methods=None)
        setup.app.url_map.add(rule)
        setup.app.view_functions[endpoint] = _script
        setup.app.jinja_env.globals.setdefault("imagefactory_script", imagefactory_script)
        setup.app.jinja_env.globals.setdefault("imagefactory_script_url", imagefactory_script_url)

    found.record_once(add_rules)
    return found


def imagefactory_script_url() -> str:
    """The address of the script, below where the app is mounted (SCRIPT_NAME). Needs an app context."""
    return url_for(f"{_NAME}.script", digest=_DIGEST[:12])


def imagefactory_script(nonce: str = "") -> Markup:
    """The element that loads the script; *nonce* is that of a Content-Security-Policy that wants one."""
    attribute = Markup(' nonce="{}"').format(nonce) if nonce else ""
    return Markup('<script type="module" src="{}"{}></script>').format(imagefactory_script_url(), attribute)


def _script(digest: str) -> Response:
    return textual(_reply(digest))


def _reply(digest: str) -> Reply:
    if request.method == "OPTIONS":
        return options_reply()
    if request.method not in METHODS:
        return error_reply(MethodNotAllowed(request.method, METHODS))
    if digest != _DIGEST[:12]:
        detail = f"this server has no such script; its own is imagefactory.{_DIGEST[:12]}.js"
        return json_reply(404, {"error": "not_found", "detail": detail})
    headers = [
        ("ETag", f'"{_DIGEST[:32]}"'),
        ("Cache-Control", "public, max-age=31536000, immutable"),
        ("X-Content-Type-Options", "nosniff"),
    ]
    if request.if_none_match.contains_weak(_DIGEST[:32]):
        return Reply(304, headers)
    headers += [("Content-Type", "text/javascript; charset=utf-8"), ("Content-Length", str(len(_TEXT)))]
    return Reply(200, headers, text=_TEXT)
