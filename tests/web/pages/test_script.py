"""The script's address: kept for good by browsers, below the app's mount, the host left alone."""

from __future__ import annotations

import configparser
import gzip
import hashlib
from fnmatch import fnmatch
from pathlib import Path

import pytest
from flask import Flask, render_template_string
from flask.testing import FlaskClient

import imagefactory
from imagefactory import ImageFactory

PACKAGE = Path(imagefactory.__file__).parent
TEXT = (PACKAGE / "web" / "pages" / "static" / "imagefactory.js").read_bytes()
DIGEST = hashlib.sha256(TEXT).hexdigest()
ADDRESS = f"/-/imagefactory.{DIGEST[:12]}.js"
HEADERS = {
    "ETag": f'"{DIGEST[:32]}"',
    "Cache-Control": "public, max-age=31536000, immutable",
    "X-Content-Type-Options": "nosniff",
    "Content-Type": "text/javascript; charset=utf-8",
    "Content-Length": str(len(TEXT)),
}


def with_pictures(app: Flask, folder: Path) -> Flask:
    pictures = folder / "pictures"
    pictures.mkdir(exist_ok=True)
    ImageFactory(app, {"paths": {"pictures": str(pictures), "cache": str(folder / "cache")}})
    return app


@pytest.fixture
def host(tmp_path: Path) -> Flask:
    """An app of somebody else's, without an admin token."""
    return with_pictures(Flask(__name__), tmp_path)


def test_it_is_small() -> None:
    assert len(gzip.compress(TEXT, 9)) < 2048
    assert TEXT.isascii()


@pytest.mark.parametrize("kind", ["stand-alone", "host"])
def test_it_is_kept_for_good(client: FlaskClient, host: Flask, kind: str) -> None:
    asker = client if kind == "stand-alone" else host.test_client()
    reply = asker.get(ADDRESS)
    assert (reply.status_code, dict(reply.headers), reply.data) == (200, HEADERS, TEXT)
    head = asker.head(ADDRESS)
    assert (head.status_code, dict(head.headers), head.data) == (200, HEADERS, b"")


@pytest.mark.parametrize("tag", [HEADERS["ETag"], f"W/{HEADERS['ETag']}", "*", f'"x", {HEADERS["ETag"]}'])
def test_who_has_it_gets_304(client: FlaskClient, tag: str) -> None:
    reply = client.get(ADDRESS, headers={"If-None-Match": tag})
    assert (reply.status_code, reply.data) == (304, b"")
    assert dict(reply.headers) == {k: v for k, v in HEADERS.items() if not k.startswith("Content-")}
    assert client.get(ADDRESS, headers={"If-None-Match": '"x"'}).status_code == 200


@pytest.mark.parametrize(
    "address", ["/-/imagefactory.000000000000.js", f"/-/imagefactory.{DIGEST}.js", "/-/imagefactory..js.js"]
)
def test_another_digest_is_404_and_nobody_keeps_that(host: Flask, address: str) -> None:
    reply = host.test_client().get(address)
    assert reply.status_code == 404
    assert reply.json == {
        "error": "not_found",
        "detail": f"this server has no such script; its own is {ADDRESS.removeprefix('/-/')}",
    }
    assert reply.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize(("method", "status"), [("OPTIONS", 204), ("POST", 405), ("BREW", 405)])
def test_other_methods(host: Flask, method: str, status: int) -> None:
    reply = host.test_client().open(ADDRESS, method=method)
    assert (reply.status_code, reply.headers["Allow"]) == (status, "GET, HEAD, OPTIONS")


def test_the_rest_of_the_host_stays_its_own(host: Flask) -> None:
    for address in ("/-/", "/-/other.js", "/static/imagefactory.js"):
        assert host.test_client().get(address).mimetype == "text/html"  # Flask's own 404


def test_the_tag_for_templates(host: Flask) -> None:
    @host.get("/page")
    def page() -> str:
        return render_template_string('{{ imagefactory_script() }}{{ imagefactory_script(nonce="a\\"b") }}')

    client = host.test_client()
    for root in ("", "/mounted"):
        address = root + ADDRESS
        assert client.get("/page", environ_overrides={"SCRIPT_NAME": root}).text == (
            f'<script type="module" src="{address}"></script>'
            f'<script type="module" src="{address}" nonce="a&#34;b"></script>'
        )


def test_a_template_function_of_the_host_stays(tmp_path: Path) -> None:
    app = Flask(__name__)
    app.jinja_env.globals["imagefactory_script"] = lambda: "of the host"
    with_pictures(app, tmp_path)
    with app.test_request_context():
        assert render_template_string("{{ imagefactory_script() }}") == "of the host"
        assert render_template_string("{{ imagefactory_script_url() }}") == ADDRESS


def test_files_beside_the_code_are_installed() -> None:
    """Each is named in setup.cfg, else a wheel comes without it."""
    settings = configparser.ConfigParser()
    settings.read(PACKAGE.parent / "setup.cfg")
    patterns = [
        f"{package.replace('.', '/')}/{pattern}"
        for package, names in settings["options.package_data"].items()
        for pattern in names.split(", ")
    ]
    others = [p for p in PACKAGE.rglob("*") if p.is_file() and p.suffix not in (".py", ".pyc")]
    assert others
    for path in others:
        name = path.relative_to(PACKAGE.parent).as_posix()
        assert any(fnmatch(name, pattern) for pattern in patterns), name
