"""The fast path gives the answers of the view, header by header, and only while they hold."""

from __future__ import annotations

import gc
import hashlib
import os
import re
import shutil
import socket
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import cache
from io import BytesIO
from itertools import combinations, count
from pathlib import Path
from typing import Any
from wsgiref.util import FileWrapper
from wsgiref.validate import validator

import pytest
from flask import (
    Blueprint,
    Flask,
    Request,
    Response,
    appcontext_pushed,
    request,
    request_finished,
    request_started,
)
from flask.sessions import SecureCookieSessionInterface
from PIL import Image
from support.asking import Counting
from support.clock import Clock
from support.doors import DATE_S, Answer, Site, environ_of, send
from support.drawing import encoded, quarters
from support.serving import eventually, is_right, serving, write_config
from werkzeug.exceptions import Unauthorized
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.middleware.proxy_fix import ProxyFix

from imagefactory import ImageFactory, create_app
from imagefactory.common.memo import Memo
from imagefactory.config import Config
from imagefactory.storage.disk import DiskStore
from imagefactory.web import fastpath
from imagefactory.workers.rendering import InThread

DATE, EARLIER, LATER = (f"Sun, 06 Nov 1994 08:49:{second} GMT" for second in (37, 36, 38))

SMALL, LARGE = "/picture/cats/tom.jpg?scalex=100", "/picture/noise.png?scalex=600"
TARGETS = {
    "small variant": SMALL,
    "large variant": LARGE,
    "small original": "/picture/cats/tom.jpg",
    "large original": "/picture/noise.png",
}


# --- the two doors -----------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def _one_nonce(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages have a new nonce in each answer: two of them could not be compared."""
    monkeypatch.setattr("imagefactory.web.pages.page.secrets.token_urlsafe", lambda count: "nonce")


def same(site: Site, url: str, method: str = "GET", headers: dict[str, str] | None = None) -> Answer:
    """The answer that both doors give. The fast one is asked twice: the second time a part that was asked for
    has brought a small body into memory."""
    wanted = site.ask_view(url, method, headers)
    if wanted["X-Cache"] == "miss":
        wanted = site.ask_view(url, method, headers)
    for is_loaded in (False, True):
        if is_loaded:
            accept = {name: value for name, value in (headers or {}).items() if name == "Accept"}
            site.ask(url, headers={"Range": "bytes=0-0", **accept})
        found = site.ask(url, method, headers)
        assert found.told() == wanted.told(), (method, url, headers)
    return found


def is_of_a_picture(answer: Answer, method: str) -> bool:
    """Whether the fast path could give this answer."""
    return method in ("GET", "HEAD") and (bool(answer["ETag"]) or answer.status[:3] in ("412", "416"))


@pytest.fixture(autouse=True)
def _no_receivers() -> Iterator[None]:
    """Those of a test are its own: signals are the same for all apps."""
    yield
    for signal in (appcontext_pushed, request_started, request_finished):
        signal._clear_state()


@cache
def noise() -> bytes:
    """A PNG of 350 kB, whose variants are large as well."""
    return encoded(Image.effect_noise((700, 500), 90), "PNG")


@pytest.fixture
def drawn(pictures: Path) -> Path:
    """The pictures of the test, all of one date."""
    (pictures / "noise.png").write_bytes(noise())
    quarters(60, 40).save(pictures / "ünï 日本.jpg")
    for path in pictures.rglob("*.*"):
        os.utime(path, (DATE_S, DATE_S))
    assert (
        (pictures / "cats/tom.jpg").stat().st_size < fastpath.SMALL < (pictures / "noise.png").stat().st_size
    )
    return pictures


@pytest.fixture
def make(configure: Callable[..., Config], renderer: Counting, drawn: Path) -> Callable[..., Site]:
    """Makes a Site: make(outer, http={"strict": True})."""

    def site(outer: Callable[[Any], Any] = lambda inner: inner, **sections: Any) -> Site:
        return Site(create_app(configure(**sections), renderer, Clock()), outer)

    return site


@pytest.fixture
def site(make: Callable[..., Site]) -> Site:
    return make()


# --- equal answers -----------------------------------------------------------------------------------------

TAG = '"ETAG"'  # stands for that of the body
CONDITIONS = {
    "If-None-Match": [TAG, f"W/{TAG}", f'"a", {TAG}, "b"', "*", '"other"', "", "garbage"],
    "If-Modified-Since": [DATE, EARLIER, LATER, "garbage", "Wed, 21 Oct 99999999999 07:28:00 GMT", ""],
    "If-Match": [TAG, f"W/{TAG}", "*", '"other"', "garbage"],
    "If-Unmodified-Since": [DATE, EARLIER, LATER, "garbage"],
    "Range": [
        "bytes=0-99", "bytes=100-199", "bytes=-100", "bytes=0-", "bytes=99999999-", "bytes=0-1,5-6",
        "lines=1-2", "bytes=9-1", "bytes=-0", "garbage",
    ],
    "If-Range": [TAG, f"W/{TAG}", '"other"', DATE, LATER, "garbage"],
}  # fmt: skip
HEADERS = [(name, value) for name, values in CONDITIONS.items() for value in values]


@pytest.mark.parametrize("url", [*TARGETS.values(), f"{SMALL}&encoding=auto"], ids=[*TARGETS, "auto"])
@pytest.mark.slow
def test_every_condition_alone_and_in_pairs_is_judged_as_by_the_view(site: Site, url: str) -> None:
    etag = site.warm(url)["ETag"]
    seen = set()
    rows: list[tuple[tuple[str, str], ...]] = [(), *((one,) for one in HEADERS), *combinations(HEADERS, 2)]
    for row in rows:
        headers = {name: value.replace(TAG, etag) for name, value in row}
        if len(headers) < len(row) or (len(row) == 2 and "Range" not in headers and url != SMALL):
            continue
        for method in ("GET", "HEAD") if len(row) < 2 or url == SMALL else ("GET",):
            answer = same(site, url, method, headers)
            assert answer.is_fast
            assert (answer.body == b"") == (method == "HEAD" or answer.status == "304 NOT MODIFIED")
            seen.add(int(answer.status[:3]))
    assert seen == {200, 206, 304, 412, 416}


