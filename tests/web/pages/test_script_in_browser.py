"""What a visitor's browser makes of our pages: which pictures it asks for, when, and that nothing jumps.

Pages are those of ``browsing.py``: three columns, so that a picture is a third of the viewport wide.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from support.browsing import ADD_PICTURE, Requests, Site, browser, chosen, settle, site
from support.htmlcheck import problems

if TYPE_CHECKING:
    from playwright.sync_api import Page, Route

__all__ = ["browser", "site"]  # fixtures

THRIFTY = 'Object.defineProperty(navigator, "connection", { value: { saveData: true } });'


def scroll_down(page: Page) -> None:
    page.evaluate("scrollTo(0, document.documentElement.scrollHeight)")
    settle(page)


def is_shown(page: Page, name: str) -> bool:
    """Whether the picture at *name* has arrived."""
    return bool(page.locator(f'img[src*="/{name}?"]').evaluate("(e) => e.complete && e.naturalWidth > 0"))


# --- pictures


def test_a_long_page_does_not_jump_and_loads_what_is_near(site: Site) -> None:
    with site.page() as page:
        requests = Requests(page)
        page.goto(f"{site.address}/gallery?n=60")
        settle(page)
        # Three columns of 225 px a row; Chromium looks 1250 px ahead, or further on a slow connection.
        assert 12 <= len(requests.seen) < 60
        assert not is_shown(page, "59.jpg")
        scroll_down(page)
        assert is_shown(page, "59.jpg")
        assert page.evaluate("shifts") == []
        assert {width for _, width in requests.seen} == {320}
        assert len(requests.seen) == len(set(requests.seen))  # nothing was asked for twice


@pytest.mark.parametrize("knows_auto", [1, 0])
@pytest.mark.parametrize(("density", "width"), [(1, 320), (2, 640), (3, 960)])
def test_the_candidate_fits_the_density(site: Site, density: int, width: int, knows_auto: int) -> None:
    """Also where the browser knows no sizes=auto, and would take the whole viewport's width."""
    with site.page(f"/gallery?n=60&auto={knows_auto}", density) as page:
        scroll_down(page)
        assert chosen(page, 'img[src*="/59.jpg?"]') == width
        assert page.locator("source").last.get_attribute("sizes") == "300px"


def test_a_picture_that_grows_gets_a_larger_one_and_never_a_smaller(site: Site) -> None:
    with site.page() as page:
        requests = Requests(page)
        page.goto(f"{site.address}/gallery?n=3")
        settle(page)
        assert requests.of("0.jpg") == [320]
        page.set_viewport_size({"width": 1500, "height": 700})
        settle(page)
        assert requests.of("0.jpg") == [320, 640]
        page.set_viewport_size({"width": 400, "height": 700})
        settle(page)
        assert requests.of("0.jpg") == [320, 640]
        assert chosen(page) == 640
        assert (
            page.locator("img").first.get_attribute("sizes") == "500px"
        )  # not every browser keeps what it has


def test_a_finer_screen_gets_finer_pictures(site: Site) -> None:
    """As when a window is moved to another screen: no element changes its size."""
    with site.page(size=(600, 700)) as page:
        requests = Requests(page)
        page.goto(f"{site.address}/backgrounds")
        settle(page)
        assert requests.of("0.jpg") == [640]
        page.context.new_cdp_session(page).send(
            "Emulation.setDeviceMetricsOverride",
            {"width": 600, "height": 720, "deviceScaleFactor": 2, "mobile": False},
        )
        settle(page)
        assert requests.of("0.jpg") == [640, 1280]


def test_what_object_fit_cuts_off_counts(site: Site) -> None:
    with site.page("/gallery?n=0") as page:
        page.evaluate("document.querySelector('main').style.display = 'block'")
        page.evaluate(ADD_PICTURE, "width:200px;height:400px;object-fit:cover")
        settle(page)
        assert chosen(page) == 640  # 400 px high, so 533 px wide before it is cut


def test_pictures_that_are_added_later_are_found(site: Site) -> None:
    with site.page("/gallery?n=2") as page:
        settle(page)
        requests = Requests(page)
        page.evaluate(ADD_PICTURE, "")
        settle(page)
        assert requests.of("7.jpg") == [320]


