"""The dashboard says what is there, is for the admin alone, and a look at it changes nothing."""

from __future__ import annotations

import base64
import html
import io
import logging
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from flask import Flask
from flask.testing import FlaskClient
from PIL import Image
from support.asking import Counting
from support.clips import Stubs
from support.drawing import at_rest, quarters, written
from support.filling import fill_cache
from werkzeug.test import TestResponse

from imagefactory import ImageFactory, create_app
from imagefactory.config import Config
from imagefactory.errors import StorageError
from imagefactory.factory import Parts
from imagefactory.model.variant import Key
from imagefactory.monitoring.recent_log import watch_log
from imagefactory.storage.disk import DiskStore
from imagefactory.upkeep.listing import Cached, find_pictures, list_pictures
from imagefactory.urls.signing import Signer
from imagefactory.web.pages.charts import area, line, rates

TOKEN = "pässword of the admin"
HOSTILE = '"><img src=x onerror=alert(1)>.jpg'


def basic(password: str) -> dict[str, str]:
    return {"Authorization": f"Basic {base64.b64encode(f'x:{password}'.encode()).decode()}"}


class Site:
    """A stand-alone app with a token, asked as its admin. Its clock stands, and its keeper does nothing."""

    def __init__(self, config: Config, renderer: Counting) -> None:
        self.now_s = 2_000_000_000.0
        self.app = create_app(config, renderer, lambda: self.now_s)
        self.parts: Parts = self.app.extensions["imagefactory"].parts
        self.parts.keeper.start = lambda: None  # type: ignore[method-assign]  # it takes samples by itself
        self.client: FlaskClient = self.app.test_client()

    def get(self, target: str) -> TestResponse:
        return self.client.get(target, headers=basic(TOKEN))

    def visit(self, path: str, query: str = "scalex=100") -> None:
        """Have a visitor ask for a picture."""
        with self.client.get(f"/picture/{path}?{query}") as response:
            assert response.status_code == 200, response.data

    def shown(self, target: str = "/-/") -> list[str]:
        """The names of the pictures that are listed, in their order."""
        page = self.get(target).text
        self.parts.keeper.flush()
        return [html.unescape(name) for name in re.findall(r'<span><a href="[^"]*">(.*?)</a>', page)]

    def forget_list(self) -> None:
        self.now_s += 100

    def ticket(self, target: str) -> str:
        found = re.search(r'name="ticket" value="([^"]+)"', self.get(target).text)
        assert found, target
        return found[1]

    def purge(self, target: str, ticket: str, **headers: str) -> TestResponse:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.client.post(target, data={"ticket": ticket}, headers={**basic(TOKEN), **named})

    def variants(self) -> int:
        return self.parts.store.index.variants.count()


@pytest.fixture
def site(configure: Callable[..., Config], renderer: Counting) -> Site:
    return Site(configure(admin={"token": TOKEN}), renderer)


# --- who may see it ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "target", ["/-/", "/-/numbers", "/-/picture/cats/tom.jpg", "/-/thumbnail/cats/tom.jpg"]
)
@pytest.mark.parametrize("headers", [{}, basic("wrong"), basic(""), {"Authorization": "Basic ???"}])
def test_without_the_token_nothing_is_shown(site: Site, target: str, headers: dict[str, str]) -> None:
    response = site.client.get(target, headers=headers)
    assert response.status_code == 401
    assert response.headers["WWW-Authenticate"] == 'Basic realm="imagefactory", charset="UTF-8"'
    assert "tom.jpg" not in response.text and "Pictures" not in response.text


def test_programs_may_use_a_bearer_token(site: Site) -> None:
    token = TOKEN.encode().decode("latin-1")
    assert site.client.get("/-/numbers", headers={"Authorization": f"Bearer {token}"}).status_code == 200


def test_without_a_token_in_the_config_there_is_no_dashboard(app: Flask) -> None:
    assert app.test_client().get("/-/", headers=basic("")).status_code == 404


