"""The playground as a person meets it: real clicks, keys, drags and fingers in Chromium, on a real server."""

from __future__ import annotations

import base64
import html
import io
import os
import re
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, unquote, urlencode, urlsplit

import pytest
from flask import Flask, render_template_string
from PIL import Image
from support.browsing import browser
from support.clips import Stubs, add_programs
from support.drawing import at_rest, corners, quarters, scene, written
from support.pages import links_of
from support.serving import Server, eventually, serving, workers_of, write_config

from imagefactory import ImageFactory

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, Route

expect = pytest.importorskip("playwright.sync_api", reason="needs Playwright (the extra browser)").expect
expect.set_options(timeout=30_000)

__all__ = ["browser"]  # a fixture

AWKWARD = 'it\'s "50%25" #1? a&b=c+d {{ 7*7 }} ü日 <script>alert(1)<%2fscript>.png'
LONG = f"{'a-very-long-name-without-a-space-' * 5}.png"
_QUICK = {"processes": -1}  # renders in the server: nothing more to start
_HOSTS = re.compile(r"(http://127\.0\.0\.1:\d+/|data:|blob:http://127\.0\.0\.1)")
_PIXELS = """(image) => {
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];
  canvas.getContext("2d").drawImage(image, 0, 0);
  return canvas.toDataURL("image/png").split(",")[1];
}"""
# Resolves when the URL is right and its result is there, or in the end with what is there instead.
# Playwright's own waiting for a value looks once a second only.
_SETTLE = """async (looks) => {
  const { classList } = document.querySelector("#result"), problem = document.querySelector("#problem");
  const url = document.querySelector("#url");
  for (const end = performance.now() + 30000; performance.now() < end;) {
    if (RegExp(looks).test(url.value) && !classList.contains("busy") && problem.hidden) return "settled";
    await new Promise((done) => setTimeout(done, 10));
  }
  return [url.value, classList.value, problem.textContent].join("; ");
}"""
# The lowest contrast of a text to what is behind it, by WCAG 2.2 (1.4.3), of each colour that is there.
_CONTRASTS = """() => {
  const parse = (text) => {
    const [r, g, b, a = 1] = text.match(/[\\d.]+/g).map(Number);
    return [r, g, b, a];
  };
  const over = (top, below) => top.slice(0, 3).map((v, i) => v * top[3] + below[i] * (1 - top[3]));
  const behind = (e) => {
    const colour = e ? parse(getComputedStyle(e).backgroundColor) : [255, 255, 255, 1];
    return colour[3] === 1 ? colour.slice(0, 3) : over(colour, behind(e.parentElement));
  };
  const light = (rgb) => rgb.map((v) => v / 255)
    .map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const found = {};
  const note = (e, style, text) => {
    const ground = behind(e);
    const [a, b] = [light(over(parse(style.color), ground)), light(ground)].sort((a, b) => b - a);
    found[`${text.trim().slice(0, 20)} ${style.color} on ${ground}`] = (a + 0.05) / (b + 0.05);
  };
  for (const e of document.querySelectorAll("body *")) {
    if (!e.checkVisibility({ visibilityProperty: true }) || e.matches("script, style, :disabled")) continue;
    const own = [...e.childNodes].filter((n) => n.nodeType === 3).map((n) => n.data).join("").trim();
    if (own || e.value) note(e, getComputedStyle(e), own || e.value);
    if (e.placeholder) note(e, getComputedStyle(e, "::placeholder"), e.placeholder);
  }
  return found;
}"""
# What may have the focus now and can be seen, in the order of the page.
_CONTROLS = """() => [...document.querySelectorAll("a[href], button, input, select, summary")]
  .filter((e) => !e.disabled && e.checkVisibility({ visibilityProperty: true }))"""


@dataclass(frozen=True)
class Place:
    """A server, the folder of its pictures, and a browser."""

    server: Server
    pictures: Path
    browser: Browser

    @contextmanager
    def page(self, hash: str = "", is_failing: bool = False, **options: Any) -> Iterator[Page]:
        """The playground in a browser without a past, 1200 x 900 pixels large, or as *options* say.

        Fails when the page says an error, when its policy forbids something, or when another host is asked;
        with *is_failing*, requests may fail.
        """
        context = self.browser.new_context(**{"viewport": {"width": 1200, "height": 900}, **options})
        try:
            page = context.new_page()
            said: list[str] = []

            def note(text: str) -> None:
                if not (is_failing and text.startswith("Failed to load resource")):
                    said.append(text)

            page.on("pageerror", lambda error: note(str(error)))
            page.on("console", lambda message: note(message.text) if message.type == "error" else None)
            page.on("request", lambda it: None if _HOSTS.match(it.url) else said.append(it.url))
            page.goto(f"http://{self.server.host}:{self.server.port}/" + (hash and f"#{hash}"))
            yield page
            assert said == []
        finally:
            context.close()


@contextmanager
def place(
    folder: Path, browser: Browser, options: tuple[str, ...] = (), **sections: dict[str, Any]
) -> Iterator[Place]:
    """A server for the pictures in *folder*."""
    programs = sections.pop("programs", {})
    config = write_config(folder, folder / "pictures", folder / "cache", **{"render": _QUICK, **sections})
    add_programs(config, programs)
    with serving(config, options) as server:
        yield Place(server, folder / "pictures", browser)


