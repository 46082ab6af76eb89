"""The page at ``/``: without a script a gallery whose links all work, with one what that script needs."""

from __future__ import annotations

import html
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element

import html5lib
import pytest
from flask.testing import FlaskClient
from support.asking import Counting
from support.clips import Stubs
from support.drawing import at_rest, quarters, written
from support.pages import links_of

import imagefactory

HOSTILE = [
    "<img src=x onerror=alert(1)>.jpg",
    "<script>alert(1)<%2Fscript>.jpg",
    "<!--<script>.jpg",
    '"onload="alert(1).jpg',
    "'onload='alert(1).jpg",
    "{{ 7*7 }}{% raw %}.jpg",
    "javascript:alert(1).jpg",
    "&lt;b&gt;.jpg",
    "`${alert(1)}`.jpg",
]


def parsed(page: str) -> Element:
    """The page's tree. Fails on whatever a strict parser of HTML does."""
    return html5lib.HTMLParser(strict=True, namespaceHTMLElements=False).parse(page)


def shown(page: str) -> list[str]:
    """The names of the pictures on the page."""
    return [html.unescape(name) for name in re.findall(r'<span class="name">(.*?)</span>', page)]


def settings_of(page: str) -> dict[str, Any]:
    (found,) = [each for each in parsed(page).iter("script") if each.get("id") == "settings"]
    return dict(json.loads(found.text or ""))


def fields_of(page: str) -> set[str]:
    return {each.get("name", "") for tag in ("input", "select") for each in parsed(page).iter(tag)}


# --- without a script ---------------------------------------------------------------------------------------


def test_every_link_leads_to_a_picture(site: Callable[..., FlaskClient], pictures: Path) -> None:
    for name in ("two words.jpg", "ünï 日本.jpg", "a&b=c?d#e%20f.jpg", "'quo\"te'.jpg", "+.jpg", ";.jpg"):
        quarters(16, 12).save(pictures / name)
    web = site()
    page = web.get("/")
    assert page.status_code == 200
    assert len(shown(page.text)) == 8
    for link in links_of(page.text):
        reply = web.get(link)
        assert reply.status_code == 200, link
        assert reply.mimetype.startswith("image/")


@pytest.mark.parametrize("name", HOSTILE)
def test_the_name_of_a_picture_is_text_and_no_markup(
    site: Callable[..., FlaskClient], pictures: Path, name: str
) -> None:
    quarters(16, 12).save(pictures / name)
    web = site()
    page = web.get("/").text
    assert name in shown(page)
    tree = parsed(page)
    assert [each.get("data-path") for each in tree.iter("a") if each.get("data-path")].count(name) == 1
    assert len(list(tree.iter("script"))) == 3
    assert not any(attribute.startswith("on") for each in tree.iter() for attribute in each.attrib)
    assert all(link.startswith("/picture/") for link in links_of(page))
    assert all(web.get(link).status_code == 200 for link in links_of(page))


def test_what_is_looked_for_is_text_and_no_markup(site: Callable[..., FlaskClient]) -> None:
    for text in HOSTILE:
        (field,) = (
            each
            for each in parsed(site().get("/", query_string={"q": text}).text).iter("input")
            if each.get("name") == "q"
        )
        assert field.get("value") == text


def test_pictures_are_shown_and_nothing_else(
    site: Callable[..., FlaskClient], pictures: Path, tmp_path: Path
) -> None:
    (pictures / ".hidden.jpg").write_bytes(b"x")
    (pictures / "line\nbreak.jpg").write_bytes(b"x")
    (tmp_path / "outside").mkdir()
    quarters(8, 8).save(tmp_path / "outside" / "secret.jpg")
    (pictures / "linked").symlink_to(tmp_path / "outside")
    assert shown(site().get("/").text) == ["flag.png", "cats/tom.jpg"]


