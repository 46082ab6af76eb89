"""What a visitor gets: status, headers and bytes of every kind of answer, through the Flask test client."""

from __future__ import annotations

import hashlib
import json
import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from email.utils import parsedate_to_datetime
from io import BytesIO
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient
from PIL import Image
from support.asking import Counting
from support.clock import Clock
from support.drawing import at_rest, corners, encoded, quarters, written
from werkzeug.test import EnvironBuilder, TestResponse, run_wsgi_app
from werkzeug.utils import send_file

TOM = "/picture/cats/tom.jpg"
Site = Callable[..., FlaskClient]


@pytest.fixture
def site(site: Site, pictures: Path) -> Site:
    """As everywhere, and with more kinds of pictures."""
    glass = quarters(40, 30).convert("RGBA")
    glass.putalpha(Image.new("L", (40, 30), 100))
    glass.save(pictures / "glass.png")
    frames = [quarters(40, 30).rotate(180 * turn) for turn in (0, 1, 0)]
    frames[0].save(pictures / "wheel.gif", save_all=True, append_images=frames[1:], duration=100, loop=0)
    at_rest(written(pictures, "cut.jpg", (pictures / "cats/tom.jpg").read_bytes()[:3000]))
    return site


@pytest.fixture
def web(site: Site) -> FlaskClient:
    return site()


def etag(data: bytes) -> str:
    return f'"{hashlib.sha256(data).hexdigest()[:32]}"'


def error(reply: TestResponse) -> str:
    """The code of an error, whose form is checked on the way."""
    assert reply.mimetype == "application/json"
    assert reply.headers["Cache-Control"] == "no-store"
    assert reply.headers["Content-Length"] == str(len(reply.data))
    body = json.loads(reply.data)
    assert set(body) == {"error", "detail"}
    assert len(body["detail"]) > 10
    assert isinstance(body["error"], str)
    return str(body["error"])


# --- pinned header sets ------------------------------------------------------------------------------------

_START = [
    ("ETag", '"[0-9a-f]{32}"'),
    ("Cache-Control", "public, max-age=3600"),
    ("X-Content-Type-Options", "nosniff"),
    ("Content-Security-Policy", "default-src 'none'; sandbox"),
]
_HIT = [*_START, ("X-Cache", "hit")]
_TIMES = r"[a-z_]+;dur=\d+\.\d(, [a-z_]+;dur=\d+\.\d)*"
_DATE = r"[A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d GMT"


def _end(length: str) -> list[tuple[str, str]]:
    return [
        ("Last-Modified", _DATE),
        ("Content-Type", "image/jpeg"),
        ("Content-Length", length),
        ("Accept-Ranges", "bytes"),
        ("Content-Disposition", "inline; filename=tom.jpg"),
    ]


_JSON = [
    ("Content-Type", "application/json"),
    ("Content-Length", r"\d+"),
    ("Cache-Control", "no-store"),
    ("X-Content-Type-Options", "nosniff"),
]
_RANGE = ("Content-Range", r"bytes 0-9/\d+")
_ALLOW = ("Allow", "GET, HEAD, OPTIONS")
_SMALL = f"{TOM}?scalex=100"

# id, method, URL, request headers, status, answer headers in their order
GOLDEN = [
    ("hit", "GET", _SMALL, {}, 200, [*_HIT, *_end(r"\d+")]),
    ("hit HEAD", "HEAD", _SMALL, {}, 200, [*_HIT, *_end(r"\d+")]),
    ("hit 304", "GET", _SMALL, {"If-None-Match": "*"}, 304, _HIT),
    ("hit 304 HEAD", "HEAD", _SMALL, {"If-None-Match": "*"}, 304, _HIT),
    ("hit 206", "GET", _SMALL, {"Range": "bytes=0-9"}, 206, [*_HIT, *_end("10"), _RANGE]),
    (
        "miss",
        "GET",
        f"{TOM}?scalex=77",
        {},
        200,
        [*_START, ("X-Cache", "miss"), ("Server-Timing", _TIMES), *_end(r"\d+")],
    ),
    ("original", "GET", TOM, {}, 200, [*_HIT, *_end(r"\d+")]),
    ("original HEAD", "HEAD", TOM, {}, 200, [*_HIT, *_end(r"\d+")]),
    ("original 206", "GET", TOM, {"Range": "bytes=0-9"}, 206, [*_HIT, *_end("10"), _RANGE]),
    ("original 304", "GET", TOM, {"If-None-Match": "*"}, 304, _HIT),
    ("412", "GET", _SMALL, {"If-Match": '"other"'}, 412, _JSON),
    ("416", "GET", _SMALL, {"Range": "bytes=999999-"}, 416, [*_JSON, ("Content-Range", r"bytes \*/\d+")]),
    ("OPTIONS", "OPTIONS", _SMALL, {}, 204, [_ALLOW, ("Cache-Control", "no-store")]),
    ("OPTIONS of nothing", "OPTIONS", "/picture/x", {}, 204, [_ALLOW, ("Cache-Control", "no-store")]),
    *(
        (method, method, _SMALL, {}, 405, [*_JSON, _ALLOW])
        for method in ("POST", "PUT", "PATCH", "DELETE", "TRACE", "BREW", "CONNECT")
    ),
    ("400", "GET", f"{TOM}?scalex=x", {}, 400, _JSON),
    ("404", "GET", "/picture/x.jpg", {}, 404, _JSON),
    ("404 HEAD", "HEAD", "/picture/x.jpg", {}, 404, _JSON),
    ("422", "GET", "/picture/cut.jpg?scalex=10", {}, 422, _JSON),
]


@pytest.mark.parametrize("name, method, url, headers, status, pinned", GOLDEN, ids=[row[0] for row in GOLDEN])
def test_an_answer_has_exactly_these_headers_in_this_order(
    web: FlaskClient,
    name: str,
    method: str,
    url: str,
    headers: dict[str, str],
    status: int,
    pinned: list[tuple[str, str]],
) -> None:
    web.get(_SMALL)
    reply = web.open(url, method=method, headers=headers)
    assert reply.status_code == status
    assert [found for found, _ in reply.headers] == [wanted for wanted, _ in pinned]
    for (found, value), (_, pattern) in zip(reply.headers, pinned, strict=True):
        assert re.fullmatch(pattern, value), found


@pytest.mark.parametrize(
    "headers, status, code",
    [
        ({"If-Match": '"other"'}, 412, "precondition_failed"),
        ({"If-Unmodified-Since": "Sun, 06 Nov 1994 08:49:37 GMT"}, 412, "precondition_failed"),
        ({"Range": "bytes=999999-"}, 416, "range_not_satisfiable"),
    ],
)
def test_a_412_and_a_416_have_their_json_body(
    web: FlaskClient, headers: dict[str, str], status: int, code: str
) -> None:
    for url in (_SMALL, TOM):
        reply = web.get(url, headers=headers)
        assert reply.status_code == status
        assert error(reply) == code