@pytest.fixture(scope="module")
def bench(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("playground")
    drawn(folder, "tom.png", "cats/mia.jpg", AWKWARD, LONG)
    scene(800, 600).save(folder / "pictures" / "scene.jpg", quality=95)
    with place(folder, browser) as found:
        yield found


def drawn(folder: Path, *names: str) -> None:
    """Pictures of four quarters, 400 x 300, with these names."""
    for name in names:
        path = folder / "pictures" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        quarters().save(path, **({"quality": 95} if name.endswith(".jpg") else {}))


# --- what a page shows


def settled(page: Page, path: str = "", /, **wanted: object) -> None:
    """Return when the result is shown for a URL with *path* and the parameters *wanted*; None is absent."""
    looks = [rf"(?=[^?]*/{re.escape(path)}(\?|$))" if path else ""]
    for name, value in wanted.items():
        if value is None:
            looks.append(rf"(?!.*[?&]{name}=)")
        else:
            looks.append(rf"(?=.*[?&]{name}={re.escape(str(value))}(&|$))")
    state = page.evaluate(_SETTLE, "^" + "".join(looks))
    assert state == "settled"


def shown(page: Page, selector: str = "#result .one") -> Image.Image:
    """The pixels of the picture that is on the screen."""
    return Image.open(io.BytesIO(base64.b64decode(page.locator(selector).evaluate(_PIXELS))))


def facts(page: Page) -> dict[str, str]:
    names, values = page.locator("#facts dt"), page.locator("#facts dd")
    return dict(zip(names.all_text_contents(), values.all_text_contents(), strict=True))


def query(page: Page) -> dict[str, str]:
    """The parameters of the URL to copy."""
    found = parse_qs(urlsplit(page.locator("#url").input_value()).query)
    return {name: value for name, (value,) in found.items()}


def choose(page: Page, name: str) -> None:
    page.locator("#pictures .thumb", has_text=name).click()


def grip(page: Page, selector: str, x: float, y: float = 0.5) -> tuple[float, float]:
    """The point of the screen at *x*, *y* of an element, as parts of its sides."""
    found = page.locator(selector)
    found.scroll_into_view_if_needed()
    box = found.bounding_box()
    assert box
    return box["x"] + x * box["width"], box["y"] + y * box["height"]


def drag(page: Page, selector: str, start: float, end: float) -> None:
    page.mouse.move(*grip(page, selector, start))
    page.mouse.down()
    page.mouse.move(*grip(page, selector, (start + end) / 2))
    page.mouse.move(*grip(page, selector, end))
    page.mouse.up()


def swipe(page: Page, *points: tuple[float, float]) -> None:
    """A finger that goes down at the first of *points*, over the others, and up at the last."""
    session = page.context.new_cdp_session(page)
    for number, (x, y) in enumerate(points):
        kind = "touchMove" if number else "touchStart"
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [{"x": x, "y": y}]})
    session.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})


# --- choosing


def test_a_click_on_a_thumbnail_chooses_it(bench: Place) -> None:
    with bench.page() as page:
        choose(page, "scene.jpg")
        settled(page, "scene.jpg", scalex=640, encoding="auto")
        assert shown(page).size == (640, 480)
        expect(page.locator("#about")).to_have_text(re.compile(r"^JPEG [\d.]+ kB · 800 × 600$"))
        assert page.locator("[aria-current=true]").get_attribute("data-path") == "scene.jpg"
        choose(page, "cats/mia.jpg")
        settled(page, "cats/mia.jpg")
        assert page.locator("[aria-current=true]").get_attribute("data-path") == "cats/mia.jpg"
        assert corners(shown(page)) == ["red", "green", "blue", "white"]
        assert corners(shown(page, "#original img")) == ["red", "green", "blue", "white"]


def test_the_keyboard_chooses_too(bench: Place) -> None:
    with bench.page() as page:
        page.locator(".thumb", has_text="scene.jpg").focus()
        page.keyboard.press("Enter")
        settled(page, "scene.jpg")


def test_a_name_is_a_name_whatever_is_in_it(bench: Place) -> None:
    with bench.page() as page:
        choose(page, name := AWKWARD)
        page.get_by_label("Encoding", exact=True).select_option("png")
        settled(page, encoding="png")
        assert unquote(urlsplit(page.locator("#url").input_value()).path) == f"/picture/{name}"
        assert corners(shown(page)) == ["red", "green", "blue", "white"]
        page.reload()
        settled(page, encoding="png")
        assert page.locator("[aria-current=true]").get_attribute("data-path") == name
        check_lines(page, bench, name)


# --- sizes


def test_sizes_by_mouse(bench: Place) -> None:
    with bench.page("picture=scene.jpg&scalex=640") as page:
        settled(page, "scene.jpg", scalex=640)
        drag(page, "[data-for=scalex]", 0.8, 0.5)
        width = int(page.get_by_label("Width", exact=True).input_value())
        assert 380 <= width <= 420  # half of the source's 800
        settled(page, scalex=width)
        assert shown(page).size[0] == width
        page.mouse.click(*grip(page, "[data-for=scaley]", 0.25))
        height = int(page.get_by_label("Height", exact=True).input_value())
        settled(page, scaley=height)
        assert shown(page).size[1] == height