URLS = [
    *TARGETS.values(), "/images/cats/tom.jpg?scalex=100", "/picture/cats/tom.jpg?", f"{SMALL}&v=",
    f"{SMALL}&v=wrong", "/picture/cats/tom.jpg?v=0123456789ab", f"{SMALL}&download=",
    f"{SMALL}&download=%E6%97%A5.jpg&x=1", "/picture/cats/tom.jpg?download=tom",
    "/picture/cats/tom.jpg?preset=thumb", f"{SMALL}&preset=auto", f"{SMALL}&x=1", f"{SMALL}&&=&%ff=%ff",
    "/picture/flag.png?resize=60*40", "/picture/%C3%BCn%C3%AF%20%E6%97%A5%E6%9C%AC.jpg?scalex=20",
    "/picture/%C3%BCn%C3%AF%20%E6%97%A5%E6%9C%AC.jpg", f"/{SMALL}", f"///{SMALL}", SMALL.replace("picture/",
    "picture//"), SMALL.replace("?", "/?"), "/picture/", SMALL.replace("cats/", "cats//"),
    SMALL.replace("?", "%00?"), "/picture/%00", "/picture/%ff.jpg", "/picture", "/picture/x.jpg",
    "/picture/cats", "/picture/page.svg", "/picture/notes.txt?scalex=5", "/picture/../picture/x",
    "/picture/./cats/tom.jpg?scalex=100", "/picture/cats/tom.jpg?scalex=x",
    "/picture/cats/tom.jpg?scalex=5&w=6", "/picture/cats/tom.jpg?encoding=exe",
    "/picture/cats/tom.jpg?preset=none", "/PICTURE/cats/tom.jpg?scalex=100", "/?page=0", "/healthz",
    "/nowhere", "/picture/cats/tom.jpg%3Fscalex=100",
]  # fmt: skip
PRESETS = {"thumb": {"scalex": 24, "scaley": 24, "fit": "cover"}, "auto": {"encoding": "auto"}}


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "POST", "PUT", "DELETE", "get", "BREW"])
def test_every_address_is_answered_as_by_the_view(make: Callable[..., Site], method: str) -> None:
    site = make(presets=PRESETS)
    for url in URLS:
        site.ask(url)
        answer = same(site, url, method)
        assert answer.is_fast == is_of_a_picture(answer, method), url


def test_an_address_with_the_right_version_stays_immutable(site: Site) -> None:
    wanted = site.parts.resolver.wanted(
        site.parts.source("cats/tom.jpg"),
        site.parts.resolver.request([("scalex", "100"), ("v", "x")]),
        "",
    )
    answer = same(site, f"{SMALL}&v={wanted.version}")
    assert answer.is_fast
    assert answer["Cache-Control"] == "public, max-age=31536000, immutable"


ACCEPTS = [
    None, "", "image/avif", "image/webp", "image/avif;q=0, image/webp", "image/webp;q=0", "*/*", "image/*",
    "image/png",
    "image/jpeg", "image/jpeg;q=0.5, image/png;q=0.5", "IMAGE/WEBP", "garbage", "image/webp;q=x",
    ",;=\x00\xff", "image/webp," * 5000,
    "image/avif,image/webp,image/apng,image/svg+xml,image/*,*/*;q=0.8",
]  # fmt: skip


@pytest.mark.parametrize("name", ["cats/tom.jpg", "flag.png"])
def test_auto_gives_each_visitor_the_encoding_that_the_view_gives(
    make: Callable[..., Site], name: str
) -> None:
    site = make(presets=PRESETS)
    for url in (
        f"/picture/{name}?scalex=50&encoding=auto",
        f"/picture/{name}?w=50&p=auto",
        f"/picture/{name}?w=50",
    ):
        types = set()
        for accept in ACCEPTS * 2:
            for method in ("GET", "HEAD"):
                answer = same(site, url, method, {} if accept is None else {"Accept": accept})
                assert answer.is_fast
                assert (answer["Vary"] == "Accept") == ("auto" in url)
            types.add(answer["Content-Type"])
        assert len(types) == (4 if "auto" in url else 1)


def test_the_encoding_of_auto_follows_a_source_that_changes_its_own(site: Site, drawn: Path) -> None:
    url = f"{SMALL}&encoding=auto"
    for headers in ({}, {"Accept": "image/webp"}):
        site.warm(url, headers)
    quarters(90, 60).save(drawn / "new.png")
    (drawn / "new.png").rename(drawn / "cats/tom.jpg")
    both = {"Accept": "image/jpeg, image/png"}
    for headers, media_type in (
        ({}, "image/png"),
        ({"Accept": "image/webp"}, "image/webp"),
        (both, "image/png"),
    ):
        assert same(site, url, headers=headers)["Content-Type"] == media_type
        assert site.ask(url, headers=headers).is_fast


CONFIGS: dict[str, dict[str, Any]] = {
    "memory": {"cache": {"mode": "memory"}},
    "memory accel": {"cache": {"mode": "memory"}, "http": {"accel": "x-accel-redirect"}},
    "x-accel-redirect": {"http": {"accel": "x-accel-redirect", "accel_prefix": "/files/"}},
    "x-sendfile": {"http": {"accel": "x-sendfile"}},
    "other sites": {
        "http": {
            "access_control_allow_origin": "https://example.com",
            "cross_origin_resource_policy": "cross-origin",
            "timing_allow_origin": "*",
        }
    },
    "ages": {"http": {"max_age_s": 5, "stale_while_revalidate_s": 60}},
    "strict": {"http": {"strict": True}},
    "no originals": {"http": {"originals": False}},
    "presets": {"limits": {"sizes": "presets"}},
    "ladder": {"limits": {"sizes": "ladder", "ladder": [50, 640]}},
    "salt": {"cache": {"salt": "x"}},
    "signed": {"limits": {"sizes": "signed"}, "signing": {"keys": {"a": "x" * 16}}},
    "prefixes": {"http": {"prefixes": ["/a/b", "/picture/cats", "/-"]}},
    "little memory": {"cache": {"memory_bytes": 10_000}},
    "no memory": {"cache": {"memory_bytes": 1}},
}


@pytest.mark.parametrize("name", CONFIGS)
def test_under_every_configuration_the_doors_agree(make: Callable[..., Site], name: str) -> None:
    site = make(presets=PRESETS, **CONFIGS[name])
    urls = [*TARGETS.values(), f"{SMALL}&encoding=auto", f"{SMALL}&x=1", "/picture/cats/tom.jpg?preset=thumb",
            f"{SMALL}&v=x", "/picture/x.jpg"]  # fmt: skip
    prefixes = site.parts.config.http.prefixes
    for url in (
        urls if name != "prefixes" else [url.replace("/picture", p, 1) for url in urls for p in prefixes]
    ):
        site.ask(url)
        for row in (
            {},
            {"Range": "bytes=0-9"},
            {"If-None-Match": "*"},
            {"Range": "bytes=0-"},
            {"If-Match": '"x"'},
        ):
            headers = {"Accept": "image/webp", **row}
            for method in ("GET", "HEAD"):
                answer = same(site, url, method, headers)
                if name not in ("little memory", "no memory"):
                    assert answer.is_fast == is_of_a_picture(answer, method), (url, row)