@pytest.mark.parametrize(
    "url, headers",
    [
        (_SMALL, {}),
        (_SMALL, {"Range": "bytes=0-9"}),  # ignored: GET is the only method with ranges
        (f"{TOM}?encoding=auto", {"Accept": "image/webp"}),
        (f"{TOM}?scalex=x", {}),
        ("/picture/x.jpg", {}),
        ("/picture/cut.jpg?scalex=10", {}),
        (TOM, {}),
    ],
)
def test_head_is_get_without_the_body(web: FlaskClient, url: str, headers: dict[str, str]) -> None:
    web.get(url)
    without_range = {name: value for name, value in headers.items() if name != "Range"}
    get = web.get(url, headers=without_range)
    get = web.get(url, headers=without_range)
    head = web.head(url, headers=headers)
    assert (head.status_code, list(head.headers)) == (get.status_code, list(get.headers))
    assert head.data == b""
    assert get.data


def test_a_head_that_renders_leaves_a_hit(web: FlaskClient, renderer: Counting) -> None:
    head = web.head(_SMALL)
    get = web.get(_SMALL)
    assert (head.headers["X-Cache"], get.headers["X-Cache"]) == ("miss", "hit")
    assert head.headers["ETag"] == get.headers["ETag"] == etag(get.data)
    assert renderer.renders == 1


# --- bodies ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path, query, media_type",
    [
        ("cats/tom.jpg", "", "image/jpeg"),
        ("flag.png", "", "image/png"),
        ("wheel.gif", "", "image/gif"),
        ("cats/tom.jpg", "scalex=100", "image/jpeg"),
        ("cats/tom.jpg", "size=50x50&fit=cover&encoding=webp", "image/webp"),
        ("cats/tom.jpg", "encoding=avif&w=60", "image/avif"),
        ("flag.png", "resize=60*40", "image/png"),
        ("wheel.gif", "scalex=20", "image/gif"),
        ("wheel.gif", "encoding=webp&anim=0", "image/webp"),
    ],
)
@pytest.mark.parametrize("mode", ["disk", "memory"])
def test_the_etag_is_the_digest_of_the_body(
    site: Site, mode: str, path: str, query: str, media_type: str
) -> None:
    web = site(cache={"mode": mode})
    first, second = (web.get(f"/picture/{path}?{query}") for _ in range(2))
    assert first.status_code == second.status_code == 200
    assert first.data == second.data
    for reply in (first, second):
        assert reply.headers["ETag"] == etag(reply.data)
        assert reply.headers["Content-Length"] == str(len(reply.data))
        assert reply.headers["Content-Type"] == media_type
    assert second.headers["X-Cache"] == "hit"
    with Image.open(BytesIO(first.data)) as image:
        assert Image.MIME[image.format or ""] == media_type


@pytest.mark.parametrize("url", [TOM, _SMALL])
@pytest.mark.parametrize("mode", ["disk", "memory"])
def test_parts_put_together_are_the_whole(site: Site, mode: str, url: str) -> None:
    web = site(cache={"mode": mode})
    whole = web.get(url).data
    parts = []
    for start in range(0, len(whole), 1000):
        reply = web.get(url, headers={"Range": f"bytes={start}-{start + 999}"})
        assert reply.status_code == 206
        assert len(reply.data) == int(reply.headers["Content-Length"])
        parts.append(reply.data)
    assert b"".join(parts) == whole
    assert web.get(url, headers={"Range": "bytes=-1"}).data == whole[-1:]
    assert web.get(url, headers={"Range": "bytes=-999999"}).data == whole


def test_an_original_is_sent_as_it_is_and_not_copied(
    web: FlaskClient, pictures: Path, tmp_path: Path, renderer: Counting
) -> None:
    reply = web.get(TOM)
    assert reply.data == (pictures / "cats/tom.jpg").read_bytes()
    assert renderer.renders == 0
    assert not list((tmp_path / "cache").glob("objects/*"))


def test_the_type_of_an_original_is_that_of_its_bytes(web: FlaskClient, pictures: Path) -> None:
    (pictures / "flag.png").rename(pictures / "flag.html.jpg")
    reply = web.get("/picture/flag.html.jpg")
    assert reply.headers["Content-Type"] == "image/png"
    assert web.get("/picture/page.svg").status_code == 404
    assert web.get("/picture/notes.txt").status_code == 404