def test_sizes_by_keyboard(bench: Place) -> None:
    with bench.page("picture=scene.jpg&scalex=200") as page:
        settled(page, "scene.jpg", scalex=200)
        slider, field = page.get_by_label("Width, slider"), page.get_by_label("Width", exact=True)
        slider.press("ArrowRight")
        settled(page, scalex=201)
        slider.press("PageUp")
        settled(page, scalex=281)
        field.press("ArrowDown")
        settled(page, scalex=280)
        field.fill("120")
        settled(page, scalex=120)
        expect(slider).to_have_js_property("value", "120")
        assert shown(page).size == (120, 90)
        slider.press("Home")  # no width
        settled(page, scalex=None)
        expect(field).to_have_value("")
        assert shown(page).size == (800, 600)


def test_start_over(bench: Place) -> None:
    with bench.page(
        "picture=scene.jpg&scalex=90&scaley=90&fit=cover&fp=0.1,0.2&blur=3&flip=1&compare=gif"
    ) as page:
        settled(page, scalex=90, blur=3, flip=1, fp="0.1,0.2")
        expect(page.locator("#split")).to_be_visible()
        page.get_by_role("button", name="Start over").click()
        settled(page, "scene.jpg", scalex=640, scaley=None, blur=None)
        assert query(page) == {"scalex": "640", "encoding": "auto"}
        expect(page.locator("#split")).to_be_hidden()


# --- fit, gravity, the focal point


def test_fit(bench: Place) -> None:
    with bench.page("picture=tom.png&scalex=80&scaley=120&encoding=png") as page:
        settled(page, "tom.png", scaley=120, fit=None)
        assert shown(page).size == (80, 60)
        for fit, width in [("cover", 80), ("pad", 80), ("stretch", 80), ("outside", 160)]:
            page.get_by_label("Fit").select_option(fit)
            settled(page, fit=fit)
            assert shown(page).size == (width, 120)
        assert corners(shown(page)) == ["red", "green", "blue", "white"]


def test_gravity(bench: Place) -> None:
    with bench.page("picture=tom.png&scalex=50&scaley=200&fit=cover&encoding=png") as page:
        settled(page, "tom.png", fit="cover")
        for gravity, seen in [
            ("west", ["red", "red", "blue", "blue"]),
            ("east", ["green", "green", "white", "white"]),
        ]:
            page.get_by_label("Gravity").select_option(gravity)
            settled(page, gravity=gravity)
            assert corners(shown(page)) == seen


def test_a_focal_point_by_mouse_and_keys(bench: Place) -> None:
    with bench.page("picture=tom.png&scalex=50&scaley=200&encoding=png") as page:
        settled(page, "tom.png", scaley=200)
        page.mouse.click(*grip(page, "#original", 0.8, 0.25))
        settled(page, fit="cover", gravity=None)
        x, y = map(float, query(page)["fp"].split(","))
        assert (x, y) == (pytest.approx(0.8, abs=0.01), pytest.approx(0.25, abs=0.01))
        assert corners(shown(page)) == ["green", "green", "white", "white"]
        dot = page.locator("#focus")
        expect(dot).to_be_focused()
        for _ in range(6):
            dot.press("Shift+ArrowLeft")
        dot.press("ArrowDown")
        settled(page, fp=f"{round(x - 0.6, 3):g},{round(y + 0.01, 3):g}")
        assert corners(shown(page)) == ["red", "red", "blue", "blue"]
        expect(dot).to_have_accessible_name(re.compile("^Focal point, 20 % across, 26 % down$"))
        page.mouse.move(*grip(page, "#focus", 0.5))
        page.mouse.down()
        page.mouse.move(*grip(page, "#original", 0.6))
        page.mouse.up()
        expect(page.locator("#url")).to_have_value(re.compile(r"fp=0\.(59|6)\d*,(0\.49|0\.5)"))
        settled(page)
        assert corners(shown(page)) == ["green", "green", "white", "white"]
        page.get_by_label("Gravity").select_option("")
        settled(page, fp=None)
        expect(dot).to_have_accessible_name("Focal point, 50 % across, 50 % down")


@pytest.mark.parametrize("sides", ["scalex=80", "scaley=80", ""])
def test_a_focal_point_cuts_a_square_where_a_side_is_missing(bench: Place, sides: str) -> None:
    with bench.page(f"picture=tom.png&{sides}&encoding=png") as page:
        settled(page, "tom.png", encoding="png")
        page.mouse.click(*grip(page, "#original", 0.1, 0.5))
        settled(page, fit="cover", scalex=80 if sides else 640, scaley=80 if sides else 640)
        width, height = shown(page).size
        assert width == height


# --- quality and encodings


def test_quality_and_encodings(bench: Place) -> None:
    with bench.page("picture=scene.jpg&scalex=160&encoding=jpeg") as page:
        settled(page, "scene.jpg", encoding="jpeg")
        sizes = []
        for quality in (90, 20):
            page.get_by_label("Quality", exact=True).fill(str(quality))
            settled(page, quality=quality)
            reply = bench.server.get(f"/picture/scene.jpg?scalex=160&encoding=jpeg&quality={quality}")
            sizes.append(len(reply.body))
            assert facts(page)["Bytes"].startswith(f"{sizes[-1] / 1000:.3g} kB jpeg")
        assert sizes[1] < sizes[0] / 2
        page.get_by_label("Quality, slider").press("Home")
        settled(page, quality=None)
        for encoding in ("avif", "webp", "png", "gif", "jpeg"):
            page.get_by_label("Encoding", exact=True).select_option(encoding)
            settled(page, encoding=encoding)
            assert f" {encoding}, " in facts(page)["Bytes"]
        page.get_by_label("Encoding", exact=True).select_option("")
        settled(page, encoding=None)
        assert " jpeg, " in facts(page)["Bytes"]