def below(path: str) -> Callable[[Any], Any]:
    return lambda inner: DispatcherMiddleware(Flask("other").wsgi_app, {path: inner})


@pytest.mark.parametrize(
    "mount, outer",
    [
        ("/media", below("/media")),
        ("/picture", below("/picture")),
        ("", lambda inner: ProxyFix(inner, x_prefix=1, x_host=1)),
        ("", validator),
    ],
    ids=["mounted", "mounted at our own prefix", "behind a proxy", "looked at by wsgiref"],
)
def test_within_other_apps_the_doors_agree(
    make: Callable[..., Site], mount: str, outer: Callable[[Any], Any]
) -> None:
    site = make(outer)
    proxy = {
        "X-Forwarded-Prefix": "/elsewhere",
        "X-Forwarded-Host": "example.com",
        "X-Forwarded-For": "1.2.3.4",
    }
    for url in (*TARGETS.values(), f"{SMALL}&encoding=auto", "/picture/x.jpg", "/nowhere"):
        site.ask(mount + url)
        for row in (
            {},
            {"Range": "bytes=5-"},
            {"If-None-Match": "*"},
            {"If-Match": '"x"'},
            {"Range": "bytes=99999999-"},
        ):
            for method in ("GET", "HEAD"):
                answer = same(site, mount + url, method, {**proxy, **row})
                assert answer.is_fast == is_of_a_picture(answer, method), url


def test_a_proxy_fix_within_the_app_is_no_hindrance(configure: Callable[..., Config], drawn: Path) -> None:
    app = Flask("host")
    app.wsgi_app = ProxyFix(app.wsgi_app, x_prefix=1)  # type: ignore[method-assign]
    ImageFactory(app, configure(), renderer=InThread(), clock=Clock())
    site = Site(app)
    site.warm(SMALL, {"X-Forwarded-Prefix": "/elsewhere"})
    assert same(site, SMALL, headers={"X-Forwarded-Prefix": "/elsewhere"}).is_fast


# --- no answer that does not hold any more ------------------------------------------------------------------


def turned(path: Path) -> bytes:
    """The picture at *path* upside down, in its format, in as many bytes as that has now."""
    with Image.open(path) as image:
        data = BytesIO()
        image.transpose(Image.Transpose.ROTATE_180).save(data, image.format, quality=95)
    return data.getvalue().ljust(path.stat().st_size, b"\0")


def replace(path: Path, data: bytes) -> None:
    new = path.with_name("new")
    new.write_bytes(data)
    new.rename(path)


def replace_alike(path: Path, data: bytes) -> None:
    """By one of the same size and date."""
    replace(path, data)
    os.utime(path, (DATE_S, DATE_S))


def rewrite_alike(path: Path, data: bytes) -> None:
    """In place, and with the date of before."""
    with path.open("r+b") as file:
        file.write(data)
    os.utime(path, (DATE_S, DATE_S))


def replace_by_folder(path: Path, data: bytes) -> None:
    path.unlink()
    path.mkdir()


def replace_by_link_out(path: Path, data: bytes) -> None:
    """The very file, moved out of the folder, and a link to it where it was."""
    outside = path.parents[2] / "outside"
    path.rename(outside)
    path.symlink_to(outside)


def link_to_other(path: Path, data: bytes) -> None:
    """A link to another picture of the folder."""
    other = path.with_name("other.jpg")
    other.write_bytes(data)
    path.unlink()
    path.symlink_to(other)


# what happens to a source, the status after it, whether the body is another one
CHANGES: list[tuple[Callable[[Path, bytes], object], str, bool]] = [
    (replace, "200 OK", True),
    (replace_alike, "200 OK", True),
    (rewrite_alike, "200 OK", True),
    (link_to_other, "200 OK", True),
    (lambda path, data: os.utime(path), "200 OK", False),
    (lambda path, data: path.chmod(0o600), "200 OK", False),
    (lambda path, data: path.unlink(), "404 NOT FOUND", True),
    (lambda path, data: path.chmod(0), "200 OK" if os.geteuid() == 0 else "404 NOT FOUND", os.geteuid() != 0),
    (lambda path, data: path.parent.rename(path.parents[2] / "away"), "404 NOT FOUND", True),
    (replace_by_folder, "404 NOT FOUND", True),
    (replace_by_link_out, "404 NOT FOUND", True),
]
CHANGED = ["replaced", "replaced alike", "rewritten alike", "linked", "touched", "chmod 600", "removed",
           "chmod 0",
           "folder gone", "a folder now", "linked out"]  # fmt: skip


@pytest.mark.parametrize("change, status, is_other", CHANGES, ids=CHANGED)
@pytest.mark.parametrize("url", TARGETS.values(), ids=TARGETS)
def test_a_source_that_changed_is_seen_at_the_next_request(
    site: Site,
    drawn: Path,
    url: str,
    change: Callable[[Path, bytes], object],
    status: str,
    is_other: bool,
) -> None:
    path = drawn / url.removeprefix("/picture/").partition("?")[0]
    if path.parent == drawn:
        path = path.rename(drawn / "cats" / path.name)
        url = url.replace("/picture/", "/picture/cats/")
    data = path.read_bytes()
    path.write_bytes(data + bytes(len(data)))  # room for another one of the same size
    os.utime(path, (DATE_S, DATE_S))
    for visitor in ({}, {"Range": "bytes=5-9"}, {"If-None-Match": "*"}):
        before = site.warm(url)
        change(path, turned(path))
        answer = site.ask(url, headers=visitor)
        assert not answer.is_fast
        after = same(site, url)
        assert (after.status, after.body != before.body) == (status, is_other)
        assert after.is_fast == after.is_right == (status == "200 OK")
        assert after["ETag"] != before["ETag"] or not is_other
        if status != "200 OK":
            assert answer.status == status
            break
        if is_other:
            path.unlink()
            replace_alike(path, data + bytes(len(data)))


@pytest.mark.parametrize("url", TARGETS.values(), ids=TARGETS)
def test_a_new_epoch_is_seen_at_the_next_request(site: Site, tmp_path: Path, url: str) -> None:
    before = site.warm(url)
    DiskStore(tmp_path / "cache", 2**40).notices.renew()
    after = site.ask(url)
    assert (after.told(), after.is_fast) == (before.told(), False)
    assert site.ask(url).is_fast


