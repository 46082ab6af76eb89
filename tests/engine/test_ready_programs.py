"""The ready tables behind a whole site, with the real programs; and what hostile names and files come to."""

from __future__ import annotations

import io
import shutil
import socket
import subprocess
import threading
import tomllib
from collections.abc import Callable, Iterator
from importlib.resources import files
from pathlib import Path
from urllib.parse import quote

import pytest
from flask.testing import FlaskClient
from PIL import Image
from support.asking import Buffered, picture
from support.clips import clip
from support.documents import pdf
from support.drawing import at_rest, corners, quarters

from imagefactory import create_app
from imagefactory.config import Config
from imagefactory.render.programs import finding
from imagefactory.workers.pool import Pool

NEEDS_FFMPEG = pytest.mark.skipif(not finding.found("ffmpeg"), reason="no ffmpeg here")
NEEDS_CONVERT = pytest.mark.skipif(not shutil.which("convert"), reason="no ImageMagick here")
NEEDS_SVG = pytest.mark.skipif(not finding.found("imagefactory-svg"), reason="without the extra svg")
NEEDS_PDF = pytest.mark.skipif(not finding.found("imagefactory-pdf"), reason="without the extra pdf")


_SVG = "<svg xmlns='http://www.w3.org/2000/svg' width='40' height='20'>{}</svg>"


@pytest.fixture
def site(configure: Callable[..., Config], pool: Pool) -> Callable[..., FlaskClient]:
    """Makes a client of a site with these ready tables: site("video", "svg")."""

    def make(*names: str) -> FlaskClient:
        tables = {}
        for name in names:
            text = (files("imagefactory.cli") / "ready" / f"{name}.toml").read_text(encoding="utf-8")
            tables |= tomllib.loads(text)["programs"]
        app = create_app(configure(programs=tables), pool)
        app.test_client_class = Buffered
        return app.test_client()

    return make


@pytest.fixture
def heard() -> Iterator[tuple[int, list[object]]]:
    """The port of a socket, and who has connected to it."""
    found: list[object] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def listen() -> None:
            while True:
                try:
                    connection, address = listener.accept()
                except OSError:
                    return
                found.append(address)
                connection.close()

        threading.Thread(target=listen, daemon=True).start()
        yield listener.getsockname()[1], found
        listener.shutdown(socket.SHUT_RDWR)


@NEEDS_FFMPEG
@pytest.mark.usefixtures("sound")
def test_a_film_is_a_picture(site: Callable[..., FlaskClient], pictures: Path) -> None:
    clip(pictures / "film.mp4", 4, "320x180")
    at_rest(pictures / "film.mp4")
    client = site("video")
    assert picture(client, "film.mp4?t=2&scalex=160&encoding=avif").size == (160, 90)
    assert picture(client, "film.mp4?t=2.5&exact=1&size=50x50&fit=cover").size == (50, 50)
    assert picture(client, "film.mp4?t=auto&scalex=160").size == (160, 90)
    assert picture(client, "film.mp4?sprite=2x2&scalex=100").size == (200, 112)
    moving = picture(client, "film.mp4?preview=1&fps=5&scalex=80")
    assert (moving.format, moving.size) == ("WEBP", (80, 45))
    original = client.get("/picture/film.mp4", headers={"Range": "bytes=4-7"})
    assert (original.status_code, original.data, original.mimetype) == (206, b"ftyp", "video/mp4")


@NEEDS_PDF
def test_a_page_is_sharp_at_its_size(site: Callable[..., FlaskClient], pictures: Path) -> None:
    (pictures / "doc.pdf").write_bytes(pdf([b"1 0 0 rg 0 0 300 150 re f"], box="0 0 300 150"))
    at_rest(pictures / "doc.pdf")
    image = picture(site("pdf"), "doc.pdf?scalex=900&encoding=png")
    assert image.size == (900, 450)
    assert image.convert("RGB").getpixel((450, 225)) == (255, 0, 0)


@NEEDS_SVG
def test_a_drawing_keeps_its_transparency(site: Callable[..., FlaskClient], pictures: Path) -> None:
    rect = "<rect width='20' height='20' fill='red'/>"
    (pictures / "drawing.svg").write_text(_SVG.format(rect))
    at_rest(pictures / "drawing.svg")
    client = site("svg")
    image = picture(client, "drawing.svg?scalex=400&encoding=png").convert("RGBA")
    assert (image.size, image.getpixel((100, 100)), image.getpixel((300, 100))[3]) == (
        (400, 200),
        (255, 0, 0, 255),
        0,
    )
    original = client.get("/picture/drawing.svg")
    assert original.mimetype == "image/svg+xml"
    assert "sandbox" in original.headers["Content-Security-Policy"]
    assert "script" not in original.headers["Content-Security-Policy"]