def test_turns_and_effects(bench: Place) -> None:
    with bench.page("picture=tom.png&scalex=100&encoding=png") as page:
        settled(page, "tom.png", encoding="png")
        page.get_by_text("More", exact=True).click()
        page.get_by_label("Rotate").select_option("90")
        settled(page, rotate=90)
        assert corners(shown(page)) == ["blue", "red", "white", "green"]
        expect(page.locator("#original img")).to_have_js_property("naturalHeight", 400)  # turned with it
        page.get_by_label("flop").check()
        settled(page, flop=1)
        assert corners(shown(page)) == ["red", "blue", "green", "white"]
        page.get_by_label("grayscale").check()
        settled(page, grayscale=1)
        r, g, b = shown(page).convert("RGB").getpixel((5, 5))
        assert r == g == b
        page.get_by_label("Blur", exact=True).fill("2.5")
        settled(page, blur=2.5)


# --- facts and copies


def test_a_film_has_seconds_and_a_document_pages(browser: Browser, tmp_path: Path) -> None:
    drawn(tmp_path, "tom.jpg")
    stubs = Stubs(tmp_path / "programs", tmp_path / "pictures")
    stubs.film(seconds=20)
    stubs.document()
    sections = {"render": {"processes": 1}, "programs": stubs.tables()}
    with (
        place(tmp_path, browser, **sections) as found,
        found.page("picture=clip.mp4&encoding=png&t=5") as page,
    ):
        second, number = page.locator("#t"), page.locator("#page")
        settled(page, "clip.mp4", t=5)
        assert shown(page).convert("RGB").getpixel((9, 9)) == pytest.approx((0, 80, 40), abs=6)
        expect(page.locator("#about")).to_have_text(re.compile(r"^MP4 .* · 160 × 90 · 20\.0 s$"))
        expect(number).to_be_hidden()
        assert second.get_attribute("max") == "20"
        page.locator("[data-for=t]").focus()
        page.keyboard.press("End")
        settled(page, "clip.mp4", t=20)
        expect(page.locator("#original img")).to_have_attribute("src", re.compile(r"[?&]t=20(&|$)"))
        assert ", t=20" in page.locator("#template").input_value()
        choose(page, "doc.pdf")
        settled(page, "doc.pdf", t=None, page=None)
        expect(second).to_be_hidden()
        number.fill("2")
        settled(page, "doc.pdf", page=2)
        page.locator("#scalex").fill("100")
        settled(page, "doc.pdf", page=2, scalex=100)
        assert shown(page).size == (100, 160)
        page.reload()
        settled(page, "doc.pdf", page=2)
        choose(page, "tom.jpg")
        settled(page, "tom.jpg", page=None)
        expect(number).to_be_hidden()


def test_facts(bench: Place) -> None:
    with bench.page("picture=scene.jpg&scalex=123&encoding=png") as page:
        settled(page, "scene.jpg", scalex=123)
        reply = bench.server.get("/picture/scene.jpg?scalex=123&encoding=png")
        percent = 100 * len(reply.body) / (bench.pictures / "scene.jpg").stat().st_size
        ratio = f"{percent:.0f}" if percent >= 10 else f"{percent:.1f}"
        first = facts(page)
        assert first["Bytes"] == f"{len(reply.body) / 1000:.3g} kB png, {ratio} % of the original"
        assert (first["Pixels"], first["X-Cache"]) == ("123 × 92", "miss")
        assert re.search(r"encode [\d.]+ ms", first["Server-Timing"])
        page.reload()
        settled(page, "scene.jpg", scalex=123)
        assert facts(page) == {**first, "X-Cache": "hit", "Server-Timing": "nothing was rendered"}


def copied(page: Page, name: str) -> str:
    """What is on the clipboard after a click on a Copy button."""
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    button = page.locator(f"[data-copy={name}]")
    button.click()
    expect(button).to_have_text("Copied")
    return str(page.evaluate("() => navigator.clipboard.readText()"))


def check_lines(page: Page, where: Place, name: str) -> None:
    """The URL, the HTML and the template line of a PNG that is shown are right."""
    image, address = shown(page), f"http://{where.server.host}:{where.server.port}"
    url = copied(page, "url")
    assert url.startswith(f"{address}/picture/")
    reply = where.server.get(url.removeprefix(address))
    with Image.open(io.BytesIO(reply.body)) as served:
        assert served.convert("RGB").tobytes() == image.convert("RGB").tobytes()
    line = copied(page, "html")
    found = page.evaluate(
        """(line) => {
          const e = new DOMParser().parseFromString(line, "text/html").body;
          const names = ["src", "width", "height", "alt"];
          return [e.children.length, ...names.map((name) => e.firstChild.getAttribute(name))];
        }""",
        line,
    )
    title = name.rpartition("/")[2].rpartition(".")[0]
    assert found == [1, url.removeprefix(address), str(image.width), str(image.height), title]
    app = Flask(__name__)
    app.debug = True  # then a helper raises what is wrong
    paths = {"pictures": str(where.pictures), "cache": str(where.pictures.parent / "cache-of-template")}
    ImageFactory(app, {"paths": paths, "render": _QUICK})
    with app.test_request_context():
        made = render_template_string(copied(page, "template"))
    assert f'alt="{html.escape(title)}"'.replace("&#x27;", "&#39;").replace("&quot;", "&#34;") in made
    client = app.test_client()
    links = links_of(made)
    assert links
    for link in links:
        with client.get(link) as answer:
            assert answer.status_code == 200
            assert unquote(urlsplit(link).path) == f"/picture/{name}"


