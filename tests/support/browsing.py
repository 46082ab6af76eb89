"""A browser for the tests: Debian's Chromium, driven by Playwright, and a small Flask app with pages for it.

    def test_a_page(site: Site) -> None:
        with site.page("/gallery?n=60", density=2) as page: ...

Without Chromium or Playwright (the extra ``browser``) these tests are skipped. Run as a program, this file is
the server: its templates use the helpers, as those of a site do. The pages are for ``firefox.py`` too.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import pytest

from support.drawing import scene
from support.serving import Server, serving, write_config

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, Request

WIDTHS = (160, 320, 640, 960, 1280)
# The pages' own policy: no script but from this server, and no way from text to code.
CSP = (
    "default-src 'none'; script-src 'self'; img-src 'self' data:; style-src 'unsafe-inline'; "
    "base-uri 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)
_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
# Frames enough for an observer to be called, and for what it asks for to be sent.
TURNS = """new Promise((done) => {
  let left = 3;
  const next = () => left-- ? requestAnimationFrame(next) : setTimeout(done, 20);
  next();
})"""
# Layout shifts of the whole life of a page, in `window.shifts`.
_WATCH_SHIFTS = """
window.shifts = [];
new PerformanceObserver((list) => window.shifts.push(...list.getEntries().map((e) => e.value)))
  .observe({ type: "layout-shift", buffered: true });
"""

# Requests of each page that have no answer yet.
_under_way: WeakKeyDictionary[Page, set[Request]] = WeakKeyDictionary()


class Site:
    """The test server and a browser to look at it with."""

    def __init__(self, server: Server, browser: Browser) -> None:
        self.server = server
        self.browser = browser
        self.address = f"http://{server.host}:{server.port}"

    @contextmanager
    def page(
        self,
        path: str = "",
        density: float = 1,
        size: tuple[int, int] = (900, 700),
        script: str = "",
        **options: Any,
    ) -> Iterator[Page]:
        """A page in a browser without a past, at *path* if one is given. *script* runs before the page's own.

        Fails at the end when the page said an error, or a Content-Security-Policy forbade something.
        """
        width, height = size
        context = self.browser.new_context(
            viewport={"width": width, "height": height}, device_scale_factor=density, **options
        )
        try:
            page = context.new_page()
            said: list[str] = []
            page.on("pageerror", lambda error: said.append(str(error)))
            page.on("console", lambda message: said.append(message.text) if message.type == "error" else None)
            under_way = _under_way[page] = set()
            page.on("request", lambda request: under_way.add(request))  # it takes no built-in methods
            page.on("requestfinished", lambda request: under_way.discard(request))
            page.on("requestfailed", lambda request: under_way.discard(request))
            page.add_init_script(_WATCH_SHIFTS + script)
            if path:
                page.goto(self.address + path)
            yield page
            assert said == []
        finally:
            context.close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One browser for all tests of a module."""
    playwright = pytest.importorskip("playwright.sync_api", reason="needs Playwright (the extra browser)")
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("needs Chromium")
    with playwright.sync_playwright() as driver:
        found = driver.chromium.launch(executable_path=chromium, args=_FLAGS)
        try:
            yield found
        finally:
            found.close()


