"""A purge over HTTP: who may, what is answered, what the fast path and a CDN get to know of it."""

from __future__ import annotations

import io
import json
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from click.testing import CliRunner
from flask import Flask
from flask.testing import FlaskClient
from support.asking import Counting
from support.clock import Clock
from support.drawing import quarters
from support.serving import serving, write_config
from werkzeug.test import TestResponse

from imagefactory import ImageFactory
from imagefactory.cli import main
from imagefactory.config import Admin, Config
from imagefactory.upkeep import keeper
from imagefactory.upkeep.purge import notify
from imagefactory.urls.cache_tags import content_tag, folder_tag, picture_tag, tag_header

TOKEN = "open-sesame-open-sesame"
BEARER = {"Authorization": f"Bearer {TOKEN}"}
TOM, SMALL = "/picture/cats/tom.jpg", "/picture/cats/tom.jpg?scalex=100"
Site = Callable[..., FlaskClient]


@pytest.fixture
def site(site: Site, clock: Clock) -> Site:
    """Makes a client of a site with a token; site(http={"strict": True}), site(admin={}) has none."""
    clock.ahead_s = 10  # so that the pictures are old enough for the fast path

    def make(**sections: Any) -> FlaskClient:
        return site(**{"admin": {"token": TOKEN}, **sections})

    return make


@pytest.fixture(autouse=True)
def no_filler(monkeypatch: pytest.MonkeyPatch) -> None:
    """A new index is not whole: what fills it may take a row from a purge, which does not count that."""
    monkeypatch.setattr(keeper, "_fill", lambda *_: None)


def told(reply: TestResponse) -> dict[str, Any]:
    """The JSON of an answer whose form is checked on the way."""
    assert reply.mimetype == "application/json"
    assert reply.headers["Cache-Control"] == "no-store"
    assert reply.headers["X-Content-Type-Options"] == "nosniff"
    assert reply.headers["Content-Length"] == str(len(reply.data))
    found = json.loads(reply.data)
    assert isinstance(found, dict)
    return found


def cache_of(web: FlaskClient, url: str = SMALL) -> str:
    reply = web.get(url)
    assert reply.status_code == 200
    return reply.headers["X-Cache"]


def post(web: FlaskClient, **values: object) -> TestResponse:
    return web.post("/-/purge", json=values, headers=BEARER)


# --- DELETE ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["disk", "memory"])
def test_a_deleted_picture_is_rendered_again(site: Site, mode: str) -> None:
    web = site(cache={"mode": mode})
    assert [cache_of(web) for _ in range(3)] == ["miss", "hit", "hit"]  # the last one by the fast path
    other = "/picture/flag.png?scalex=50"
    assert [cache_of(web, other) for _ in range(3)] == ["miss", "hit", "hit"]
    reply = web.delete(TOM, headers=BEARER)
    assert reply.status_code == 200
    found = told(reply)
    assert (found["pictures"], found["variants"], found["dry_run"]) == (1, 1, False)
    assert found["bytes"] > 0
    assert [cache_of(web) for _ in range(3)] == ["miss", "hit", "hit"]
    assert cache_of(web, other) == "hit"


def test_a_delete_ignores_the_query_and_needs_no_picture(site: Site, pictures: Path) -> None:
    web = site()
    cache_of(web)
    assert told(web.delete(f"{TOM}?scalex=nonsense", headers=BEARER))["variants"] == 1
    cache_of(web)
    (pictures / "cats/tom.jpg").unlink()
    assert told(web.delete(TOM, headers=BEARER))["variants"] == 1
    assert told(web.delete("/images/nothing.jpg", headers=BEARER))["variants"] == 0


@pytest.mark.parametrize(
    "path", ["", "cats//tom.jpg", "../x.jpg", "cats/", ".hidden", "a%00", "./cats/tom.jpg"]
)
def test_a_path_that_is_not_canonical_is_404(site: Site, path: str) -> None:
    reply = site().delete(f"/picture/{path}", headers=BEARER)
    assert reply.status_code == 404
    assert told(reply)["error"] == "not_found"


WRONG = [
    {}, {"Authorization": ""}, {"Authorization": "Bearer"}, {"Authorization": f"Bearer {TOKEN}x"},
    {"Authorization": f"Bearer {TOKEN[:-1]}"}, {"Authorization": TOKEN}, {"Authorization": f"Token {TOKEN}"},
    {"Authorization": "Bearer \xff\xfe"}, {"Authorization": "Basic !"},
]  # fmt: skip