def test_there_are_pages(site: Callable[..., FlaskClient], pictures: Path) -> None:
    shutil.rmtree(pictures)
    pictures.mkdir()
    names = [f"{number:03}.png" for number in range(130)]
    quarters(4, 4).save(pictures / names[0])
    for name in names[1:]:
        (pictures / name).write_bytes((pictures / names[0]).read_bytes())
    web = site()
    found, url, pages = [], "/", 0
    while url:
        page = web.get(url).text
        found += shown(page)
        pages += 1
        (url,) = [link for link in links_of(page) if link == f"/?page={pages + 1}"] or [""]
    assert (found, pages) == (names, 3)
    assert "/?page=1" in links_of(web.get("/?page=2").text)
    assert web.get("/?page=4").status_code == 200
    for odd in ("0", "-1", "1000000000"):
        assert web.get(f"/?page={odd}").status_code == 404
    for odd in ("x", "", "1.5", "%00"):
        assert web.get(f"/?page={odd}").status_code == 200


def test_sixty_pictures_are_one_page(site: Callable[..., FlaskClient], pictures: Path) -> None:
    for number in range(58):
        (pictures / f"{number}.png").write_bytes((pictures / "flag.png").read_bytes())
    page = site().get("/").text
    assert len(shown(page)) == 60
    assert not any("page=" in link for link in links_of(page))


def test_pictures_can_be_looked_for(site: Callable[..., FlaskClient], pictures: Path) -> None:
    """Every word is somewhere in the path, whatever its case; the pages of what was found keep the words."""
    for number in range(70):
        (pictures / f"Straße {number} & co.png").write_bytes((pictures / "flag.png").read_bytes())
    web = site()
    for text, count in [("tom", 1), ("TOM cats", 1), ("tom flag", 0), ("strasse 33", 1), ("  ", 60)]:
        assert len(shown(web.get("/", query_string={"q": text}).text)) == count
    page = web.get("/", query_string={"q": "straße & co"}).text
    (more,) = [link for link in links_of(page) if "page=2" in link]
    assert len(shown(web.get(more).text)) == 10
    assert "No picture has this" in web.get("/?q=nowhere").text


def test_every_image_has_an_address(site: Callable[..., FlaskClient]) -> None:
    """Also those that the script fills: HTML knows no <img> without src (4.8.3)."""
    images = list(parsed(site().get("/").text).iter("img"))
    assert len(images) == 5
    assert all(image.get("src") for image in images)


def test_an_empty_folder_says_so(site: Callable[..., FlaskClient], pictures: Path) -> None:
    shutil.rmtree(pictures)
    assert "There are no pictures" in site().get("/").text
    pictures.mkdir()
    reply = site().get("/")
    assert (reply.status_code, links_of(reply.text)) == (200, [])
    assert "There are no pictures" in reply.text
    parsed(reply.text)


# --- what may be chosen -------------------------------------------------------------------------------------


def test_a_server_with_presets_offers_presets(site: Callable[..., FlaskClient]) -> None:
    presets = {"small": {"scalex": 50}, "wide": {"scalex": 90}, "webp": {"w": 60, "fm": "webp"}}
    web = site(limits={"sizes": "presets"}, presets=presets)
    page = web.get("/").text
    links = links_of(page)
    assert any("preset=wide" in link for link in links)
    assert [link for link in links if web.get(link).status_code != 200] == []
    assert {"preset", "encoding"} <= fields_of(page)
    assert fields_of(page).isdisjoint({"scalex", "scaley", "fit", "gravity", "quality", "rotate"})
    settings = settings_of(page)
    assert settings["large"] == {"preset": "wide", "encoding": "auto"}
    assert settings["fixed"] == ["webp"]


def test_presets_are_offered_beside_free_sizes(site: Callable[..., FlaskClient]) -> None:
    page = site(presets={"small": {"scalex": 50}}).get("/").text
    assert {"preset", "scalex", "scaley", "fit", "gravity", "fp", "quality", "encoding"} <= fields_of(page)
    assert "preset" not in fields_of(site().get("/").text)


