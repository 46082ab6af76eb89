"""Client hints and ``Save-Data``: what a browser says of itself chooses among few answers."""

from __future__ import annotations

import http.client
import io
import json
import os
import random
import shutil
import threading
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from flask import Blueprint, Response
from PIL import Image
from support.asking import Counting
from support.browsing import _FLAGS as FLAGS
from support.clock import Clock
from support.doors import DATE_S, Answer, Site, environ_of
from support.drawing import quarters
from support.serving import serving, write_config
from werkzeug.serving import make_server

from imagefactory import create_app
from imagefactory.cli import main
from imagefactory.config import Config
from imagefactory.errors import ConfigError
from imagefactory.urls.signing import Policy

LADDER = [100, 200, 300, 500, 900]
DEFAULT = 300  # the middle one
AVIF, OLD = {"Accept": "image/avif,image/webp,*/*"}, {"Accept": "*/*"}
SAVING = {"Save-Data": "on"}
KEYS = {"signing": {"keys": {"a": "x" * 16}}}
WIDE = "/picture/wide.jpg"  # 800 x 80
AUTO = f"{WIDE}?scalex=auto"


@pytest.fixture
def make(configure: Callable[..., Config], renderer: Counting, pictures: Path) -> Callable[..., Site]:
    """Makes a Site that heeds all: make(http={"save_data": False})."""
    quarters(800, 80).save(pictures / "wide.jpg")
    Image.effect_noise((300, 200), 90).save(pictures / "noise.png")
    for path in pictures.rglob("*.*"):
        os.utime(path, (DATE_S, DATE_S))

    def site(**sections: Any) -> Site:
        heeds = {"client_hints": True, "save_data": True, **sections.pop("http", {})}
        limits = {"ladder": LADDER, **sections.pop("limits", {})}
        return Site(create_app(configure(http=heeds, limits=limits, **sections), renderer, Clock()))

    return site


@pytest.fixture
def site(make: Callable[..., Site]) -> Site:
    return make()


def width_of(answer: Answer) -> int:
    assert answer.is_right, answer
    return Image.open(io.BytesIO(answer.body)).width


def said(url: str, **headers: str) -> dict[str, Any]:
    """The environ of a request with these headers, whatever stands in them: said(url, sec_ch_width="640")."""
    return environ_of(url) | {f"HTTP_{name.upper()}": value for name, value in headers.items()}


# --- width and dpr ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "width"),
    [
        ({}, DEFAULT),
        ({"sec_ch_width": "1"}, 100),
        ({"sec_ch_width": "100"}, 100),
        ({"sec_ch_width": "101"}, 200),
        ({"sec_ch_width": "100.1"}, 200),
        ({"sec_ch_width": "501"}, 800),  # the step of 900 is wider than the picture
        ({"sec_ch_width": "65535"}, 800),
        ({"width": "150"}, 200),
        ({"sec_ch_width": "90", "width": "500"}, 100),
        ({"sec_ch_width": "wide", "width": "500"}, 500),
        ({"viewport_width": "90", "sec_ch_viewport_width": "90"}, DEFAULT),
        ({"sec_ch_width": "90", "sec_ch_dpr": "3"}, 100),
    ],
)
def test_a_width_goes_up_to_a_step_of_the_ladder(site: Site, headers: dict[str, str], width: int) -> None:
    assert width_of(site.send(said(AUTO, **headers))) == width


@pytest.mark.parametrize(
    ("headers", "width"),
    [
        ({}, 100),
        ({"sec_ch_dpr": "0.5"}, 100),
        ({"sec_ch_dpr": "1.0"}, 100),
        ({"sec_ch_dpr": "1.100000023841858"}, 150),
        ({"sec_ch_dpr": "2"}, 200),
        ({"sec_ch_dpr": "2.625"}, 300),
        ({"sec_ch_dpr": "4"}, 300),
        ({"dpr": "1.5"}, 150),
        ({"sec_ch_dpr": "2", "dpr": "1"}, 200),
    ],
)
def test_a_dpr_goes_up_to_1_or_1_5_or_2_or_3(site: Site, headers: dict[str, str], width: int) -> None:
    assert width_of(site.send(said(f"{WIDE}?scalex=100&dpr=auto", **headers))) == width


HOSTILE = [
    *("", " ", "-1", "-0", "0", "0.0", "+200", "1e2", "1e999", "NaN", "nan", "inf", "Infinity", "0x64"),
    *("1_000", "200, 200", "200,200", "200;q=1", '"200"', "?1", "200px", "2 0", "200\n", "\x00", "65536"),
    *("999999", "9" * 5000, "1." + "0" * 5000, ".5", "1.", "auto", "é", "\xff\xfe", "\u0662\u0660\u0660"),
    *("\uff12\uff10\uff10", "\u00b2", "<script>", "%32%30%30", "(200)"),
]