@pytest.mark.parametrize("url", [SMALL, LARGE])
def test_what_another_process_purged_is_rendered_again(
    site: Site, renderer: Counting, tmp_path: Path, url: str
) -> None:
    before = site.warm(url)
    other = DiskStore(tmp_path / "cache", 2**40)
    other.notices.renew()
    for variant in list(other.index.variants.good()):
        other.remove(variant)
    other.notices.renew()
    results = [site.ask(url) for _ in range(3)]
    assert [(answer["X-Cache"], answer.is_fast) for answer in results] == [
        ("miss", False),
        ("hit", True),
        ("hit", True),
    ]
    assert all(answer.body == before.body for answer in results)
    assert renderer.renders == 2


def test_a_lost_cache_is_filled_again(site: Site, renderer: Counting, tmp_path: Path) -> None:
    for url in (SMALL, LARGE):
        site.warm(url)
    shutil.rmtree(tmp_path / "cache")
    for url in (SMALL, LARGE):
        answer = site.ask(url)
        assert (answer.is_right, answer.is_fast) == (True, False)


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[1000] ^= 1
    path.write_bytes(data)


def be_a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


DAMAGES: dict[str, Callable[[Path], object]] = {
    "removed": Path.unlink,
    "cut": lambda path: os.truncate(path, path.stat().st_size - 1),
    "emptied": lambda path: os.truncate(path, 0),
    "longer": lambda path: path.write_bytes(path.read_bytes() + b"\0"),
    "flipped": flip,
    "a folder": be_a_folder,
    "dangling": lambda path: (path.unlink(), path.symlink_to("nowhere")),
}


def object_of(site: Site, tmp_path: Path, answer: Answer) -> Path:
    (path,) = (tmp_path / "cache/objects").rglob(f"*.{answer['ETag'][1:-1]}.*")
    return path


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
@pytest.mark.parametrize("headers", [{}, {"Range": "bytes=1000-1999"}, {"Range": "bytes=0-"}], ids=str)
def test_an_object_that_is_damaged_is_never_served(
    site: Site, renderer: Counting, tmp_path: Path, damage: Callable[[Path], object], headers: dict[str, str]
) -> None:
    before = site.warm(LARGE)
    part = site.ask(LARGE, headers=headers)
    damage(object_of(site, tmp_path, before))
    answer = site.ask(LARGE, headers=headers)
    assert (answer.status, answer.body, answer.is_fast) == (part.status, part.body, False)
    assert renderer.renders == 2
    if damage is be_a_folder:  # where nothing can be stored, nothing is remembered
        assert answer["X-Cache"] == "bypass"
    else:
        assert answer["X-Cache"] == "miss"
        assert site.ask(LARGE).is_fast


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_small_body_needs_its_object_once(
    site: Site, renderer: Counting, tmp_path: Path, damage: Callable[[Path], object]
) -> None:
    heads = [site.ask(SMALL, "HEAD") for _ in range(3)]
    assert heads[2].is_fast
    damage(object_of(site, tmp_path, heads[2]))
    answer = site.ask(SMALL)
    assert (answer.is_right, answer.is_fast, renderer.renders) == (True, False, 2)
    if damage is not be_a_folder:
        before = site.warm(SMALL)
        damage(object_of(site, tmp_path, before))
        answer = site.ask(SMALL)
        assert (answer.told(), answer.is_fast, renderer.renders) == (before.told(), True, 2)


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_web_server_in_front_is_never_sent_to_a_damaged_object(
    make: Callable[..., Site], tmp_path: Path, damage: Callable[[Path], object]
) -> None:
    site = make(http={"accel": "x-sendfile"})
    for _ in range(3):
        before = site.ask(SMALL)
    assert before.is_fast
    damage(Path(before["X-Sendfile"]))
    answer = site.ask(SMALL)
    assert not answer.is_fast
    body = answer.body or Path(answer["X-Sendfile"]).read_bytes()
    assert answer["ETag"] == f'"{hashlib.sha256(body).hexdigest()[:32]}"'


@pytest.mark.parametrize("url", TARGETS.values(), ids=TARGETS)
def test_a_young_source_and_one_dated_in_the_future_are_not_remembered(
    site: Site, drawn: Path, url: str
) -> None:
    path = drawn / url.removeprefix("/picture/").partition("?")[0]
    changed_s = path.stat().st_ctime
    for now_s, is_fast in [(changed_s + 1, False), (changed_s - 1, False), (changed_s + 3, True)]:
        site.clock.now_s = now_s
        assert [site.ask(url).is_fast for _ in range(4)][-1] == is_fast
    os.utime(path, (changed_s + 100, changed_s + 100))
    for now_s, is_fast in [(changed_s + 10, False), (changed_s + 101, True)]:
        site.clock.now_s = now_s
        answers = [site.ask(url) for _ in range(4)]
        assert (answers[3].is_right, answers[3].is_fast) == (True, is_fast)


def test_a_clock_that_was_set_back_behind_a_source_slows_no_hit(site: Site, drawn: Path) -> None:
    site.clock.now_s = (drawn / SMALL.removeprefix("/picture/").partition("?")[0]).stat().st_ctime - 100
    assert [site.ask(SMALL).is_fast for _ in range(4)][-1]


def test_an_answer_past_the_cache_is_not_remembered(
    make: Callable[..., Site], renderer: Counting, drawn: Path
) -> None:
    site = make(cache={"max_bytes": 1000})
    for _ in range(3):
        answer = site.ask(SMALL)
        assert (answer.is_right, answer["X-Cache"], answer.is_fast) == (True, "bypass", False)
    assert len(site.fast._memo) == 0
    site = make()
    data, numbers = (drawn / "cats/tom.jpg").read_bytes(), count()
    renderer.before = lambda job: (drawn / "cats/tom.jpg").write_bytes(data + bytes(next(numbers)))
    for _ in range(3):
        answer = site.ask(SMALL)
        assert (answer.is_right, answer["Cache-Control"], answer.is_fast) == (True, "no-store", False)
    assert len(site.fast._memo) == 0


def test_another_salt_is_another_app(make: Callable[..., Site], renderer: Counting) -> None:
    sites = [make(cache={"salt": salt}) for salt in ("a", "b")]
    assert [[site.ask(SMALL)["X-Cache"] for _ in range(2)] for site in sites] == [["miss", "hit"]] * 2
    assert renderer.renders == 2


