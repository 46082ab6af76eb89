"""Films and documents in pages: posters with their sizes, the files that are played, tiles for a player."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urljoin, urlsplit

import html5lib
import pytest
from flask import Flask, render_template_string
from markupsafe import Markup
from PIL import Image
from support.asking import Buffered, Counting, ask
from support.clips import Stubs

from imagefactory import ImageFactory
from imagefactory.config import Config
from imagefactory.errors import BadParameter
from imagefactory.factory import assemble
from imagefactory.markup import Pictures

HOSTILE = "\"'><script>alert(1)</script>&amp; onerror=x"
Make = Callable[..., Pictures]


@pytest.fixture
def stubs(tmp_path: Path, pictures: Path) -> Stubs:
    stubs = Stubs(tmp_path / "programs", pictures)
    stubs.film()
    stubs.document()
    return stubs


@pytest.fixture
def make(configure: Callable[..., Config], renderer: Counting, stubs: Stubs) -> Make:
    def pages(debug: bool = True, **sections: Any) -> Pictures:
        config = configure(**{"programs": stubs.tables(), **sections})
        return Pictures(assemble(config, renderer), debug=debug)

    return pages


def nodes(text: str) -> list[Any]:
    """The elements of *text*, which must be valid HTML."""
    page = f"<!DOCTYPE html><html lang=en><head><title>x</title></head><body>{text}</body></html>"
    tree = html5lib.HTMLParser(strict=True, namespaceHTMLElements=False).parse(page)
    return [node for node in tree.find("body").iter() if node.tag not in ("body", "picture")]


def query(url: str) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}


def widths(srcset: str) -> list[int]:
    return [int(each.split()[1][:-1]) for each in srcset.split(", ")]


# --- posters and pages as pictures --------------------------------------------------------------------------


def test_a_poster_is_a_picture(make: Make) -> None:
    *sources, image = nodes(make().picture("clip.mp4", alt="A clip", t=3, widths=[80, 160]))
    assert [each.get("type") for each in sources] == ["image/avif", "image/webp"]
    assert (image.get("width"), image.get("height"), image.get("alt")) == ("160", "90", "A clip")
    for each in (*sources, image):
        assert widths(each.get("srcset")) == [80, 160]
    assert query(image.get("src")).keys() == {"t", "scalex", "encoding", "v"}
    assert query(image.get("src"))["t"] == "3"


def test_its_urls_give_what_they_promise(make: Make, renderer: Counting) -> None:
    pages = make()
    image = nodes(pages.picture("clip.mp4", alt="", t=3, formats=(), widths=[40, 80], encoding="png"))[-1]
    for candidate in image.get("srcset").split(", "):
        url, width = candidate.split()
        answer = ask(pages.site, "clip.mp4", **query(url))  # type: ignore[arg-type]
        assert answer.variant is not None
        assert answer.variant.width == int(width[:-1])
        assert answer.version == query(url)["v"]


def test_only_the_frame_that_was_drawn_has_the_placeholder(make: Make) -> None:
    pages = make()
    ask(pages.site, "clip.mp4", scalex=80)  # type: ignore[arg-type]
    assert "data:image/webp" in pages.picture("clip.mp4", alt="")
    assert "data:image/webp" in pages.picture("clip.mp4", alt="", t=0)
    assert "data:image/webp" not in pages.picture("clip.mp4", alt="", t=3)
    ask(pages.site, "doc.pdf", scalex=40)  # type: ignore[arg-type]
    assert "data:image/webp" in pages.picture("doc.pdf", alt="", page=1)
    assert "data:image/webp" not in pages.picture("doc.pdf", alt="", page=2)


def test_each_page_has_its_own_ratio(make: Make) -> None:
    pages = make()
    first = nodes(pages.picture("doc.pdf", alt=""))[-1]
    second = nodes(pages.picture("doc.pdf", alt="", page=2, scalex=40))[-1]
    assert (first.get("width"), first.get("height")) == ("80", "50")
    assert (second.get("width"), second.get("height")) == ("40", "64")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({}, [40, 120, 160]),  # 80 in the layout
        ({"scalex": 200}, [40, 120, 240, 400]),
        ({"scalex": 200, "scaley": 200, "fit": "cover"}, [40, 120, 240, 400]),
        ({"scalex": 700}, [40, 120, 240, 1000]),  # the longest side that there is
        ({"widths": [100, 900]}, [100, 900]),
        ({"widths": [100, 5000]}, [100, 1000]),
        ({"scaley": 100}, [40, 120, 240, 320]),
    ],
)
def test_what_is_made_in_any_size_is_offered_for_dense_screens(
    make: Make, arguments: Mapping[str, Any], expected: list[int]
) -> None:
    pages = make(limits={"ladder": [40, 120, 240], "max_side": 1000})
    image = nodes(pages.picture("doc.pdf", alt="", formats=(), encoding="png", **arguments))[-1]
    assert widths(image.get("srcset")) == expected
    url = image.get("srcset").split(", ")[-1].split()[0]
    answer = ask(pages.site, "doc.pdf", **query(url))  # type: ignore[arg-type]
    assert answer.variant is not None
    assert answer.variant.width == expected[-1]


def test_other_pictures_are_offered_up_to_their_size(make: Make) -> None:
    image = nodes(make().picture("cats/tom.jpg", alt="", scalex=300))[-1]
    assert widths(image.get("srcset"))[-1] == 400


# --- <video> ------------------------------------------------------------------------------------------------


def test_a_film_has_its_poster_its_size_and_its_files(make: Make, stubs: Stubs) -> None:
    stubs.film("other.mp4")
    pages = make()
    text = pages.video(
        "clip.mp4", label="A clip", t=3, sources=["other.mp4"], attrs={"id": "x", "loop": True}
    )
    video, first, second = nodes(text)
    poster = video.attrib.pop("poster")
    assert video.attrib == {
        "controls": "", "preload": "none", "width": "160", "height": "90", "aria-label": "A clip",
        "id": "x", "loop": "",
    }  # fmt: skip
    assert query(poster) == {"t": "3", "scalex": "160", "encoding": "webp", "v": query(poster)["v"]}
    assert first.attrib == {"src": "/picture/clip.mp4", "type": "video/mp4"}
    assert second.attrib == {"src": "/picture/other.mp4", "type": "video/mp4"}
    answer = ask(pages.site, "clip.mp4", **query(poster))  # type: ignore[arg-type]
    assert (answer.media_type, answer.version) == ("image/webp", query(poster)["v"])


@pytest.mark.parametrize(
    ("arguments", "width", "poster"),
    [
        ({"scalex": 40}, "40", "80"),  # twice the layout
        ({"scalex": 100}, "100", "160"),  # all that there is
        ({"size": "60x60", "fit": "cover"}, "60", "90"),
        ({}, "160", "160"),
        ({"encoding": "png"}, "160", "160"),
    ],
)
def test_a_poster_is_as_wide_as_is_sensible(
    make: Make, arguments: Mapping[str, Any], width: str, poster: str
) -> None:
    video = nodes(make().video("clip.mp4", **arguments))[0]
    assert (video.get("width"), query(video.get("poster"))["scalex"]) == (width, poster)
    assert query(video.get("poster"))["encoding"] == arguments.get("encoding", "webp")


@pytest.mark.parametrize(("width", "poster"), [(500, 1000), (700, 1280), (1600, 1600)])
def test_a_poster_is_1280_wide_or_as_the_layout(make: Make, stubs: Stubs, width: int, poster: int) -> None:
    tables = stubs.tables()  # what is drawn in any size is larger than the films here
    tables = {"large": {**tables["pages"], "sources": [".mp4"]}}
    video = nodes(make(programs=tables).video("clip.mp4", scalex=width))[0]
    assert (video.get("width"), query(video.get("poster"))["scalex"]) == (str(width), str(poster))


def test_tiles_are_named_in_a_track(make: Make) -> None:
    pages = make()
    track = nodes(pages.video("clip.mp4", sprite="5x2"))[-1]
    src = track.attrib.pop("src")
    assert (track.tag, track.attrib) == ("track", {"kind": "metadata", "label": "thumbnails"})
    version = query(src)["v"]
    assert query(src) == {"sprite": "5x2", "vtt": "1", "scalex": "160", "encoding": "webp", "v": version}


def test_a_film_of_unknown_length_has_no_tiles(make: Make, stubs: Stubs) -> None:
    stubs.film("endless.mp4", 0)
    assert [each.tag for each in nodes(make().video("endless.mp4", sprite="5x5"))] == ["video", "source"]


def test_all_urls_of_a_film_are_signed_and_good(
    configure: Callable[..., Config], renderer: Counting, stubs: Stubs, pictures: Path
) -> None:
    config = configure(
        programs=stubs.tables(),
        signing={"keys": {"web": "a-secret-of-32-characters-or-more"}},
        limits={"sizes": "signed"},
        http={"private": ["members/**"], "prefixes": ["/picture"]},
    )
    (pictures / "members").mkdir()
    stubs.film("members/clip.mp4")
    app = Flask("host")
    app.test_client_class = Buffered
    app.debug = True
    ImageFactory(app, config, renderer=renderer)
    page = "{{ video('members/clip.mp4', sprite='2x2', t=3, expires=600) }}"
    app.add_url_rule("/", "page", lambda: render_template_string(page))
    client = app.test_client()
    video, source, track = nodes(client.get("/").text)
    for url in (video.get("poster"), source.get("src"), track.get("src")):
        answer = client.get(url)
        assert answer.status_code == 200, answer.text
        assert answer.headers["Cache-Control"].startswith("private, max-age=")
        assert client.get(url.replace("s=", "s=x")).status_code == 403
    sheet = re.findall("^clip.mp4.*", client.get(track.get("src")).text, re.MULTILINE)[0]
    image = client.get(urljoin(track.get("src"), sheet))
    assert Image.open(io.BytesIO(image.data)).size == (320, 180)


@pytest.mark.parametrize("words", [{"label": HOSTILE}, {"class_": HOSTILE}, {"attrs": {"data-x": HOSTILE}}])
def test_text_of_strangers_stays_text(make: Make, words: Mapping[str, Any]) -> None:
    video = nodes(make().video("clip.mp4", **words))[0]
    assert HOSTILE in video.attrib.values()
    assert [each.tag for each in nodes(make().video("clip.mp4", **words))] == ["video", "source"]


def test_markup_is_escaped_once(make: Make) -> None:
    text = make().video("clip.mp4", label=Markup("a &amp; b"))
    assert isinstance(text, Markup)
    assert nodes(text)[0].get("aria-label") == "a & b"


MISTAKES: list[tuple[dict[str, Any], str]] = [
    ({"preload": "lots"}, "preload='lots' is not one of none, metadata, auto"),
    ({"sources": "clip.webm"}, 'write ("clip.webm",)'),
    ({"sources": ["cats/tom.jpg"]}, "'cats/tom.jpg' is no film; write picture()"),
    ({"sprite": "5"}, "sprite='5' is no sheet of frames"),
    ({"page": 2}, "page is nothing that this source takes"),
    ({"attrs": {"onplay": "alert(1)"}}, "'onplay' is no attribute"),
    ({"attrs": {"src": "x"}}, "'src' is no attribute"),
    ({"alt": "A clip"}, "there is no parameter 'alt'"),
]


@pytest.mark.parametrize(("arguments", "says"), MISTAKES)
def test_a_mistake_is_told_to_its_author(make: Make, arguments: Mapping[str, Any], says: str) -> None:
    with pytest.raises(BadParameter, match=re.escape(says)):
        make().video("clip.mp4", **arguments)
    bare = nodes(make(debug=False).video("clip.mp4", label="x", class_="y", **arguments))
    assert [each.attrib for each in bare] == [
        {"controls": "", "src": "/picture/clip.mp4", "aria-label": "x", "class": "y"}
    ]


def test_a_film_that_is_not_there_is_seen_by_its_author(make: Make) -> None:
    assert [each.tag for each in nodes(make().video("gone.mp4"))] == ["span"]
    (bare,) = nodes(make(debug=False).video("../secret.mp4", label=HOSTILE))
    assert bare.attrib == {"controls": "", "aria-label": HOSTILE}


def test_without_originals_there_is_nothing_to_play(make: Make) -> None:
    with pytest.raises(BadParameter, match="played as it is, and this server has no originals"):
        make(http={"originals": False}).video("clip.mp4")


def test_a_replaced_film_has_other_urls(make: Make, stubs: Stubs) -> None:
    pages = make()
    before = pages.video("clip.mp4")
    assert pages.video("clip.mp4") == before
    stubs.film("clip.mp4", more=b"another")
    assert pages.video("clip.mp4") != before