def test_what_is_copied_is_what_is_shown(bench: Place) -> None:
    settings = "scalex=90&scaley=120&fit=cover&fp=0.2,0.4&encoding=png&background=%23f80&blur=0.5"
    with bench.page(f"picture=cats/mia.jpg&{settings}") as page:
        settled(page, "cats/mia.jpg", fp="0.2,0.4")
        check_lines(page, bench, "cats/mia.jpg")


def test_what_is_copied_without_a_clipboard(bench: Place) -> None:
    """Over plain HTTP a page has none: then in the old way, and where that is closed too, by hand."""
    with bench.page("picture=tom.png&scalex=60") as page:
        settled(page, "tom.png")
        page.evaluate("() => Object.defineProperty(navigator, 'clipboard', {value: undefined})")
        button, find = page.get_by_role("button", name="Copy the HTML"), page.get_by_role("searchbox")
        button.click()
        expect(button).to_have_text("Copied")
        expect(page.get_by_role("status").last).to_have_text("Copied")  # for who can't see the button
        find.press("ControlOrMeta+V")
        expect(find).to_have_value(page.locator("#html").input_value())
        expect(button).to_have_text("Copy")
        page.evaluate("() => { document.execCommand = () => false }")
        button.click()
        expect(button).to_have_text("Ctrl+C")
        expect(page.get_by_role("status").last).to_have_text("Not copied, but selected")
        assert page.evaluate("() => getSelection().toString()") == page.locator("#html").input_value()


# --- comparing


def test_two_encodings_side_by_side(bench: Place) -> None:
    with bench.page("picture=scene.jpg&scalex=400&encoding=png") as page:
        settled(page, "scene.jpg", encoding="png")
        page.get_by_label("Compare").select_option("jpeg")
        expect(page.locator(".tag.left")).to_have_text(re.compile(r"^png [\d.]+ kB$"))
        expect(page.locator(".tag.right")).to_have_text(re.compile(r"^jpeg [\d.]+ kB$"))
        assert re.fullmatch(r"[\d.]+ kB jpeg, −\d+ %", facts(page)["Compared"])
        assert shown(page, "#result .two").size == shown(page).size == (400, 300)

        def edge() -> float:
            """Where the second encoding begins, in percent of the width; the line stands there too."""
            clip = page.locator("#result .two").evaluate("(e) => getComputedStyle(e).clipPath")
            part = float(clip.rpartition(" ")[2].rstrip("%)"))
            line, frame = page.locator(".split").bounding_box(), page.locator("#result").bounding_box()
            assert line
            assert frame
            assert (line["x"] + 1 - frame["x"]) / frame["width"] == pytest.approx(part / 100, abs=0.01)
            return part

        assert edge() == 50
        drag(page, "#split", 0.5, 0.8)
        assert edge() == pytest.approx(80, abs=3)
        slider = page.get_by_label("Where one encoding ends")
        before = edge()
        slider.press("ArrowLeft")
        assert edge() == before - 1
        slider.press("Home")
        assert edge() == 0
        page.get_by_label("Compare").select_option("")
        expect(slider).to_be_hidden()
        settled(page)
        assert "Compared" not in facts(page)


def test_fingers_compare_and_point(bench: Place) -> None:
    phone = {"viewport": {"width": 360, "height": 740}, "has_touch": True, "is_mobile": True}
    with bench.page("picture=tom.png&scalex=300&compare=jpeg&encoding=png", **phone) as page:
        page.locator("#split").wait_for()
        settled(page, "tom.png", encoding="png")
        swipe(page, *(grip(page, "#result", x) for x in (0.5, 0.4, 0.3, 0.2)))
        assert page.locator("#split").evaluate("(e) => e.valueAsNumber") == pytest.approx(20, abs=4)
        page.touchscreen.tap(*grip(page, "#original", 0.2, 0.75))
        settled(page, fit="cover", gravity=None)
        assert [float(each) for each in query(page)["fp"].split(",")] == pytest.approx([0.2, 0.75], abs=0.02)
        swipe(
            page,
            grip(page, "#focus", 0.5),
            grip(page, "#original", 0.5, 0.5),
            grip(page, "#original", 0.9, 0.1),
        )
        expect(page.locator("#url")).to_have_value(re.compile(r"fp=0\.9"))
        assert [float(each) for each in query(page)["fp"].split(",")] == pytest.approx([0.9, 0.1], abs=0.02)


# --- looking for pictures, and what an address keeps


def names(page: Page) -> list[str]:
    return [each.get_attribute("data-path") or "" for each in page.locator("#pictures .thumb").all()]