def test_a_host_app_has_it_with_a_token_and_its_own_templates_take_no_part(
    configure: Callable[..., Config], renderer: Counting, tmp_path: Path
) -> None:
    (tmp_path / "templates").mkdir()
    (tmp_path / "templates" / "dashboard.html").write_text("the host's own")
    app = Flask("host", root_path=str(tmp_path))
    app.jinja_env.autoescape = False
    ImageFactory(app, configure(admin={"token": TOKEN}), renderer=renderer)
    response = app.test_client().get("/-/", headers=basic(TOKEN))
    assert response.status_code == 200
    assert "Pictures" in response.text and "the host's own" not in response.text


def test_pages_load_nothing_from_elsewhere_and_are_kept_by_nobody(site: Site) -> None:
    watch_log().clear()  # other tests' messages may name addresses
    site.visit("cats/tom.jpg")
    for target in ("/-/", "/-/numbers", "/-/picture/cats/tom.jpg", "/-/picture/no.jpg"):
        response = site.get(target)
        policy = response.headers["Content-Security-Policy"]
        (nonce,) = set(re.findall(r"'nonce-([\w-]{20,})'", policy))
        assert policy == (
            f"default-src 'none'; style-src 'nonce-{nonce}'; script-src 'nonce-{nonce}'; img-src 'self'; "
            "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
        )
        assert response.headers["Cache-Control"] == "no-store"
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert response.headers["Referrer-Policy"] == "no-referrer"
        assert response.headers["X-Robots-Tag"] == "noindex"
        page = response.text
        assert not re.search(r"https?://|\son\w+=|\sstyle=", page), target
        assert re.findall(r"<(?:script|style)(?! nonce=\"" + nonce + ")", page) == []
        assert nonce not in site.get(target).text


# --- numbers -----------------------------------------------------------------------------------------------


def test_the_numbers_are_those_of_the_index(site: Site) -> None:
    for width in (50, 60, 50, 50):
        site.visit("cats/tom.jpg", f"scalex={width}")
    page = site.get("/-/numbers").text
    assert re.search(r"<b>50\.0 %</b><span>hit ratio", page)
    assert re.search(r"<b>2</b><span>hits", page)
    assert re.search(r"<b>2</b><span>variants", page)


def test_charts_show_the_samples_of_the_last_minutes(site: Site) -> None:
    for _ in range(4):
        site.visit("cats/tom.jpg")
        site.get("/-/numbers")
        site.now_s += 5
    site.visit("cats/tom.jpg")
    page = site.get("/-/numbers").text
    lines = re.findall(r'<path class="(\w+)" d="([^"]+)"', page)
    assert [kind for kind, _ in lines].count("area") == 4
    assert all(re.fullmatch(r"[MLZ0-9., -]+", path) for _, path in lines)
    assert 'aria-label="Requests a second: hits 0.2, misses 0.0' in page


def test_a_trouble_is_shown(site: Site) -> None:
    site.parts.health.note(StorageError("objects", "no room"))
    assert "in trouble (objects)" in site.get("/-/").text


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ([], []),
        ([(0, 5)], []),
        ([(0, 5), (5, 15)], [(5, 2.0)]),
        ([(0, 500), (5, 10)], [(5, 2.0)]),  # a new index
        ([(0, 5), (0, 9), (2, 11)], [(2, 1.0)]),
    ],
)
def test_rates_are_the_growth_per_second(counts: Any, expected: Any) -> None:
    assert rates(counts) == expected


def test_lines_end_where_nothing_is_known() -> None:
    points = [(0.0, 0.0), (5.0, 1.0), (6.0, None), (8.0, 1.0), (10.0, 2.0)]
    assert line(points, 0, 10, 1) == "M0.0,62.0 L150.0,2.0 M240.0,2.0 L300.0,2.0"
    assert area(points[:2], 0, 10, 0) == "M0.0,64 L0.0,62.0 L150.0,62.0 L150.0,64 Z"
    assert line(points[:1], 0, 10, 1) == line([], 0, 10, 1) == ""


