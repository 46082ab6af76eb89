"""What a browser makes of the example's pages, on a phone and on a desk; their HTML: ``test_examples.py``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from support.browsing import Requests, Site, browser, settle
from support.exampling import example

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

__all__ = ["browser"]  # a fixture

PHONE = {"size": (390, 844), "density": 3}
DESK = {"size": (1440, 900), "density": 1}
HERO = "misty%20ridges.jpg"


@pytest.fixture(scope="module")
def site(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The example; it fails a test whose page says an error, or breaks its Content-Security-Policy."""
    folder = tmp_path_factory.mktemp("example")
    with example(folder, width=640, IMAGEFACTORY_ENCODINGS__AVIF__SPEED="10") as server:
        yield Site(server, browser)


def walk_down(page: Page) -> None:
    """Scroll to the end as a reader does, so that everything comes near once."""
    page.evaluate("""async () => {
        for (let y = 0; y < document.documentElement.scrollHeight; y += 500) {
            scrollTo(0, y);
            await new Promise(requestAnimationFrame);
        }
    }""")
    settle(page)


def missing(page: Page) -> list[str]:
    """The pictures that are not there."""
    return list(page.evaluate("[...document.images].filter((e) => !e.naturalWidth).map((e) => e.alt)"))


@pytest.mark.parametrize("view", [PHONE, DESK], ids=["phone", "desk"])
@pytest.mark.parametrize("path", ["/", "/article"])
def test_pages_do_not_jump_and_all_pictures_come(site: Site, path: str, view: dict) -> None:
    with site.page(path, **view) as page:
        walk_down(page)
        assert missing(page) == []
        assert page.evaluate("shifts") == []
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


@pytest.mark.parametrize(("view", "width"), [(PHONE, 640), (DESK, 480)], ids=["phone", "desk"])
def test_the_gallery_loads_what_is_near_and_as_wide_as_its_place(site: Site, view: dict, width: int) -> None:
    with site.page(**view) as page:
        requests = Requests(page)
        page.goto(site.address)
        settle(page)
        assert 8 <= len(requests.seen) < 36
        walk_down(page)
        assert {wide for _, wide in requests.seen} == {width}
        assert len({name for name, _ in requests.seen}) == len(requests.seen) == 36


@pytest.mark.parametrize(
    ("view", "width", "ratio"), [(PHONE, 1280, 0.8), (DESK, 1600, 2.5)], ids=["phone", "desk"]
)
def test_the_hero_is_loaded_once_and_first(site: Site, view: dict, width: int, ratio: float) -> None:
    """Preload and picture mean the same file: one request for it, and no other crop."""
    with site.page(**view) as page:
        requests = Requests(page)
        page.goto(f"{site.address}/article")
        settle(page)
        assert requests.of(HERO) == [width]
        assert requests.seen[0] == (HERO, width)
        hero = page.locator(".hero img")
        assert hero.get_attribute("loading") == "eager"
        assert hero.get_attribute("fetchpriority") == "high"
        assert "encoding=avif" in hero.evaluate("(e) => e.currentSrc")
        box = hero.bounding_box()
        assert box
        assert box["width"] / box["height"] == pytest.approx(ratio, abs=0.01)


def test_who_wants_less_motion_gets_a_still_picture(site: Site) -> None:
    for preference, is_still in (("reduce", True), ("no-preference", False)):
        with site.page("/article", **DESK, reduced_motion=preference) as page:
            walk_down(page)
            shown = page.locator('img[alt^="A balloon"]').evaluate("(e) => e.currentSrc")
            assert ("anim=0" in shown) is is_still


def test_the_background_gets_the_candidate_that_fills_it(site: Site) -> None:
    with site.page("/article", **DESK) as page:
        walk_down(page)
        style = page.locator(".band").evaluate("(e) => e.style.backgroundImage")
        assert "scalex=1600" in style


def test_members_see_their_pictures_after_the_login(site: Site) -> None:
    with site.page("/members", **PHONE) as page:
        assert page.url.endswith("/login")
        page.fill("#password", "open sesame")
        page.click("text=Log in")
        page.wait_for_url("**/members")
        walk_down(page)
        assert page.locator(".grid img").count() == 6
        assert missing(page) == []
        assert page.evaluate("shifts") == []
        page.click("text=What becomes of them")
        page.wait_for_url("**/members/links")
        page.click("text=Log out")
        page.wait_for_url(f"{site.address}/")
