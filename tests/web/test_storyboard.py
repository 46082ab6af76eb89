"""What a sheet of frames shows, as WebVTT: times, tiles, and the URL of the sheet beside it."""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple
from urllib.parse import parse_qs, quote, unquote, urljoin

import pytest
from flask.testing import FlaskClient
from PIL import Image
from support.asking import Counting
from support.clips import Stubs
from werkzeug.test import TestResponse

KEYS = {"web": "a-secret-of-32-characters-or-more"}
_TIME = r"(\d{2,}):([0-5]\d):([0-5]\d)\.(\d{3})"


class Cue(NamedTuple):
    """Times in milliseconds, and the *box* of the tile at *url*: left, top, width and height in pixels."""

    start: int
    end: int
    url: str
    box: tuple[int, ...]


def cues(text: str) -> list[Cue]:
    """The cues of *text*, read as the WebVTT specification has it (§6.1); fails where it is none."""
    head, *blocks = re.split(r"\n{2,}", text.rstrip("\n"))
    assert head == "WEBVTT"
    found = []
    for block in blocks:
        timing, content = block.split("\n")
        match = re.fullmatch(f"{_TIME} --> {_TIME}", timing)
        assert match, timing
        numbers = [*map(int, match.groups())]
        start, end = (((h * 60 + m) * 60 + s) * 1000 + ms for h, m, s, ms in (numbers[:4], numbers[4:]))
        assert start < end
        assert "-->" not in content
        url, _, place = content.partition("#xywh=")
        found.append(Cue(start, end, url, tuple(map(int, place.split(",")))))
    return found


@pytest.fixture
def stubs(tmp_path: Path, pictures: Path) -> Stubs:
    stubs = Stubs(tmp_path / "programs", pictures)
    stubs.film()
    return stubs


@pytest.fixture
def films(site: Callable[..., FlaskClient], stubs: Stubs) -> Callable[..., FlaskClient]:
    return lambda **sections: site(programs=stubs.tables(), **sections)


def read(client: FlaskClient, target: str) -> tuple[TestResponse, list[Cue]]:
    answer = client.get(target)
    assert answer.status_code == 200, answer.text
    return answer, cues(answer.text)


def sheet(client: FlaskClient, target: str, cue: Cue) -> Image.Image:
    """The picture that *cue* of the text at *target* leads to; its URL is that of what is there."""
    answer = client.get(urljoin(target, cue.url))
    assert answer.status_code == 200, answer.text
    assert answer.mimetype.startswith("image/")
    assert answer.headers["Cache-Control"].endswith("max-age=31536000, immutable")
    return Image.open(io.BytesIO(answer.data)).convert("RGB")