def test_search(bench: Place) -> None:
    with bench.page() as page:
        find = page.get_by_role("searchbox", name="Find a picture")
        find.fill("MIA cats")
        expect(page.locator("#pictures .thumb")).to_have_count(1)
        assert names(page) == ["cats/mia.jpg"]
        expect(find).to_be_focused()
        choose(page, "cats/mia.jpg")
        settled(page, "cats/mia.jpg")
        page.reload()  # both stay: what was looked for, and what was chosen
        settled(page, "cats/mia.jpg")
        assert names(page) == ["cats/mia.jpg"]
        expect(find).to_have_value("MIA cats")
        find.fill("nowhere")
        expect(page.locator("#pictures .none")).to_have_text("No picture has this in its name.")
        find.fill("")
        expect(page.locator("#pictures .thumb")).to_have_count(5)


def test_the_address_keeps_what_is_shown(bench: Place) -> None:
    with bench.page("picture=tom.png&scalex=77&encoding=png") as page:
        settled(page, "tom.png", scalex=77)
        page.get_by_label("Rotate").evaluate("(e) => e.closest('details').open = true")
        page.get_by_label("Rotate").select_option("180")
        page.get_by_label("Compare").select_option("gif")
        settled(page, rotate=180)
        expect(page.locator(".tag.right")).to_have_text(re.compile("gif"))
        page.reload()
        settled(page, "tom.png", scalex=77, rotate=180)
        expect(page.locator(".tag.right")).to_have_text(re.compile("gif"))
        expect(page.get_by_label("Rotate")).to_be_visible()
        choose(page, "scene.jpg")
        settled(page, "scene.jpg", rotate=180)
        page.go_back()
        settled(page, "tom.png", rotate=180)
        assert corners(shown(page)) == ["white", "blue", "green", "red"]
        page.go_forward()
        settled(page, "scene.jpg")
        expect(page.get_by_role("link", name="open")).to_have_attribute("href", "/picture/scene.jpg")
        page.goto("about:blank")
        page.go_back()
        settled(page, "scene.jpg", scalex=77, rotate=180)


# --- one change after another


def test_quick_changes_end_with_the_last(bench: Place) -> None:
    with bench.page("picture=scene.jpg&scalex=300&encoding=jpeg") as page:
        settled(page, "scene.jpg", scalex=300)
        slider = page.get_by_label("Width, slider")
        for _ in range(25):
            slider.press("ArrowRight")
        choose(page, "tom.png")
        choose(page, "scene.jpg")
        for _ in range(5):
            slider.press("ArrowRight")
        settled(page, "scene.jpg", scalex=330)
        assert shown(page).size == (330, 248)
        assert facts(page)["Pixels"] == "330 × 248"


def test_an_answer_that_comes_late_is_not_shown(bench: Place) -> None:
    """Of a size, of a picture, and of a search that nobody waits for any more."""
    with bench.page("picture=cats/mia.jpg&scalex=300&encoding=png", is_failing=True) as page:
        settled(page, "cats/mia.jpg", scalex=300)
        held: list[Route] = []
        page.route(re.compile(r"scalex=111|about=tom|q=tom"), lambda route: held.append(route))
        with page.expect_request(re.compile("scalex=111")):
            page.get_by_label("Width", exact=True).fill("111")
        expect(page.locator("#html")).to_have_value(re.compile("scalex=111"))
        assert "width=" not in page.locator("#html").input_value()  # not that of the picture before
        page.get_by_label("Width", exact=True).fill("240")
        settled(page, scalex=240)
        with page.expect_request(re.compile("about=tom")):
            choose(page, "tom.png")
        page.locator("#result.busy").wait_for()
        choose(page, "scene.jpg")
        settled(page, "scene.jpg", scalex=240)
        with page.expect_request(re.compile("q=tom")):
            page.get_by_role("searchbox").fill("tom")
        page.get_by_role("searchbox").fill("mia")
        expect(page.locator("#pictures .thumb")).to_have_count(1)
        assert len(held) == 3
        for route in held:
            route.continue_()
        page.unroute_all(behavior="wait")
        for url in ("/picture/cats/mia.jpg?scalex=111&encoding=png", "/?about=tom.png", "/?q=tom"):
            page.evaluate("(url) => fetch(url).then((reply) => reply.text())", url)  # comes after those
        settled(page, "scene.jpg", scalex=240)
        assert names(page) == ["cats/mia.jpg"]
        assert shown(page).size == (240, 180)
        assert facts(page)["Pixels"] == "240 × 180"
        expect(page.locator("#about")).to_have_text(re.compile("800 × 600"))


# --- errors


def refused(page: Page, text: str) -> None:
    """Return when the page says *text*, and shows nothing that it is not true of."""
    expect(page.locator("#problem")).to_have_text(re.compile(text))
    expect(page.locator("#result .one")).to_be_hidden()
    expect(page.locator("#facts")).to_be_empty()
    assert "width=" not in page.locator("#html").input_value()


@pytest.fixture
def passing(bench: Place) -> Iterator[Path]:
    """The folder of pictures; what a test puts there goes with it."""
    before = {*bench.pictures.iterdir()}
    yield bench.pictures
    for path in {*bench.pictures.iterdir()} - before:
        path.unlink()


def wait_for(bench: Place, name: str) -> None:
    """Wait for the list of pictures to have a new one: it is a few seconds old."""
    assert eventually(lambda: name.encode() in bench.server.get("/").body, pause_s=0.2)