@pytest.mark.parametrize("headers", WRONG)
def test_without_the_token_nothing_goes(site: Site, headers: dict[str, str]) -> None:
    web = site()
    cache_of(web)
    for reply in (
        web.delete(TOM, headers=headers),
        web.delete("/picture/nothing.jpg", headers=headers),
        web.delete("/picture//", headers=headers),
        web.post("/-/purge", json={"all": True}, headers=headers),
        web.post("/-/purge", data="x", headers=headers),
    ):
        assert reply.status_code == 401
        assert reply.headers["WWW-Authenticate"] == 'Bearer realm="imagefactory"'
        assert told(reply)["error"] == "unauthorized"
        assert TOKEN not in reply.text
    assert cache_of(web) == "hit"


def test_without_a_token_in_the_config_there_is_no_purge(site: Site) -> None:
    web = site(admin={})
    cache_of(web)
    for headers in ({}, BEARER, {"Authorization": "Bearer "}):
        reply = web.delete(TOM, headers=headers)
        assert (reply.status_code, reply.headers["Allow"]) == (405, "GET, HEAD, OPTIONS")
        assert web.options(TOM).headers["Allow"] == "GET, HEAD, OPTIONS"
        assert web.post("/-/purge", json={"all": True}, headers=headers).status_code == 404
    assert cache_of(web) == "hit"


def test_with_a_token_allow_names_delete(site: Site) -> None:
    web = site()
    allowed = "GET, HEAD, OPTIONS, DELETE"
    assert web.options(TOM).headers["Allow"] == allowed
    reply = web.post(TOM)
    assert (reply.status_code, reply.headers["Allow"]) == (405, allowed)
    # No other origin's script may send one: that would need Access-Control-Allow-Methods.
    web = site(http={"access_control_allow_origin": "*"})
    assert "Access-Control-Allow-Methods" not in web.options(TOM).headers


# --- POST /-/purge -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("selection", "count"),
    [
        ({"paths": ["cats/tom.jpg"]}, 1),
        ({"paths": ["cats/tom.jpg", "flag.png", "none.jpg"]}, 2),
        ({"prefix": "cats"}, 1),
        ({"prefix": "cats/"}, 1),
        ({"glob": "*.png"}, 1),
        ({"glob": "**"}, 2),
        ({"older_than": "30d"}, 0),
        ({"older_than": "0s"}, 2),
        ({"stale": True}, 0),
        ({"all": True}, 2),
        ({"all": True, "stale": False, "paths": [], "prefix": ""}, 2),
    ],
)
def test_a_selection_is_purged(site: Site, selection: dict[str, Any], count: int) -> None:
    web = site()
    urls = [SMALL, "/picture/flag.png?scalex=50"]
    for url in urls:
        cache_of(web, url)
    dry, wet = told(post(web, **selection, dry_run=True)), told(post(web, **selection))
    assert dry == {**wet, "dry_run": True}
    assert set(wet) == {"pictures", "variants", "bytes", "dry_run", "unread"}
    assert (wet["pictures"], wet["variants"]) == (count, count)
    assert sorted(cache_of(web, url) for url in urls).count("miss") == count