@pytest.mark.parametrize("value", HOSTILE)
def test_what_no_browser_says_is_as_if_it_had_said_nothing(
    site: Site, renderer: Counting, value: str
) -> None:
    url = f"{AUTO}&scaley=20&dpr=auto&fit=cover"
    plain = site.ask_view(url)
    names = ("sec_ch_width", "width", "sec_ch_dpr", "dpr", "save_data")
    for environ in (said(url, **{name: value}) for name in names):
        answer = site.send(environ)
        assert (answer.status, answer.body) == ("200 OK", plain.body), value
    assert renderer.renders == 1


def test_a_header_that_comes_twice_is_not_heard(tmp_path: Path, make: Callable[..., Site]) -> None:
    make()
    config = write_config(
        tmp_path, tmp_path / "pictures", tmp_path / "other", http={"client_hints": True},
        render={"processes": -1},
    )  # fmt: skip
    with serving(config) as server:
        lengths = []
        for widths in ((), ("200", "200"), ("200",)):
            connection = http.client.HTTPConnection(server.host, server.port)
            connection.putrequest("GET", AUTO)
            for width in widths:
                connection.putheader("Sec-CH-Width", width)
            connection.endheaders()
            reply = connection.getresponse()
            assert reply.status == 200
            lengths.append(len(reply.read()))
            connection.close()
    assert lengths[0] == lengths[1] != lengths[2]


def test_a_visitor_can_not_ask_for_more_than_the_steps(site: Site, renderer: Counting) -> None:
    for number in range(1, 1200, 7):
        site.ask(AUTO, headers={"Sec-CH-Width": str(number)})
        site.ask(f"{WIDE}?scalex=50&dpr=auto", headers={"Sec-CH-DPR": str(number / 100)})
    assert renderer.renders == len(LADDER) + 3  # at a dpr of 2 it is the 100 of the ladder
    assert len(site.fast._memo) == 2 + len(LADDER) + 4
    counts = site.parts.counters.take()[1]
    assert {name for name in counts if name.startswith("requests")} == {
        "requests hit jpeg 200",
        "requests miss jpeg 200",
    }


def test_auto_is_the_object_of_the_number_that_it_becomes(site: Site, renderer: Counting) -> None:
    numbers = site.ask(f"{WIDE}?scalex=200&scaley=60&fit=cover&f=webp")
    url = f"{WIDE}?w=AUTO&h=30&fit=cover&f=webp&dpr=auto"
    answer = site.ask(url, headers={"Width": "150", "DPR": "2"})
    assert (answer.body, answer["X-Cache"], renderer.renders) == (numbers.body, "hit", 1)


@pytest.mark.parametrize(
    ("query", "vary", "accept_ch"),
    [
        ("", "", ""),
        ("scalex=&dpr=auto", "", ""),
        ("download=a.jpg", "", ""),
        ("scalex=auto&q=70", "Sec-CH-Width, Width", "Sec-CH-Width"),
        ("scalex=auto&f=png", "Sec-CH-Width, Width", "Sec-CH-Width"),
        ("scalex=auto&dpr=auto&q=70", "Sec-CH-Width, Width", "Sec-CH-Width"),
        ("scalex=100&dpr=auto&f=png", "Sec-CH-DPR, DPR, Save-Data", "Sec-CH-DPR"),
        ("f=png&dpr=auto", "", ""),
        ("scalex=100", "Save-Data", ""),
        ("scalex=100&q=70", "", ""),
        ("scalex=100&q=70&dpr=1", "", ""),
        ("scalex=100&q=70&dpr=2", "Save-Data", ""),
        ("scalex=100&f=png", "", ""),
        ("preset=fine", "", ""),
        ("preset=fine&scalex=auto", "Sec-CH-Width, Width", "Sec-CH-Width"),
        (
            "scalex=auto&scaley=50&dpr=auto&f=auto",
            "Accept, Sec-CH-Width, Width, Sec-CH-DPR, DPR, Save-Data",
            "Sec-CH-Width, Sec-CH-DPR",
        ),
    ],
)
def test_an_answer_varies_on_what_it_depends_on(
    make: Callable[..., Site], query: str, vary: str, accept_ch: str
) -> None:
    """On every 200, 304, 404, 412 and 416 of a URL, from both doors, and on no more headers than that."""
    site = make(presets={"fine": {"scalex": 100, "quality": 70}})
    url = f"{WIDE}?{query}"
    site.warm(url)
    tag = site.ask(url)["ETag"]
    for headers in ({}, {"If-None-Match": tag}, {"If-Match": '"x"'}, {"Range": "bytes=999999-"}):
        for answer in (site.ask(url, headers=headers), site.ask_view(url, headers=headers)):
            assert (answer["Vary"], answer["Accept-CH"]) == (vary, accept_ch), headers
    missing = site.ask(f"/picture/none.jpg?{query}")
    assert (missing.status, missing["Vary"]) == ("404 NOT FOUND", vary)