# --- in an app of somebody else's --------------------------------------------------------------------------


class Lodge:
    """A host who lets in who has the word, and counts whom it looked at."""

    def __init__(self) -> None:
        self.seen = 0

    def check(self, *args: object) -> Any:
        self.seen += 1
        return None if request.headers.get("X-Word") == "please" else Response("who are you?", 401)

    def mark(self, response: Response) -> Response:
        self.seen += 1
        if request.headers.get("X-Word") != "please":
            response.close()
            response = Response("who are you?", 401)
        response.headers["X-Lodge"] = "seen"
        return response

    def guard(self, inner: Any) -> Any:
        """As a decorator of a view."""

        def view(**values: Any) -> Any:
            return self.check() or inner(**values)

        return view


def before_of_a_blueprint(app: Flask, lodge: Lodge) -> None:
    blueprint = Blueprint("lodge", "lodge")
    blueprint.before_app_request(lodge.check)
    app.register_blueprint(blueprint)


def checks(values: Any, lodge: Lodge) -> None:
    refusal = lodge.check()
    if refusal is not None:
        raise PermissionError


def refuses(lodge: Lodge, response: Response) -> None:
    """Makes a refusal of an answer that was made."""
    if lodge.check() is not None:
        response.status_code = 401


def listen(signal: Any, receiver: Callable[..., object]) -> Callable[[Flask, Lodge], object]:
    """Connects *receiver*, for the one app."""

    def connect(app: Flask, lodge: Lodge) -> None:
        signal.connect(lambda sender, **values: receiver(lodge, **values), app, weak=False)

    return connect


def session_of(app: Flask, lodge: Lodge) -> None:
    class Sessions(SecureCookieSessionInterface):
        def open_session(self, app: Flask, request: Any) -> Any:
            return self.session_class()

        def save_session(self, app: Flask, session: Any, response: Any) -> None:
            refuses(lodge, response)

    app.session_interface = Sessions()


def answers_of(app: Flask, lodge: Lodge) -> None:
    class Refused(Response):
        def __call__(self, environ: Any, start_response: Any) -> Any:
            refuses(lodge, self)
            return super().__call__(environ, start_response)

    app.response_class = Refused


def requests_of(app: Flask, lodge: Lodge) -> None:
    class Checked(Request):
        @property
        def routing_exception(self) -> Any:  # type: ignore[override]
            return None if lodge.check() is None else Unauthorized()

        @routing_exception.setter
        def routing_exception(self, error: Any) -> None: ...

    app.request_class = Checked


def method_of(name: str) -> Callable[[Flask, Lodge], object]:
    """Sets a method on the app itself."""

    def hook(app: Flask, lodge: Lodge) -> None:
        inner = getattr(app, name)

        def own(*args: Any) -> Any:
            if name == "ensure_sync":
                return lodge.guard(inner(*args))
            if name == "process_response":
                return lodge.mark(inner(*args))
            return lodge.check() or inner(*args)

        setattr(app, name, own)

    return hook


METHODS = [
    "preprocess_request",
    "dispatch_request",
    "full_dispatch_request",
    "process_response",
    "ensure_sync",
]
HOOKS: dict[str, Callable[[Flask, Lodge], object]] = {
    "before_request": lambda app, lodge: app.before_request(lodge.check),
    "after_request": lambda app, lodge: app.after_request(lodge.mark),
    "before_app_request": before_of_a_blueprint,
    "url_value_preprocessor": lambda app, lodge: app.url_value_preprocessor(
        lambda endpoint, values: checks(values, lodge)
    ),
    "for our blueprint": lambda app, lodge: app.before_request_funcs.setdefault("imagefactory", []).append(
        lodge.check
    ),
    "request_started": listen(request_started, lambda lodge: checks({}, lodge)),
    "request_finished": listen(request_finished, refuses),
    "session interface": session_of,
    "response class": answers_of,
    "request class": requests_of,
    **{f"app.{name}": method_of(name) for name in METHODS},
}


@pytest.mark.parametrize("is_first", [True, False], ids=["before init_app", "after init_app"])
@pytest.mark.parametrize("hook", HOOKS.values(), ids=HOOKS)
def test_the_hooks_of_a_host_run_at_every_request(
    configure: Callable[..., Config], drawn: Path, hook: Callable[[Flask, Lodge], object], is_first: bool
) -> None:
    app, lodge = Flask("host"), Lodge()
    app.register_error_handler(PermissionError, lambda error: ("who are you?", 401))
    if is_first:
        hook(app, lodge)
    ImageFactory(app, configure(), renderer=InThread(), clock=Clock())
    if not is_first:
        hook(app, lodge)
    site = Site(app)
    for _ in range(5):
        seen = lodge.seen
        assert site.ask(SMALL, headers={"X-Word": "please"}).is_right
        assert lodge.seen > seen
    assert site.ask(SMALL).status == "401 UNAUTHORIZED"


def guarded_view(app: Flask, lodge: Lodge) -> None:
    app.view_functions["imagefactory.picture"] = lodge.guard(app.view_functions["imagefactory.picture"])


def test_a_guard_around_our_view_is_asked_at_every_request(
    configure: Callable[..., Config], drawn: Path
) -> None:
    app, lodge = Flask("host"), Lodge()
    ImageFactory(app, configure(), renderer=InThread(), clock=Clock())
    guarded_view(app, lodge)
    site = Site(app)
    for _ in range(4):
        assert site.ask(SMALL, headers={"X-Word": "please"}).is_right
    assert (site.ask(SMALL).status, lodge.seen) == ("401 UNAUTHORIZED", 5)


# What Flask takes at any time; and more that is set on an app without asking Flask.
LATE = ["request_started", "request_finished", "session interface", "response class", "request class"]


