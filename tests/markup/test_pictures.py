"""Pages: what the template helpers write is valid, safe, and true of what the URLs answer."""

from __future__ import annotations

import io
import logging
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import html5lib
import pytest
from flask import Flask, render_template_string
from markupsafe import Markup
from PIL import Image
from support.asking import Buffered, Counting, ask
from support.clock import Clock
from support.drawing import quarters

from imagefactory import ImageFactory
from imagefactory.config import Config, from_mapping
from imagefactory.errors import BadParameter
from imagefactory.factory import Parts, site_of
from imagefactory.markup import Pictures
from imagefactory.markup.queries import SIZES
from imagefactory.storage.database import Database
from imagefactory.storage.originals import Originals
from imagefactory.urls.signing import Policy

TOM = "cats/tom.jpg"  # 400 x 300
HOSTILE = "\"'><script>alert(1)</script>&amp; onerror=x \x00\x1f\ud800\ufffe`{{7*7}}"
TINY = "data:image/webp;base64,UklGRhoAAABXRUJQ"
Make = Callable[..., Pictures]


def nodes(text: str) -> list[Any]:
    """The elements of *text*, which must be valid HTML."""
    page = f"<!DOCTYPE html><html lang=en><head><title>x</title></head><body>{text}</body></html>"
    if text.startswith("<link"):
        page = page.replace("</head>", f"{text}</head>").replace(f"<body>{text}", "<body>")
    tree = html5lib.HTMLParser(strict=True, namespaceHTMLElements=False).parse(page)
    return [
        node for node in tree.iter() if node.tag in ("picture", "source", "img", "link", "span", "script")
    ]


def urls(srcset: str) -> dict[int, str]:
    """URLs by their widths; none for a URL without one."""
    return {int(part.split()[1][:-1]): part.split()[0] for part in srcset.split(", ") if " " in part}


def picture(pictures: Pictures, path: str = TOM, **arguments: Any) -> list[Any]:
    """The elements of a picture: the sources, and the img as the last."""
    found = nodes(pictures.picture(path, **{"alt": "", **arguments}))
    return [node for node in found if node.tag != "picture"]


@pytest.fixture
def make(assemble: Callable[..., Parts]) -> Make:
    def pages(debug: bool = True, base_url: str | None = None, **sections: Any) -> Pictures:
        presets = {"thumb": {"size": "100x100", "fit": "cover"}, "webp": {"scalex": 50, "encoding": "webp"}}
        return Pictures(assemble(**{"presets": presets, **sections}), debug=debug, base_url=base_url)

    return pages


@pytest.fixture
def site(tmp_path: Path, pictures: Path, renderer: Counting, clock: Clock) -> Callable[..., Flask]:
    def host(**sections: Any) -> Flask:
        app = Flask("host", root_path=str(tmp_path))
        app.test_client_class = Buffered
        paths = {"pictures": str(pictures), "cache": str(tmp_path / "cache")}
        presets = {"thumb": {"size": "100x100", "fit": "cover"}}
        app.config["IMAGEFACTORY"] = {"paths": paths, "presets": presets, **sections}
        app.debug = True
        ImageFactory(app, renderer=renderer, clock=clock)
        app.add_url_rule("/", "page", lambda: render_template_string(app.config["PAGE"]))
        return app

    return host


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"encoding": "webp", "quality": 50},
        {"encoding": "auto", "gravity": "north"},
        {"size": "100x50", "fit": "cover", "fp": (0.1, 0.2)},
        {"scalex": 90, "sharpen": 5, "background": "teal"},
        {"preset": "double", "rotate": 90},
    ],
)
def test_a_url_in_a_srcset_is_what_url_gives(make: Make, arguments: dict[str, Any]) -> None:
    """Same order, quoting and version, though what the URLs have in common is made once."""
    pages = make(presets={"double": {"scalex": 80, "dpr": 2, "encoding": "png"}})
    for url in urls(pages.srcset(TOM, **arguments)).values():
        query = dict(parse_qsl(urlsplit(url).query))
        del query["v"]
        assert pages.url(TOM, **query) == url


