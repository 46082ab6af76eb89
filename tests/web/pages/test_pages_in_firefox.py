"""What Firefox makes of our pages and of the playground. Chromium: ``test_browser.py``, with more cases.

Pages are those of ``browsing.py``: three columns, so that a picture is a third of the viewport wide.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from support.browsing import ADD_PICTURE, pages
from support.drawing import scene
from support.firefox import Firefox, Page, firefox
from support.serving import serving, write_config

__all__ = ["firefox"]  # a fixture

RECTANGLES = """[...document.querySelectorAll("img, h1, main")].map((e) => e.getBoundingClientRect())
  .map(({ x, y, width, height }) => [x, y, width, height])"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where the pages are."""
    with pages(tmp_path_factory.mktemp("site")) as server:
        yield f"http://{server.host}:{server.port}"


def asked(page: Page) -> list[tuple[str, int]]:
    """The pictures that were asked for over the network, as (name, width) in order."""
    found = (re.search(r"/picture/([^?]+)\?scalex=(\d+)", url) for url in page.asked)
    return [(each[1], int(each[2])) for each in found if each]


def of(page: Page, name: str) -> list[int]:
    """The widths that were asked for of one picture."""
    return [width for path, width in asked(page) if path == name]


def is_shown(page: Page, number: int) -> bool:
    """Whether this picture of the gallery has arrived."""
    return bool(page.run(f"document.images[{number}].complete && document.images[{number}].naturalWidth > 0"))


def background(page: Page, selector: str) -> int:
    """The width of the candidate that is the background of this element, 0 for none."""
    style = page.run(f"document.querySelector({selector!r}).style.backgroundImage")
    return int("0" + style.partition("scalex=")[2].partition("&")[0])


def until_background(page: Page, selector: str, width: int) -> None:
    page.until(f"document.querySelector({selector!r}).style.backgroundImage.includes('scalex={width}&')")


def scroll_down(page: Page) -> None:
    page.run("scrollTo(0, document.documentElement.scrollHeight)")
    page.settle()


# --- pictures


def test_a_long_page_loads_what_is_near_and_asks_once(firefox: Firefox, site: str) -> None:
    """Also for what was under way when the script came: its sizes would make Firefox begin anew."""
    with firefox.page(f"{site}/gallery?n=60") as page:
        page.settle()
        assert 12 <= len(asked(page)) < 60
        assert not is_shown(page, 59)
        scroll_down(page)
        assert is_shown(page, 59)
        assert {width for _, width in asked(page)} == {320}
        assert len(asked(page)) == len(set(asked(page)))


@pytest.mark.parametrize("knows_auto", [1, 0])
@pytest.mark.parametrize(("density", "width"), [(1, 320), (2, 640), (3, 960)])
def test_the_candidate_fits_the_density(
    firefox: Firefox, site: str, density: int, width: int, knows_auto: int
) -> None:
    """Also in a Firefox that knows no sizes=auto: where it is not near yet, the script is in time."""
    with firefox.page(f"{site}/gallery?n=60&auto={knows_auto}", density) as page:
        scroll_down(page)
        assert of(page, "59.jpg") == [width]
        assert f"scalex={width}&encoding=avif" in page.run("document.images[59].currentSrc")


def test_a_picture_that_grows_gets_a_larger_one_and_never_a_smaller(firefox: Firefox, site: str) -> None:
    with firefox.page(f"{site}/gallery?n=3") as page:
        page.settle()
        assert of(page, "0.jpg") == [320]
        page.view(1500, 700)
        page.until("document.images[0].currentSrc.includes('scalex=640&')")
        page.view(400, 700)
        page.settle()
        assert of(page, "0.jpg") == [320, 640]
        assert "scalex=640&" in page.run("document.images[0].currentSrc")


