"""``?explain=1``: what a URL means, its place in the cache, why it is refused; nothing is rendered for it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from support.asking import Counting
from support.drawing import at_rest, written

from imagefactory import create_app
from imagefactory.config import Config

TOM = "/picture/cats/tom.jpg"
KEYS = {"signing": {"keys": {"a": "x" * 16}}}


@pytest.fixture
def site(configure: Callable[..., Config], renderer: Counting) -> Callable[..., FlaskClient]:
    def make(**sections: Any) -> FlaskClient:
        http = {"explain": True, **sections.pop("http", {})}
        return create_app(configure(http=http, **sections), renderer).test_client()

    return make


def explained(web: FlaskClient, url: str) -> dict[str, Any]:
    reply = web.get(f"{url}{'&' if '?' in url else '?'}explain=1", buffered=True)
    assert (reply.status_code, reply.headers["Cache-Control"]) == (200, "no-store")
    return dict(reply.json or {})


def test_it_says_what_a_url_means(site: Callable[..., FlaskClient], renderer: Counting) -> None:
    found = explained(site(), f"{TOM}?w=100&fm=WEBP&utm=x")
    assert found["parameters"] == {"scalex": "100", "encoding": "WEBP"}
    assert found["ignored"] == ["utm"]
    source = found.pop("source")
    assert found["recipe"] == f"v1-100x{found['height']}-q80"
    assert (found["status"], found["encoding"], found["width"]) == (200, "webp", 100)
    assert (source["format"], len(source["sha256"])) == ("JPEG", 64)
    assert found["url"] == f"{TOM}?scalex=100&encoding=WEBP&v={found['v']}"
    assert renderer.renders == 0


def test_its_url_is_canonical(site: Callable[..., FlaskClient]) -> None:
    """The order is that of the table, what stood there under two names stands there once."""
    found = explained(site(), f"{TOM}?fm=webp&dl=a+b&s=x&width=99&v=x&w=99")
    assert found["url"] == f"{TOM}?scalex=99&encoding=webp&download=a%20b&v={found['v']}"


def test_a_side_that_says_nothing_hides_none(site: Callable[..., FlaskClient]) -> None:
    web = site()
    for query in ("w=77&scalex=", "scalex=0&w=77"):
        found = explained(web, f"{TOM}?{query}")
        assert found["url"] == f"{TOM}?scalex=77&v={found['v']}"


def test_its_url_is_below_where_the_app_is_mounted(site: Callable[..., FlaskClient]) -> None:
    web = site()
    found = web.get(f"{TOM}?w=77&explain=1", environ_overrides={"SCRIPT_NAME": "/caf\xc3\xa9"}).json or {}
    assert found["url"] == f"/caf%C3%A9{TOM}?scalex=77&v={found['v']}"


def test_it_tells_a_miss_from_a_hit_and_its_v_is_immutable(site: Callable[..., FlaskClient]) -> None:
    web, url = site(), f"{TOM}?scalex=50&encoding=webp"
    before = explained(web, url)
    assert (before["cache"], before["immutable"], "bytes" in before) == ("miss", False, False)
    body = web.get(url, buffered=True).data
    after = explained(web, f"{url}&v={before['v']}")
    assert (after["cache"], after["bytes"], after["immutable"]) == ("hit", len(body), True)
    reply = web.get(f"{url}&v={before['v']}", buffered=True)
    assert reply.headers["Cache-Control"] == "public, max-age=31536000, immutable"


def test_an_original_is_explained_too(site: Callable[..., FlaskClient], pictures: Path) -> None:
    found = explained(site(), TOM)
    size = (pictures / "cats/tom.jpg").stat().st_size
    assert (found["cache"], found["type"], found["bytes"]) == ("original", "image/jpeg", size)


def test_auto_is_explained_for_the_browser_that_asks(site: Callable[..., FlaskClient]) -> None:
    reply = site().get(f"{TOM}?encoding=auto&w=9&explain=1", headers={"Accept": "image/avif,*/*"})
    assert reply.json is not None
    assert reply.json["encoding"] == "avif"


@pytest.mark.parametrize(
    ("url", "sections", "status", "error"),
    [
        (f"{TOM}?quality=120", {}, 400, "bad_parameter"),
        (f"{TOM}?other=1", {"http": {"strict": True}}, 400, "bad_parameter"),
        (
            f"{TOM}?w=9",
            {"limits": {"sizes": "signed"}, "signing": {"keys": {"a": "x" * 16}}},
            403,
            "unsigned",
        ),
        (f"{TOM}?w=9&s=x", KEYS, 403, "wrong_signature"),
        ("/picture/cats/no.jpg?w=9", {}, 404, "not_found"),
        ("/picture/cats/../cats/tom.jpg?w=9", {}, 404, "not_found"),
        (f"{TOM}?w=9", {"limits": {"max_pixels": 10}}, 422, "too_large"),
        (TOM, {"http": {"originals": False}}, 404, "not_found"),
    ],
)
def test_it_says_why_a_url_is_refused(
    site: Callable[..., FlaskClient],
    renderer: Counting,
    url: str,
    sections: dict[str, Any],
    status: int,
    error: str,
) -> None:
    web = site(**sections)
    found = explained(web, url)
    assert (found["status"], found["error"], renderer.renders) == (status, error, 0)
    reply = web.get(url, buffered=True)
    assert (reply.status_code, dict(reply.json or {})) == (status, {k: found[k] for k in ("error", "detail")})


def test_a_picture_that_just_failed_is_said_to_fail(site: Callable[..., FlaskClient], pictures: Path) -> None:
    whole = (pictures / "cats/tom.jpg").read_bytes()
    at_rest(written(pictures, "half.jpg", whole[: len(whole) // 2]))
    web = site()
    assert web.get("/picture/half.jpg?w=9", buffered=True).status_code == 422
    assert explained(web, "/picture/half.jpg?w=9")["error"] == "undecodable"


@pytest.mark.parametrize("query", ["explain=0", "explain=", "explain=1x"])
def test_what_is_not_asked_is_not_explained(site: Callable[..., FlaskClient], query: str) -> None:
    assert site().get(f"{TOM}?w=9&{query}", buffered=True).mimetype == "image/jpeg"


def test_it_is_off_unless_the_config_says_so(site: Callable[..., FlaskClient]) -> None:
    reply = site(http={"explain": False}).get(f"{TOM}?w=9&explain=1", buffered=True)
    assert reply.mimetype == "image/jpeg"