def test_the_five_lines_of_the_readme(
    tmp_path: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    section = readme.partition("### In your own Flask app")[2]
    match = re.search(r"```python\n(.*?)```.*?```jinja\n(.*?)```", section, re.DOTALL)
    assert match is not None
    code, template = match.groups()
    assert len([line for line in code.splitlines() if line.strip()]) == 5
    assert len(template.splitlines()) == 1
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("IMAGEFACTORY_RENDER__PROCESSES", "-1")
    names: dict[str, Any] = {"__name__": "quickstart"}
    exec(code, names)  # what the README tells people to run
    app = names["app"]
    app.add_url_rule("/", "page", lambda: render_template_string(template))
    app.test_client_class = Buffered
    client = app.test_client()
    *sources, image = [node for node in nodes(client.get("/").text) if node.tag != "picture"]
    assert [node.get("type") for node in sources] == ["image/avif", "image/webp"]
    assert (image.get("width"), image.get("height"), image.get("alt")) == ("400", "300", "Tom asleep")
    for node in (*sources, image):
        for width, url in urls(node.get("srcset")).items():
            answer = client.get(url)
            assert answer.status_code == 200
            assert answer.headers["Cache-Control"] == "public, max-age=31536000, immutable"
            assert answer.headers["Content-Type"] == node.get("type", "image/jpeg")
            assert Image.open(io.BytesIO(answer.data)).width == width
    assert [*urls(image.get("srcset"))] == [160, 240, 320, 400]


CALLS: list[dict[str, Any]] = [
    {},
    {"formats": ()},
    {"formats": "webp"},
    {"encoding": "webp"},
    {"encoding": "auto", "sizes": "50vw"},
    {"preset": "thumb", "priority": True},
    {"preset": "webp"},
    {"size": "100x50", "fit": "cover", "gravity": "smart"},
    {"size": "90x90", "fit": "pad", "bg": "teal"},
    {"size": "90x90", "fit": "stretch"},
    {"h": 100, "dpr": 2},
    {"scalex": 320.5, "rotate": 90, "flip": True},
    {"rect": (0, 0, 0.5, 0.5), "widths": [50, 100]},
    {"trim": 10},
    {"widths": [5000]},
    {"sizes": "auto, 100px", "loading": "eager"},
    {"attrs": {"id": "x", "data-a-b": 1, "hidden": True, "lang": None}, "class_": "a b"},
    {"sources": [{"media": "(max-width: 9px)", "size": "60x60", "fit": "cover"}]},
    {"sources": [{"media": "print", "path": "flag.png"}]},
    {"alt": HOSTILE, "sizes": HOSTILE, "class_": HOSTILE, "attrs": {"title": HOSTILE, "data-x": HOSTILE}},
    {"alt": Markup("<b>&amp;</b>"), "sources": [{"media": HOSTILE, "sizes": HOSTILE}]},
]  # fmt: skip


@pytest.mark.parametrize("arguments", CALLS, ids=str)
def test_markup_is_valid_html(make: Make, arguments: dict[str, Any], renderer: Counting) -> None:
    pages = make()
    found = picture(pages, **arguments)
    assert {node.tag for node in found} <= {"source", "img"}
    assert found[-1].tag == "img"
    allowed = {
        "data-imagefactory",
        "data-a-b",
        "data-x",
        "loading",
        "decoding",
        "fetchpriority",
        "sizes",
        "srcset",
        "src",
        "width",
        "height",
        "alt",
    }
    assert set(found[-1].keys()) - allowed <= {"class", "id", "hidden", "title"}
    for node in found:
        assert set(node.get("srcset", "")) & set("\"'<>\x00") == set()
        for width, url in urls(node.get("srcset", "")).items():
            assert 1 <= width <= 400
            assert urlsplit(url).path in (f"/picture/{TOM}", "/picture/flag.png")
    assert renderer.renders == 0


def test_hostile_text_stays_text(make: Make) -> None:
    pages = make()
    image = picture(pages, alt=HOSTILE, class_=HOSTILE, sizes=HOSTILE, attrs={"title": HOSTILE})[-1]
    shown = re.sub("[\x00\x1f\ud800\ufffe]", "\ufffd", HOSTILE)
    assert [image.get(name) for name in ("alt", "class", "title")] == [shown] * 3
    assert image.get("sizes") == f"auto, {shown.strip()}"
    assert picture(pages, alt=Markup('"&gt;" x="'))[-1].get("alt") == '">" x="'


@pytest.mark.parametrize(
    "path",
    [
        HOSTILE,
        "//evil.example/x",
        "../logout",
        "a/../../logout",
        "./x.jpg",
        "a/..",
        "javascript:alert(1)",
        "a, b 2x",
        "%2e%2e/logout",
        "\\\\evil\\x",
        "x?y#z",
        "a\nb",
        "",
    ],
)
@pytest.mark.parametrize("debug", [True, False])
def test_a_hostile_path_stays_below_the_prefix(
    make: Make, path: str, debug: bool, caplog: pytest.LogCaptureFixture
) -> None:
    pages = make(debug)
    url = pages.url(path)
    assert re.fullmatch(r"(/picture/[A-Za-z0-9/%._~-]+)?", url)
    assert (url == "") == (path not in ("javascript:alert(1)", "a, b 2x", "x?y#z", "%2e%2e/logout"))
    assert pages.srcset(path) == url
    (node,) = nodes(pages.picture(path, alt=HOSTILE, class_="a"))
    assert (node.tag, node.get("class")) == ("span" if debug else "img", "a")
    assert node.get("src") == (None if debug else url or "data:,")
    assert pages.preload(path) == ""
    assert len(caplog.records) == 1


@pytest.mark.parametrize(
    "name",
    ["onerror", "ONLOAD", "src", "srcset", "style", "x y", "data-", "data-x=1", 'a"', "href", "data-é", ""],
)
def test_attributes_that_do_harm_are_refused(make: Make, name: str) -> None:
    with pytest.raises(BadParameter, match="is no attribute to be added"):
        make().picture(TOM, alt="", attrs={name: "x"})
    assert "alert" not in make(debug=False).picture(TOM, alt="", attrs={name: "alert"})


@pytest.mark.parametrize("name", ["a b.jpg", "ü&.jpg", "50%, 2x.jpg", "a'b.jpg", "{x}.jpg", "a?b#c.jpg"])
def test_names_are_percent_encoded(site: Callable[..., Flask], pictures: Path, name: str) -> None:
    quarters(60, 40).save(pictures / name)
    app = site()
    pages = app.extensions["imagefactory"].pictures
    image = picture(pages, name)[-1]
    assert app.test_client().get(image.get("src")).status_code == 200
    assert unquote(urlsplit(image.get("src")).path) == f"/picture/{name}"


@pytest.mark.parametrize(
    ("arguments", "size", "widths"),
    [
        ({}, (400, 300), [160, 240, 320, 400]),
        ({"scalex": 100}, (100, 75), [160, 200]),
        ({"scalex": 5000}, (400, 300), [160, 240, 320, 400]),
        ({"scaley": 75}, (100, 75), [160, 200]),
        ({"size": "200x50", "fit": "cover"}, (200, 50), [160, 240, 320, 400]),
        ({"size": "200x200", "fit": "cover"}, (200, 200), [160, 240, 300]),
        ({"size": "900x900", "fit": "cover"}, (300, 300), [160, 240, 300]),
        ({"size": "100x100"}, (100, 75), [160, 200]),
        ({"size": "100x100", "fit": "outside"}, (133, 100), [160, 240, 266]),
        ({"size": "300x300", "fit": "stretch"}, (300, 300), [160, 240, 300]),
        ({"size": "100x100", "fit": "pad"}, (100, 100), [160, 200]),
        ({"scalex": 500, "enlarge": 1}, (500, 375), [160, 240, 320, 480, 500]),
        ({"rotate": 90}, (300, 400), [160, 240, 300]),
        ({"rect": "0,0,0.5,0.5"}, (200, 150), [160, 200]),
        ({"preset": "thumb"}, (100, 100), [160, 200]),
        ({"preset": "thumb", "scaley": 50}, (100, 50), [160, 200]),
        ({"widths": [10, 999, 20]}, (400, 300), [10, 20, 400]),
    ],
    ids=str,
)
def test_size_and_widths(
    make: Make, arguments: dict[str, Any], size: tuple[int, int], widths: Sequence[int]
) -> None:
    image = picture(make(), formats=(), **arguments)[-1]
    assert (int(image.get("width")), int(image.get("height"))) == size
    assert [*urls(image.get("srcset"))] == widths


@pytest.mark.parametrize("sizes", ["any", "ladder"])
@pytest.mark.parametrize(
    "arguments", [{"size": "120x90", "fit": "cover"}, {"scalex": 150, "preset": "thumb"}, {}], ids=str
)
def test_descriptors_are_what_the_urls_give(
    site: Callable[..., Flask], sizes: str, arguments: dict[str, Any]
) -> None:
    app = site(limits={"sizes": sizes, "ladder": [100, 250]})
    image = picture(app.extensions["imagefactory"].pictures, formats=(), **arguments)[-1]
    ratio = int(image.get("width")) / int(image.get("height"))
    for width, url in urls(image.get("srcset")).items():
        answer = app.test_client().get(url)
        found = Image.open(io.BytesIO(answer.data))
        assert (found.width, "immutable" in answer.headers["Cache-Control"]) == (width, True)
        assert abs(found.width / ratio - found.height) <= 1


@pytest.mark.parametrize(
    ("sizes", "arguments", "asked"),
    [
        ("any", {"trim": 5}, {}),
        ("any", {"trim": 5, "w": 90, "dpr": 2}, {"scalex": "90", "dpr": "2"}),
        ("any", {"trim": 5, "size": "90x90", "fit": "stretch", "widths": [200]}, {"size": "90x90"}),
        ("any", {"trim": 5, "widths": [50, 300, 200], "dpr": 2}, {"scalex": "300"}),
        ("ladder", {"trim": 5, "widths": [50, 300, 200]}, {"scalex": "320"}),
        ("signed", {"trim": 5, "widths": [5000]}, {"scalex": "400"}),
        ("any", {"preset": "cut"}, {"preset": "cut"}),
        ("ladder", {"trim": 5, "w": 90}, {"scalex": "90"}),
        ("presets", {"preset": "cut"}, {"preset": "cut"}),
    ],
    ids=str,
)
def test_what_is_trimmed_has_one_url_without_a_width(
    make: Make, sizes: str, arguments: dict[str, Any], asked: dict[str, str]
) -> None:
    pages = make(limits={"sizes": sizes}, presets={"cut": {"trim": 10}}, signing={"keys": {"web": "x" * 16}})
    url = pages.srcset(TOM, **arguments)
    query = dict(parse_qsl(urlsplit(url).query))
    assert {name: query[name] for name in query if name in {*SIZES, "preset"}} == asked
    source, image = picture(pages, formats=("webp",), **arguments)
    assert [source.get(name) for name in ("sizes", "width")] == [None, None]
    assert re.fullmatch(r"[^ ,]+", source.get("srcset"))
    assert [image.get(name) for name in ("srcset", "sizes", "width", "data-imagefactory")] == [None] * 4
    assert pages.site.resolver.request(parse_qsl(urlsplit(image.get("src")).query)).version
    assert " " not in url


@pytest.mark.parametrize("ladder", [[100, 250], [100, 160, 250, 500], [500, 1000]], ids=str)
@pytest.mark.parametrize("fit", ["stretch", "cover", "pad", "inside", "outside"])
@pytest.mark.parametrize("widths", [None, (90, 380, 5000)], ids=str)
def test_a_candidate_on_the_ladder_has_the_ratio_that_was_asked_for(
    make: Make, fit: str, ladder: Sequence[int], widths: Sequence[int] | None
) -> None:
    pages = make(limits={"sizes": "ladder", "ladder": ladder})
    resolver, source = pages.site.resolver, pages.site.source(TOM)
    for size in ("90x300", "80x200", "380x100", "60x600", "300x20", "5000x40", "400x300"):
        for enlarge in (0, 1):
            image = picture(pages, formats=(), size=size, fit=fit, enlarge=enlarge, widths=widths)[-1]
            ratio = int(image.get("width")) / int(image.get("height"))
            found = urls(image.get("srcset", "")) or {0: image.get("src")}
            for promised, url in found.items():
                request = resolver.request(parse_qsl(urlsplit(url).query))
                width, height = resolver.version(source, request.recipe, "jpeg")[1]
                assert (request.recipe.width in ladder, promised in (0, width)) == (True, True)
                assert abs(width / ratio - height) <= 1.5 + 0.5 * width / int(image.get("width")), url


def test_no_candidate_is_above_the_ladder(site: Callable[..., Flask]) -> None:
    app = site(limits={"sizes": "ladder", "ladder": [100, 250]})
    image = picture(app.extensions["imagefactory"].pictures, formats=())[-1]
    assert [f"scalex={width}&" in url for width, url in urls(image.get("srcset")).items()] == [True, True]


def test_a_turned_photograph_has_its_upright_size(make: Make, pictures: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    quarters(200, 100).save(pictures / "turned.jpg", exif=exif)
    image = picture(make(), "turned.jpg", formats=())[-1]
    assert (image.get("width"), image.get("height")) == ("100", "200")
    assert [*urls(image.get("srcset") or f"{image.get('src')} 100w")] == [100]


def test_an_animation_keeps_moving(make: Make, pictures: Path) -> None:
    frames = [quarters(60, 40), quarters(60, 40).rotate(180)]
    frames[0].save(pictures / "a.gif", save_all=True, append_images=frames[1:], duration=50)
    moving, still = picture(make(), "a.gif"), picture(make(), "a.gif", anim=0)
    assert [node.get("type") for node in moving[:-1]] == ["image/webp"]
    assert "encoding=gif" in moving[-1].get("src")
    assert [node.get("type") for node in still[:-1]] == ["image/avif", "image/webp"]
    assert "encoding=png" in still[-1].get("src")


def test_lazy_and_first(make: Make) -> None:
    pages = make()
    lazy, eager = picture(pages)[-1], picture(pages, loading="eager")[-1]
    first = picture(pages, priority=True, sizes="auto, 50vw", formats=("webp",))
    assert [lazy.get(name) for name in ("loading", "sizes", "decoding")] == ["lazy", "auto, 100vw", "async"]
    assert [eager.get(name) for name in ("loading", "sizes", "fetchpriority")] == ["eager", "100vw", None]
    assert [first[-1].get(name) for name in ("loading", "sizes", "fetchpriority")] == [
        "eager",
        "50vw",
        "high",
    ]
    (link,) = nodes(pages.preload(TOM, sizes="auto, 50vw", formats=("webp",)))
    assert (link.get("rel"), link.get("as"), link.get("fetchpriority")) == ("preload", "image", "high")
    shown = [first[0].get(name) for name in ("srcset", "sizes", "type")]
    assert [link.get(name) for name in ("imagesrcset", "imagesizes", "type")] == shown


def test_crops_come_first_in_all_formats_and_inherit(make: Make) -> None:
    crops = [{"media": "(max-width: 600px)", "w": 50, "h": 50}]
    found = picture(make(), size="200x100", fit="cover", sources=crops)
    assert [(node.get("media") or "", node.get("type") or "") for node in found] == [
        *(("(max-width: 600px)", f"image/{name}") for name in ("avif", "webp", "jpeg")),
        *(("", f"image/{name}") for name in ("avif", "webp")),
        ("", ""),
    ]
    assert (found[0].get("width"), found[0].get("height")) == ("50", "50")
    assert "fit=cover" in found[0].get("srcset")


def test_presets_only(site: Callable[..., Flask]) -> None:
    app = site(limits={"sizes": "presets"})
    pages = app.extensions["imagefactory"].pictures
    for node in picture(pages, preset="thumb"):
        url = node.get("srcset") or node.get("src")
        assert [name for name, _ in parse_qsl(urlsplit(url).query)] == ["encoding", "preset", "v"]
        assert app.test_client().get(url).status_code == 200
    for arguments, message in (
        ({}, "takes presets only; name one of thumb"),
        ({"preset": "thumb", "scalex": 10}, "scalex can't be chosen on this server"),
        ({"preset": "thumb", "widths": [10]}, "in the one size that they have"),
    ):
        with pytest.raises(BadParameter, match=message):
            pages.picture(TOM, alt="", **arguments)  # type: ignore[arg-type]
    with pytest.raises(BadParameter, match="has no originals"):
        pages.url(TOM)


def test_url(site: Callable[..., Flask]) -> None:
    app = site()
    pages = app.extensions["imagefactory"].pictures
    assert pages.url(TOM) == "/picture/cats/tom.jpg"
    one, same = (
        pages.url(TOM, w=100, f="webp", flip=True),
        pages.url(TOM, flip=1, encoding="webp", scalex=100),
    )
    assert one == same
    assert re.fullmatch(r"/picture/cats/tom\.jpg\?scalex=100&encoding=webp&flip=1&v=[0-9a-f]{12}", one)
    auto = app.test_client().get(
        pages.url(TOM, scalex=100, encoding="auto"), headers={"Accept": "image/webp"}
    )
    assert (auto.content_type, "immutable" in auto.headers["Cache-Control"]) == ("image/webp", True)


def test_a_cdn_and_a_mounted_app(make: Make, site: Callable[..., Flask]) -> None:
    cdn = make(http={"base_url": "https://img.example/a/", "prefixes": ["/p"]})
    assert cdn.url(TOM) == "https://img.example/a/p/cats/tom.jpg"
    assert make(base_url="https://x.example/").url(TOM) == "https://x.example/picture/cats/tom.jpg"
    app = site()
    app.config["PAGE"] = "{{ picture_url('cats/tom.jpg') }}"
    for mount, start in (("/shop é", "/shop%20%C3%A9"), ("//evil.example", "/evil.example"), ("", "")):
        page = app.test_client().get("/", environ_overrides={"SCRIPT_NAME": mount.encode().decode("latin-1")})
        assert page.text == f"{start}/picture/cats/tom.jpg"


def test_globals_of_the_host_stay(pictures: Path, tmp_path: Path) -> None:
    app = Flask("host")
    app.jinja_env.globals["picture"] = mine = object()
    ImageFactory(app, {"paths": {"pictures": str(pictures), "cache": str(tmp_path / "cache")}})
    assert app.jinja_env.globals["picture"] is mine
    assert {"picture_url", "picture_srcset", "picture_preload"} <= app.jinja_env.globals.keys()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"quality": 120}, "quality=120 is above the limit of 100"),
        ({"qualty": 80}, "there is no parameter 'qualty', did you mean 'quality'?"),
        ({"w": 1, "scalex": 1}, "scalex is given twice"),
        ({"v": "x"}, "v is written by the helpers"),
        ({"scalex": object()}, "scalex: .* is not text, a number"),
        ({"preset": "thumbs"}, "there is no preset 'thumbs'.*did you mean 'thumb'"),
        ({"formats": ("webq",)}, "'webq' is not a format of this server.*did you mean 'webp'"),
        ({"widths": ["x"]}, "'x' is not a width"),
        ({"widths": []}, "widths is empty"),
        ({"loading": "later"}, "loading='later' is not one of lazy, eager"),
        ({"sources": [{"size": "9x9"}]}, "a mapping with 'media'"),
        ({"rect": "900,900,1,1"}, "outside of the picture"),
        ({"expires": ""}, "expires='' is no time in seconds"),
        ({"expires": "10m"}, "expires='10m' is no time in seconds"),
        *(
            ({"expires": seconds}, "the longest is 100000000000, which are 165343 weeks")
            for seconds in (1e12, float("inf"), float("nan"), -0.0, 10**40, 10**5000)
        ),
        ({"scalex": 10**5000}, "scalex"),
        ({"widths": 0}, r"widths=0 is no list; widths are whole pixels, as \[320, 640\]"),
        ({"formats": None}, r"formats=None is no list; write \("),
        ({"sources": None}, "sources=None is no list; each of sources is a mapping"),
        ({"sources": ["print"]}, "each of sources is a mapping"),
        ({"sources": [{"media": "print", 5: 6}]}, "there is no parameter '5'"),
        ({"attrs": ["id"]}, "is no mapping"),
        ({"alt": None}, 'alt="" for decoration'),
        ({"loading": []}, "is not one of lazy, eager"),
    ],
    ids=lambda value: value if isinstance(value, str) else next(iter(value)),
)
def test_mistakes_are_errors_in_debug(
    make: Make, arguments: dict[str, Any], message: str, caplog: pytest.LogCaptureFixture
) -> None:
    arguments = {"alt": "x", **arguments}
    with pytest.raises(BadParameter, match=message):
        make().picture(TOM, **arguments)
    pages = make(debug=False)
    for _ in range(2):
        found = nodes(pages.picture(TOM, **arguments))
        assert (found[-1].tag, found[-1].get("alt")) == ("img", arguments["alt"] or "")