def test_a_content_is_purged_by_its_digest(site: Site) -> None:
    web = site()
    cache_of(web)
    digest = web.application.extensions["imagefactory"].parts.source("cats/tom.jpg").digest
    for text in (digest[:12], f"sha256:{digest}"):
        assert told(post(web, digests=[text]))["variants"] == 1
        cache_of(web)


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        (b"", "the body is no JSON"),
        (b"{", "the body is no JSON"),
        (b"\xff", "the body is no JSON"),
        (b"[" * 60_000, "the body is no JSON"),
        (b"[]", 'the body is no JSON object; write one such as {"paths"'),
        (b"null", "the body is no JSON object"),
        (b"{}", "selected: nothing"),
        (b'{"paths": []}', "selected: nothing"),
        (b'{"all": false}', "selected: nothing"),
        (b'{"dry_run": true}', "selected: nothing"),
        (b'{"all": true, "stale": true}', "selected: stale and all"),
        (b'{"path": ["a.jpg"]}', "unknown key 'path', did you mean 'paths'?"),
        (b'{"x": 1}', "unknown key 'x'; there are paths, digests"),
        (b'{"paths": "a.jpg"}', 'paths: "a.jpg" is not a list'),
        (b'{"paths": [1]}', "paths: 1 is not text"),
        (b'{"paths": ["../x"]}', "'../x' is not the path of a picture"),
        (b'{"paths": ["\\ud800"]}', "is not UTF-8"),
        (b'{"paths": ["a\\u0000"]}', "is not the path of a picture"),
        (b'{"prefix": 1}', "prefix: 1 is not text"),
        (b'{"glob": null}', "glob: null is not text"),
        (b'{"older_than": 30}', "older_than: 30 is not text"),
        (b'{"older_than": "soon"}', "older_than: 'soon' is not a time"),
        (b'{"stale": 1}', "stale: 1 is not true or false"),
        (b'{"all": "true"}', 'all: "true" is not true or false'),
        (b'{"digests": ["abc"]}', "'abc' is not the sha256 of a picture"),
        (b'{"all": [[1]]}', "all: a list is not true or false"),
        (b'{"paths": {"a.jpg": 1}}', "paths: an object is not a list"),
        (b'{"glob": "cats\\u0000/*"}', "a control character, and no path does"),
        (b'{"glob": "../*"}', "'../*' has a hidden folder or file"),
    ],
)
def test_a_mistake_is_400_and_says_what_would_be_right(site: Site, body: bytes, detail: str) -> None:
    web = site()
    cache_of(web)
    reply = web.post("/-/purge", data=body, content_type="application/json", headers=BEARER)
    assert reply.status_code == 400
    found = told(reply)
    assert set(found) == {"error", "detail"}
    assert detail in found["detail"]
    assert cache_of(web) == "hit"


@pytest.mark.parametrize(
    "content_type",
    ["", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "text/json"],
)
def test_a_form_of_another_site_can_not_purge(site: Site, content_type: str) -> None:
    web = site()
    cache_of(web)
    reply = web.post("/-/purge", data=b'{"all": true}', content_type=content_type, headers=BEARER)
    assert reply.status_code == 415
    assert "has to be application/json" in told(reply)["detail"]
    assert cache_of(web) == "hit"


def test_json_with_a_charset_is_json(site: Site) -> None:
    reply = site().post(
        "/-/purge", data=b'{"all": true}', content_type="Application/JSON; charset=utf-8", headers=BEARER
    )
    assert reply.status_code == 200


def test_a_body_above_64_kb_is_413(site: Site) -> None:
    web = site()
    body = json.dumps({"paths": ["a.jpg"]}).encode().ljust(64 * 1024)
    for extra, status in ((b"", 200), (b" ", 413)):
        reply = web.post("/-/purge", data=body + extra, content_type="application/json", headers=BEARER)
        assert reply.status_code == status
    assert told(reply)["error"] == "body_too_large"


def test_a_body_in_chunks_is_not_cut_off_at_64_kb(site: Site) -> None:
    body = io.BytesIO(json.dumps({"all": True}).encode().ljust(64 * 1024) + b"more")
    chunked = {"wsgi.input_terminated": True, "HTTP_TRANSFER_ENCODING": "chunked"}
    reply = site().post(
        "/-/purge",
        input_stream=body,
        content_type="application/json",
        headers=BEARER,
        environ_overrides=chunked,
    )
    assert (reply.status_code, told(reply)["error"]) == (413, "body_too_large")


def test_json_that_can_just_be_read_is_no_500(site: Site) -> None:
    web = site()
    for depth in range(850, 1000):
        body = b'{"stale": ' + b"[" * depth + b"]" * depth + b"}"
        reply = web.post("/-/purge", data=body, content_type="application/json", headers=BEARER)
        assert reply.status_code == 400, depth


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "BREW"])
def test_other_methods_of_the_purge_are_405(site: Site, method: str) -> None:
    reply = site().open("/-/purge", method=method, headers=BEARER)
    assert (reply.status_code, reply.headers["Allow"]) == (405, "POST, OPTIONS")
    assert reply.headers["Cache-Control"] == "no-store"
    assert method == "HEAD" or told(reply)["error"] == "method_not_allowed"
    assert site().options("/-/purge").headers["Allow"] == "POST, OPTIONS"


def test_a_memo_in_memory_does_not_know_what_is_old(site: Site) -> None:
    reply = post(site(cache={"mode": "memory"}), older_than="1d")
    assert reply.status_code == 400
    assert "does not know when its variants were used" in told(reply)["detail"]


def test_a_cache_that_can_not_be_changed_is_503(site: Site, tmp_path: Path) -> None:
    web = site()
    cache_of(web)
    tmp = tmp_path / "cache/tmp"
    for path in tmp.iterdir():
        path.unlink()
    tmp.rmdir()
    tmp.write_text("a file")
    reply = web.delete(TOM, headers=BEARER)
    assert reply.status_code == 503
    assert reply.headers["Retry-After"] == "2"
    assert str(tmp_path) not in reply.text
    assert "the cache can't be purged at the moment" in told(reply)["detail"]