@pytest.mark.parametrize("hook", [*LATE, *(f"app.{name}" for name in METHODS), "view"])
def test_a_guard_that_comes_late_is_asked_at_the_next_request(
    configure: Callable[..., Config], drawn: Path, hook: str
) -> None:
    """The answer was remembered before."""
    app, lodge = Flask("host"), Lodge()
    app.register_error_handler(PermissionError, lambda error: ("who are you?", 401))
    ImageFactory(app, configure(), renderer=InThread(), clock=Clock())
    site = Site(app)
    site.warm(SMALL)
    {"view": guarded_view, **HOOKS}[hook](app, lodge)
    assert site.ask(SMALL).status == "401 UNAUTHORIZED"
    for _ in range(3):
        seen = lodge.seen
        assert site.ask(SMALL, headers={"X-Word": "please"}).status == "200 OK"
        assert lodge.seen > seen


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("is_flask", [False, True], ids=["a class of the host's", "Flask itself"])
def test_a_flask_of_the_hosts_own_is_asked_at_every_request(
    configure: Callable[..., Config], drawn: Path, monkeypatch: pytest.MonkeyPatch, name: str, is_flask: bool
) -> None:
    """Tools for tracing replace methods in Flask itself."""
    lodge, method = Lodge(), getattr(Flask, name)

    def own(app: Flask, *args: Any) -> Any:
        if name == "ensure_sync":
            return lodge.guard(method(app, *args))
        return (
            lodge.mark(method(app, *args))
            if name == "process_response"
            else lodge.check() or method(app, *args)
        )

    if is_flask and name != "ensure_sync":
        monkeypatch.setattr(Flask, name, own)
        app = Flask("host")
    else:
        app = type("Own", (Flask,), {name: own})("host")
    ImageFactory(app, configure(), renderer=InThread(), clock=Clock(ahead_s=10))
    send_word = environ_of(SMALL, headers={"X-Word": "please"})
    for _ in range(4):
        assert send(app, dict(send_word))[0] == "200 OK"
    assert send(app, environ_of(SMALL))[0] == "401 UNAUTHORIZED"


def test_a_context_that_others_listen_to_is_made_for_every_request(
    configure: Callable[..., Config], drawn: Path
) -> None:
    app = Flask("host")
    ImageFactory(app, configure(), renderer=InThread(), clock=Clock())
    site, pushed = Site(app), []
    site.warm(SMALL)
    with appcontext_pushed.connected_to(pushed.append, app):
        assert [site.ask(SMALL).is_fast for _ in range(3)] == [False] * 3
    assert pushed == [app] * 3
    assert site.ask(SMALL).is_fast


def test_what_can_be_no_guard_leaves_hits_fast(
    configure: Callable[..., Config], drawn: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Receivers of other apps, functions at the end of a request, templates, errors, names of others."""

    class Own(Flask):
        jinja_options = {"trim_blocks": True}  # noqa: RUF012

        def __init__(self) -> None:
            super().__init__("host")
            self.login_manager = object()

        def handle_user_exception(self, error: Exception) -> Any:
            return super().handle_user_exception(error)

    app, other, seen = Own(), Flask("other"), []
    app.teardown_request(seen.append)
    app.teardown_appcontext(seen.append)
    app.add_url_rule("/<path:any>", "any", lambda any: "the host's")
    app.add_url_rule("/pictures/<any>", "more", lambda any: "the host's")
    ImageFactory(app, configure(), renderer=InThread(), clock=Clock())
    site = Site(app)
    with request_started.connected_to(seen.append, other):
        site.warm(SMALL)
    app.extensions["late"] = app.jinja_env
    app.some_object = object()  # type: ignore[attr-defined]
    assert not site.ask(SMALL).is_fast  # it may be anything
    assert site.ask(SMALL).is_fast


def test_the_log_says_once_why_flask_is_asked(
    configure: Callable[..., Config], drawn: Path, caplog: pytest.LogCaptureFixture
) -> None:
    app = Flask("host")
    session_of(app, Lodge())
    ImageFactory(app, configure(), renderer=InThread(), clock=Clock())
    site = Site(app)
    with caplog.at_level("INFO", "imagefactory"):
        for _ in range(3):
            site.ask(SMALL, headers={"X-Word": "please"})
    said = [each.message for each in caplog.records if "by Flask" in each.message]
    assert said == [
        "pictures are answered by Flask, and not before it: the app has a session_interface of its own"
    ]


@pytest.mark.parametrize("setting", ["subdomains", "trusted hosts"])
def test_a_host_that_is_not_ours_gets_the_answer_of_the_view(
    configure: Callable[..., Config], drawn: Path, setting: str
) -> None:
    app = Flask("host", subdomain_matching=setting == "subdomains")
    app.config["SERVER_NAME" if setting == "subdomains" else "TRUSTED_HOSTS"] = (
        "example.com" if setting == "subdomains" else ["example.com"]
    )
    app.add_url_rule("/picture/<path:any>", "other", lambda any: "the host's", subdomain="api")
    ImageFactory(app, configure(), renderer=InThread(), clock=Clock())
    site = Site(app)
    for _ in range(4):
        assert site.ask(SMALL, headers={"Host": "example.com"}).is_right
    stranger = {"Host": "api.example.com"}
    assert site.ask(SMALL, headers=stranger).told() == site.ask_view(SMALL, headers=stranger).told()


class Doorman:
    """A middleware of the host that lets in who has the word."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def __call__(self, environ: Any, start_response: Any) -> Iterable[bytes]:
        if environ.get("HTTP_X_WORD") == "please":
            return self.inner(environ, start_response)
        start_response("401 UNAUTHORIZED", [])
        return ()


@pytest.mark.parametrize("is_first", [True, False], ids=["before init_app", "after init_app"])
def test_a_middleware_of_the_host_is_never_passed_by(
    configure: Callable[..., Config], drawn: Path, is_first: bool
) -> None:
    app = Flask("host")
    if is_first:
        app.wsgi_app = ProxyFix(Doorman(app.wsgi_app))  # type: ignore[method-assign]
    factory = ImageFactory(app, configure(), renderer=InThread(), clock=Clock(ahead_s=10))
    if not is_first:
        app.wsgi_app = Doorman(app.wsgi_app)  # type: ignore[method-assign]
    for _ in range(4):
        assert send(app, environ_of(SMALL, headers={"X-Word": "please"}))[0] == "200 OK"
    assert send(app, environ_of(SMALL))[0] == "401 UNAUTHORIZED"
    assert (factory.fastpath is None) == is_first


def test_two_apps_share_no_answers(tmp_path: Path) -> None:
    factory = ImageFactory(renderer=InThread(), clock=Clock())
    sites = []
    for name, colour in (("a", "red"), ("b", "blue")):
        (tmp_path / name / "pictures").mkdir(parents=True)
        Image.new("RGB", (20, 20), colour).save(tmp_path / name / "pictures/x.png")
        app = Flask(name, root_path=str(tmp_path / name))
        app.config["IMAGEFACTORY"] = {"paths": {"pictures": "pictures", "cache": "cache"}}
        factory.init_app(app)
        sites.append(Site(app))
    for url in ("/picture/x.png", "/picture/x.png?scalex=5"):
        bodies = [site.warm(url).body for site in sites]
        assert bodies[0] != bodies[1]
        assert [same(site, url).body for site in sites] == bodies
    assert sites[0].fast is not sites[1].fast
    assert sites[0].fast._memo is not sites[1].fast._memo


# --- bounds ------------------------------------------------------------------------------------------------


def test_a_flood_of_addresses_drives_out_none_in_use(make: Callable[..., Site]) -> None:
    bound = 300_000
    site = make(cache={"memory_bytes": bound})
    used = [f"/picture/cats/tom.jpg?scalex={width}" for width in range(20, 30)]
    for url in used:
        site.warm(url)
    for number in range(600):
        assert site.ask(f"{SMALL}&x={number}").is_right
        assert site.fast._memo.bytes <= bound
        if number % 5 == 0:
            assert all(site.ask(url).is_fast for url in used), number
    assert len(site.fast._memo) <= bound // fastpath._ENTRY_BYTES


@pytest.mark.parametrize("bound", [1, 3500, 20_000, 400_000])
def test_bodies_stay_within_the_bound(make: Callable[..., Site], bound: int) -> None:
    site = make(cache={"memory_bytes": bound})
    for url in [*TARGETS.values(), *(f"/picture/cats/tom.jpg?scalex={width}" for width in range(20, 60))]:
        for _ in range(3):
            assert site.ask(url).is_right
            assert site.fast._memo.bytes <= bound
    for slot in list(site.fast._memo.slots.values()):
        assert slot.bytes > len(slot.value.data or b"") + fastpath._ENTRY_BYTES


def held(site: Site, urls: Iterable[str]) -> tuple[int, int]:
    """How many bytes the entries of *urls* take, and how many the memo counts."""
    tracemalloc.start()
    try:
        for url in urls:
            assert site.ask(url).status == "200 OK"
        gc.collect()
        full, counted = tracemalloc.get_traced_memory()[0], site.fast._memo.bytes
        site.fast._memo.slots.clear()
        gc.collect()
        return full - tracemalloc.get_traced_memory()[0], counted
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "query",
    ["scalex=100", "", "scalex=100&encoding=auto", f"scalex=100&y={'y' * 4000}", f"v={'y' * 4000}",
     f"scalex=100&v=%F0%9F%98%80{'y' * 4000}"],
    ids=["variant", "original", "auto", "long", "long version", "wide version"],
)  # fmt: skip
@pytest.mark.slow
def test_an_entry_takes_no_more_than_is_counted(site: Site, query: str) -> None:
    url = f"/picture/cats/tom.jpg?{query}"
    site.ask(url)
    taken, counted = held(site, (f"{url}&x={number}" for number in range(200)))
    assert taken <= counted * 1.25
    assert "y" in query or taken >= counted * 0.75