@pytest.mark.parametrize("arguments", [{"expires": ""}, {"expires": 1e12}, {"widths": 0}, {"formats": None}])
def test_mistakes_are_logged_in_production(
    make: Make, arguments: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    pages = make(debug=False)
    plain = f"/picture/{TOM}"
    assert pages.picture(TOM, alt="", **arguments) == f'<img src="{plain}" alt="">'
    if "widths" in arguments:
        assert pages.srcset(TOM, **arguments) == plain
    if "expires" in arguments:
        assert pages.url(TOM, **arguments) == plain
    assert pages.preload(TOM, **arguments) == ""
    assert len(caplog.records) == 1


def test_a_jxl_without_its_extra(make: Make) -> None:
    from imagefactory.model.formats import ENCODINGS

    if "jxl" in ENCODINGS:
        pytest.skip("it is there")
    with pytest.raises(BadParameter, match="'jxl' needs the extra 'jxl'"):
        make().picture(TOM, alt="", formats=("jxl", "webp"))
    found = picture(make(debug=False), formats=("jxl", "webp"))
    assert [node.get("type") for node in found[:-1]] == ["image/webp"]


def test_a_missing_picture(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    (span,) = nodes(make().picture("no.jpg", alt="Tom"))
    assert (span.tag, "no.jpg" in span.text, "red" in span.get("style")) == ("span", True, True)
    caplog.clear()
    pages = make(debug=False)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            (image,) = nodes(pages.picture("no.jpg", alt="Tom", class_="a"))
            assert dict(image.items()) == {"src": "/picture/no.jpg", "alt": "Tom", "class": "a"}
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "notes.txt" in pages.picture("notes.txt", alt="")


def test_a_warm_page_reads_one_row_at_most_and_renders_nothing(
    site: Callable[..., Flask],
    pictures: Path,
    renderer: Counting,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for number in range(20):
        quarters(200, 100 + number).save(pictures / f"{number}.jpg")
    app = site()
    app.config["PAGE"] = "{% for n in range(20) %}{{ picture(n ~ '.jpg', alt='x') }}{% endfor %}"
    clock.now_s = 4e9  # so that no stamp is young
    first = app.test_client().get("/").text
    reads: list[str] = []
    get = Database.get

    def noted(self: Database, key: str) -> Any:
        if not key.startswith("state "):  # which the keepers of earlier tests read, in their threads
            reads.append(key)
        return get(self, key)

    monkeypatch.setattr(Database, "get", noted)
    probes = renderer.probes
    counts = []
    for _ in range(2):
        assert app.test_client().get("/").text == first
        counts.append(len(reads))
    assert counts[0] <= 20
    assert counts[1] - counts[0] <= 20
    assert (renderer.renders, renderer.probes) == (0, probes)
    before = len(reads)
    pages = app.extensions["imagefactory"].pictures
    assert pages.picture("1.jpg", alt="", placeholder=False) == pages.picture(
        "1.jpg", alt="", placeholder=False
    )
    assert len(reads) - before <= 1


def test_a_replaced_picture_has_new_markup(make: Make, pictures: Path) -> None:
    pages = make()
    crops = [{"media": "print", "path": "flag.png"}]
    old = [pages.picture(TOM, alt=""), pages.picture(TOM, alt="", sources=crops)]
    quarters(90, 60).save(pictures / "flag.png")
    assert pages.picture(TOM, alt="") == old[0]
    assert pages.picture(TOM, alt="", sources=crops) != old[1]
    quarters(200, 100).save(pictures / TOM)
    assert 'width="200" height="100"' in pages.picture(TOM, alt="")


class Word:
    """Text that may change, of an object that may be gone."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __str__(self) -> str:
        return self.text


@pytest.mark.parametrize(
    "given",
    [
        lambda word: {"attrs": {"data-x": word}},
        lambda word: {"attrs": {"data-x": word, "data-list": []}},
        lambda word: {"class_": word},
        lambda word: {"sizes": word},
        lambda word: {"alt": word},
        lambda word: {"sources": [{"media": word}]},
    ],
)
def test_markup_is_remembered_by_what_is_written(make: Make, given: Callable[[Word], Any]) -> None:
    pages, same = make(), Word("")
    for number in range(50):
        same.text = f"word{number}end"
        for word in (Word(same.text), same):
            assert same.text in pages.picture(TOM, **{"alt": "", **given(word)})
    assert picture(pages, class_=Markup("a&amp;b"))[-1].get("class") == "a&b"
    assert picture(pages, class_="a&amp;b")[-1].get("class") == "a&amp;b"


def test_iterators_are_as_lists(make: Make) -> None:
    crop = {"media": "print", "path": "flag.png", "size": "60x60"}
    lists: dict[str, Any] = {"widths": [50, 60], "formats": ["webp"]}
    expected = make().picture(TOM, alt="", sources=[{**crop, "widths": [20, 30]}], **lists)
    once = {name: iter(values) for name, values in lists.items()}
    crops = iter([{**crop, "widths": iter([20, 30])}])
    assert make().picture(TOM, alt="", sources=crops, **once) == expected
    assert expected.count("<source") == 3
    assert make().preload(TOM, formats=iter(["webp"])) == make().preload(TOM, formats=["webp"])


def test_a_placeholder(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    pages = make()
    plain = pages.site.source(TOM)

    def hold(text: str) -> None:
        monkeypatch.setattr(Parts, "source", lambda parts, path: replace(plain, placeholder=text))

    hold(TINY)
    style = f"background:url({TINY}) center/cover no-repeat"
    assert picture(pages)[-1].get("style") == style
    assert picture(pages, placeholder=False)[-1].get("style") is None
    assert picture(pages, rotate=90)[-1].get("style") is None
    for text in (f"{TINY})x", f"{TINY}\n", "data:image/svg+xml;base64,AAAA", "https://evil.example", ""):
        hold(text)
        assert picture(make_like(pages))[-1].get("style") is None


def test_the_first_render_brings_the_placeholder(make: Make) -> None:
    pages = make()
    assert picture(pages)[-1].get("style") is None
    assert isinstance(pages.site, Parts)
    ask(pages.site, TOM, scalex=50)
    shown = picture(pages)[-1].get("style")
    assert shown == f"background:url({pages.site.source(TOM).placeholder}) center/cover no-repeat"


def make_like(pages: Pictures) -> Pictures:
    """The same without a memory."""
    return Pictures(pages.site, debug=True)


class FakeSigner:
    """Notes what it is asked to sign."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, list[tuple[str, str]], int | None, Any]] = []

    def sign(
        self, path: str, pairs: Any, expires_s: int | None = None, policy: Any = None
    ) -> list[tuple[str, str]]:
        self.asked.append((path, list(pairs), expires_s, policy))
        return [("k", "web"), ("s", f"sig{len(self.asked)}")]


def test_urls_are_signed_without_their_version(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    pages = make(limits={"sizes": "signed"}, signing={"keys": {"web": "x" * 16}})
    signer = FakeSigner()
    monkeypatch.setattr(pages.site.access, "signer", signer)
    url = pages.url(TOM, scalex=100)
    assert parse_qsl(urlsplit(url).query)[-2:] == [("k", "web"), ("s", "sig1")]
    assert signer.asked == [(TOM, [("scalex", "100")], None, None)]
    found = picture(pages, quality=70)
    assert len(signer.asked) == 2
    path, pairs, _, policy = signer.asked[1]
    assert (path, dict(pairs)["quality"], policy) == (TOM, "70", Policy(400, ("avif", "webp", "jpeg"), True))
    assert all("s=sig2" in url for node in found for url in urls(node.get("srcset")).values())
    picture(pages, size="200x200", fit="cover")  # heights differ with the widths: one signature each
    assert len(signer.asked) == 2 + 9
    assert [policy for *_, policy in signer.asked[2:]] == [None] * 9


def test_an_expiry_is_rounded_up(
    assemble: Callable[..., Parts], clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = assemble(limits={"sizes": "signed"}, signing={"keys": {"web": "x" * 16}})
    signer = FakeSigner()
    monkeypatch.setattr(parts.access, "signer", signer)
    pages = Pictures(parts, debug=True)
    for now_s in (1_000_000_003.0, 1_000_000_090.0, 1_000_000_101.0):
        clock.now_s = now_s
        pages.url(TOM, scalex=100, expires=1000)
    assert [end for _, _, end, _ in signer.asked] == [1_000_001_100, 1_000_001_200]


def test_signed_urls_of_a_page_are_good_for_their_picture_alone(
    tmp_path: Path, pictures: Path, renderer: Counting
) -> None:
    values = {
        "paths": {"pictures": str(pictures), "cache": str(tmp_path / "cache")},
        "limits": {"sizes": "signed"},
        "signing": {"keys": {"web": "x" * 16}},
    }
    app = Flask("host")
    app.test_client_class = Buffered
    factory = ImageFactory(app, from_mapping(values, tmp_path), renderer=renderer)
    for arguments in (
        {},
        {"size": "50x50", "fit": "cover", "expires": 600},
        {"encoding": "WEBP", "expires": 10**11},
    ):
        for node in picture(factory.pictures, **arguments):
            for url in urls(node.get("srcset", "")).values():
                assert app.test_client().get(url).status_code == 200
                assert app.test_client().get(url.replace("tom", "tim")).status_code in (403, 404)
    answer = app.test_client().get(factory.pictures.url(TOM, scalex=50, expires=-(10**11)))
    assert (answer.status_code, answer.json["error"]) == (403, "expired")


def test_without_a_cache_a_page_reads_each_picture_once(
    configure: Callable[..., Config], monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    clock.ahead_s = 10
    site = site_of(configure(), clock)
    digest, read = Originals.digest, []

    def reading(originals: Originals, path: str) -> Any:
        read.append(path)
        return digest(originals, path)

    monkeypatch.setattr(Originals, "digest", reading)
    pages = Pictures(site)
    assert pages.picture("cats/tom.jpg", alt="") == pages.picture("cats/tom.jpg", alt="")
    assert read == ["cats/tom.jpg"]


def test_what_is_no_site_is_a_mistake(assemble: Callable[..., Parts]) -> None:
    with pytest.raises(TypeError, match=r'extensions\["imagefactory"\]\.parts'):
        Pictures(assemble().generator)  # type: ignore[arg-type]