def test_an_epoch_that_can_not_be_renewed_is_503(site: Site, tmp_path: Path) -> None:
    web = site()
    cache_of(web)
    (tmp_path / "cache/epoch").unlink()
    (tmp_path / "cache/epoch/in the way").mkdir(parents=True)
    reply = web.delete(TOM, headers=BEARER)
    assert reply.status_code == 503
    assert "the epoch can't be renewed" in told(reply)["detail"]


def test_in_an_app_of_somebody_else_it_touches_nothing_else(
    configure: Callable[..., Config], renderer: Counting
) -> None:
    app = Flask("host")
    app.register_error_handler(Exception, lambda error: ("the host's everything", 500))
    app.add_url_rule("/-/mine", "mine", lambda: "mine")
    ImageFactory(app, configure(admin={"token": TOKEN}), renderer=renderer)
    web = app.test_client()
    web.get(SMALL).close()
    assert web.get("/-/mine").text == "mine"
    assert web.get("/-/elsewhere").text == "the host's everything"
    assert told(post(web, paths="x"))["error"] == "bad_parameter"
    assert told(web.get("/-/purge"))["error"] == "method_not_allowed"
    assert told(post(web, all=True))["variants"] == 1


def test_a_real_server_takes_delete_and_post(tmp_path: Path, pictures: Path) -> None:
    """Each server hands on the method, the header and the body."""
    config = write_config(tmp_path, pictures, tmp_path / "cache", admin={"token": TOKEN})
    with serving(config) as server, server.client() as client:
        assert [client.get(SMALL).cache for _ in range(3)] == ["miss", "hit", "hit"]
        assert client.get(TOM, "DELETE").status == 401
        assert client.get(SMALL).cache == "hit"
        reply = client.get(TOM, "DELETE", Authorization=f"Bearer {TOKEN}")
        assert json.loads(reply.body)["variants"] == 1
        assert client.get(SMALL).cache == "miss"
        assert TOKEN not in server.said()


# --- hooks -------------------------------------------------------------------------------------------------


