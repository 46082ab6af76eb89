"""A small site with responsive pictures: a gallery, an article, and pictures for members only.

    python examples/app.py            # http://127.0.0.1:5000/

What its parts are good for: docs/responsive-pictures.md. The first start draws the pictures into
``examples/data`` (or the folder that EXAMPLE_DATA names), which takes some seconds.
"""

from __future__ import annotations

import argparse
import hmac
import os
import secrets
import signal
import sys
from pathlib import Path
from typing import Any
from zlib import crc32

from draw import draw
from flask import (
    Blueprint,
    Flask,
    abort,
    current_app,
    make_response,
    redirect,
    render_template,
    request,
    session,
    url_for,
)
from waitress.server import create_server
from werkzeug import Response
from werkzeug.exceptions import HTTPException

from imagefactory import ImageFactory

HERE = Path(__file__).resolve().parent
DATA = Path(os.environ.get("EXAMPLE_DATA", HERE / "data"))
PICTURES = DATA / "pictures"

# A demonstration has one password, and shows it. A real site keeps a hash for each member
# (werkzeug.security.check_password_hash) and bounds how often one may try.
PASSWORD = os.environ.get("EXAMPLE_PASSWORD", "open sesame")

# Scripts are files of this site, styles too, but for the attribute that holds a placeholder (a data: URL).
POLICY = "; ".join(
    [
        "default-src 'none'",
        "img-src 'self' data:",
        "script-src 'self'",
        "style-src 'self'",
        "style-src-attr 'unsafe-inline'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'; trusted-types 'none'",
    ]
)

site = Blueprint("site", __name__)


def create_app() -> Flask:
    """The site. Its secrets are random, and end with the process: for several processes, and for logins that
    outlive a restart, put your own into the environment."""
    app = Flask(__name__)
    app.secret_key = os.environ.get("EXAMPLE_SECRET_KEY") or secrets.token_hex(32)
    app.config.update(
        SESSION_COOKIE_SAMESITE="Lax",
        SESSION_COOKIE_SECURE="EXAMPLE_HTTPS" in os.environ,  # set it wherever there is HTTPS
        MAX_CONTENT_LENGTH=10_000,  # of a form
        IMAGEFACTORY={
            "paths": {"pictures": PICTURES, "cache": DATA / "cache"},
            "limits": {"sizes": "ladder"},  # a stranger can ask for eleven widths, not for thousands
            "http": {"private": ["members/**"]},
            "signing": {"keys": {"web": os.environ.get("EXAMPLE_SIGNING_KEY") or secrets.token_hex(32)}},
        },
    )
    ImageFactory(app)
    app.register_blueprint(site)
    app.register_error_handler(HTTPException, show_error)  # pictures keep their own errors
    return app


def page(template: str, status: int = 200, **values: Any) -> Response:
    """A page with its headers. Not by ``after_request``: without such hooks imagefactory answers hits before
    Flask, several times as fast."""
    response = make_response(render_template(template, **values), status)
    response.headers["Content-Security-Policy"] = POLICY
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Referrer-Policy"] = "same-origin"  # signed URLs stay here
    return response


def show_error(error: HTTPException) -> Response:
    return page("error.html", error.code or 500, error=error)


# --- for everybody ----------------------------------------------------------------------------------------


@site.get("/")
def gallery() -> Response:
    return page("gallery.html", pictures=paths("gallery"))


@site.get("/article")
def article() -> Response:
    return page("article.html")


def paths(folder: str) -> list[str]:
    """The pictures in *folder* as imagefactory names them, below PICTURES; well mixed, always the same."""
    files = sorted((PICTURES / folder).rglob("*.*"), key=lambda file: crc32(file.name.encode()))
    return [file.relative_to(PICTURES).as_posix() for file in files]


# --- for members ------------------------------------------------------------------------------------------


@site.get("/login")
def login() -> Response:
    return page("login.html", token=form_token(), password=PASSWORD)


@site.post("/login")
def log_in() -> Response:
    check_form()
    if not hmac.compare_digest(request.form.get("password", "").encode(), PASSWORD.encode()):
        return page("login.html", 403, token=form_token(), password=PASSWORD, is_wrong=True)
    session.clear()  # what was written before the login is not a member's
    session["is_member"] = True
    return redirect(url_for("site.members"), 303)


@site.post("/logout")
def log_out() -> Response:
    check_form()
    session.clear()
    return redirect(url_for("site.gallery"), 303)


@site.get("/members")
def members() -> Response:
    return members_page("members.html", pictures=paths("members"))


@site.get("/members/links")
def links() -> Response:
    """What becomes of a signed URL that somebody changes, or keeps for too long."""
    helpers = current_app.extensions["imagefactory"].pictures
    path = paths("members")[0]
    good = helpers.url(path, scalex=320, expires=600)
    rows = [
        ("as this page wrote it", good, "200"),
        ("another width", good.replace("scalex=320", "scalex=640"), "403 wrong_signature"),
        ("another picture", good.replace("aurora", "moon"), "403 wrong_signature"),
        ("without the signature", good.partition("&e=")[0], "403 unsigned"),
        ("a minute too late", helpers.url(path, scalex=320, expires=-60), "403 expired"),
    ]
    return members_page("links.html", rows=rows)


def members_page(template: str, **values: Any) -> Response:
    """A page for members, which no cache keeps; others are sent to the login."""
    if not session.get("is_member"):
        return redirect(url_for("site.login"))
    response = page(template, token=form_token(), **values)
    response.headers["Cache-Control"] = "private, no-store"
    return response


def form_token() -> str:
    """What our own forms send back, and a form on a page of somebody else can't know."""
    return str(session.setdefault("form_token", secrets.token_urlsafe(16)))


def check_form() -> None:
    """Refuse a form that is not from a page of ours."""
    known, sent = session.get("form_token"), request.form.get("form_token", "")
    if not known or not hmac.compare_digest(sent.encode(), known.encode()):
        abort(400, "This form is from another page, or too old: load the page again.")


# --- starting ---------------------------------------------------------------------------------------------


def prepare(app: Flask) -> None:
    """Render the smallest candidate of each picture, so that the first visitor sees placeholders already.

    A deployment has ``imagefactory warm`` do this, and much faster."""
    parts = app.extensions["imagefactory"].parts
    smallest = parts.resolver.request([("scalex", "160"), ("encoding", "webp")])
    for path in paths(""):
        parts.generator.answer(path, smallest, "")


def main() -> None:
    parser = argparse.ArgumentParser(description="The example of imagefactory.")
    parser.add_argument("--port", type=int, default=5000)
    parser.add_argument("--width", type=int, default=1200, help="of the pictures that the first start draws")
    arguments = parser.parse_args()
    if not PICTURES.is_dir():
        print(f"drawing pictures into {PICTURES}", file=sys.stderr)
        DATA.mkdir(parents=True, exist_ok=True)
        draw(unfinished := DATA / "unfinished", arguments.width)
        unfinished.rename(PICTURES)
    app = create_app()
    prepare(app)
    server = create_server(app, host="127.0.0.1", port=arguments.port, threads=16, ident=None)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    print(f"the example is at http://127.0.0.1:{server.effective_port}/", file=sys.stderr, flush=True)
    server.run()


if __name__ == "__main__":
    main()