# --- pictures ----------------------------------------------------------------------------------------------


def test_pictures_are_found_sorted_and_paged(site: Site, pictures: Path) -> None:
    for number in range(30):
        quarters(60 + number, 40).save(pictures / f"p{number:02}.png")
        site.visit(f"p{number:02}.png", "scalex=20&encoding=png")
    for _ in range(3):
        site.visit("p07.png", "scalex=20&encoding=png")
    site.visit("cats/tom.jpg", "scalex=300")
    assert len(site.shown()) == 24
    assert site.shown()[0] == "cats/tom.jpg"
    site.forget_list()
    assert site.shown("/-/?by=uses")[0] == "p07.png"
    assert site.shown("/-/?by=name&page=2") == [f"p{number:02}.png" for number in range(23, 30)]
    assert site.shown("/-/?q=P1&by=name") == [f"p1{number}.png" for number in range(10)]
    assert site.shown("/-/?q=nowhere") == []
    assert site.shown("/-/?by=nonsense&page=99&q=tom") == ["cats/tom.jpg"]


def test_the_order_of_the_list() -> None:
    rows = [
        Cached("b", "1" * 64, 1, 5, 3.0, 9),
        Cached("a", "2" * 64, 2, 5, 2.0, 8),
        Cached("", "3" * 64, 3, 9, 1.0, 7),
    ]
    orders = {
        by: "".join(each.path or "-" for each in find_pictures(rows, "", by))
        for by in ("bytes", "uses", "used", "variants", "name")
    }
    assert orders == {"bytes": "-ab", "uses": "ba-", "used": "ba-", "variants": "-ab", "name": "ab-"}
    assert [each.path for each in find_pictures(rows, "3333", "name")] == [""]


def test_pictures_of_the_same_bytes_are_one(site: Site, pictures: Path) -> None:
    (pictures / "again.jpg").write_bytes((pictures / "cats" / "tom.jpg").read_bytes())
    site.visit("cats/tom.jpg")
    site.visit("again.jpg")
    store = site.parts.store
    assert isinstance(store, DiskStore)
    (found,) = list_pictures(store)
    assert (found.path, found.others, found.variants) == ("again.jpg", 1, 1)


def test_a_hostile_name_is_text(site: Site, pictures: Path) -> None:
    quarters().save(pictures / HOSTILE, format="JPEG")
    site.visit("%22%3E%3Cimg%20src=x%20onerror=alert(1)%3E.jpg")
    assert site.shown() == [HOSTILE]
    for target in ("/-/", "/-/?q=%22%3E%3Cimg", "/-/picture/%22%3E%3Cimg%20src=x%20onerror=alert(1)%3E.jpg"):
        response = site.get(target)
        assert response.status_code == 200
        assert "<img src=x" not in response.text and "&lt;img src=x onerror" in response.text


def test_the_page_of_a_picture_lists_its_variants_with_their_urls(site: Site) -> None:
    site.visit("cats/tom.jpg", "scalex=100&encoding=webp")
    site.visit("cats/tom.jpg", "scalex=100&blur=3")
    page = site.get("/-/picture/cats/tom.jpg").text
    assert "400 × 300, JPEG" in page and "blur3" in page
    (address,) = re.findall(r'<td class="name"><a href="([^"]+)"', page)
    with site.client.get(html.unescape(address)) as response:
        assert response.headers["X-Cache"] == "hit"
        assert response.mimetype == "image/webp"


@pytest.fixture
def films(configure: Callable[..., Config], renderer: Counting, pictures: Path, tmp_path: Path) -> Site:
    """As ``site``, with a film and a document."""
    stubs = Stubs(tmp_path / "programs", pictures)
    stubs.film()
    stubs.document()
    return Site(configure(admin={"token": TOKEN}, programs=stubs.tables()), renderer)