class Cdn(ThreadingHTTPServer):
    """What a CDN would be told; answers with *statuses* one by one, then with 200."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.told: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.statuses: list[int] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/purge"


class _Handler(BaseHTTPRequestHandler):
    server: Cdn

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.told.append(json.loads(body))
        self.server.headers.append({name.lower(): value for name, value in self.headers.items()})
        status = self.server.statuses.pop(0) if self.server.statuses else 200
        self.send_response(status)
        if status == 302:
            self.send_header("Location", self.server.url)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_GET = do_POST  # noqa: N815  # the name that http.server looks for

    def log_message(self, *details: object) -> None:
        pass


@pytest.fixture
def cdn(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cdn]:
    monkeypatch.setattr(notify, "_PAUSE_S", 0.0)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with Cdn() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_the_cdn_is_told_of_what_was_named(site: Site, cdn: Cdn) -> None:
    web = site(admin={"token": TOKEN, "purge_url": cdn.url, "purge_headers": {"Fastly-Key": "secret"}})
    cache_of(web)
    digest = web.application.extensions["imagefactory"].parts.source("cats/tom.jpg").digest
    assert told(web.delete(TOM, headers=BEARER))["hook"] == {"ok": True}
    assert cdn.told == [
        {
            "paths": ["cats/tom.jpg"],
            "urls": ["/picture/cats/tom.jpg", "/images/cats/tom.jpg"],
            "tags": ["/cats/tom.jpg", f"sha256:{digest[:16]}"],
            "all": False,
        }
    ]
    assert cdn.headers[0]["fastly-key"] == "secret"
    assert cdn.headers[0]["content-type"] == "application/json"
    post(web, all=True)
    assert cdn.told[-1] == {"paths": [], "urls": [], "tags": ["/"], "all": True}
    post(web, prefix="cats/")
    assert cdn.told[-1]["paths"] == ["cats/tom.jpg"]
    assert cdn.told[-1]["tags"][0] == "/cats/"
    assert len(cdn.told) == 3
    post(web, paths=["gone, é.jpg"])  # nothing is cached here, and perhaps there
    assert cdn.told[-1]["urls"][0] == "/picture/gone%2C%20%C3%A9.jpg"
    assert cdn.told[-1]["tags"] == ["/gone%2C%20%C3%A9.jpg"]
    assert len(cdn.told) == 4
    post(web, all=True, dry_run=True)
    post(web, stale=True)  # nothing is
    assert len(cdn.told) == 4


@pytest.mark.parametrize(
    ("statuses", "tries", "problem"),
    [
        ([], 1, ""),
        ([500, 429], 3, ""),
        ([503, 503, 503], 3, "purge_url at 127.0.0.1 answered 503; tried 3 times"),
        ([403], 1, "purge_url at 127.0.0.1 answered 403"),
        ([302], 1, "purge_url at 127.0.0.1 answered 302, a redirect, which is not followed"),
    ],
)
def test_what_the_cdn_answers(
    site: Site,
    cdn: Cdn,
    caplog: pytest.LogCaptureFixture,
    statuses: list[int],
    tries: int,
    problem: str,
) -> None:
    cdn.statuses = statuses
    web = site(admin={"token": TOKEN, "purge_url": cdn.url, "purge_headers": {"Key": "hush-hush"}})
    cache_of(web)
    reply = web.delete(TOM, headers=BEARER)
    assert reply.status_code == 200
    found = told(reply)
    assert found["variants"] == 1
    assert found["hook"]["ok"] == (not problem)
    assert problem in found["hook"].get("detail", "")
    assert "hush" not in reply.text + caplog.text
    assert len(cdn.told) == tries
    assert (f"a purge was not told: {problem}" in caplog.text) == bool(problem)


def test_a_cdn_that_is_not_there(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notify, "_PAUSE_S", 0.0)
    web = site(admin={"token": TOKEN, "purge_url": "http://127.0.0.1:9/x?key=hush"})
    found = told(web.delete(TOM, headers=BEARER))
    assert found["hook"]["ok"] is False
    assert "purge_url at 127.0.0.1 can't be reached: " in found["hook"]["detail"]
    assert "hush" not in found["hook"]["detail"]


def test_many_pictures_are_told_a_thousand_at_a_time() -> None:
    paths = [f"cats/{number}.jpg" for number in range(2500)]
    digests = [f"{number:064x}" for number in range(1200)]
    bodies = [json.loads(body) for body in notify.notices(paths, digests, "cats", ["/picture"], False)]
    assert [len(body["paths"]) for body in bodies] == [1000, 1000, 500]
    assert [path for body in bodies for path in body["paths"]] == paths
    tags = [tag for body in bodies for tag in body["tags"]]
    assert tags.count("/cats/") == 1
    assert {picture_tag(path) for path in paths} | {content_tag(digest) for digest in digests} < set(tags)
    assert list(notify.notices([], [], "", ["/picture"], False)) == []


def script(folder: Path, code: str) -> list[str]:
    path = folder / "hook.py"
    path.write_text(code)
    return [sys.executable, str(path), "an argument; with $shell"]


def test_a_command_gets_json_and_its_arguments_as_they_are(site: Site, tmp_path: Path) -> None:
    code = f"import sys; open({str(tmp_path / 'out')!r}, 'w').write(sys.argv[1] + sys.stdin.read())"
    web = site(admin={"token": TOKEN, "purge_command": script(tmp_path, code)})
    assert told(web.delete(TOM, headers=BEARER))["hook"] == {"ok": True}
    argument, _, body = (tmp_path / "out").read_text().partition("{")
    assert argument == "an argument; with $shell"
    assert json.loads("{" + body)["paths"] == ["cats/tom.jpg"]


@pytest.mark.parametrize(
    ("code", "problem"),
    [
        ("import sys; sys.exit('no such zone')", "exited with 1: no such zone"),
        ("import os; os.kill(os.getpid(), 9)", "exited with -9"),
        ("import time; time.sleep(60)", "ran longer than 1 s and was ended"),
        ("import os, time; os.fork() or time.sleep(5)", ""),  # what it leaves running is not waited for
    ],
)
def test_a_command_that_fails_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, problem: str
) -> None:
    if not problem or "longer" in problem:
        monkeypatch.setattr(notify, "_COMMAND_TIMEOUT_S", 1.0 if problem else 4.0)
    found = notify.tell(Admin(purge_command=tuple(script(tmp_path, code))), iter([b"{}" * 100_000]))
    assert found is not None
    assert found.ok == (not problem)
    assert problem in found.detail


def test_a_command_that_is_not_there_is_told() -> None:
    found = notify.tell(Admin(purge_command=("/nowhere/purge",)), iter([b"{}"]))
    assert found
    assert "purge_command '/nowhere/purge' can't be started" in found.detail
    assert notify.tell(Admin(purge_command=("/nowhere/purge",)), iter([])) is None
    assert notify.tell(Admin(), iter([b"{}"])) is None


def test_the_command_line_tells_the_cdn_and_what_went_wrong(tmp_path: Path, pictures: Path, cdn: Cdn) -> None:
    config = write_config(tmp_path, pictures, tmp_path / "cache", admin={"purge_url": cdn.url})
    arguments = ["--config", str(config), "purge", "cats/tom.jpg"]
    cdn.statuses = [404]
    result = CliRunner().invoke(main, [*arguments, "--json"])
    assert result.exit_code == 1
    assert json.loads(result.stdout)["hook"] == {
        "ok": False,
        "detail": "purge_url at 127.0.0.1 answered 404",
    }
    assert "answered 404; the variants are gone here all the same" in result.stderr
    result = CliRunner().invoke(main, arguments)
    assert (result.exit_code, len(cdn.told)) == (0, 2)
    CliRunner().invoke(main, [*arguments, "--dry-run"])
    assert len(cdn.told) == 2


# --- cache tags --------------------------------------------------------------------------------------------

DIGEST = "0123456789abcdef" * 4
GOLDEN = [
    ("tom.jpg", ["/tom.jpg", "sha256:0123456789abcdef", "/"]),
    ("cats/tom.jpg", ["/cats/tom.jpg", "sha256:0123456789abcdef", "/", "/cats/"]),
    (
        "a b/c,d/é.png",
        ["/a%20b/c%2Cd/%C3%A9.png", "sha256:0123456789abcdef", "/", "/a%20b/", "/a%20b/c%2Cd/"],
    ),
    (
        "x" * 130 + "/y.jpg",
        [
            "/~132e918f63634cef21241e3c792f2dbd",
            "sha256:0123456789abcdef",
            "/",
            "/~f1328758bdd3c9505a5119f8b6b57761",
        ],
    ),
]


@pytest.mark.parametrize(("path", "tags"), GOLDEN)
@pytest.mark.parametrize(
    ("name", "between"), [("Cache-Tag", ","), ("Edge-Cache-Tag", ","), ("Surrogate-Key", " "), ("xkey", " ")]
)
def test_the_tags_of_a_picture(path: str, tags: list[str], name: str, between: str) -> None:
    assert tag_header(name, path, DIGEST) == (name, between.join(tags))


def test_tags_are_short_and_those_in_the_middle_are_left_out_first() -> None:
    path = "/".join(f"folder-{number}é" for number in range(100)) + "/tom.jpg"
    _, value = tag_header("Cache-Tag", path, DIGEST)
    tags = value.split(",")
    assert len(value) <= 1000
    assert all(tag.isascii() and len(tag) <= 120 for tag in tags)
    parts = path.split("/")
    assert tags[:4] == [picture_tag(path), content_tag(DIGEST), "/", folder_tag(parts[0])]
    assert tags[-1] == folder_tag("/".join(parts[:-1]))
    assert len({picture_tag("x" * 130 + end) for end in ("/", "/a", "/b", "")}) == 4
    assert (
        picture_tag("x" * 130) == "/~b4f29d0cd2ab73b2b82c5b4dd6ff4a1b" or picture_tag("x" * 130)[:2] == "/~"
    )


@pytest.mark.parametrize("name", ["Cache-Tag", "Surrogate-Key"])
def test_every_answer_with_a_picture_has_its_tags_by_both_doors(
    site: Site, pictures: Path, name: str
) -> None:
    quarters(60, 50).save(pictures / "cats" / "a, b.png")
    web = site(http={"cache_tags": name})
    parts = web.application.extensions["imagefactory"].parts
    for path in ("cats/tom.jpg", "cats/a, b.png"):
        tags = tag_header(name, path, parts.source(path).digest)[1]
        for query in ("", "?scalex=20", "?scalex=20&encoding=auto"):
            for headers, status in (({}, 200), ({"Range": "bytes=0-9"}, 206), ({"If-None-Match": "*"}, 304)):
                for _ in range(3):  # a miss, the view's hit, the fast path's
                    reply = web.get(f"/picture/{quote(path)}{query}", headers=headers)
                    assert (reply.status_code, reply.headers.getlist(name)) == (status, [tags])
    assert name not in web.get("/picture/nothing.jpg").headers
    assert name not in site().get(TOM).headers