def test_long_addresses_take_no_more_than_the_bound(make: Callable[..., Site]) -> None:
    site = make(cache={"memory_bytes": 1_000_000})
    taken, counted = held(site, (f"{SMALL}&v={'y' * 50_000}{number}" for number in range(60)))
    assert taken <= 1_250_000
    assert counted <= 1_000_000


def test_long_accept_headers_take_no_memory(site: Site) -> None:
    url = f"{SMALL}&encoding=auto"
    site.warm(url)
    tracemalloc.start()
    try:
        for number in range(100):
            assert site.ask(url, headers={"Accept": f"{number}{'y' * 50_000}"}).is_fast
        assert tracemalloc.get_traced_memory()[0] < 1_000_000
    finally:
        tracemalloc.stop()


def test_a_put_is_quick_also_where_all_were_used() -> None:
    memo: Memo[int, int] = Memo(60_000)
    for number in range(60_000):
        memo.put(number, number, 1)
        memo.get(number)
    began = time.perf_counter()
    memo.put(-1, 0, 1)
    assert time.perf_counter() - began < 0.3  # 8 ms; more than a second by a plain dict


# --- many at once ------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_no_answer_that_begins_after_a_change_is_the_old_one(
    make: Callable[..., Site], drawn: Path, tmp_path: Path
) -> None:
    """Eight threads ask while the source is replaced 50 times; its colour says the version."""
    site = make()
    path, store = drawn / "flag.png", DiskStore(tmp_path / "cache", 2**40)

    def put(version: int) -> None:
        Image.new("RGB", (40, 30), (version * 4, 100, 100)).save(drawn / "new.png")
        (drawn / "new.png").rename(path)

    put(0)
    urls = ["/picture/flag.png", "/picture/flag.png?scalex=8", "/picture/flag.png?w=9&encoding=auto"]
    replaced_s = [0.0]  # when the version of this number was in place
    found: list[tuple[float, str, Answer]] = []
    is_over = threading.Event()

    def ask(number: int) -> None:
        for turn in count(number):
            if is_over.is_set():
                return
            began, url = time.monotonic(), urls[turn % 3]
            found.append((began, url, site.ask(url, headers={"Range": "bytes=0-"} if turn % 4 == 0 else {})))

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for version in range(1, 51):
        time.sleep(0.03)  # so that the clock of the file system ticks: these stamps count as old
        put(version)
        replaced_s.append(time.monotonic())
        if version % 7 == 0:
            store.notices.renew()
    time.sleep(0.1)
    is_over.set()
    for thread in threads:
        thread.join()

    colours: dict[str, int] = {}
    for began, url, answer in found:
        assert answer.status in ("200 OK", "206 PARTIAL CONTENT", "503 SERVICE UNAVAILABLE")
        if answer.status[0] == "5":
            continue
        etag = answer["ETag"]
        assert etag == f'"{hashlib.sha256(answer.body).hexdigest()[:32]}"'
        if etag not in colours:
            with Image.open(BytesIO(answer.body)) as image:
                colours[etag] = round(image.convert("RGB").getpixel((2, 2))[0] / 4)  # type: ignore[index]
        in_place = max(number for number, at_s in enumerate(replaced_s) if at_s < began)
        assert colours[etag] >= in_place, url
    assert sum(answer.is_fast for _, _, answer in found) > 100
    assert len(set(colours.values())) > 25


# --- files -------------------------------------------------------------------------------------------------


def open_files(folder: Path) -> int:
    """How many files below *folder* are open that a body may come from: the databases of earlier tests are
    closed at any moment, and keepers open what they keep."""
    names = []
    for number in os.listdir("/dev/fd"):  # noqa: PTH208
        with suppress(OSError):
            names.append(os.readlink(f"/dev/fd/{number}"))  # noqa: PTH115
    served = re.compile(rf"{re.escape(str(folder))}/(.*/)?(objects|pictures)/")
    return sum(served.match(name) is not None for name in names)