def test_who_drags_a_window_waits_for_one_picture(firefox: Firefox, site: str) -> None:
    """The larger one is under way while the element grows on."""
    with firefox.page(f"{site}/gallery?n=3") as page:
        page.settle()
        with page.held("/picture/"):
            for width in range(1200, 1500, 50):
                page.view(width, 700)
                page.turn()
        page.settle()
        assert of(page, "0.jpg") == [320, 640]
        assert page.run("document.images[0].sizes") == f"{1450 // 3}px"


def test_a_finer_screen_gets_finer_pictures(firefox: Firefox, site: str) -> None:
    """As when a window is moved to another screen: no element changes its size."""
    with firefox.page(f"{site}/backgrounds", size=(600, 700)) as page:
        until_background(page, "#b0", 640)
        page.view(600, 700, density=2)
        until_background(page, "#b0", 1280)
        assert of(page, "0.jpg") == [640, 1280]


def test_pictures_that_are_added_later_are_found(firefox: Firefox, site: str) -> None:
    with firefox.page(f"{site}/gallery?n=2") as page:
        page.settle()
        page.run(f"({ADD_PICTURE})('')")
        page.until("document.images[2].naturalWidth")
        assert asked(page)[-1] == ("7.jpg", 320)


def test_placeholders_come_first_and_nothing_jumps(firefox: Firefox, site: str) -> None:
    with firefox.page() as page:
        with page.held("/picture/"):
            page.go(f"{site}/gallery?n=3", wait="interactive")
            page.until("document.images.length === 3")
            page.turn()
            assert page.run("getComputedStyle(document.images[0]).backgroundImage").startswith(
                'url("data:image/'
            )
            assert not is_shown(page, 0)
            before = page.run(RECTANGLES)
        page.settle()
        assert is_shown(page, 0)
        assert page.run(RECTANGLES) == before
        assert [0, 300, 225] in [[x, width, height] for x, _, width, height in before]


def test_without_the_script_pictures_load(firefox: Firefox, site: str) -> None:
    with firefox.page(f"{site}/gallery?n=60&script=0") as page:
        scroll_down(page)
        assert is_shown(page, 0)
        assert is_shown(page, 59)
        assert {width for _, width in asked(page)} == {320}  # by sizes=auto


def test_before_it_prints_a_page_loads_all_and_finer(firefox: Firefox, site: str) -> None:
    with firefox.page(f"{site}/gallery?n=60") as page:
        page.settle()
        assert of(page, "59.jpg") == []
        page.run("void dispatchEvent(new Event('beforeprint'))")
        page.until("[...document.images].every((e) => e.complete && e.currentSrc.includes('scalex=640&'))")
        assert of(page, "0.jpg") == [320, 640]
        assert of(page, "59.jpg") == [640]


def test_all_pictures_are_on_the_paper(firefox: Firefox, site: str) -> None:
    with firefox.page(f"{site}/gallery?n=15", size=(900, 100)) as page:
        page.settle()
        assert not is_shown(page, 14)
        assert len(re.findall(rb"/Subtype */Image", page.print())) == 15


# --- backgrounds


def test_backgrounds_come_when_they_are_near_and_grow(firefox: Firefox, site: str) -> None:
    with firefox.page(f"{site}/backgrounds", size=(300, 700)) as page:
        until_background(page, "#b0", 320)
        page.settle()
        assert of(page, "7.jpg") == []
        page.view(600, 700)
        until_background(page, "#b0", 640)
        page.view(300, 700)
        page.settle()
        assert background(page, "#b0") == 640
        assert of(page, "0.jpg") == [320, 640]
        scroll_down(page)
        until_background(page, "#b7", 320)
        assert of(page, "40.jpg") == [960]  # #tall: 600 px high at a ratio of 1.5


def test_a_background_that_fails_leaves_what_is_there(firefox: Firefox, site: str) -> None:
    with firefox.page(f"{site}/backgrounds") as page:
        until_background(page, "#b0", 960)
        srcset = "/picture/none.jpg?scalex=1280 1280w"
        page.run(f"void (document.querySelector('#b0').dataset.backgroundSrcset = '{srcset}')")
        page.settle()
        assert of(page, "none.jpg") == [1280]
        assert background(page, "#b0") == 960