def test_what_the_server_refuses_is_said(bench: Place, passing: Path) -> None:
    at_rest(written(passing, "zz-broken.jpg", b"\xff\xd8\xff\xe0 no more than that"))
    wait_for(bench, "zz-broken.jpg")
    with bench.page("picture=scene.jpg&scalex=100&compare=gif", is_failing=True) as page:
        settled(page, scalex=100)
        page.get_by_label("Quality", exact=True).fill("101")
        refused(page, "^400: quality=101 is above the limit of 100$")
        expect(page.locator("#split")).to_be_hidden()
        page.get_by_label("Quality", exact=True).fill("50")
        settled(page, quality=50)
        expect(page.locator("#result .one")).to_be_visible()
        expect(page.locator("#split")).to_be_visible()
        choose(page, "zz-broken.jpg")
        refused(page, "^422: ")
        choose(page, "tom.png")
        settled(page, "tom.png")


def test_a_picture_that_is_gone_is_said(bench: Place, passing: Path) -> None:
    quarters(200, 150).save(passing / "gone.png")
    wait_for(bench, "gone.png")
    with bench.page("picture=gone.png&scalex=100", is_failing=True) as page:
        settled(page, "gone.png", scalex=100)
        (passing / "gone.png").unlink()
        page.get_by_label("Width", exact=True).fill("90")
        refused(page, "^404: ")
        choose(page, "gone.png")
        refused(page, "^404: ")
        expect(page.locator("#about")).to_be_empty()
        choose(page, "tom.png")
        settled(page, "tom.png", scalex=90)
        assert shown(page).size == (90, 68)


def test_a_server_that_ends_is_said(browser: Browser, tmp_path: Path) -> None:
    drawn(tmp_path, "a.png", "b.png")
    with place(tmp_path, browser) as first, first.page("picture=a.png&scalex=50", is_failing=True) as page:
        settled(page, "a.png", scalex=50)
        assert first.server.stop() == 0
        page.get_by_label("Width", exact=True).fill("60")
        refused(page, "^The server does not answer")
        page.get_by_role("searchbox").fill("b")
        expect(page.locator("#pictures .none")).to_have_text(re.compile("^The server does not answer"))
        with place(tmp_path, browser, ("--port", str(first.server.port))):
            page.get_by_label("Width", exact=True).fill("72")
            settled(page, scalex=72)
            assert shown(page).size == (72, 54)
            page.get_by_role("searchbox").fill("b.")
            expect(page.locator("#pictures .thumb")).to_have_count(1)
            choose(page, "b.png")
            settled(page, "b.png", scalex=72)


def test_a_full_server_is_asked_again(browser: Browser, tmp_path: Path) -> None:
    """A 503 says when; the page waits that long, and then shows the picture."""
    drawn(tmp_path, "a.png")
    with (
        place(tmp_path, browser, render={"processes": 1, "queue": 1}, limits={"max_side": 300}) as full,
        full.page(is_failing=True) as page,
    ):
        settled(page, "a.png", scalex=300)  # where others begin with 640
        (worker,) = workers_of(full.server)
        os.kill(worker, signal.SIGSTOP)
        is_full = threading.Event()

        def ask(width: int) -> None:
            if full.server.get(f"/picture/a.png?scalex={width}").status == 503:
                is_full.set()

        asking = [threading.Thread(target=ask, args=(width,)) for width in (101, 102, 103)]
        try:
            for thread in asking:
                thread.start()
            assert is_full.wait(30)
            page.get_by_label("Width", exact=True).fill("60")
            refused(page, r"^503: .* \(trying again in \d+ s\)$")
        finally:
            os.kill(worker, signal.SIGCONT)
            for thread in asking:
                thread.join()
        settled(page, scalex=60)
        assert shown(page).size == (60, 45)


# --- servers that allow less


def test_a_server_with_presets(browser: Browser, tmp_path: Path) -> None:
    drawn(tmp_path, "000.png")
    for number in range(1, 70):
        os.link(tmp_path / "pictures" / "000.png", tmp_path / "pictures" / f"{number:03}.png")
    presets = {
        "presets.small": {"scalex": 50},
        "presets.wide": {"w": 90},
        "presets.webp": {"w": 60, "fm": "webp"},
    }
    with place(tmp_path, browser, limits={"sizes": "presets"}, **presets) as few, few.page() as page:
        preset = page.get_by_label("Preset")
        for name, width in [("wide", 90), ("small", 50), ("webp", 60)]:
            preset.select_option(name)
            settled(page, preset=name)
            assert shown(page).size[0] == width
        expect(page.get_by_label("Encoding", exact=True)).to_be_disabled()
        expect(page.get_by_label("Compare")).to_be_disabled()
        assert query(page) == {"preset": "webp"}
        assert page.locator("#focus, [data-for], #fit").count() == 0
        preset.select_option("small")
        page.get_by_label("Encoding", exact=True).select_option("png")
        settled(page, preset="small", encoding="png")
        page.get_by_role("link", name="next page").press("Enter")
        expect(page.locator("#pictures .thumb")).to_have_count(10)
        expect(page.locator("#pictures .thumb").first).to_be_focused()
        page.keyboard.press("Enter")
        settled(page, "060.png", preset="small", encoding="png")
        page.reload()
        settled(page, "060.png", preset="small", encoding="png")
        expect(page.locator("#pictures .thumb")).to_have_count(10)
        page.get_by_role("link", name="previous page").click()
        expect(page.locator("#pictures .thumb")).to_have_count(60)