def test_each_visitor_gets_his_own_from_the_fast_path_too(site: Site) -> None:
    """Whatever others asked for before: two visitors in turn, with all that they can say."""
    saying = [
        {name: value for name, value in headers.items() if value}
        for accept, width, dpr, saving in product(
            ("image/avif,*/*", "*/*"), ("", "150", "7x"), ("", "2"), ("", "on")
        )
        for headers in [{"Accept": accept, "Sec-CH-Width": width, "DPR": dpr, "Save-Data": saving}]
    ]
    urls = [
        f"{WIDE}?{query}"
        for query in (
            "",
            "w=auto",
            "w=auto&f=auto",
            "w=50&dpr=auto&q=60",
            "w=auto&h=20&dpr=auto&fit=cover&f=auto",
            "w=90",
        )
    ]
    own = {}
    for url, headers in product(urls, range(len(saying))):
        site.ask_view(url, headers=saying[headers])
        own[url, headers] = site.ask_view(url, headers=saying[headers]).told()
    assert len({told[3] for told in own.values()}) > 15
    fast, order = 0, random.Random(7)
    for _ in range(1500):
        url, headers = order.choice(urls), order.randrange(len(saying))
        answer = site.ask(url, headers=saying[headers])
        assert answer.told() == own[url, headers], (url, saying[headers])
        fast += answer.is_fast
    assert fast > 1000


def test_the_tag_of_another_size_is_no_match(site: Site) -> None:
    small, large = ({"Sec-CH-Width": str(width)} for width in (100, 500))
    for door in (site.ask, site.ask, site.ask_view):
        tag = door(AUTO, headers=small)["ETag"]
        assert door(AUTO, headers={"If-None-Match": tag, **small}).status == "304 NOT MODIFIED"
        other = door(AUTO, headers={"If-None-Match": tag, **large})
        assert (other.status, width_of(other)) == ("200 OK", 500)
        head = door(AUTO, "HEAD", headers=large)
        assert (head.body, head.headers) == (b"", door(AUTO, headers=large).headers)


def test_one_url_has_one_version(make: Callable[..., Site]) -> None:
    """Whatever is said: so the page that has it in a URL gets an immutable answer for everybody."""
    site = make(http={"explain": True})
    url = f"{WIDE}?w=auto&h=20&dpr=auto&f=auto"
    sayings = [{}, AVIF, {**AVIF, "Sec-CH-Width": "90"}, {"DPR": "3"}, SAVING]
    with site.app.test_request_context():
        pictures = site.app.extensions["imagefactory"].pictures
        written = pictures.url("wide.jpg", w="auto", h=20, dpr="auto", f="auto")
    version = written.partition("&v=")[2]
    assert written == f"{WIDE}?scalex=auto&scaley=20&encoding=auto&dpr=auto&v={version}"
    for headers in sayings:
        answer = site.ask(f"{url}&v={version}", headers=headers)
        assert answer["Cache-Control"].endswith("immutable")
    assert not site.ask(f"{url}&v=0123456789ab")["Cache-Control"].endswith("immutable")


def test_where_hints_are_off_auto_says_how_to_turn_them_on(make: Callable[..., Site]) -> None:
    site = make(http={"client_hints": False})
    for query in ("scalex=auto", "scalex=100&dpr=auto", "dpr=auto"):
        answer = site.ask(f"{WIDE}?{query}&q=70", headers={"Sec-CH-Width": "100", "DPR": "2"})
        assert answer.status == "400 BAD REQUEST"
        assert b"needs [http] client_hints = true; write a number" in answer.body
        assert "CH" not in answer["Vary"] + answer["Accept-CH"]


@pytest.mark.parametrize(
    "query", ["w=auto&size=300x", "size=300x&w=auto", "w=300.45&size=300.55x&dpr=auto", "h=auto", "size=auto"]
)
def test_a_wrong_url_is_wrong_for_every_browser(site: Site, query: str) -> None:
    for headers in ({}, {"Sec-CH-Width": "300", "DPR": "1.5"}, {"DPR": "3"}):
        assert site.ask(f"{WIDE}?{query}", headers=headers).status == "400 BAD REQUEST"