@pytest.fixture(scope="module")
def site(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The server below, and a browser for it."""
    with pages(tmp_path_factory.mktemp("site")) as server:
        yield Site(server, browser)


# Adds a picture to a page, with a style.
ADD_PICTURE = """(style) => {
  const [picture, source, image] = ["picture", "source", "img"].map((name) => document.createElement(name));
  const srcset = [160, 320, 640, 960].map((w) => `/picture/7.jpg?scalex=${w}&encoding=webp ${w}w`).join(", ");
  Object.assign(source, { type: "image/webp", srcset, sizes: "100vw" });
  Object.assign(image, { srcset, sizes: "100vw", width: 1280, height: 960, loading: "lazy" });
  image.dataset.imagefactory = "";
  image.style = style;
  picture.append(source, image);
  document.querySelector("main").append(picture);
}"""


@contextmanager
def pages(folder: Path) -> Iterator[Server]:
    """The server below while the block runs, with 60 pictures in *folder*, which is empty."""
    pictures = folder / "pictures"
    pictures.mkdir()
    scene(1280, 960).save(pictures / "0.jpg", quality=60)
    for number in range(1, 60):  # one content, so one render for each size, and 60 addresses
        os.link(pictures / "0.jpg", pictures / f"{number}.jpg")
    config = write_config(folder, pictures, folder / "cache", render={"processes": -1})
    with serving(config, program=[sys.executable, "-m", __name__]) as server:
        yield server


# --- what a page shows


class Requests:
    """The pictures that *page* asks for from now on, as (path, width) in order."""

    def __init__(self, page: Page) -> None:
        self.seen: list[tuple[str, int]] = []
        page.on("request", lambda request: self._note(request.url))

    def _note(self, url: str) -> None:
        path, _, query = url.partition("?")
        if "/picture/" in path:
            width = query.partition("scalex=")[2].partition("&")[0]
            self.seen.append((path.rpartition("/")[2], int(width)))

    def of(self, name: str) -> list[int]:
        """The widths that were asked for of one picture."""
        return [width for path, width in self.seen if path == name]


def settle(page: Page) -> None:
    """Return when observers have had their turns and no request is under way any more."""
    quiet = 0
    while quiet < 3:
        page.evaluate(TURNS)
        quiet = 0 if _under_way[page] else quiet + 1


def chosen(page: Page, selector: str = "img") -> int:
    """The width of the candidate that the first element of *selector* shows, from its URL."""
    found = page.locator(selector).first.evaluate(
        "(e) => e.currentSrc ?? getComputedStyle(e).backgroundImage.match(/scalex=\\d+/)?.[0] ?? ''"
    )
    return int("0" + found.partition("scalex=")[2].partition("&")[0])


# --- the server

_BASE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>Pictures</title>
<meta name="viewport" content="width=device-width">
<link rel="icon" href="data:,">
<style>{{ style }}</style>
{% if has_script %}{{ imagefactory_script() }}{% endif %}
</head><body>
{% macro background(n, extra="") -%}
<div {{ extra|safe }} class="hero" data-background-srcset="{{ \
picture_srcset(n ~ ".jpg", widths, encoding="webp") }}"></div>
{%- endmacro %}
"""

_GALLERY = """
<h1>{{ count }} pictures</h1>
<main>{% for n in range(count) %}{{ picture(n ~ ".jpg", alt="Picture " ~ n, sizes=sizes, widths=widths, \
loading=loading) }}
{% endfor %}</main>
</body></html>"""

_BACKGROUNDS = """
<h1>Backgrounds</h1>
{{ background(40, 'id="tall" style="width:200px;height:600px" data-background-ratio="1.5"') }}
{% for n in range(8) %}{{ background(n, 'id="b%s"' % n) }}
{% endfor %}
</body></html>"""

_STYLE = """body { margin: 0; font: 16px sans-serif } h1 { margin: 0; padding: 8px; font-size: 20px }
main { display: grid; grid-template-columns: repeat(3, 1fr) }
main img { width: 100%; height: auto; display: block }
.hero { height: 600px; background: #456 center/cover }"""


def _serve() -> None:
    from flask import Flask, Response, render_template_string, request
    from waitress.server import create_server

    from imagefactory import ImageFactory

    app = Flask(__name__)
    ImageFactory(app, os.environ["IMAGEFACTORY_CONFIG"])

    def render(body: str, **values: object) -> Response:
        settings: Mapping[str, object] = {
            "style": _STYLE,
            "widths": WIDTHS,
            "sizes": request.args.get("sizes"),
            "loading": request.args.get("loading", "lazy"),
            "has_script": request.args.get("script") != "0",
        }
        html = render_template_string(_BASE + body, **settings, **values)
        if request.args.get("auto") == "0":  # as a browser reads it that does not know the word
            html = html.replace("auto, ", "")
        return Response(html, headers={"Content-Security-Policy": CSP})

    @app.get("/gallery")
    def gallery() -> Response:
        return render(_GALLERY, count=request.args.get("n", 60, int))

    @app.get("/backgrounds")
    def backgrounds() -> Response:
        return render(_BACKGROUNDS)

    app.test_client().get("/picture/0.jpg?scalex=160")  # from the first render on there is a placeholder
    server = create_server(app, host="127.0.0.1", port=0, threads=16)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    print(f"pages at http://127.0.0.1:{server.effective_port}/", file=sys.stderr, flush=True)
    server.run()


if __name__ == "__main__":
    _serve()