def test_a_server_with_a_ladder(browser: Browser, tmp_path: Path) -> None:
    drawn(tmp_path, "a.png")
    with (
        place(tmp_path, browser, limits={"sizes": "ladder", "ladder": [100, 200, 300]}) as steps,
        steps.page() as page,
    ):
        settled(page, "a.png", scalex=300)  # where others begin with 640
        slider, field = page.get_by_label("Width, slider"), page.get_by_label("Width", exact=True)
        slider.press("ArrowLeft")
        settled(page, scalex=200)
        assert shown(page).size == (200, 150)
        field.fill("120")
        field.press("Enter")
        settled(page, scalex=200)
        expect(field).to_have_value("200")


def test_a_server_with_signed_sizes(browser: Browser, tmp_path: Path) -> None:
    drawn(tmp_path, "a.png")
    keys = {"signing.keys": {"a": "x" * 16}}
    with place(tmp_path, browser, limits={"sizes": "signed"}, **keys) as closed, closed.page() as page:
        expect(page.get_by_role("main")).to_have_text(re.compile("signed URLs only"))
        assert page.locator("img, input, a").count() == 0


# --- for everybody


def test_without_javascript_there_is_a_gallery(bench: Place) -> None:
    with bench.page(java_script_enabled=False) as page:
        assert page.locator("#bench").is_hidden()
        page.get_by_role("searchbox").fill("tom")
        page.get_by_role("button", name="Find").click()
        expect(page.locator("#pictures .thumb")).to_have_count(1)
        reply = bench.server.get(page.get_by_role("link", name="320").get_attribute("href") or "")
        with Image.open(io.BytesIO(reply.body)) as image:
            assert image.size == (320, 240)
        link = page.locator("#pictures .thumb").get_attribute("href") or ""
        assert bench.server.get(link).headers["content-type"].startswith("image/")


def test_a_phone(bench: Place) -> None:
    """Nothing is wider than 360 pixels, and nothing to hit is smaller than 24 (WCAG 2.2, 2.5.8)."""
    phone = {"viewport": {"width": 360, "height": 740}, "has_touch": True, "is_mobile": True}
    hash = urlencode({"picture": LONG, "scalex": 4000, "enlarge": 1, "compare": "png", "fp": "0.5,0.5"})
    with bench.page(hash, **phone) as page:
        page.locator("#split").wait_for()
        settled(page, LONG)
        assert page.evaluate("() => document.documentElement.scrollWidth") == 360
        small = page.evaluate(
            f"""() => ({_CONTROLS})().map((e) => e.closest("label") ?? e).map((e) => {{
              const box = e.getBoundingClientRect();
              return [e.id || e.textContent.trim() || e.ariaLabel, box.width, box.height];
            }}).filter(([, width, height]) => width < 24 || height < 24)"""
        )
        assert small == []


def test_everything_is_reached_by_tab_and_shows_it(bench: Place) -> None:
    with bench.page("picture=tom.png&scalex=80&compare=gif&rotate=180") as page:
        settled(page, "tom.png")
        page.locator("#split").wait_for()
        count = page.evaluate(f"() => {{ window.controls = ({_CONTROLS})(); return window.controls.length }}")
        assert count > 30
        found = []
        for _ in range(count):
            page.keyboard.press("Tab")
            found.append(
                page.evaluate("""() => {
                  const e = document.activeElement;
                  const seen = e.id === "split" ? document.querySelector(".split") : e;
                  const { outlineStyle: style, outlineWidth: width } = getComputedStyle(seen);
                  return [window.controls.indexOf(e), style === "solid" && parseFloat(width) >= 2];
                }""")
            )
        assert found == [[number, True] for number in range(count)]


def test_everything_has_a_name(bench: Place) -> None:
    with bench.page("picture=tom.png&scalex=80&compare=gif&rotate=180") as page:
        settled(page, "tom.png")
        page.locator("#split").wait_for()
        tree = page.context.new_cdp_session(page).send("Accessibility.getFullAXTree")["nodes"]
        named = [
            (node["role"]["value"], node.get("name", {}).get("value", ""))
            for node in tree
            if not node["ignored"]
            and node["role"]["value"]
            in {
                "button",
                "checkbox",
                "combobox",
                "image",
                "link",
                "searchbox",
                "slider",
                "spinbutton",
                "textbox",
            }
        ]
        assert {role for role, _ in named} >= {
            "button",
            "combobox",
            "image",
            "slider",
            "spinbutton",
            "textbox",
        }
        assert [role for role, name in named if not name.strip()] == []
        assert len(named) == len(set(named))
        assert ("image", "tom.png as it was asked for") in named


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read(bench: Place, scheme: str) -> None:
    """Contrasts of 4.5 and more (WCAG 2.2, 1.4.3), also of errors, tags and placeholders."""
    with bench.page("picture=tom.png&compare=gif&rotate=180", is_failing=True, color_scheme=scheme) as page:
        settled(page, "tom.png")
        page.locator("#split").wait_for()
        found = page.evaluate(_CONTRASTS)
        page.get_by_label("Quality", exact=True).fill("101")
        refused(page, "400")
        found |= page.evaluate(_CONTRASTS)
        assert len(found) > 20
        assert {text: contrast for text, contrast in found.items() if contrast < 4.5} == {}
        ground = page.evaluate("() => getComputedStyle(document.body).backgroundColor")
        assert (min(map(int, re.findall(r"\d+", ground))) > 200) == (scheme == "light")
