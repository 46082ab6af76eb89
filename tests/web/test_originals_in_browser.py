"""Films, PDFs and SVGs in Chromium and Firefox: shown by themselves and in pages, and no script is run."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image
from support.browsing import browser
from support.clips import Stubs, add_programs, clip, ffmpeg_tables
from support.drawing import quarters
from support.firefox import Firefox, firefox
from support.serving import Server, eventually, serving, write_config

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

__all__ = ["browser", "firefox"]  # fixtures

GREEN, BLUE = (0, 0xC0, 0), (0, 0, 0xC0)
_FILM = "document.querySelector('video')"
_CUES = """[...(document.querySelector("track").track.cues ?? [])]
  .map((cue) => [cue.startTime, cue.endTime, cue.text])"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("originals")
    pictures = folder / "pictures"
    pictures.mkdir()
    for name in ("clip.mp4", "clip.webm"):
        clip(pictures / name)
    stubs = Stubs(folder / "programs", pictures)
    stubs.drawing()
    Image.new("RGB", (300, 300), GREEN).save(pictures / "doc.pdf")
    quarters().save(pictures / "tom.jpg")
    config = write_config(folder, pictures, folder / "cache")
    add_programs(config, {"pages": stubs.tables()["pages"], **ffmpeg_tables()})
    with serving(config) as server:
        yield server


def address(server: Server, name: str) -> str:
    return f"http://{server.host}:{server.port}/picture/{name}"


def plays(run: Callable[[str], Any]) -> bool:
    """Whether the film of a page plays, and can be wound to its last second; *run* gives what an expression
    is. In a page without scripts no promise is ever kept, so nothing here waits for one."""
    run(f"({_FILM}.muted = true, {_FILM}.play(), 0)")
    started = eventually(lambda: run(f"{_FILM}.currentTime") > 0.2)
    run(f"({_FILM}.pause(), {_FILM}.currentTime = 3, 0)")
    wound = eventually(lambda: not run(f"{_FILM}.seeking") and run(f"{_FILM}.currentTime") == 3)
    size = run(f"[{_FILM}.videoWidth, {_FILM}.videoHeight]")
    return started and wound and size == [160, 90]


def pixel(shot: bytes, x: int, y: int) -> tuple[int, ...]:
    found = Image.open(io.BytesIO(shot)).convert("RGB").getpixel((x, y))
    assert isinstance(found, tuple)
    return found


def has_colour(shot: bytes, colour: tuple[int, int, int]) -> bool:
    """Whether a tenth of *shot* has nearly this colour."""
    image = Image.open(io.BytesIO(shot)).convert("RGB")
    near = [n for n, each in image.getcolors(2**24) or () if max(map(abs, _apart(each, colour))) < 8]
    return sum(near) > image.width * image.height / 10


def _apart(one: object, other: tuple[int, int, int]) -> list[int]:
    assert isinstance(one, tuple)
    return [a - b for a, b in zip(one, other, strict=True)]


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": 500, "height": 400})
    yield context.new_page()
    context.close()


@pytest.mark.parametrize("name", ["clip.mp4", "clip.webm"])
def test_a_film_plays_by_itself(page: Page, server: Server, name: str) -> None:
    page.goto(address(server, name))
    assert plays(page.evaluate)


def test_a_film_plays_in_a_page_and_has_its_tiles(page: Page, server: Server) -> None:
    page.goto(address(server, "tom.jpg"))  # of the same origin
    page.goto(address(server, "gone.jpg"))
    tiles = "clip.mp4?sprite=2x2&vtt=1&scalex=80&encoding=webp"
    page.set_content(
        f"<video controls preload=none poster='{address(server, 'clip.mp4?scalex=80')}'>"
        f"<source src='{address(server, 'clip.mp4')}' type='video/mp4'>"
        f"<track kind=metadata label=thumbnails src='{address(server, tiles)}'></video>"
    )
    assert plays(page.evaluate)
    page.evaluate("document.querySelector('track').track.mode = 'hidden'")
    assert eventually(lambda: page.evaluate(_CUES))
    cues = page.evaluate(_CUES)
    assert [(start, end) for start, end, _ in cues] == [(0, 1), (1, 2), (2, 3), (3, 4)]
    url, _, box = cues[3][2].partition("#xywh=")
    assert box == "80,45,80,45"
    with server.client() as client:
        sheet = client.get(f"/picture/{url}")
    assert Image.open(io.BytesIO(sheet.body)).size == (160, 90)


def test_an_svg_shows_its_style_and_runs_no_script(page: Page, server: Server) -> None:
    page.goto(address(server, "drawing.svg"))
    shot = page.screenshot()
    assert pixel(shot, 40, 25) == GREEN
    assert pixel(shot, 3, 25) == BLUE
    page.goto(address(server, "gone.jpg"))
    url = address(server, "drawing.svg")
    page.set_content(f"<img src='{url}'><iframe src='{url}'></iframe>")
    page.wait_for_load_state("networkidle")
    assert page.evaluate("document.images[0].naturalWidth") == 80
    fill = page.frames[1].evaluate("getComputedStyle(document.getElementById('r')).fill")
    assert fill == "rgb(0, 192, 0)"


def test_a_pdf_opens(page: Page, server: Server) -> None:
    page.goto(address(server, "doc.pdf"))
    assert eventually(lambda: has_colour(page.screenshot(), GREEN))


def test_firefox_shows_them_too(firefox: Firefox, server: Server) -> None:
    with firefox.page(address(server, "clip.webm")) as page:
        assert plays(page.run)
        page.said.clear()  # it may have no icon
    with firefox.page(address(server, "drawing.svg")) as page:
        assert page.run("getComputedStyle(document.getElementById('r')).fill") == "rgb(0, 192, 0)"
        page.said.clear()
    with firefox.page(address(server, "doc.pdf")) as page:
        page.until("document.querySelector('.page canvas') !== null")