def test_a_ladder_tells_its_steps(site: Callable[..., FlaskClient]) -> None:
    web = site(limits={"sizes": "ladder", "ladder": [300, 100]})
    page = web.get("/").text
    assert (settings_of(page)["sizes"], settings_of(page)["ladder"]) == ("ladder", [100, 300])
    assert [link for link in links_of(page) if web.get(link).status_code != 200] == []


def test_closed_originals_are_not_linked(site: Callable[..., FlaskClient]) -> None:
    web = site(http={"originals": False})
    page = web.get("/").text
    assert [link for link in links_of(page) if web.get(link).status_code != 200] == []
    assert ">open</a>" not in page
    assert settings_of(page)["originals"] is False
    assert settings_of(site().get("/").text)["originals"] is True


def test_private_pictures_are_not_shown(site: Callable[..., FlaskClient]) -> None:
    web = site(http={"private": ["cats/**"]}, signing={"keys": {"a": "x" * 16}})
    assert "cats/tom.jpg" not in web.get("/").text
    assert web.get("/?about=cats/tom.jpg").status_code == 404


def test_a_server_with_signed_sizes_shows_nothing(site: Callable[..., FlaskClient]) -> None:
    web = site(limits={"sizes": "signed"}, signing={"keys": {"a": "x" * 16}})
    reply = web.get("/")
    assert reply.status_code == 200
    assert "signed URLs only" in reply.text
    assert links_of(reply.text) == []
    assert "x" * 16 not in reply.text
    assert "tom.jpg" not in reply.text
    assert len(list(parsed(reply.text).iter("script"))) == 1
    assert web.get("/?about=cats/tom.jpg").status_code == 404


def test_the_playground_can_be_switched_off(site: Callable[..., FlaskClient]) -> None:
    web = site(server={"playground": False})
    reply = web.get("/")
    assert (reply.status_code, reply.mimetype) == (404, "application/json")
    assert json.loads(reply.data)["error"] == "not_found"
    assert web.get("/healthz").status_code == 200
    assert web.get("/picture/cats/tom.jpg").status_code == 200


# --- the page and its script --------------------------------------------------------------------------------


def test_only_our_own_script_runs(site: Callable[..., FlaskClient]) -> None:
    web = site()
    first, second = web.get("/"), web.get("/")
    headers = first.headers
    assert headers["Content-Type"] == "text/html; charset=utf-8"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Cache-Control"] == "no-cache"
    policy = headers["Content-Security-Policy"]
    assert "unsafe" not in policy
    (nonce,) = set(re.findall(r"'nonce-([\w-]+)'", policy))
    assert policy == (
        f"default-src 'none'; img-src 'self' blob: data:; style-src 'nonce-{nonce}'; "
        f"script-src 'nonce-{nonce}'; connect-src 'self'; form-action 'self'; base-uri 'none'; "
        "frame-ancestors 'none'"
    )
    assert nonce not in second.headers["Content-Security-Policy"]
    running = [each for each in parsed(first.text).iter("script") if each.get("type") is None]
    assert [each.get("nonce") for each in running] == [nonce, nonce]
    assert [each.get("nonce") for each in parsed(first.text).iter("style")] == [nonce]


@pytest.mark.parametrize("sections", [{}, {"limits": {"sizes": "presets"}, "presets": {"a": {"w": 5}}}])
def test_the_page_is_sound_html(site: Callable[..., FlaskClient], sections: dict[str, Any]) -> None:
    """Every id is there once, every label has its field, and the script finds the ids that it asks for."""
    page = site(**sections).get("/").text
    tree = parsed(page)
    ids = [each.get("id", "") for each in tree.iter() if each.get("id")]
    assert len(ids) == len(set(ids))
    assert {each.get("for") for each in tree.iter("label") if each.get("for")} <= set(ids)
    named = set(re.findall(r'\$\("(\w+)"\)', page))
    assert named - set(ids) <= ({"focus", "open"} if sections else set())
    assert not any(attribute.startswith("on") for each in tree.iter() for attribute in each.attrib)
    assert not any(each.get("style") for each in tree.iter())