@pytest.mark.parametrize(
    ("path", "query"),
    [
        ("clip.mp4", "scalex=100&encoding=webp"),
        ("clip.mp4", "t=3&scalex=100"),
        ("clip.mp4", "exact=1&t=3&scalex=100&quality=50"),
        ("clip.mp4", "sprite=2x2&scalex=40&encoding=webp"),
        ("doc.pdf", "page=1&scalex=40"),
        ("doc.pdf", "scalex=300&encoding=png"),
    ],
)
def test_what_programs_made_has_its_url(films: Site, path: str, query: str) -> None:
    films.visit(path, query)
    page = films.get(f"/-/picture/{path}").text
    rows = re.findall(r'<td class="name">(.*?)</td>\s*<td>(\w+)</td>', page)
    (address,) = [found[1] for text, _ in rows if (found := re.search(r'href="([^"]+)"', text))]
    with films.client.get(html.unescape(address)) as response:
        assert response.headers["X-Cache"] == "hit"
    bases = [encoding for text, encoding in rows if "href" not in text]
    assert bases
    assert {*bases} == {"base"}


def test_another_frame_is_no_thumbnail(films: Site) -> None:
    films.visit("clip.mp4", "t=9&scalex=150&encoding=png")
    films.visit("clip.mp4", "sprite=2x2&scalex=60&encoding=png")
    response = films.get("/-/thumbnail/clip.mp4")
    image = Image.open(io.BytesIO(response.data)).convert("RGB")
    assert image.size == (160, 90)
    assert image.getpixel((80, 45)) == pytest.approx((0, 80, 0), abs=6)  # its first second


def test_the_admin_gets_signed_urls_where_they_have_to_be(
    configure: Callable[..., Config], renderer: Counting
) -> None:
    keys = {"signing": {"keys": {"a": "x" * 16}}}
    site = Site(configure(admin={"token": TOKEN}, http={"private": ["cats/**"]}, **keys), renderer)
    pairs = [("scalex", "100")]
    site.visit("cats/tom.jpg", urlencode([*pairs, *Signer({"a": "x" * 16}).sign("cats/tom.jpg", pairs)]))
    (address,) = re.findall(r'<td class="name"><a href="([^"]+)"', site.get("/-/picture/cats/tom.jpg").text)
    assert site.client.get(html.unescape(address), buffered=True).headers["X-Cache"] == "hit"
    site.now_s += 3600
    assert site.client.get(html.unescape(address)).status_code == 403


def test_variants_of_a_content_that_no_path_has_can_be_seen_and_purged(site: Site) -> None:
    store = site.parts.store
    assert isinstance(store, DiskStore)
    fill_cache(store, 20)
    digest = f"{1:064x}"
    assert site.shown() == [f"sha256:{digest[:12]}…"]
    target = f"/-/content/{digest}"
    assert "v1-1x75-q80" in site.get(target).text
    assert site.purge(target, site.ticket(target)).status_code == 303
    assert site.variants() == 0


@pytest.mark.parametrize(
    "target", ["/-/picture/no.jpg", "/-/picture/.hidden", "/-/content/abc", "/-/thumbnail/no.jpg"]
)
def test_what_is_not_there_is_404(site: Site, target: str) -> None:
    assert site.get(target).status_code == 404


# --- a look changes nothing --------------------------------------------------------------------------------


@pytest.mark.parametrize("sizes", ["any", "presets"])
def test_thumbnails_are_not_stored_and_not_counted(
    configure: Callable[..., Config], renderer: Counting, sizes: str
) -> None:
    presets = {"thumb": {"scalex": 9}}
    site = Site(configure(admin={"token": TOKEN}, limits={"sizes": sizes}, presets=presets), renderer)
    for _ in range(2):
        response = site.get("/-/thumbnail/cats/tom.jpg")
        assert Image.open(io.BytesIO(response.data)).size == (192, 144)
    assert response.headers["Cache-Control"] == "private, max-age=86400"
    assert renderer.renders == 1
    site.parts.keeper.flush()
    assert site.variants() == 0
    assert not any(name.startswith(("requests", "bytes")) for name in site.parts.store.index.counts.all())