@pytest.mark.parametrize("way", ["in place", "a new file"])
def test_a_picture_that_is_written_in_pieces_is_503_until_it_is_there(
    web: FlaskClient, pictures: Path, way: str
) -> None:
    data = encoded(quarters(800, 600), "JPEG", quality=95)
    path = pictures / "upload.jpg"
    if way == "in place":
        quarters(60, 40).save(path)
    is_done = threading.Event()

    def write() -> None:
        with path.open("r+b" if way == "in place" else "wb") as file:
            file.truncate(0)
            for start in range(0, len(data), len(data) // 10):
                file.write(data[start : start + len(data) // 10])
                file.flush()
                time.sleep(0.03)
        is_done.set()

    seen = set()
    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(write)
        while not is_done.is_set():
            reply = web.get(f"/picture/upload.jpg?scalex=100&q={len(seen) + 1}", buffered=True)
            seen.add(reply.status_code)
            if reply.status_code == 503:
                assert error(reply) == "unavailable"
                assert reply.headers["Retry-After"] == "1"
                assert reply.headers["Cache-Control"] == "no-store"
        writing.result()
    assert 503 in seen
    assert seen <= {200, 404, 503}  # 404: before it is there; 200: the old or the new one
    reply = web.get("/picture/upload.jpg?scalex=100&encoding=png", buffered=True)
    assert reply.status_code == 200
    with Image.open(BytesIO(reply.data)) as image:
        assert corners(image) == ["red", "green", "blue", "white"]


@pytest.mark.parametrize(
    "name", ["cut.jpg", "noise.jpg", "empty.jpg", "cut.png", "cut.gif", "cut.webp", "cut.tiff"]
)
def test_a_broken_picture_is_422_and_says_so_without_a_path(
    web: FlaskClient, pictures: Path, tmp_path: Path, name: str
) -> None:
    if name == "noise.jpg":
        (pictures / name).write_bytes(b"noise" * 100)
    elif name == "empty.jpg":
        (pictures / name).write_bytes(b"")
    elif name != "cut.jpg":
        quarters().rotate(5).save(pictures / name)
        data = (pictures / name).read_bytes()
        (pictures / name).write_bytes(data[: len(data) // 2])
    at_rest(pictures / name)
    for _ in range(2):
        reply = web.get(f"/picture/{name}?scalex=10")
        assert (reply.status_code, error(reply)) == (422, "undecodable")
        assert str(tmp_path) not in reply.text
        assert name not in reply.text


@pytest.mark.parametrize("limits", [{"max_pixels": 1000}, {"max_source_bytes": 1000}])
def test_a_picture_over_the_budget_is_422(site: Site, limits: dict[str, int], tmp_path: Path) -> None:
    reply = site(limits=limits).get(_SMALL)
    assert (reply.status_code, error(reply)) == (422, "too_large")
    assert "above the limit of 1000" in reply.text
    assert str(tmp_path) not in reply.text


def test_a_body_above_the_memory_is_answered_all_the_same(site: Site) -> None:
    web = site(cache={"mode": "memory", "memory_bytes": 100})
    for _ in range(2):
        reply = web.get(_SMALL)
        assert (reply.status_code, reply.headers["X-Cache"]) == (200, "bypass")
        assert reply.headers["ETag"] == etag(reply.data)


# --- busy --------------------------------------------------------------------------------------------------


def test_a_server_that_is_busy_says_when_to_come_back(site: Site, renderer: Counting) -> None:
    web = site(render={"processes": 1, "queue": 0})
    go = threading.Event()
    renderer.before = lambda job: go.wait(10)
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(web.application.test_client().get, _SMALL)
        while not renderer.jobs:
            time.sleep(0.01)
        for query in ("scalex=50", "scalex=50&encoding=auto"):
            reply = web.get(f"{TOM}?{query}")
            assert (reply.status_code, error(reply)) == (503, "busy")
            assert re.fullmatch("[1-9][0-9]*", reply.headers["Retry-After"])
            assert reply.headers.get("Vary") == ("Accept" if "auto" in query else None)
        assert web.get(TOM).status_code == 200
        go.set()
        assert slow.result().status_code == 200


def test_a_bug_is_a_500_that_tells_nothing(web: FlaskClient, renderer: Counting, tmp_path: Path) -> None:
    def fail(job: object) -> None:
        raise RuntimeError(f"a bug at {tmp_path}")

    renderer.before = fail
    reply = web.get(_SMALL)
    assert (reply.status_code, error(reply)) == (500, "internal")
    assert str(tmp_path) not in reply.text


# --- refused paths -----------------------------------------------------------------------------------------

NOT_FOUND = b'{"error": "not_found", "detail": "there is no picture at this address"}\n'

# Behind the prefix, as in a URL.
REFUSED = [
    "x.jpg", "", "/", "cats", "cats/",
    "cats/tom.jpg/", "cats//tom.jpg", "/cats/tom.jpg", "//cats/tom.jpg",
    "./cats/tom.jpg", "cats/./tom.jpg", "cats/../cats/tom.jpg", "../pictures/cats/tom.jpg", "..", ".",
    "cats/..",
    "%2e%2e/pictures/cats/tom.jpg", "%2e%2e%2fpictures/cats/tom.jpg", "..%2f..%2f..%2fetc%2fpasswd",
    "%252e%252e/pictures/cats/tom.jpg", "cats%5ctom.jpg", "..%5c..%5cetc%5cpasswd", "cats\\tom.jpg",
    "cats/tom.jpg%00", "cats/tom.jpg%00.png", "%00", "cats/%01tom.jpg", "cats/tom.jpg%7f", "cats/tom.jpg%0d",
    ".hidden.jpg", ".folder/tom.jpg", "cats/.tom.jpg", "linked-hidden.jpg", "outside.jpg", "outside/tom.jpg",
    "loop.jpg", "dangling.jpg", "pipe.jpg", "cats/tom.jpg/x", "page.svg", "notes.txt", "cats/TOM.jpg%20",
    "%20cats/tom.jpg", "x" * 255 + ".jpg", "x" * 5000 + ".jpg", "x/" * 3000 + "tom.jpg",
    "%c0%ae%c0%ae/tom.jpg",
    "%c0%aftom.jpg", "%ff", "%ff.jpg", "%ed%a0%80.jpg", "%f4%90%80%80.jpg", "%", "%zz", "cats%2Ftom.jpg%2F",
    "%e2%80%ae.jpg", "http://example.com/", "~root/tom.jpg", "$HOME", "C:/cats/tom.jpg",
    "cats/tom.jpg:stream",
]  # fmt: skip


@pytest.fixture
def traps(site: Site, pictures: Path, tmp_path: Path) -> Iterator[FlaskClient]:
    (pictures / ".folder").mkdir()
    for hidden in (".hidden.jpg", ".folder/tom.jpg", "cats/.tom.jpg"):
        (pictures / hidden).write_bytes((pictures / "cats/tom.jpg").read_bytes())
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "tom.jpg").write_bytes((pictures / "cats/tom.jpg").read_bytes())
    (pictures / "outside").symlink_to(tmp_path / "elsewhere")
    (pictures / "outside.jpg").symlink_to(tmp_path / "elsewhere" / "tom.jpg")
    (pictures / "linked-hidden.jpg").symlink_to(".hidden.jpg")
    (pictures / "loop.jpg").symlink_to("loop.jpg")
    (pictures / "dangling.jpg").symlink_to("nowhere.jpg")
    os.mkfifo(pictures / "pipe.jpg")
    web = site()
    yield web
    assert web.get(TOM).status_code == 200


def raw(app: Flask, path: bytes, query: str = "", method: str = "GET") -> tuple[int, bytes]:
    """Status and body for a PATH_INFO of these bytes: what a server makes of a URL, unchecked."""
    environ = EnvironBuilder(path="/", query_string=query, method=method).get_environ()
    environ["PATH_INFO"] = path.decode("latin-1")
    chunks, status, _ = run_wsgi_app(app, environ, buffered=True)
    return int(status.split()[0]), b"".join(chunks)


@pytest.mark.parametrize("query", ["", "scalex=10", "encoding=auto"])
def test_every_refused_path_has_one_body(traps: FlaskClient, query: str) -> None:
    wrong = []
    for prefix in ("/picture/", "/images/"):
        for path in REFUSED:
            reply = traps.get(f"{prefix}{path}?{query}")
            if (reply.status_code, reply.data) != (404, NOT_FOUND):
                wrong.append((path[:60], reply.status_code, reply.data[:80]))
    assert wrong == []


def test_every_refused_path_has_one_body_as_raw_bytes_too(traps: FlaskClient) -> None:
    """Once as it stands, percent signs and all, and once with its bytes decoded."""
    wrong = []
    for path in REFUSED:
        decoded = re.sub(b"%([0-9A-Fa-f]{2})", lambda match: bytes.fromhex(match[1].decode()), path.encode())
        for given in {path.encode(), decoded}:
            status, body = raw(traps.application, b"/picture/" + given, "scalex=10")
            if (status, body) != (404, NOT_FOUND):
                wrong.append((given[:60], status, body[:80]))
    assert wrong == []


@pytest.mark.parametrize(
    "path", ["%0a", "cats/tom.jpg%0a", "a%0ab.jpg", "cats%0a/tom.jpg", "a%0d%0aX-Y:%20z.jpg"]
)
def test_a_newline_is_refused_as_everything_else(web: FlaskClient, path: str) -> None:
    reply = web.get(f"/picture/{path}")
    assert (reply.status_code, reply.data) == (404, NOT_FOUND)
    assert web.post(f"/picture/{path}").headers["Allow"] == "GET, HEAD, OPTIONS"


def test_bytes_that_are_no_utf8_name_no_file(web: FlaskClient, pictures: Path) -> None:
    """One spelling per file: Werkzeug decodes such a byte to U+FFFD, which a name could have."""
    quarters(8, 8).save(pictures / "\ufffd.png")
    assert web.get("/picture/%ff.png").data == NOT_FOUND


@pytest.mark.parametrize(
    "name",
    [
        "two words.jpg",
        "ü.jpg",
        "日本.jpg",
        "a+b.jpg",
        "100%.jpg",
        "a&b=c.jpg",
        "a#b.jpg",
        "what?.jpg",
        "%2e.jpg",
    ],
)
def test_an_odd_name_has_one_address(web: FlaskClient, pictures: Path, name: str) -> None:
    quarters(8, 8).save(pictures / name)
    with web.application.test_request_context():
        url = web.application.url_for("imagefactory.picture", path=name)
    assert web.get(url).status_code == 200
    assert raw(web.application, b"/picture/" + name.encode())[0] == 200


# --- Vary --------------------------------------------------------------------------------------------------

AUTO = ["encoding=auto", "format=auto", "fm=auto", "f=auto", "output=auto", "encoding=AUTO", "f=Auto"]
# method, path, more of the query, request headers, status
EVERYWHERE = [
    ("GET", "cats/tom.jpg", "", {}, 200),
    ("HEAD", "cats/tom.jpg", "", {}, 200),
    ("GET", "cats/tom.jpg", "&scalex=50", {"Accept": "image/webp"}, 200),
    ("GET", "cats/tom.jpg", "", {"If-None-Match": "*"}, 304),
    ("GET", "cats/tom.jpg", "", {"Range": "bytes=0-9"}, 206),
    ("GET", "cats/tom.jpg", "", {"Range": "bytes=999999-"}, 416),
    ("GET", "cats/tom.jpg", "", {"If-Match": '"x"'}, 412),
    ("GET", "x.jpg", "", {}, 404),
    ("GET", "../x.jpg", "", {}, 404),
    ("GET", "cut.jpg", "", {}, 422),
]
# Answered before the query is read as a whole.
EARLY = [
    ("GET", "cats/tom.jpg", "&scalex=x", {}, 400),
    ("GET", "cats/tom.jpg", "&quality=101", {}, 400),
    ("POST", "cats/tom.jpg", "", {}, 405),
    ("OPTIONS", "cats/tom.jpg", "", {}, 204),
]


def _vary(web: FlaskClient, method: str, url: str, headers: dict[str, str], status: int) -> str | None:
    reply = web.open(f"/picture/{url}", method=method, headers=headers)
    assert reply.status_code == status
    return reply.headers.get("Vary")


@pytest.mark.parametrize("row", [*EVERYWHERE, *EARLY], ids=lambda row: f"{row[0]} {row[4]} {row[2]}")
def test_every_answer_of_an_address_with_auto_varies_by_accept(
    web: FlaskClient, row: tuple[str, str, str, dict[str, str], int]
) -> None:
    method, path, more, headers, status = row
    for query in AUTO:
        assert _vary(web, method, f"{path}?{query}{more}", headers, status) == "Accept", query


@pytest.mark.parametrize("row", [*EVERYWHERE, *EARLY], ids=lambda row: f"{row[0]} {row[4]} {row[2]}")
def test_no_other_answer_varies(web: FlaskClient, row: tuple[str, str, str, dict[str, str], int]) -> None:
    method, path, more, headers, status = row
    for query in ("encoding=webp", "scaley=40", "x=auto&f=png"):
        assert _vary(web, method, f"{path}?{query}{more}", headers, status) is None, query
    if status in (200, 206, 304, 412, 416, 404) and not more:  # the original
        assert _vary(web, method, path, headers, status) is None


PRESETS = {"auto": {"scalex": "100", "encoding": "auto"}, "fixed": {"scalex": "100", "encoding": "webp"}}


@pytest.mark.parametrize("row", EVERYWHERE, ids=lambda row: f"{row[0]} {row[4]} {row[2]}")
def test_auto_of_a_preset_is_auto(site: Site, row: tuple[str, str, str, dict[str, str], int]) -> None:
    method, path, more, headers, status = row
    web = site(presets=PRESETS)
    assert _vary(web, method, f"{path}?preset=auto{more}", headers, status) == "Accept"
    assert _vary(web, method, f"{path}?p=auto&encoding=png{more}", headers, status) is None
    assert _vary(web, method, f"{path}?preset=fixed{more}", headers, status) is None
    assert _vary(web, method, f"{path}?preset=fixed&f=auto{more}", headers, status) == "Accept"


@pytest.mark.parametrize("row", EARLY, ids=lambda row: f"{row[0]} {row[4]} {row[2]}")
def test_auto_of_a_preset_is_auto_in_early_answers(
    site: Site, row: tuple[str, str, str, dict[str, str], int]
) -> None:
    method, path, more, headers, status = row
    web = site(presets=PRESETS)
    assert _vary(web, method, f"{path}?preset=auto{more}", headers, status) == "Accept"


# --- encoding=auto -----------------------------------------------------------------------------------------

CHROME = "image/avif,image/webp,image/apng,image/svg+xml,image/*,*/*;q=0.8"


@pytest.mark.parametrize(
    "accept, encoding",
    [
        ("", "jpeg"),
        ("*/*", "jpeg"),
        ("image/*", "jpeg"),
        ("image/*;q=1, */*;q=0.1", "jpeg"),
        (CHROME, "avif"),
        ("image/webp", "webp"),
        ("IMAGE/WEBP", "webp"),
        ("image/webp, image/avif", "avif"),
        ("image/avif;q=0.5, image/webp;q=0.9", "webp"),
        ("image/avif;q=0.9, image/webp;q=0.9", "avif"),
        ("image/avif;q=0, image/webp", "webp"),
        ("image/avif;q=0", "jpeg"),
        ("image/avif;q=0, */*", "jpeg"),
        ("image/jpeg, image/webp;q=0.5", "jpeg"),
        ("image/jpeg, image/webp", "webp"),
        ("image/jpeg;q=0", "jpeg"),
        ("text/html", "jpeg"),
    ],
)
def test_auto_takes_what_the_visitor_names_with_the_highest_q(
    web: FlaskClient, accept: str, encoding: str
) -> None:
    reply = web.get(f"{TOM}?scalex=40&encoding=auto", headers={"Accept": accept})
    assert reply.headers["Content-Type"] == f"image/{encoding}"
    with Image.open(BytesIO(reply.data)) as image:
        assert image.format == encoding.upper()


@pytest.mark.parametrize(
    "accept",
    ["image/webp;q=nan", "image/webp;q=1e999", "image/webp;q=-1", "image/webp;q=", ";", ",,,", "image/", "/",
     "image/webp;q=1;q=0", "x" * 100_000, "image/webp," * 10_000, "image/webp;" + "a=b;" * 1000,
     "\xff\xfe", '"'],
    ids=lambda accept: accept[:20],
)  # fmt: skip
def test_no_accept_header_breaks_auto(web: FlaskClient, accept: str) -> None:
    assert web.get(f"{TOM}?scalex=40&encoding=auto", headers={"Accept": accept}).status_code == 200


def test_visitors_of_one_address_share_a_variant_by_encoding(web: FlaskClient, renderer: Counting) -> None:
    for accept in (CHROME, "image/avif", "image/webp", "image/webp,*/*", "", "*/*"):
        web.get(f"{TOM}?scalex=40&encoding=auto", headers={"Accept": accept})
    web.get(f"{TOM}?scalex=40&encoding=webp")
    assert sorted(job.encoding for job in renderer.jobs) == ["avif", "jpeg", "webp"]


@pytest.mark.parametrize("accept, encoding", [("", "png"), ("image/webp", "webp"), ("image/avif", "avif")])
def test_auto_keeps_transparency(web: FlaskClient, accept: str, encoding: str) -> None:
    reply = web.get("/picture/glass.png?scalex=20&encoding=auto", headers={"Accept": accept})
    assert reply.headers["Content-Type"] == f"image/{encoding}"
    with Image.open(BytesIO(reply.data)) as image:
        alpha = image.convert("RGBA").getpixel((10, 7))[3]
    assert abs(alpha - 100) < 12


@pytest.mark.parametrize("accept, encoding", [("", "gif"), ("image/webp", "webp"), ("image/avif", "avif")])
def test_auto_keeps_animation(web: FlaskClient, accept: str, encoding: str) -> None:
    reply = web.get("/picture/wheel.gif?scalex=20&encoding=auto", headers={"Accept": accept})
    assert reply.headers["Content-Type"] == f"image/{encoding}"
    with Image.open(BytesIO(reply.data)) as image:
        assert getattr(image, "n_frames", 1) >= 2


# --- Cache-Control -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "http, value",
    [
        ({}, "public, max-age=3600"),
        ({"max_age_s": 0}, "public, max-age=0"),
        ({"max_age_s": 86400}, "public, max-age=86400"),
        ({"stale_while_revalidate_s": 60}, "public, max-age=3600, stale-while-revalidate=60"),
        ({"max_age_s": 5, "stale_while_revalidate_s": 6}, "public, max-age=5, stale-while-revalidate=6"),
    ],
)
def test_cache_control_follows_the_config_at_the_time_of_the_answer(
    site: Site, http: dict[str, int], value: str
) -> None:
    site().get(_SMALL)  # rendered under another config
    web = site(http=http)
    for url in (TOM, _SMALL):
        for headers in ({}, {"Range": "bytes=0-9"}, {"If-None-Match": "*"}):
            reply = web.get(url, headers=headers)
            assert reply.headers["Cache-Control"] == value
            assert "Expires" not in reply.headers


def version(tmp_path: Path, pictures: Path, encoding: str) -> str:
    """The ``v`` of the one object of the cache, from its file name and the source's bytes."""
    (path,) = (path for path in (tmp_path / "cache" / "objects").rglob("*") if path.is_file())
    recipe = path.name.rsplit(".", 2)[0]
    digest = hashlib.sha256((pictures / "cats/tom.jpg").read_bytes()).hexdigest()
    assert path.parent.name == digest
    return hashlib.sha256(f"{digest}\n{recipe}\n{encoding}".encode()).hexdigest()[:12]


IMMUTABLE = "public, max-age=31536000, immutable"


@pytest.mark.parametrize(
    "query, encoding",
    [
        ("scalex=100", "jpeg"),
        ("scalex=100&encoding=webp", "webp"),
        ("scalex=9000&scaley=9000&fit=cover&gravity=north&bg=red", "jpeg"),
        ("scalex=100&quality=55&encoding=auto", "auto"),
        ("rect=0,0,50,50&blur=1.5&encoding=png", "png"),
    ],
)
def test_an_answer_is_immutable_with_the_exact_v_alone(
    web: FlaskClient, tmp_path: Path, pictures: Path, query: str, encoding: str
) -> None:
    web.get(f"{TOM}?{query}")
    right = version(tmp_path, pictures, encoding)
    assert web.get(f"{TOM}?{query}&v={right}").headers["Cache-Control"] == IMMUTABLE
    wrong = [
        right[:-1], right[:8],
        f"{right}0", right.upper() if right.upper() != right else "A" * 12, right[::-1],
        "", "0" * 12, f"%20{right}", f"{right}%20", f"{right}%0a", "*",
        "x" * 5000, version(tmp_path, pictures, "gif"),
    ]  # fmt: skip
    for value in wrong:
        reply = web.get(f"{TOM}?{query}&v={value}")
        assert (reply.status_code, reply.headers["Cache-Control"]) == (200, "public, max-age=3600"), value


def test_v_changes_no_pixel_and_makes_no_variant(web: FlaskClient, renderer: Counting) -> None:
    plain = web.get(_SMALL)
    for value in ("0" * 12, "x"):
        reply = web.get(f"{_SMALL}&v={value}")
        assert (reply.data, reply.headers["X-Cache"]) == (plain.data, "hit")
    assert web.get(f"{TOM}?v=000000000000").headers["Cache-Control"] == "public, max-age=3600"
    assert renderer.renders == 1


def test_no_error_is_kept_by_anybody(web: FlaskClient) -> None:
    for url in (f"{TOM}?scalex=x&v=0", "/picture/x.jpg", "/picture/cut.jpg?scalex=9"):
        assert web.get(url).headers["Cache-Control"] == "no-store"


def test_another_default_quality_ends_the_immutability_of_auto(
    site: Site, tmp_path: Path, pictures: Path
) -> None:
    """Else a browser keeps the old pixels for a year at an address that says it is exact."""
    digest = hashlib.sha256((pictures / "cats/tom.jpg").read_bytes()).hexdigest()
    found = []
    for recipe in ("v1-100x75", "v1-100x75-q80"):
        v = hashlib.sha256(f"{digest}\n{recipe}\nauto".encode()).hexdigest()[:12]
        before, after = (
            site(encodings={"jpeg": {"quality": quality}}).get(f"{_SMALL}&encoding=auto&v={v}")
            for quality in (80, 50)
        )
        found.append(
            (before.headers["Cache-Control"] == IMMUTABLE, after.headers["Cache-Control"] == IMMUTABLE)
        )
    assert (True, False) in found
    assert (True, True) not in found


# --- dates -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "mtime_s, modified_s",
    [
        (784_111_777, 784_111_777),
        (0, 0),
        (1, 1),
        (-1, 0),
        (-86_400 * 365, 0),
        (1_000_000_000.9, 1_000_000_000),
    ],
)
@pytest.mark.parametrize("url", [TOM, _SMALL])
def test_last_modified_is_the_time_of_the_source(
    web: FlaskClient, pictures: Path, url: str, mtime_s: float, modified_s: int
) -> None:
    os.utime(pictures / "cats/tom.jpg", (mtime_s, mtime_s))
    for headers in ({}, {"Range": "bytes=0-9"}):
        reply = web.get(url, headers=headers)
        assert parsedate_to_datetime(reply.headers["Last-Modified"]).timestamp() == modified_s


@pytest.mark.parametrize(
    "mtime_s", [4_000_000_000, 15_000_000_000, time.time() + 86_400], ids=["2096", "2445", "tomorrow"]
)
@pytest.mark.parametrize("url", [TOM, _SMALL])
def test_last_modified_is_never_later_than_now(
    web: FlaskClient, pictures: Path, url: str, mtime_s: float
) -> None:
    os.utime(pictures / "cats/tom.jpg", (mtime_s, mtime_s))
    before = int(time.time())
    reply = web.get(url)
    assert before <= parsedate_to_datetime(reply.headers["Last-Modified"]).timestamp() <= time.time()
    assert web.get(url, headers={"If-None-Match": reply.headers["ETag"]}).status_code == 304


def test_now_is_told_by_the_clock(web: FlaskClient, clock: Clock) -> None:
    clock.now_s = 784_111_777.9
    assert web.get(_SMALL).headers["Last-Modified"] == "Sun, 06 Nov 1994 08:49:37 GMT"


@pytest.mark.parametrize("url", [TOM, _SMALL])
def test_not_modified_since_is_said_of_the_equal_date_alone(
    web: FlaskClient, pictures: Path, url: str
) -> None:
    """A source's date goes backwards under cp -p and rsync: later is no proof."""
    os.utime(pictures / "cats/tom.jpg", (784_111_777, 784_111_777))
    for date, status in (
        ("Sun, 06 Nov 1994 08:49:37 GMT", 304),
        ("Sunday, 06-Nov-94 08:49:37 GMT", 304),
        ("Sun Nov  6 08:49:37 1994", 304),
        ("Sun, 06 Nov 1994 08:49:38 GMT", 200),
        ("Sun, 06 Nov 1994 08:49:36 GMT", 200),
        ("Fri, 01 Jan 2100 00:00:00 GMT", 200),
    ):
        assert web.get(url, headers={"If-Modified-Since": date}).status_code == status, date


ODD_DATES = [
    "Wed, 21 Oct 99999999999 07:28:00 GMT", "Wed, 21 Oct 9999 07:28:00 GMT", "Wed, 21 Oct 0000 07:28:00 GMT",
    "Wed, 32 Oct 2015 07:28:00 GMT", "Wed, 21 Oct 2015 25:61:61 GMT",
    "Wed, 21 Oct 2015 07:28:00 +99999999999",
    "Wed, 99999999999999999999 Oct 2015 07:28:00 GMT", "0", "-1", "", " ", "\xff", "yesterday", "9" * 10_000,
    "Wed, 21 Oct 2015 07:28:00 GMT" * 100, "Mon, 01 Jan 0001 00:00:00 GMT", "Wed, 21 Oct 2015 07:28:60 GMT",
]  # fmt: skip


@pytest.mark.parametrize("date", ODD_DATES, ids=lambda date: date[:40] or "empty")
@pytest.mark.parametrize("url", [TOM, _SMALL])
def test_no_date_breaks_an_answer(web: FlaskClient, url: str, date: str) -> None:
    """Werkzeug's parse_date raises OverflowError for some."""
    for name in ("If-Modified-Since", "If-Unmodified-Since", "If-Range", "Date"):
        for method in ("GET", "HEAD"):
            reply = web.open(url, method=method, headers={name: date, "Range": "bytes=0-9"})
            assert reply.status_code in (200, 206, 412), name


@pytest.mark.parametrize(
    "name, value",
    [
        ("Range", "bytes=" + "9" * 5000 + "-"),
        ("Range", "bytes=٣-٤"),
        ("Range", "bytes=0-0," * 5000),
        ("Range", "\xff"),
        ("If-None-Match", '"' * 10_000),
        ("If-None-Match", 'W/"' * 10_000),
        ("If-Match", "*,*"),
        ("If-None-Match", "\xff\xfe"),
        ("Cookie", "\xff=\xff"),
        ("Content-Length", "-5"),
        ("Content-Length", "x"),
        ("Host", "[[["),
        ("Host", ""),
        ("X-Forwarded-Host", "a b"),
        ("Content-Type", "multipart/form-data; boundary="),
        ("Expect", "100-continue"),
        ("Transfer-Encoding", "x"),
    ],
    ids=lambda value: value[:20],
)
def test_no_header_breaks_an_answer(web: FlaskClient, name: str, value: str) -> None:
    value = value.encode("utf-8").decode("latin-1") if not value.isascii() else value
    for url in (TOM, _SMALL):
        assert web.get(url, headers={name: value}).status_code < 500


# --- names -------------------------------------------------------------------------------------------------


def as_werkzeug(name: str, is_attachment: bool = False) -> str:
    environ = EnvironBuilder().get_environ()
    response = send_file(BytesIO(), environ, "image/jpeg", download_name=name, as_attachment=is_attachment)
    return str(response.headers["Content-Disposition"])


NAMES = ["plain", "two words", 'quo"te', "semi;colon", "a.b.c", "ünï", "日本語", "comma,", "per%20cent",
"it's", "a=b",
         "{brace}", "\N{CAT FACE}", "x" * 200, "-dash", "é"]  # fmt: skip


@pytest.mark.parametrize("name", NAMES, ids=lambda name: name[:20])
@pytest.mark.parametrize("query, suffix", [("", "jpg"), ("scalex=8", "jpg"), ("encoding=webp", "webp")])
def test_the_name_of_an_answer_is_the_sources_with_the_suffix_of_its_bytes(
    web: FlaskClient, pictures: Path, name: str, query: str, suffix: str
) -> None:
    quarters(16, 12).save(pictures / f"{name}.jpg")
    with web.application.test_request_context():
        url = web.application.url_for("imagefactory.picture", path=f"{name}.jpg")
    reply = web.get(f"{url}?{query}")
    assert reply.status_code == 200
    assert reply.headers["Content-Disposition"] == as_werkzeug(f"{name}.{suffix}")


@pytest.mark.parametrize(
    "name", ["cats.jpg", "two words.jpg", 'quo"te.jpg', "日本語.jpg", "a;b.jpg", "ünï.webp", "it's.x"]
)
@pytest.mark.parametrize("parameter", ["download", "dl"])
def test_a_download_has_the_name_that_was_asked_for(web: FlaskClient, name: str, parameter: str) -> None:
    for query in ({}, {"scalex": "50"}):
        reply = web.get(TOM, query_string={parameter: name, **query})
        assert reply.headers["Content-Disposition"] == as_werkzeug(name, is_attachment=True)
        assert reply.headers["X-Cache"] in ("hit", "miss")


@pytest.mark.parametrize(
    "asked, name",
    [
        ("", "tom.jpg"),
        ("kitten", "kitten.jpg"),
        ("../../etc/passwd", "passwd.jpg"),
        ("C:\\x\\y.jpg", "y.jpg"),
        ("a/", "tom.jpg"),
    ],
)
def test_a_download_name_is_a_name_and_no_path(web: FlaskClient, asked: str, name: str) -> None:
    reply = web.get(TOM, query_string={"download": asked})
    assert reply.headers["Content-Disposition"] == as_werkzeug(name, is_attachment=True)


@pytest.mark.parametrize(
    "name", ["a\r\nX-Evil: 1", "a\nb", "a\rb", "a\0b", "a\x1bb", "a\x7fb", "x" * 201], ids=repr
)
def test_a_download_name_can_not_add_a_header(web: FlaskClient, name: str) -> None:
    reply = web.get(TOM, query_string={"download": name})
    assert (reply.status_code, error(reply)) == (400, "bad_parameter")
    assert "X-Evil" not in reply.headers


@pytest.mark.parametrize("name", ["a\u0085b", "a\u2028b", "a\x9fb", "a\u202eb", "a\ufeffb"], ids=ascii)
def test_an_odd_character_in_a_name_stays_quoted(web: FlaskClient, name: str) -> None:
    reply = web.get(TOM, query_string={"download": f"{name}.jpg"})
    assert reply.headers["Content-Disposition"].isascii()
    assert reply.headers["Content-Disposition"].isprintable()


# --- headers by config -------------------------------------------------------------------------------------


def test_headers_of_other_sites_come_by_config_on_every_answer(site: Site) -> None:
    wanted = {
        "Access-Control-Allow-Origin": "https://example.com",
        "Cross-Origin-Resource-Policy": "cross-origin",
        "Timing-Allow-Origin": "*",
    }
    web = site(http={name.lower().replace("-", "_"): value for name, value in wanted.items()})
    for method, url, headers in [
        ("GET", TOM, {}), ("GET", _SMALL, {}), ("HEAD", _SMALL, {}), ("GET", _SMALL, {"If-None-Match": "*"}),
        ("GET", _SMALL, {"Range": "bytes=0-9"}), ("GET", _SMALL, {"Range": "bytes=99999-"}),
        ("GET", _SMALL, {"If-Match": '"x"'}), ("OPTIONS", _SMALL, {}), ("POST", _SMALL, {}),
        ("GET", f"{TOM}?w=x", {}), ("GET", "/picture/x", {}), ("GET", "/picture/cut.jpg?w=9", {}),
    ]:  # fmt: skip
        reply = web.open(url, method=method, headers=headers)
        assert {name: reply.headers.get(name) for name in wanted} == wanted, (method, url, headers)
    assert not any(name in site().get(_SMALL).headers for name in wanted)


# --- limits and presets ------------------------------------------------------------------------------------


def size(reply: TestResponse) -> tuple[int, int]:
    with Image.open(BytesIO(reply.data)) as image:
        return image.size


def test_a_ladder_snaps_widths_up(site: Site, renderer: Counting) -> None:
    web = site(limits={"sizes": "ladder", "ladder": [50, 100, 200]})
    sizes = {query: size(web.get(f"{TOM}?{query}")) for query in (
        "scalex=1", "scalex=50", "scalex=51", "scaley=75", "scalex=99&scaley=99&fit=cover", "scalex=5000",
    )}  # fmt: skip
    assert sizes == {
        "scalex=1": (50, 38),
        "scalex=50": (50, 38),
        "scalex=51": (100, 75),
        "scaley=75": (100, 75),
        "scalex=99&scaley=99&fit=cover": (100, 100),
        "scalex=5000": (200, 150),
    }
    assert renderer.renders == 4
    assert web.get(TOM).status_code == 200


def test_presets_alone(site: Site, renderer: Counting) -> None:
    presets = {
        "thumb": {"scalex": 24, "scaley": 24, "fit": "cover"},
        "hero": {"scalex": 200, "encoding": "webp"},
    }
    web = site(limits={"sizes": "presets"}, presets=presets)
    assert size(web.get(f"{TOM}?preset=thumb")) == (24, 24)
    assert web.get(f"{TOM}?p=hero").headers["Content-Type"] == "image/webp"
    assert web.get(f"{TOM}?preset=thumb&encoding=png").headers["Content-Type"] == "image/png"
    assert web.get(f"{TOM}?preset=thumb&download=x&v=1").status_code == 200
    for query in (
        "scalex=24",
        "encoding=webp",
        "preset=thumb&scalex=25",
        "preset=hero&encoding=png",
        "preset=none",
    ):
        reply = web.get(f"{TOM}?{query}")
        assert (reply.status_code, error(reply)) == (400, "bad_parameter"), query
    assert web.get(TOM).data == NOT_FOUND
    assert renderer.renders == 3


def test_an_explicit_parameter_overrides_a_preset(site: Site) -> None:
    web = site(presets={"thumb": {"scalex": 24, "scaley": 24, "fit": "cover"}})
    assert size(web.get(f"{TOM}?preset=thumb&scalex=48")) == (48, 24)
    reply = web.get(f"{TOM}?preset=thum")
    assert (reply.status_code, error(reply)) == (400, "bad_parameter")
    assert "did you mean 'thumb'" in reply.text


def test_a_preset_and_its_parameters_are_one_variant(site: Site, renderer: Counting) -> None:
    web = site(presets={"thumb": {"scalex": 24, "scaley": 24, "fit": "cover"}})
    web.get(f"{TOM}?preset=thumb")
    assert web.get(f"{TOM}?size=24x24&fit=cover").headers["X-Cache"] == "hit"
    assert renderer.renders == 1


def test_signed_sizes_refuse_what_is_not_signed(site: Site) -> None:
    web = site(limits={"sizes": "signed"}, signing={"keys": {"a": "x" * 16}})
    for url in (TOM, _SMALL, f"{_SMALL}&encoding=auto", f"{TOM}?preset=x"):
        reply = web.get(url)
        assert (reply.status_code, error(reply)) == (403, "unsigned")
        assert reply.headers.get("Vary") == ("Accept" if "auto" in url else None)


def test_originals_can_be_closed(site: Site) -> None:
    web = site(http={"originals": False})
    for query in ("", "v=1", "download=x", "unknown=1"):
        assert web.get(f"{TOM}?{query}").data == NOT_FOUND
    assert web.get(_SMALL).status_code == 200


def test_strict_refuses_what_it_does_not_know(site: Site) -> None:
    web = site(http={"strict": True})
    reply = web.get(f"{TOM}?scalx=100")
    assert (reply.status_code, error(reply)) == (400, "bad_parameter")
    assert "did you mean 'scalex'" in reply.text
    assert web.get(f"{TOM}?scalex=100&v=x&download=y").status_code == 200


def test_what_is_unknown_is_ignored_and_makes_no_variant(web: FlaskClient, renderer: Counting) -> None:
    urls = [_SMALL, f"{_SMALL}&utm_source=x", f"{_SMALL}&scalx=5&scalx=6", f"{TOM}?=&&a&scalex=100&%ff=%ff"]
    assert len({web.get(url).data for url in urls}) == 1
    assert renderer.renders == 1
    assert web.get(f"{TOM}?utm_source=x").headers["ETag"] == web.get(TOM).headers["ETag"]


@pytest.mark.parametrize(
    "query, text",
    [
        ("scalex=-1", "not a number"), ("scalex=1e3", "not a number"), ("scalex=1_000", "not a number"),
        ("scalex=%D9%A3", "not a number"), ("scalex=nan", "not a number"), ("scalex=%2B5", "not a number"),
        ("scalex=5&scalex=5", "given twice"), ("scalex=5&w=6", "another parameter"),
        ("encoding=webp&f=png", "disagrees"), ("encoding=exe", "not an encoding"),
        ("fit=fill&w=5", "three systems"), ("quality=0&w=5", "below the limit of 1"),
        ("quality=120&w=5", "quality=120 is above the limit of 100"), ("rect=1,2,3", "not a rectangle"),
        ("rect=9000,9000,10,10", "outside of the picture"), ("rotate=45", "not one of 90, 180, 270"),
        ("w=" + "9" * 5000, "not a number"), ("w=%00", "not a number"), ("bg=<script>&w=5", "not a colour"),
    ],
)  # fmt: skip
def test_a_bad_parameter_is_told_with_its_value_and_what_would_be_right(
    web: FlaskClient, query: str, text: str, tmp_path: Path
) -> None:
    reply = web.get(f"{TOM}?{query}")
    assert (reply.status_code, error(reply)) == (400, "bad_parameter")
    assert text in json.loads(reply.data)["detail"]
    assert len(reply.data) < 1000
    assert str(tmp_path) not in reply.text


def test_both_prefixes_show_the_same(web: FlaskClient, renderer: Counting) -> None:
    one, two = web.get(_SMALL), web.get(_SMALL.replace("/picture/", "/images/"))
    assert one.data == two.data
    assert (one.headers["X-Cache"], two.headers["X-Cache"]) == ("miss", "hit")
    assert web.get("/pictures/cats/tom.jpg").status_code == 404


# --- accel -------------------------------------------------------------------------------------------------


def test_a_web_server_in_front_is_told_the_file(site: Site, tmp_path: Path) -> None:
    """Whole variants alone: with the header on a 304 nginx would send the body, and a part is ours to cut."""
    plain = site().get(_SMALL)
    web = site(http={"accel": "x-accel-redirect", "accel_prefix": "/files/"})
    reply = web.get(_SMALL)
    assert (reply.status_code, reply.data) == (200, b"")
    name = reply.headers["X-Accel-Redirect"]
    assert name.startswith("/files/")
    assert (tmp_path / "cache" / "objects" / name.removeprefix("/files/")).read_bytes() == plain.data
    assert re.fullmatch(r"[A-Za-z0-9/,._-]+", name)  # nothing to escape
    for header in ("ETag", "Cache-Control", "Last-Modified", "Content-Type", "Content-Disposition"):
        assert reply.headers[header] == plain.headers[header]
    for method, headers, status in [
        ("HEAD", {}, 200), ("GET", {"Range": "bytes=0-9"}, 206), ("GET", {"If-None-Match": "*"}, 304),
        ("GET", {"Range": "bytes=99999-"}, 416), ("GET", {"If-Match": '"x"'}, 412), ("POST", {}, 405),
    ]:  # fmt: skip
        other = web.open(_SMALL, method=method, headers=headers)
        assert other.status_code == status
        assert "X-Accel-Redirect" not in other.headers
    assert web.get(_SMALL, headers={"Range": "bytes=0-9"}).data == plain.data[:10]
    assert web.head(_SMALL).headers["Content-Length"] == str(len(plain.data))


def test_an_original_is_sent_by_ourselves(site: Site, pictures: Path) -> None:
    """It lies outside of the folder that the web server in front may read."""
    reply = site(http={"accel": "x-accel-redirect"}).get(TOM)
    assert "X-Accel-Redirect" not in reply.headers
    assert reply.data == (pictures / "cats/tom.jpg").read_bytes()


def test_sendfile_names_the_whole_path(site: Site, tmp_path: Path) -> None:
    reply = site(http={"accel": "x-sendfile"}).get(_SMALL)
    assert Path(reply.headers["X-Sendfile"]).is_relative_to(tmp_path / "cache" / "objects")
    assert Path(reply.headers["X-Sendfile"]).is_file()


def test_what_is_in_memory_is_sent_by_ourselves(site: Site) -> None:
    reply = site(http={"accel": "x-accel-redirect"}, cache={"mode": "memory"}).get(_SMALL)
    assert "X-Accel-Redirect" not in reply.headers
    assert reply.headers["ETag"] == etag(reply.data)


@pytest.mark.parametrize("accel", ["x-accel-redirect", "x-sendfile"])
def test_the_length_is_left_to_the_web_server_in_front(site: Site, accel: str) -> None:
    assert "Content-Length" not in site(http={"accel": accel}).get(_SMALL).headers