def test_the_script_makes_no_markup_of_text() -> None:
    """Names of files come from strangers: they become text and values, never HTML."""
    script = (
        Path(imagefactory.__file__).parent / "web" / "pages" / "templates" / "playground.js"
    ).read_text()
    assert not re.search(r"innerHTML|outerHTML|insertAdjacent|document\.write|eval|new Function", script)
    assert "</script" not in script
    assert "<!--" not in script
    assert len(script.splitlines()) < 420


def test_a_mounted_server_tells_its_script_where_it_is(site: Callable[..., FlaskClient]) -> None:
    settings = settings_of(site().get("/", base_url="http://localhost/media").text)
    assert (settings["base"], settings["prefix"]) == ("/media/", "/media/picture/")


def test_a_picture_is_described(site: Callable[..., FlaskClient], pictures: Path, renderer: Counting) -> None:
    reply = site().get("/?about=cats/tom.jpg")
    size = (pictures / "cats" / "tom.jpg").stat().st_size
    assert json.loads(reply.data) == {
        "width": 400, "height": 300, "bytes": size, "format": "JPEG", "frames": 1,
        "duration": 0, "scalable": False, "parameters": {},
    }  # fmt: skip
    assert (reply.mimetype, reply.headers["Cache-Control"]) == ("application/json", "no-store")
    assert renderer.renders == 0


def test_what_a_program_reads_is_listed_and_described(
    site: Callable[..., FlaskClient], pictures: Path, tmp_path: Path
) -> None:
    stubs = Stubs(tmp_path / "programs", pictures)
    stubs.film(seconds=12.5)
    stubs.document()
    web = site(programs=stubs.tables(), limits={"sizes": "any"})
    told = {name: json.loads(web.get(f"/?about={name}").data) for name in ("clip.mp4", "doc.pdf")}
    size = (pictures / "clip.mp4").stat().st_size
    assert told["clip.mp4"] == {
        "width": 160, "height": 90, "bytes": size, "format": "MP4", "frames": 1,
        "duration": 12.5, "scalable": False, "parameters": {"t": 0, "exact": 0, "sprite": 0},
    }  # fmt: skip
    assert told["doc.pdf"]["scalable"] is True
    assert told["doc.pdf"]["parameters"] == {"page": 0}
    page = web.get("/").text
    assert {"clip.mp4", "doc.pdf"} <= {*shown(page)}
    for link in links_of(page):
        if "clip.mp4" in link:
            assert web.get(link).status_code == 200, link


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("nowhere.jpg", 404),
        ("", 404),
        ("../config.toml", 404),
        ("/etc/passwd", 404),
        (".hidden.jpg", 404),
        ("page.svg", 404),
        ("broken.jpg", 422),
    ],
)
def test_what_can_not_be_described_is_an_error(
    site: Callable[..., FlaskClient], pictures: Path, path: str, status: int
) -> None:
    at_rest(written(pictures, "broken.jpg", b"\xff\xd8\xff\xe0 no more than that"))
    (pictures / ".hidden.jpg").write_bytes((pictures / "cats" / "tom.jpg").read_bytes())
    reply = site().get("/", query_string={"about": path})
    assert reply.status_code == status
    assert set(json.loads(reply.data)) == {"error", "detail"}


def test_a_query_that_is_no_text_is_400(site: Callable[..., FlaskClient]) -> None:
    reply = site().get("/", environ_overrides={"QUERY_STRING": "q=\xff"})
    assert (reply.status_code, reply.mimetype) == (400, "application/json")