def test_a_small_variant_serves_as_thumbnail(site: Site, renderer: Counting) -> None:
    site.visit("cats/tom.jpg", "scalex=200&encoding=webp")
    site.visit("cats/tom.jpg", "scalex=100&grayscale=1&encoding=webp")
    response = site.get("/-/thumbnail/cats/tom.jpg")
    assert Image.open(io.BytesIO(response.data)).size == (200, 150)
    assert renderer.renders == 2
    store = site.parts.store
    assert isinstance(store, DiskStore)
    site.parts.keeper.flush()
    assert sum(row.uses for row in store.index.variants.scan()) == 2


# --- purging -----------------------------------------------------------------------------------------------


def test_a_purge_removes_the_variants_of_the_picture_and_says_so(site: Site) -> None:
    site.visit("cats/tom.jpg")
    site.visit("cats/tom.jpg", "scalex=50")
    site.visit("flag.png")
    response = site.purge("/-/picture/cats/tom.jpg", site.ticket("/-/picture/cats/tom.jpg"))
    assert response.status_code == 303
    assert response.headers["Location"].startswith("/-/?purged=2&bytes=")
    assert "2 variants purged" in site.get(response.headers["Location"]).text
    assert site.shown() == ["flag.png"]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 303),
        ({"Sec_Fetch_Site": "same-origin"}, 303),
        ({"Sec_Fetch_Site": "same-origin", "Origin": "null"}, 303),
        ({"Origin": "http://localhost"}, 303),
        ({"Origin": "null"}, 303),
        ({"Sec_Fetch_Site": "cross-site"}, 403),
        ({"Sec_Fetch_Site": "same-site"}, 403),
        ({"Sec_Fetch_Site": "none"}, 403),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "http://localhost.evil.example"}, 403),
        ({"Origin": "http://localhost@evil.example"}, 403),
        ({"Origin": "http://localhost"}, 303),
        ({"Origin": "https://localhost"}, 303),
        ({"Origin": "ftp://localhost"}, 403),
        ({"Origin": "http://["}, 403),
    ],
)
def test_a_form_of_another_site_purges_nothing(site: Site, headers: dict[str, str], status: int) -> None:
    site.visit("cats/tom.jpg")
    target = "/-/picture/cats/tom.jpg"
    assert site.purge(target, site.ticket(target), **headers).status_code == status
    assert site.variants() == (0 if status == 303 else 1)


def test_a_ticket_is_for_one_picture_and_one_hour(
    site: Site,
) -> None:
    site.visit("cats/tom.jpg")
    site.visit("flag.png")
    target = "/-/picture/cats/tom.jpg"
    good = site.ticket(target)
    until, _, seal = good.partition(".")
    bad = [
        "",
        ".",
        "x",
        f"{int(until) + 1}.{seal}",
        f"{until}.",
        f"{until}.{seal}0",
        site.ticket("/-/picture/flag.png"),
        "\ud800",
        "é.é",
    ]
    for ticket in bad:
        encoded = ticket.encode("utf-8", "surrogatepass").decode("latin-1")
        assert site.purge(target, encoded).status_code == 403, ticket
    site.now_s += 3601
    assert site.purge(target, good).status_code == 403
    assert site.variants() == 2
    site.now_s -= 2
    assert site.purge(target, good).status_code == 303


def test_a_purge_needs_the_token_too(site: Site) -> None:
    site.visit("cats/tom.jpg")
    ticket = site.ticket("/-/picture/cats/tom.jpg")
    assert site.client.post("/-/picture/cats/tom.jpg", data={"ticket": ticket}).status_code == 401
    assert site.variants() == 1