def test_placeholders_are_there_before_the_pictures(site: Site) -> None:
    with site.page() as page:
        held: list[Route] = []
        page.route("**/picture/**", lambda route: held.append(route))
        page.goto(f"{site.address}/gallery?n=3", wait_until="domcontentloaded")
        image = page.locator("img").first
        assert image.evaluate("(e) => getComputedStyle(e).backgroundImage").startswith('url("data:image/')
        assert image.bounding_box() == {"x": 0, "y": pytest.approx(40, abs=3), "width": 300, "height": 225}
        assert not is_shown(page, "0.jpg")
        assert held
        page.unroute("**/picture/**")  # which lets go of them
        settle(page)
        assert is_shown(page, "0.jpg")
        assert page.evaluate("shifts") == []


def test_without_javascript_pictures_load(site: Site) -> None:
    """All of them: without scripts a browser treats nothing as lazy (HTML, lazy loading attributes)."""
    with site.page("/gallery?n=12", java_script_enabled=False) as page:
        assert all(is_shown(page, f"{number}.jpg") for number in range(12))
    with site.page(java_script_enabled=False) as page:
        requests = Requests(page)
        page.goto(f"{site.address}/gallery?n=12&sizes=33vw&loading=eager")
        assert sorted(requests.seen) == sorted((f"{number}.jpg", 320) for number in range(12))


def test_printing_loads_all_of_the_page_and_finer(site: Site) -> None:
    with site.page() as page:
        requests = Requests(page)
        page.goto(f"{site.address}/gallery?n=60")
        settle(page)
        assert requests.of("59.jpg") == []
        page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
        settle(page)
        assert requests.of("0.jpg") == [320, 640]
        assert requests.of("59.jpg") == [640]
        assert page.evaluate("shifts") == []


def test_who_saves_data_gets_pictures_for_density_1(site: Site) -> None:
    with site.page("/gallery?n=60", density=3, script=THRIFTY) as page:
        scroll_down(page)
        assert chosen(page, 'img[src*="/59.jpg?"]') == 320
    with site.page("/backgrounds", density=3, script=THRIFTY) as page:
        settle(page)
        assert chosen(page, "#b0") == 960


# --- backgrounds


def test_backgrounds_come_when_they_are_near_and_grow(site: Site) -> None:
    with site.page(size=(300, 700)) as page:
        requests = Requests(page)
        page.goto(f"{site.address}/backgrounds")
        settle(page)
        assert requests.of("0.jpg") == [320]
        assert requests.of("7.jpg") == []
        page.set_viewport_size({"width": 600, "height": 700})
        settle(page)
        page.set_viewport_size({"width": 300, "height": 700})
        settle(page)
        assert requests.of("0.jpg") == [320, 640]
        assert chosen(page, "#b0") == 640
        scroll_down(page)
        assert requests.of("7.jpg") == [320]
        assert requests.of("40.jpg") == [960]  # #tall: 600 px high at a ratio of 1.5


def test_a_background_that_fails_leaves_what_is_there(site: Site) -> None:
    with site.page() as page:
        page.route("**/picture/0.jpg*", lambda route: route.fulfill(body=b"none", content_type="image/webp"))
        page.goto(f"{site.address}/backgrounds")
        settle(page)
        assert chosen(page, "#b0") == 0
        assert chosen(page, "#b1") == 960
        assert page.locator("#b0").evaluate("(e) => e.style.backgroundImage") == ""


def test_a_background_that_changes_is_read_again(site: Site) -> None:
    with site.page("/backgrounds") as page:
        settle(page)
        page.locator("#b0").evaluate(
            "({ dataset: d }) => { d.backgroundSrcset = d.backgroundSrcset.replaceAll('/0.jpg', '/9.jpg') }"
        )
        settle(page)
        assert "/picture/9.jpg" in page.locator("#b0").evaluate("(e) => e.style.backgroundImage")


def test_printing_loads_all_backgrounds(site: Site) -> None:
    with site.page("/backgrounds", size=(300, 700)) as page:
        settle(page)
        assert chosen(page, "#b7") == 0
        page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
        settle(page)
        assert chosen(page, "#b7") == 640


# --- the pages


@pytest.mark.parametrize("path", ["/gallery?n=3", "/backgrounds"])
def test_the_pages_are_valid_html(site: Site, path: str) -> None:
    assert problems(site.server.get(path).body) == []