def test_a_preset_has_a_size_of_its_own(make: Callable[..., Site]) -> None:
    for name in ("w", "dpr"):
        with pytest.raises(ConfigError, match=rf"presets\.a\.{name}: .*auto in the URL"):
            make(presets={"a": {"scaley": 100, name: "Auto"}})


# --- no header opens what the rules keep shut ---------------------------------------------------------------


def test_presets_alone_leave_nothing_to_a_header(make: Callable[..., Site]) -> None:
    site = make(limits={"sizes": "presets"}, presets={"a": {"scalex": 100}})
    for query in ("scalex=auto", "preset=a&scalex=auto", "preset=a&dpr=auto"):
        assert site.ask(f"{WIDE}?{query}", headers={"DPR": "3"}).status == "400 BAD REQUEST"


def test_on_a_ladder_every_width_is_a_step(make: Callable[..., Site]) -> None:
    site = make(limits={"sizes": "ladder"})
    found = {
        width_of(site.ask(f"{WIDE}?{query}", headers={"Sec-CH-Width": width, "Sec-CH-DPR": dpr}))
        for query, width, dpr in product(("w=auto", "w=90&dpr=auto"), ("1", "333"), ("1", "1.5", "2.7"))
    }
    assert found == {100, 200, 300, 500}


def test_a_signature_is_over_the_word_auto(make: Callable[..., Site]) -> None:
    site = make(limits={"sizes": "signed"}, **KEYS)
    assert site.ask(AUTO).status == "403 FORBIDDEN"
    with site.app.test_request_context():
        url = site.app.extensions["imagefactory"].pictures.url("wide.jpg", scalex="auto")
    for width, wide in (("90", 100), ("450", 500), ("x", DEFAULT)):
        assert width_of(site.ask(url, headers={"Sec-CH-Width": width})) == wide
        assert site.ask(url.replace("=auto", f"={wide}")).status == "403 FORBIDDEN"


def test_a_policy_covers_nothing_that_a_header_may_widen(make: Callable[..., Site]) -> None:
    site = make(limits={"sizes": "signed"}, **KEYS)
    signer = site.parts.access.signer
    assert signer is not None
    hints = {"Sec-CH-Width": "800", "Sec-CH-DPR": "3"}
    for dpr, policy in product(("1", "auto"), (Policy(200), Policy(200, is_ladder=True))):
        own = signer.sign("wide.jpg", [("scalex", "100"), ("dpr", dpr)], policy=policy)
        query = "&".join(f"{name}={value}" for name, value in [("dpr", dpr), *own])
        is_number = site.ask(f"{WIDE}?scalex=100&{query}", headers=hints).status == "200 OK"
        assert is_number == (dpr == "1")
        assert site.ask(f"{AUTO}&{query}", headers=hints).status == "403 FORBIDDEN"


# --- what is told -------------------------------------------------------------------------------------------


def test_explain_shows_what_was_said_and_what_became_of_it(make: Callable[..., Site]) -> None:
    site = make(http={"explain": True})
    environ = said(f"{AUTO}&h=20&dpr=auto&explain=1", sec_ch_width="150", dpr="é" * 200, save_data="on")
    found = json.loads(site.send(environ).body)
    assert found["hints"] == {
        "headers": {"Sec-CH-Width": "150", "DPR": "é" * 100, "Save-Data": "on"},
        "width": 200,
        "dpr": 1.0,
        "is_saving": True,
    }
    assert (found["width"], found["recipe"]) == (200, "v1-200x20-q50")
    assert found["url"].startswith(f"{WIDE}?scalex=auto&scaley=20&dpr=auto&v=")
    assert "hints" not in json.loads(site.ask(f"{WIDE}?w=9&q=70&explain=1").body)


def test_auto_can_not_be_rendered_ahead(tmp_path: Path, make: Callable[..., Site]) -> None:
    make()
    config = write_config(tmp_path, tmp_path / "pictures", tmp_path / "other", http={"client_hints": True})
    result = CliRunner().invoke(main, ["--config", str(config), "warm", "--size", "auto"])
    assert result.exit_code == 2
    assert "--size auto: what a browser will say can't be rendered ahead; --ladder has" in result.stderr
    line = '127.0.0.1 - - [01/Jan/2026:00:00:00 +0000] "GET %s HTTP/1.1" 200 1 "-" "-"\n'
    log = tmp_path / "access.log"
    log.write_text(line % AUTO + line % f"{WIDE}?w=9&dpr=auto" + line % f"{WIDE}?w=9")
    result = CliRunner().invoke(main, ["--config", str(config), "warm", "--dry-run", "--from-log", str(log)])
    assert "1 request for 1 variant; 2 requests with a size of auto left out" in result.stderr