def test_each_frame_has_its_time_and_its_tile(films: Callable[..., FlaskClient]) -> None:
    client, target = films(), "/picture/clip.mp4?sprite=5x2&vtt=1&scalex=80&encoding=png"
    found = read(client, target)[1]
    assert [(cue.start, cue.end) for cue in found] == [(n * 1000, n * 1000 + 1000) for n in range(10)]
    assert {cue.url for cue in found} == {found[0].url}
    assert [cue.box for cue in found] == [(n % 5 * 80, n // 5 * 45, 80, 45) for n in range(10)]
    image = sheet(client, target, found[0])
    assert image.size == (400, 90)
    for cue in found:  # each tile shows its own second
        left, top, width, height = cue.box
        pixel = image.getpixel((left + width // 2, top + height // 2))
        assert abs(pixel[2] - 8 * cue.start / 1000) <= 2


@pytest.mark.parametrize(
    ("query", "tile"),
    [
        ("sprite=3x3", (160, 90)),
        ("sprite=3x3&size=60x60&fit=cover", (60, 60)),
        ("sprite=3x3&w=40&dpr=2&f=webp", (80, 45)),
        ("sprite=3x3&h=45&rotate=90", (25, 45)),
        ("sprite=3x3&rect=0,0,80,90", (80, 90)),
        ("sprite=3x3&size=64x64&fit=pad&encoding=auto", (64, 64)),
        ("sprite=3x3&scalex=1000", (160, 90)),
        ("sprite=3x3&p=small", (50, 28)),
        ("sprite=3x3&scalex=auto&dpr=auto&encoding=webp", (40, 23)),
    ],
)
def test_tiles_are_where_the_sheet_has_them(
    films: Callable[..., FlaskClient], query: str, tile: tuple[int, int]
) -> None:
    client = films(
        http={"client_hints": True},
        limits={"ladder": [40, 160]},
        presets={"small": {"scalex": 25, "dpr": 2}},
    )
    target = f"/picture/clip.mp4?{query}&vtt=1"
    hints = {"Sec-CH-Width": "40", "Sec-CH-DPR": "1"}
    found = cues(client.get(target, headers=hints).text)
    assert found[-1].box == (2 * tile[0], 2 * tile[1], *tile)
    # Asked without the hints: nothing of the sheet is left to a browser's headers but its encoding.
    assert sheet(client, target, found[0]).size == (3 * tile[0], 3 * tile[1])


@pytest.mark.parametrize(
    ("seconds", "frames", "last"),
    [
        (0.004, 4, "00:00:00.003 --> 00:00:00.004"),
        (0.002, 2, "00:00:00.001 --> 00:00:00.002"),
        (7.001, 4, "00:00:05.251 --> 00:00:07.001"),
        (3600 * 101 + 61.5, 4, "75:45:46.125 --> 101:01:01.500"),
    ],
)
def test_the_last_tile_lasts_to_the_end(
    films: Callable[..., FlaskClient], stubs: Stubs, seconds: float, frames: int, last: str
) -> None:
    stubs.film("other.mp4", seconds)
    answer, found = read(films(), "/picture/other.mp4?sprite=2x2&vtt=1")
    assert len(found) == frames
    assert found[0].start == 0
    assert all(one.end == other.start for one, other in pairwise(found))
    assert answer.text.splitlines()[-2] == last


def test_its_headers_are_those_of_a_picture(films: Callable[..., FlaskClient]) -> None:
    target = "/picture/clip.mp4?sprite=2x2&vtt=1&encoding=auto"
    client = films(http={"cache_tags": "Cache-Tag"})
    answer = client.get(target)
    tag = f'"{hashlib.sha256(answer.data).hexdigest()[:32]}"'
    assert dict(answer.headers) == {
        "ETag": tag,
        "Cache-Control": "public, max-age=3600",
        "X-Content-Type-Options": "nosniff",
        "Content-Security-Policy": "default-src 'none'; sandbox",
        "X-Cache": "hit",
        "Vary": "Accept",
        "Cache-Tag": answer.headers["Cache-Tag"],
        "Last-Modified": answer.headers["Last-Modified"],
        "Content-Type": "text/vtt; charset=utf-8",
        "Content-Length": str(len(answer.data)),
        "Accept-Ranges": "bytes",
        "Content-Disposition": "inline; filename=clip.vtt",
    }
    head = client.head(target)
    assert (head.status_code, head.data, head.headers["ETag"]) == (200, b"", tag)
    assert client.get(target, headers={"If-None-Match": tag}).status_code == 304
    part = client.get(target, headers={"Range": "bytes=0-5"})
    assert (part.status_code, part.data) == (206, b"WEBVTT")


def test_with_its_version_it_may_be_kept_for_ever(films: Callable[..., FlaskClient]) -> None:
    client = films()
    version = parse_qs(read(client, "/picture/clip.mp4?sprite=2x2&vtt=1")[1][0].url)["v"][0]
    answer = client.get(f"/picture/clip.mp4?sprite=2x2&vtt=1&v={version}")
    assert answer.headers["Cache-Control"] == "public, max-age=31536000, immutable"


def test_nothing_is_rendered_for_it(films: Callable[..., FlaskClient], renderer: Counting) -> None:
    client = films()
    client.get("/picture/clip.mp4?scalex=40")
    renders, probes = renderer.renders, renderer.probes
    for _ in range(2):
        read(client, "/picture/clip.mp4?sprite=9x9&vtt=1")
    assert (renderer.renders, renderer.probes) == (renders, probes)


def test_the_sheet_is_signed_where_it_has_to_be(films: Callable[..., FlaskClient]) -> None:
    client = films(signing={"keys": KEYS}, limits={"sizes": "signed"}, http={"private": ["clip.mp4"]})
    signer = client.application.extensions["imagefactory"].parts.access.signer
    pairs = [("sprite", "2x2"), ("vtt", "1"), ("scalex", "40")]
    end_s = int(client.application.extensions["imagefactory"].parts.clock()) + 1801  # the clock has fractions
    query = "&".join(f"{name}={value}" for name, value in [*pairs, *signer.sign("clip.mp4", pairs, end_s)])
    answer, found = read(client, f"/picture/clip.mp4?{query}")
    assert answer.headers["Cache-Control"].startswith("private, max-age=1")
    picture = client.get(f"/picture/{found[0].url}")
    assert picture.status_code == 200
    assert picture.headers["Cache-Control"].startswith("private, max-age=1")
    assert client.get("/picture/clip.mp4?sprite=2x2&vtt=1").status_code == 403


@pytest.mark.parametrize("name", ["a b&c=d#e?.mp4", "x:y.mp4", "ü日-->.mp4", "100%25.mp4", "&amp;<b>.mp4"])
def test_any_name_leads_back_to_its_film(
    films: Callable[..., FlaskClient], stubs: Stubs, pictures: Path, name: str
) -> None:
    (pictures / "deep").mkdir()
    stubs.film(f"deep/{name}")
    target = f"/picture/deep/{quote(name)}?sprite=2x2&vtt=1"
    client = films()
    found = read(client, target)[1]
    assert unquote(urljoin(target, found[0].url).partition("?")[0]) == f"/picture/deep/{name}"
    assert sheet(client, target, found[0]).size == (320, 180)


@pytest.mark.parametrize(
    ("query", "status", "says"),
    [
        ("vtt=1", 400, "vtt=1 describes a sheet of frames; give sprite=5x5 beside it"),
        ("t=3&vtt=1", 400, "vtt=1 describes"),
        ("sprite=2x2&vtt=yes please", 400, "vtt"),
        ("sprite=2x2&vtt=1&trim=10", 400, "with trim only a render can tell how large a frame is"),
        ("sprite=2x2&vtt=1&encoding=mp4", 400, "made by external programs only"),
        ("sprite=2x2&vtt=1&rect=900,0,10,10", 400, "outside of the picture"),
        ("sprite=99x99&vtt=1", 400, "sprite"),
    ],
)
def test_what_has_no_tiles_is_refused(
    films: Callable[..., FlaskClient], query: str, status: int, says: str
) -> None:
    answer = films().get(f"/picture/clip.mp4?{query}")
    assert answer.status_code == status, answer.text
    assert says in answer.json["detail"]


def test_a_film_without_a_length_has_no_tiles(films: Callable[..., FlaskClient], stubs: Stubs) -> None:
    stubs.film("endless.mp4", 0)
    answer = films().get("/picture/endless.mp4?sprite=2x2&vtt=1")
    assert answer.status_code == 422
    assert "how long it lasts" in answer.json["detail"]


def test_the_word_means_nothing_to_a_picture(films: Callable[..., FlaskClient]) -> None:
    client = films()
    assert client.get("/picture/cats/tom.jpg?vtt=1&scalex=40").mimetype == "image/jpeg"
    assert client.get("/picture/cats/tom.jpg?sprite=2x2&vtt=1").mimetype == "image/jpeg"
    assert client.get("/picture/clip.mp4?sprite=2x2&vtt=0").mimetype == "image/jpeg"


def test_with_presets_only_a_preset_has_the_sheet(films: Callable[..., FlaskClient]) -> None:
    presets = {"sheet": {"sprite": "2x2", "scalex": 40}, "small": {"scalex": 40}}
    target = "/picture/clip.mp4?p=sheet&vtt=1"
    client = films(limits={"sizes": "presets"}, presets=presets)
    found = read(client, target)[1]
    assert found[3].box == (40, 23, 40, 23)
    assert sheet(client, target, found[0]).size == (80, 46)
    assert client.get("/picture/clip.mp4?p=small&vtt=1").status_code == 400
    assert client.get("/picture/cats/tom.jpg?p=small&vtt=1").status_code == 200
