"""The script for pages with pictures, ``/-/imagefactory.<digest>.js``, and its tag for templates.

Registered in every app, also without a token in ``[admin]``. The name holds the digest of the bytes, so that
a browser keeps the file for good and asks for a new one after an upgrade. What it does: docs/script.md.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from flask import Blueprint, request, url_for
from flask.blueprints import BlueprintSetupState
from markupsafe import Markup

from ..http.responses import Reply, json_reply
from ..http.routes import by_method, make_blueprint

__all__ = ["blueprint", "imagefactory_script", "imagefactory_script_url"]

_NAME = "imagefactory-script"
_TEXT = Path(__file__).with_name("static").joinpath("imagefactory.js").read_bytes()
_DIGEST = hashlib.sha256(_TEXT).hexdigest()


def blueprint() -> Blueprint:
    """The route, and the functions for templates."""
    view = by_method({"GET": _script, "HEAD": _script})
    found = make_blueprint(_NAME, "script", ["/-/imagefactory.<digest>.js"], view)

    @found.record_once
    def add_functions(setup: BlueprintSetupState) -> None:
        for function in (imagefactory_script, imagefactory_script_url):
            setup.app.jinja_env.globals.setdefault(function.__name__, function)

    return found


def imagefactory_script_url() -> str:
    """The URL of the script, below where the app is mounted (SCRIPT_NAME). Needs an app context."""
    return url_for(f"{_NAME}.script", digest=_DIGEST[:12])


def imagefactory_script(nonce: str = "") -> Markup:
    """The element that loads the script; *nonce* is that of a Content-Security-Policy that wants one."""
    attribute = Markup(' nonce="{}"').format(nonce) if nonce else ""
    return Markup('<script type="module" src="{}"{}></script>').format(imagefactory_script_url(), attribute)


def _script(digest: str) -> Reply:
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
