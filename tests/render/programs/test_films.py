"""How long a film is: of real ones, and of boxes that lie."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import pytest
from support.films import FFMPEGS, draw

from imagefactory.render.films import duration_s

KINDS = {
    "plain.mp4": [],
    "fast.mp4": ["-movflags", "faststart"],
    "dash.mp4": ["-movflags", "dash+frag_keyframe"],
    "film.mov": [],
    "film.mkv": [],
}


def lasts(data: bytes) -> float:
    return duration_s(io.BytesIO(data))


def box(kind: bytes, *content: bytes) -> bytes:
    body = b"".join(content)
    return struct.pack(">I4s", len(body) + 8, kind) + body


def mvhd(scale: int = 1000, duration: int = 12_500, wide: bool = False) -> bytes:
    times = struct.pack(">QQIQ" if wide else ">IIII", 0, 0, scale, duration)
    return box(b"mvhd", bytes([wide, 0, 0, 0]), times, bytes(80))


def element(name: str, content: bytes) -> bytes:
    return bytes.fromhex(name) + struct.pack(">Q", len(content) | 1 << 56) + content


EBML = element("1a45dfa3", b"\x42\x82\x84webm")


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not FFMPEGS:
        pytest.skip("no ffmpeg")
    folder = tmp_path_factory.mktemp("films")
    first = folder / "first.mp4"
    draw(
        "-f",
        "lavfi",
        "-i",
        "testsrc2=s=64x48:r=10:d=4",
        "-f",
        "lavfi",
        "-i",
        "sine=d=4",
        "-g",
        "10",
        str(first),
    )
    for name, options in KINDS.items():
        draw("-i", str(first), "-c", "copy", *options, str(folder / name))
    draw("-i", str(first), "-c", "copy", "-movflags", "frag_keyframe+empty_moov", str(folder / "open.mp4"))
    draw("-i", str(first), "-c:v", "libvpx", "-an", "-b:v", "50k", str(folder / "film.webm"))
    return folder


@pytest.mark.parametrize("name", [*KINDS, "film.webm"])
def test_a_film_says_how_long_it_is(films: Path, name: str) -> None:
    with (films / name).open("rb") as file:
        assert duration_s(file) == pytest.approx(4, abs=0.25)


def test_a_film_that_was_never_closed_says_nothing(films: Path) -> None:
    with (films / "open.mp4").open("rb") as file:
        assert duration_s(file) == 0.0


@pytest.mark.parametrize(
    ("data", "seconds"),
    [
        (box(b"moov", mvhd()), 12.5),
        (box(b"moov", mvhd(wide=True)), 12.5),
        (box(b"ftyp", b"isom") + box(b"mdat", bytes(5000)) + box(b"moov", box(b"free"), mvhd()), 12.5),
        # of 64 bits, and up to the end
        (struct.pack(">I4sQ", 1, b"mdat", 116) + bytes(100) + box(b"moov", mvhd()), 12.5),
        (struct.pack(">I4s", 0, b"moov") + mvhd(), 12.5),
        # in fragments
        (box(b"moov", mvhd(duration=0), box(b"mvex", box(b"mehd", struct.pack(">II", 0, 7000)))), 7),
        (box(b"moov", mvhd(duration=0), box(b"mvex", box(b"mehd", struct.pack(">IQ", 1 << 24, 7000)))), 7),
        (box(b"moov", mvhd(duration=0xFFFFFFFF), box(b"mvex")), 0),
        (box(b"sidx", struct.pack(">6I", 0, 1, 90, 0, 0, 2), struct.pack(">6I", 9, 180, 0, 9, 45, 0)), 2.5),
        # of which it has one for each track
        (box(b"sidx", struct.pack(">9I", 0, 1, 10, 0, 0, 1, 9, 20, 0)) * 2
         + box(b"sidx", struct.pack(">9I", 0, 2, 10, 0, 0, 1, 9, 39, 0)), 4),
        (EBML + element("18538067", element("1549a966", element("4489", struct.pack(">d", 2500)))), 2.5),
        (EBML + element("18538067", element("1549a966", element("4489", struct.pack(">f", 25))
                                            + element("2ad7b1", b"\x05\xf5\xe1\x00"))), 2.5),
        # a live stream: a segment of unknown size
        (EBML + bytes.fromhex("1853806701ffffffffffffff") + element("1f43b675", bytes(9)), 0),
    ],
)  # fmt: skip
def test_headers(data: bytes, seconds: float) -> None:
    assert lasts(data) == seconds


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0",
        b"\x1a\x45\xdf\xa3",
        bytes(4096),
        b"\xff" * 4096,
        b"RIFF....WEBPVP8 ",
        box(b"moov"),
        box(b"moov", box(b"mvhd")),
        box(b"moov", mvhd(scale=0)),
        box(b"moov", mvhd(scale=1, duration=0xFFFFFFFE)),
        box(b"moov", mvhd(duration=0), box(b"mvex", box(b"mehd"))),
        box(b"sidx", struct.pack(">6I", 0, 1, 0, 0, 0, 2), bytes(24)),
        box(b"sidx", struct.pack(">6I", 0, 1, 90, 0, 0, 0xFFFF)),
        struct.pack(">I4sQ", 1, b"mdat", 2**64 - 1),
        struct.pack(">I4sQ", 1, b"mdat", 3),
        struct.pack(">I4s", 7, b"moov") * 100,
        EBML + element("18538067", element("1549a966", element("4489", b"\x7f\xf8\0\0\0\0\0\0"))),
        EBML + element("18538067", element("1549a966", element("4489", b"abc"))),
        EBML + element("18538067", element("1549a966", element("4489", struct.pack(">d", -5)))),
    ],
)
def test_a_header_that_lies_is_no_duration(data: bytes) -> None:
    assert lasts(data) == 0.0


@pytest.mark.parametrize("unit", [box(b"free"), box(b"sidx", bytes(24)), bytes.fromhex("ec80")])
def test_a_million_boxes_are_not_walked(unit: bytes) -> None:
    class Counted(io.BytesIO):
        reads = 0

        def read(self, size: int | None = -1) -> bytes:
            assert size is not None and 0 <= size <= 65536
            self.reads += 1
            return super().read(size)

    start = EBML + element("18538067", b"")[:4] + b"\xff" if len(unit) == 2 else b""
    file = Counted(start + unit * 1_000_000)
    assert duration_s(file) == 0.0
    assert file.reads < 10_000