def test_printing_loads_all_backgrounds(firefox: Firefox, site: str) -> None:
    with firefox.page(f"{site}/backgrounds", size=(300, 700)) as page:
        page.settle()
        assert background(page, "#b7") == 0
        page.run("void dispatchEvent(new Event('beforeprint'))")
        until_background(page, "#b7", 640)


# --- the playground


@pytest.fixture(scope="module")
def playground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where ``imagefactory serve`` shows two pictures."""
    folder = tmp_path_factory.mktemp("playground")
    (folder / "pictures").mkdir()
    for name in ("first.jpg", "second.jpg"):
        scene(800, 600).save(folder / "pictures" / name)
    with serving(write_config(folder, folder / "pictures", folder / "cache")) as server:
        yield f"http://{server.host}:{server.port}"


def choose(page: Page, field: str, value: str) -> None:
    """Set a field of the form, as a user does."""
    page.run(f"void (document.querySelector('#{field}').value = '{value}')")
    page.run(
        f"void document.querySelector('#{field}').dispatchEvent(new Event('input', {{ bubbles: true }}))"
    )


def facts(page: Page, word: str) -> str:
    """The facts of a result, as soon as *word* is in them; fails where there is a problem instead."""
    text = "document.querySelector('#facts').textContent"
    page.until(f"{text}.includes({word!r}) || !document.querySelector('#problem').hidden")
    assert page.run("document.querySelector('#problem').textContent") == ""
    return str(page.run(text))


def sides(page: Page, selector: str) -> list[int]:
    """Width and height of the picture that is shown there, [0, 0] for none."""
    return list(
        page.run(
            f"[document.querySelector({selector!r})].map((e) => e.checkVisibility() && e.complete"
            " ? [e.naturalWidth, e.naturalHeight] : [0, 0])[0]"
        )
    )


def test_the_playground_shows_what_is_chosen_and_its_facts(firefox: Firefox, playground: str) -> None:
    with firefox.page(playground) as page:
        assert "avif" in facts(page, "640 × 480")
        for width, height in ((400, 300), (200, 150), (320, 240)):
            choose(page, "scalex", str(width))
            assert "X-Cachemiss" in facts(page, f"{width} × {height}")
            assert sides(page, "#result .one") == [width, height]
        page.run("document.querySelector('[data-path=\"second.jpg\"]').click()")
        choose(page, "encoding", "webp")
        assert "320 × 240" in facts(page, " webp")
        page.until("document.querySelector('#original img').complete")
        assert sides(page, "#original img") == [800, 600]


def test_the_playground_compares_two_encodings(firefox: Firefox, playground: str) -> None:
    with firefox.page(f"{playground}/#picture=second.jpg&scalex=600&encoding=avif") as page:
        facts(page, "600 × 450")
        for encoding in ("webp", "jpeg"):
            choose(page, "compare", encoding)
            assert "Compared" in facts(page, f" {encoding}")
            assert sides(page, "#result .one") == sides(page, "#result .two") == [600, 450]
        assert sides(page, "#result .two") == [600, 450]
        choose(page, "compare", "")
        page.until("document.querySelector('#result .two').hidden")
        assert "Compared" not in facts(page, "600 × 450")


# --- the tool itself


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("console.error('so it says')", "so it says"),
        ("setTimeout(() => { nowhere.to.be.found })", "nowhere is not defined"),
        (
            "document.body.append(Object.assign(new Image(), { src: 'http://127.0.0.2:1/' }))",
            "img-src forbids",
        ),
    ],
)
def test_a_page_that_says_an_error_fails_its_test(firefox: Firefox, site: str, wrong: str, said: str) -> None:
    with pytest.raises(AssertionError, match=said), firefox.page(f"{site}/gallery?n=0") as page:
        page.run(f"void ({wrong})")
        page.settle()