def test_an_address_with_a_message_shows_numbers_only(site: Site) -> None:
    page = site.get("/-/?purged=%3Cb%3E&bytes=1").text
    assert "purged," not in page


# --- what failed -------------------------------------------------------------------------------------------


def test_pictures_that_failed_and_warnings_are_listed(
    site: Site, pictures: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = (pictures / "cats" / "tom.jpg").read_bytes()
    at_rest(written(pictures, "<b>half.jpg", data[: len(data) // 2]))
    assert site.client.get("/picture/%3Cb%3Ehalf.jpg?scalex=50").status_code == 422
    caplog.set_level(logging.INFO, "imagefactory")
    logging.getLogger("imagefactory.somewhere").warning("a <i>warning</i> of %s", "late")
    logging.getLogger("imagefactory.somewhere").info("not this")
    page = site.get("/-/").text
    assert "&lt;b&gt;half.jpg" in page and "undecodable" in page
    assert "a &lt;i&gt;warning&lt;/i&gt; of late" in page and "not this" not in page


def test_a_warning_that_is_not_utf_8_is_shown(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    # Tests that share the cores send what was logged as UTF-8.
    monkeypatch.setattr(logging.getLogger("imagefactory"), "propagate", False)
    logging.getLogger("imagefactory.somewhere").warning("a file %s", "x\udcff")
    assert "a file x\\udcff" in site.get("/-/").text


@pytest.mark.parametrize("target", ["/-/", "/"])
def test_a_query_that_is_not_utf_8_is_400(site: Site, target: str) -> None:
    """Some servers hand over bytes that are not percent-encoded."""
    query = {"QUERY_STRING": "q=\xff"}
    assert site.client.get(target, headers=basic(TOKEN), environ_overrides=query).status_code == 400


def test_without_an_index_there_is_a_page_that_says_so(
    configure: Callable[..., Config], renderer: Counting, tmp_path: Path
) -> None:
    (tmp_path / "cache").write_text("no folder")
    reply = Site(configure(admin={"token": TOKEN}), renderer).get("/-/")
    assert reply.status_code == 200
    assert "the list can&#39;t be read at the moment" in reply.text


def test_a_purge_of_the_form_needs_no_index(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.visit("cats/tom.jpg")
    target = "/-/picture/cats/tom.jpg"
    ticket = site.ticket(target)

    def fail(path: str) -> None:
        raise StorageError("index", "no")

    monkeypatch.setattr(site.parts.store.index.sources, "get", fail)
    assert site.purge(target, ticket).status_code == 303


def test_what_failed_is_bounded(site: Site) -> None:
    for number in range(60):
        logging.getLogger("imagefactory.somewhere").error("%d", number)
    assert len(re.findall(r'<li><span class="bad-word">error', site.get("/-/").text)) == 50


# --- without a disk ----------------------------------------------------------------------------------------


def test_memory_mode_has_numbers_and_thumbnails(configure: Callable[..., Config], renderer: Counting) -> None:
    site = Site(configure(admin={"token": TOKEN}, cache={"mode": "memory"}), renderer)
    site.visit("cats/tom.jpg")
    page = site.get("/-/").text
    assert "in memory mode" in page and re.search(r"<b>1</b><span>rendered", page)
    assert site.get("/-/thumbnail/cats/tom.jpg").status_code == 200
    assert site.get("/-/picture/cats/tom.jpg").status_code == 200


def test_a_recipe_that_nobody_can_read_is_shown_without_a_url(site: Site) -> None:
    site.visit("cats/tom.jpg")
    store = site.parts.store
    assert isinstance(store, DiskStore)
    (row,) = store.index.variants.scan()
    assert row.key and row.variant
    strange = replace(row.variant, key=Key(row.key.digest, "v9-other", "webp"))
    store.index.variants.put(strange)
    page = site.get("/-/picture/cats/tom.jpg")
    assert page.status_code == 200 and "v9-other" in page.text
    assert site.get("/-/thumbnail/cats/tom.jpg").status_code == 200