# --- a real browser -----------------------------------------------------------------------------------------


ASKING = "Sec-CH-DPR, Sec-CH-Width"
IMAGES = f"""<img src="{AUTO}" sizes="90px" height="9"><img src="{AUTO}" width="90" height="9">
<img src="{WIDE}?scalex=100&amp;dpr=auto" width="100" height="10">"""


def test_chromium_says_it_to_a_page_that_asks(make: Callable[..., Site]) -> None:
    """In both ways that the documentation has, on a screen with a density of 2."""
    playwright = pytest.importorskip("playwright.sync_api", reason="needs Playwright (the extra browser)")
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("needs Chromium")
    site, pages = make(), Blueprint("pages", __name__)
    site.app.add_url_rule("/silent", "silent", lambda: IMAGES)
    site.app.add_url_rule(
        "/meta", "meta", lambda: f'<head><meta http-equiv="Accept-CH" content="{ASKING}"></head>{IMAGES}'
    )
    pages.add_url_rule("/pages/header", "header", lambda: IMAGES)

    @pages.after_request
    def ask_for_hints(response: Response) -> Response:
        response.headers["Accept-CH"] = ASKING
        return response

    site.app.register_blueprint(pages)
    server = make_server("127.0.0.1", 0, site.app, threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        with playwright.sync_playwright() as driver:
            browser = driver.chromium.launch(executable_path=chromium, args=FLAGS)
            found = {}
            for path in ("/silent", "/meta", "/pages/header"):
                page = browser.new_context(device_scale_factor=2).new_page()
                page.goto(f"http://127.0.0.1:{server.server_port}{path}")
                found[path] = page.evaluate("[...document.images].map((image) => image.naturalWidth)")
            browser.close()
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    asked = [200, 200, 200]
    assert found == {"/silent": [DEFAULT, DEFAULT, 100], "/meta": asked, "/pages/header": asked}
    assert site.warm(AUTO).is_fast  # such a page leaves the fast path what it is


# --- Save-Data ----------------------------------------------------------------------------------------------


def test_who_wants_to_save_gets_fewer_bytes_from_both_doors(make: Callable[..., Site]) -> None:
    """A lower quality where none was asked for, and no more than a dpr of 1."""
    site = make(presets={"fine": {"scalex": 100, "quality": 90}, "dense": {"scalex": 100, "dpr": 2}})
    for query, is_less in (
        ("scalex=100&f=webp", True),
        ("scalex=100&f=auto", False),  # a PNG for who says nothing else
        ("scalex=100&f=webp&q=90", False),
        ("scalex=100&f=webp&q=20", False),
        ("scalex=100&f=webp&q=90&dpr=2", True),
        ("scalex=100&f=webp&q=90&dpr=0.5", False),
        ("preset=fine&f=webp", False),
        ("preset=dense&f=webp&q=90", True),
        ("", False),
    ):
        url = f"/picture/noise.png?{query}"
        full, saved = site.warm(url), site.warm(url, SAVING)
        assert (len(saved.body) < len(full.body)) == is_less, query
        assert site.ask(url).body == full.body
        assert site.ask_view(url, headers=SAVING).body == saved.body
    saved = site.ask("/picture/noise.png?scalex=100&f=webp&q=90&dpr=2", headers=SAVING)
    assert width_of(saved) == 100


@pytest.mark.parametrize(
    ("value", "is_on"),
    [
        ("on", True),
        ("ON", True),
        ("x; on", True),
        ("off", False),
        ("1", False),
        ("", False),
        ("on, on", False),
    ],
)
def test_only_on_is_on(site: Site, value: str, is_on: bool) -> None:
    url = "/picture/noise.png?scalex=100&f=webp"
    saved, full = site.ask_view(url, headers=SAVING).body, site.ask_view(url).body
    assert site.ask(url, headers={"Save-Data": value}).body == (saved if is_on else full)


def test_a_default_that_is_lower_already_stays(make: Callable[..., Site], renderer: Counting) -> None:
    site = make(encodings={"webp": {"quality": 40}})
    for headers in ({}, SAVING):
        site.ask("/picture/noise.png?scalex=100&f=webp", headers=headers)
    assert renderer.renders == 1


def test_what_is_off_is_not_heard(make: Callable[..., Site]) -> None:
    site = make(http={"save_data": False})
    url = "/picture/noise.png?scalex=100&f=webp&dpr=2"
    assert site.warm(url).told() == site.warm(url, SAVING).told()
    assert site.ask(url)["Vary"] == ""