@pytest.mark.parametrize("chunks", [0, 1, 1000])
@pytest.mark.parametrize("wrapper", [None, FileWrapper], ids=["ours", "the server's"])
@pytest.mark.parametrize("headers", [{}, {"Range": "bytes=5-"}], ids=["whole", "part"])
@pytest.mark.parametrize("url", [LARGE, TARGETS["large original"]])
def test_a_file_is_closed_wherever_the_client_goes_away(
    site: Site, tmp_path: Path, url: str, headers: dict[str, str], wrapper: Any, chunks: int
) -> None:
    site.warm(url)
    environ = environ_of(url, headers=headers)
    if wrapper:
        environ["wsgi.file_wrapper"] = wrapper
    before = open_files(tmp_path)
    body: Any = site.fast(environ, lambda status, headers: lambda data: None)
    read = b"".join(chunk for chunk, _ in zip(body, range(chunks), strict=False))
    assert open_files(tmp_path) == before + 1
    body.close()
    assert open_files(tmp_path) == before
    assert (len(read) > 0) == (chunks > 0)


@pytest.mark.parametrize("url", TARGETS.values(), ids=TARGETS)
def test_an_answer_without_a_body_opens_nothing(
    site: Site, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.warm(url)
    monkeypatch.setattr(site.parts.generator, "open", lambda answer: pytest.fail("opened"))
    for method, headers in [
        ("HEAD", {}), ("HEAD", {"Range": "bytes=0-9"}), ("GET", {"If-None-Match": "*"}), ("GET",
        {"If-Match": '"x"'}),
        ("GET", {"Range": "bytes=99999999-"}),
    ]:  # fmt: skip
        assert site.ask(url, method, headers).is_fast


# --- an environ that no server would make -------------------------------------------------------------------

LONG = "y" * 300_000
HOSTILE: list[dict[str, Any]] = [
    *({name: value} for name in (
        "HTTP_IF_NONE_MATCH", "HTTP_IF_MODIFIED_SINCE", "HTTP_IF_MATCH", "HTTP_IF_UNMODIFIED_SINCE",
        "HTTP_RANGE",
        "HTTP_IF_RANGE", "HTTP_ACCEPT", "HTTP_COOKIE", "HTTP_X_FORWARDED_FOR", "CONTENT_LENGTH",
        "REMOTE_ADDR",
    ) for value in ("", "\x00\r\nX: y", "\xff\xfe", LONG, "日本", "\ud800", '"' * 50_000,
    "bytes=" + "9" * 9999)),
    *({"PATH_INFO": value} for value in (
        "", "\xff\xfe", "/picture/\xff", "/picture/\x00", f"/picture/{LONG}", "picture/cats/tom.jpg", LONG,
        "/picture/cats/tom.jpg\r\nX: y", "/" * 100_000 + "picture/cats/tom.jpg",
    )),
    *({"QUERY_STRING": value} for value in (
        "scalex=100&" + LONG, "scalex=100&v=" + LONG, "&" * 100_000, "scalex=\x00", "%", "scalex=100#x",
    )),
    {"REQUEST_METHOD": "get"}, {"REQUEST_METHOD": ""}, {"REQUEST_METHOD": "\x00"},
    {"SERVER_PROTOCOL": "HTTP/0.9"},
]  # fmt: skip


@pytest.mark.parametrize("url", [SMALL, f"{SMALL}&encoding=auto", "/picture/cats/tom.jpg"])
def test_no_environ_breaks_an_answer(site: Site, url: str) -> None:
    site.warm(url)
    for row in HOSTILE:
        environ = {**environ_of(url), **row}
        told = str({name: value[:40] for name, value in row.items()})
        wanted = [send(site.view, dict(environ)) for _ in range(2)][1]
        assert wanted[0] < "5", told
        for _ in range(2):
            answer = site.send(dict(environ))
            assert (answer.status, answer.headers, answer.body) == wanted, told


@pytest.mark.parametrize("query", ["\xff", "scalex=100&\xff=\xfe"])
def test_a_query_that_is_not_utf8_is_no_bug(site: Site, query: str) -> None:
    answer = site.send({**environ_of(SMALL), "QUERY_STRING": query})
    assert answer.status[:3] == "400"
    assert b"not UTF-8" in answer.body


@pytest.mark.parametrize(
    "name", ["QUERY_STRING", "PATH_INFO", "HTTP_ACCEPT", "wsgi.input", "SERVER_PROTOCOL"]
)
def test_what_is_missing_in_an_environ_is_empty(site: Site, name: str) -> None:
    for url in (SMALL, "/picture/cats/tom.jpg"):
        site.warm(url)
        environ = {key: value for key, value in environ_of(url).items() if key != name}
        wanted = send(site.view, dict(environ))
        assert send(site.fast, dict(environ)) == wanted
        assert wanted[0] < "5"


# --- a real server -----------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc")
def test_a_server_holds_nothing_of_many_answers_and_of_visitors_that_leave(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    Image.effect_noise((1200, 1000), 90).save(tmp_path / "pictures/noise.png")
    target = "/picture/noise.png?scalex=1150"
    with serving(write_config(tmp_path, tmp_path / "pictures", tmp_path / "cache")) as server:
        process = Path(f"/proc/{server.process.pid}")

        def files() -> int:
            return len(os.listdir(process / "fd"))  # noqa: PTH208

        def memory_kb() -> int:
            lines = (process / "status").read_text().splitlines()
            return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))

        def leave(size: int) -> None:
            with socket.create_connection((server.host, server.port)) as visitor:
                visitor.sendall(f"GET {target} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
                assert len(visitor.recv(size)) > 0

        time.sleep(2)  # the source is old enough for its stamp to be trusted
        with server.client() as client:
            replies = [client.get(target) for _ in range(50)]
            assert all(is_right(reply) for reply in replies)
            length = len(replies[0].body)
            assert length > 1_000_000
        for _ in range(20):
            leave(1000)
        assert eventually(lambda: files() == files() and server.get("/healthz").status == 200)
        time.sleep(0.3)
        files_before, memory_before = files(), memory_kb()
        with server.client() as client:
            for _ in range(5000):
                reply = client.get(target)
                assert (reply.status, len(reply.body), reply.cache) == (200, length, "hit")
            assert is_right(reply)
        for number in range(200):
            leave(1 + number * 1000)
        assert eventually(lambda: files() <= files_before)
        assert memory_kb() <= memory_before + 20_000
        assert is_right(server.get(target))