@NEEDS_CONVERT
def test_a_whole_answer_has_the_bytes_of_the_same_command_by_hand(
    site: Callable[..., FlaskClient], pictures: Path
) -> None:
    quarters(900, 600).save(pictures / "1.jpg", quality=90)
    at_rest(pictures / "1.jpg")
    answer = site("imagemagick_whole").get("/picture/1.jpg?size=300x200")
    with (pictures / "1.jpg").open("rb") as source:
        by_hand = subprocess.run(
            ["convert", "jpeg:-", "-auto-orient", "-thumbnail", "300x200>", "-quality", "80", "jpeg:-"],
            stdin=source,
            capture_output=True,
            check=True,
        ).stdout
    assert answer.data == by_hand
    assert corners(Image.open(io.BytesIO(answer.data))) == ["red", "green", "blue", "white"]


@NEEDS_FFMPEG
@pytest.mark.parametrize(
    "name",
    ["-rf.mp4", "concat:a|b.mp4", "a b.mp4", "%d.mp4", "file:x.mp4", "'$(id)'.mp4", "@list.mp4", "x;y.mp4"],
)
def test_a_name_is_only_a_name(site: Callable[..., FlaskClient], pictures: Path, name: str) -> None:
    clip(pictures / "film.mp4", 1, "64x36")
    (pictures / "film.mp4").rename(pictures / name)
    at_rest(pictures / name)
    assert picture(site("video"), f"{quote(name)}?scalex=32").size == (32, 18)


@NEEDS_FFMPEG
@pytest.mark.parametrize("start", ["", "\0\0\0\x18ftypisom"])
def test_a_playlist_opens_nothing(
    site: Callable[..., FlaskClient], pictures: Path, heard: tuple[int, list[object]], start: str
) -> None:
    port, connections = heard
    text = (
        f"{start}#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nhttp://127.0.0.1:{port}/a.ts\n#EXT-X-ENDLIST\n"
    )
    (pictures / "list.mp4").write_text(text)
    at_rest(pictures / "list.mp4")
    assert site("video").get("/picture/list.mp4?scalex=32").status_code in (404, 422)
    assert connections == []


@NEEDS_SVG
def test_a_drawing_reads_nothing_outside(
    site: Callable[..., FlaskClient], pictures: Path, heard: tuple[int, list[object]]
) -> None:
    port, connections = heard
    quarters(40, 20).save(pictures / "secret.png")
    references = [f"http://127.0.0.1:{port}/x.png", f"file://{pictures}/secret.png", "secret.png"]
    tags = "".join(f"<image href='{each}' width='40' height='20'/>" for each in references)
    (pictures / "x.svg").write_text(_SVG.format(tags))
    at_rest(pictures / "x.svg")
    image = picture(site("svg"), "x.svg?scalex=80&encoding=png").convert("RGBA")
    assert image.getextrema()[3] == (0, 0)
    assert connections == []


@NEEDS_CONVERT
@pytest.mark.parametrize(
    "text",
    [
        "push graphic-context\nviewbox 0 0 9 9\n"
        "image over 0,0 9,9 'http://127.0.0.1:{port}/x.png'\npop graphic-context\n",
        "<?xml version='1.0'?><image><read filename='{secret}'/><write filename='/tmp/out.png'/></image>",
        "%!PS\n(/etc/passwd) (r) file\n",
    ],
    ids=["mvg", "msl", "postscript"],
)
def test_what_imagemagick_would_run_is_no_picture(
    site: Callable[..., FlaskClient], pictures: Path, heard: tuple[int, list[object]], text: str
) -> None:
    port, connections = heard
    for name in ("x.tga", "x.psd", "x.jpg"):
        (pictures / name).write_text(text.format(port=port, secret=pictures / "flag.png"))
        at_rest(pictures / name)
        answer = site("imagemagick", "imagemagick_whole").get(f"/picture/{name}?size=8x8")
        assert answer.status_code in (404, 422), name
    assert connections == []
