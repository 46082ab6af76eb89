"""PNGs that libdeflate inflates: the same pictures, facts and failures as with Pillow alone."""

from __future__ import annotations

import random
import struct
import subprocess
import sys
import threading
import time
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from support.drawing import (
    MAX_PIXELS,
    encoded,
    ico,
    orientation,
    photos,
    png_chunk,
    rgb_profile,
    scene,
    written,
)

from imagefactory.errors import ImageFactoryError
from imagefactory.model.job import Job
from imagefactory.model.recipe import Recipe
from imagefactory.model.source import Stamp
from imagefactory.render import decoders, libdeflate, png_reader
from imagefactory.render.pipeline import render
from imagefactory.render.source_file import SourceFile

Alone = Callable[[], None]
needs_libdeflate = pytest.mark.skipif(libdeflate.decompressor() is None, reason='needs the extra "fast"')


@pytest.fixture
def inflated(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """For each PNG that was loaded, whether libdeflate inflated it."""
    found: list[bool] = []
    rows_of = png_reader._rows_of

    def noted(picture: Image.Image, file: SourceFile) -> bytes | bytearray | None:
        rows = rows_of(picture, file)
        found.append(rows is not None)
        return rows

    monkeypatch.setattr(png_reader, "_rows_of", noted)
    return found


@pytest.fixture
def without_libdeflate() -> Iterator[Alone]:
    """A call that takes the extra "fast" away for the rest of the test."""
    with pytest.MonkeyPatch.context() as patch:

        def block() -> None:
            patch.setitem(sys.modules, "deflate", None)
            libdeflate.decompressor.cache_clear()

        yield block
    libdeflate.decompressor.cache_clear()


def loaded(source: Path) -> object:
    """All that can be seen of a picture once it is loaded; or how that failed."""
    work = Job(source, Stamp.of(source.stat()), Recipe(), "png", None, MAX_PIXELS, 8192)
    try:
        with SourceFile(source) as file:
            picture: Any = decoders.open_within_budget(work, file)
            decoders.load(work, file, picture, 0)
            assert "load_read" not in vars(picture)  # it would keep the rows as long as the picture lives
            pixels = picture.im.mode, picture.size, picture.tobytes(), picture.getpalette("RGBA")
            facts = picture.mode, picture.info, picture.readonly, picture.tile, picture.fp, picture.text
            return *pixels, *facts, picture.private_chunks, decoders.credits_of(picture), file.tell()
    except ImageFactoryError as error:
        return type(error).__name__, str(error)


# --- files ----------------------------------------------------------------------------------------------

_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by colour type
# (bits, colour type): all that there are.
KINDS = [(bits, 0) for bits in (1, 2, 4, 8, 16)] + [(bits, 3) for bits in (1, 2, 4, 8)]
KINDS += [(bits, colour) for colour in (2, 4, 6) for bits in (8, 16)]
PALETTE = png_chunk(b"PLTE", bytes(i * 7 % 256 for i in range(768)))
SIZES = [(1, 1), (7, 5), (64, 33), (1, 700), (700, 1), (300, 301), (17_000, 2)]


def noise(width: int, height: int, bits: int, colour: int, filters: str = "0") -> bytes:
    """Rows of anything, behind the filter types that *filters* repeats."""
    source, length = random.Random(width * height), (width * bits * _CHANNELS[colour] + 7) // 8
    return b"".join(bytes([int(filters[y % len(filters)])]) + source.randbytes(length) for y in range(height))


def file_of(
    width: int,
    height: int,
    data: bytes,
    *,
    bits: int = 8,
    colour: int = 6,
    before: bytes = b"",
    after: bytes = b"",
    cuts: tuple[int, ...] = (),
    interlaced: bool = False,
) -> bytes:
    """A PNG whose IDAT chunks, cut at *cuts*, have *data*, which are deflated already."""
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, interlaced)
    if colour == 3 and b"PLTE" not in before:
        before = PALETTE + before
    edges = [0, *cuts, len(data)]
    parts = [png_chunk(b"IDAT", data[a:b]) for a, b in pairwise(edges)]
    start = b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + before
    return start + b"".join(parts) + after + png_chunk(b"IEND", b"")


def ready(bits: int = 8, colour: int = 6, filters: str = "0", **options: Any) -> bytes:
    """A sound PNG of 31 x 23 pixels."""
    data = zlib.compress(noise(31, 23, bits, colour, filters))
    return file_of(31, 23, data, bits=bits, colour=colour, **options)


def animated(**options: Any) -> bytes:
    frames = [scene(31, 23), scene(31, 23).rotate(180)]
    return encoded(frames[0], "PNG", save_all=True, append_images=frames[1:], **options)


TEXT = png_chunk(b"tEXt", b"Author\0Ada") + png_chunk(b"tEXt", b"Copyright\0(c) Ada")
EXIF = png_chunk(b"eXIf", orientation(6, copyright="(c) Ada", artist="Ada").tobytes()[6:])
GAMMA = png_chunk(b"gAMA", struct.pack(">I", 45455)) + png_chunk(b"sRGB", b"\0")
STREAM, MANY = zlib.compress(noise(9, 9, 8, 6)), zlib.compress(noise(300, 100, 8, 6))
EMPTY_BLOCK = b"\0\0\0\xff\xff"  # stored, and not the last
PROFILE = png_chunk(b"iCCP", b"p3\0\0" + zlib.compress(rgb_profile("p3")))


# --- sound files ----------------------------------------------------------------------------------------


@needs_libdeflate
@pytest.mark.parametrize("filters", ["0", "1", "2", "3", "4", "00012340"])
@pytest.mark.parametrize(("bits", "colour"), KINDS)
def test_every_kind_of_pixel_and_filter_loads_as_with_pillow_alone(
    tmp_path: Path, inflated: list[bool], without_libdeflate: Alone, bits: int, colour: int, filters: str
) -> None:
    sources = []
    for width, height in SIZES:
        data = zlib.compress(noise(width, height, bits, colour, filters))
        picture = file_of(width, height, data, bits=bits, colour=colour)
        sources.append(written(tmp_path, f"{width}x{height}.png", picture))
    found = [loaded(source) for source in sources]
    assert inflated == [True] * len(SIZES)
    without_libdeflate()
    assert found == [loaded(source) for source in sources]
    assert inflated[len(SIZES) :] == [False] * len(SIZES)


# The file, and whether libdeflate inflates it.
FILES: dict[str, tuple[Callable[[], bytes], bool]] = {
    "key of greys": (lambda: ready(8, 0, before=png_chunk(b"tRNS", b"\0\7")), True),
    "key of 16-bit greys": (lambda: ready(16, 0, before=png_chunk(b"tRNS", b"\1\7")), True),
    "key of colours": (lambda: ready(8, 2, before=png_chunk(b"tRNS", b"\0\1\0\2\0\3")), True),
    "palette of 3": (lambda: ready(2, 3, before=png_chunk(b"PLTE", b"abcdefghi")), True),
    "one clear colour": (lambda: ready(8, 3, before=PALETTE + png_chunk(b"tRNS", b"\xff\0\xff")), True),
    "alphas of colours": (lambda: ready(8, 3, before=PALETTE + png_chunk(b"tRNS", b"\1\2\3")), True),
    "gamma": (lambda: ready(before=GAMMA), True),
    "profile": (lambda: ready(before=PROFILE), True),
    "texts before": (lambda: ready(before=TEXT), True),
    "texts after": (lambda: ready(after=TEXT), True),
    "EXIF before": (lambda: ready(before=EXIF), True),
    "EXIF after": (lambda: ready(after=EXIF), True),
    "EXIF after, filtered": (lambda: ready(filters="4", after=EXIF), True),
    "unknown chunks": (lambda: ready(before=png_chunk(b"abCd", b"1"), after=png_chunk(b"efGh", b"2")), True),
    "unknown critical chunk after": (lambda: ready(after=png_chunk(b"ABCD", b"1")), True),
    "palette of RGB": (lambda: ready(8, 2, before=PALETTE), True),
    "many IDATs": (lambda: ready(cuts=tuple(range(1, 2500))), True),
    "many IDATs, filtered": (lambda: ready(filters="3", cuts=tuple(range(1, 2500))), True),
    "empty IDATs": (lambda: ready(cuts=(0, 0, 9, 9, 9)), True),
    "empty IDAT at the end": (lambda: ready(after=png_chunk(b"IDAT", b"")), True),
    "IDAT behind another chunk": (lambda: ready(after=TEXT + png_chunk(b"IDAT", b"abc")), True),
    "junk behind the end": (lambda: ready() + b"PK\3\4", True),
    "stored": (lambda: file_of(9, 9, zlib.compress(noise(9, 9, 8, 6), 0)), True),
    "two zlib streams": (lambda: file_of(9, 9, STREAM * 2), True),
    "more rows": (lambda: file_of(9, 9, zlib.compress(noise(9, 12, 8, 6))), False),
    "a byte more": (lambda: file_of(9, 9, zlib.compress(noise(9, 9, 8, 6) + b"\0")), False),
    "fewer rows": (lambda: file_of(9, 9, zlib.compress(noise(9, 7, 8, 6))), False),
    "a byte less": (lambda: file_of(9, 9, zlib.compress(noise(9, 9, 8, 6)[:-1])), False),
    "nothing": (lambda: file_of(9, 9, zlib.compress(b"")), False),
    "no stream": (lambda: file_of(9, 9, b""), False),
    "blown up": (lambda: file_of(9, 9, b"\x78\1" + EMPTY_BLOCK * 20_000 + STREAM[2:]), False),
    "a few empty blocks": (lambda: file_of(9, 9, b"\x78\1" + EMPTY_BLOCK * 9 + STREAM[2:]), True),
    "as many IDATs as may be": (lambda: file_of(300, 100, MANY, cuts=tuple(range(1, 80_000))), True),
    "too many IDATs": (lambda: file_of(300, 100, MANY, cuts=tuple(range(1, 110_000))), True),
    "a dictionary": (lambda: file_of(9, 9, b"\x78\xbb" + STREAM[2:]), False),
    "wrong CRC of IDAT": (lambda: ready()[:-16] + b"oops" + ready()[-12:], True),
    "wrong CRC of IEND": (lambda: ready()[:-4] + b"oops", True),
    "wrong Adler-32": (lambda: file_of(9, 9, STREAM[:-1] + b"?"), False),
    "IDAT longer than the file": (lambda: claiming_more(cut_by(b"")), False),
    "text between IDATs": (lambda: cut_by(TEXT), False),
    "filter type 5": (lambda: ready(filters="00500"), True),
    "filter type 9 at the end": (lambda: ready(filters="0" * 22 + "9"), True),
    # Of 1 x 1 there is but the first pass: the same bytes as without.
    "interlaced": (lambda: file_of(1, 1, zlib.compress(b"\0abcd"), interlaced=True), False),
    "animated": (animated, False),
    "animated, with a default image": (lambda: animated(default_image=True), False),
    "animation of one frame": (lambda: ready(before=png_chunk(b"acTL", struct.pack(">II", 1, 0))), False),
    "icon": (lambda: ico(encoded(scene(31, 23), "PNG"), 31, 23), True),
}


def claiming_more(data: bytes) -> bytes:
    """Without what is behind the pixels, which the last IDAT says are more."""
    at = data.rindex(b"IDAT") - 4
    return data[:at] + struct.pack(">I", 10_000) + data[at + 4 : -16]


def cut_by(chunk: bytes) -> bytes:
    data = STREAM
    rest = png_chunk(b"IDAT", data[99:])
    return file_of(9, 9, data[:99], after=chunk + rest)


@needs_libdeflate
@pytest.mark.parametrize("name", FILES)
def test_a_file_loads_as_with_pillow_alone(
    tmp_path: Path, inflated: list[bool], without_libdeflate: Alone, name: str
) -> None:
    make, is_inflated = FILES[name]
    source = written(tmp_path, "a.png", make())
    found = loaded(source)
    assert inflated == [is_inflated]
    without_libdeflate()
    assert found == loaded(source)


@needs_libdeflate
def test_what_was_inflated_is_rendered_as_with_pillow_alone(
    tmp_path: Path, inflated: list[bool], without_libdeflate: Alone
) -> None:
    sources = [path for path in photos() if path.suffix == ".png"]
    sources += [written(tmp_path, f"{i}.png", ready(filters=f, after=EXIF)) for i, f in enumerate("04")]
    works = [
        Job(source, Stamp.of(source.stat()), Recipe(width=20), "png", None, MAX_PIXELS, 8192)
        for source in sources
    ]
    bodies = [render(work).body for work in works]
    assert any(inflated)
    without_libdeflate()
    assert bodies == [render(work).body for work in works]
    assert b"(c) Ada" in (bodies[-1] or b"")


# --- damaged files --------------------------------------------------------------------------------------

SOUND = {
    "plain": lambda: file_of(40, 30, zlib.compress(noise(40, 30, 8, 6)), after=TEXT, cuts=(1000, 3000)),
    "filtered": lambda: encoded(scene(120, 90), "PNG"),
    "palette": lambda: encoded(scene(120, 90).quantize(50), "PNG"),
}
FLIPS = 400  # for each of them; a third of a second


@needs_libdeflate
@pytest.mark.parametrize("name", SOUND)
def test_a_flipped_bit_ends_as_with_pillow_alone(
    tmp_path: Path, without_libdeflate: Alone, name: str
) -> None:
    _same_in_the_end(tmp_path, without_libdeflate, _flipped(SOUND[name]()))


@needs_libdeflate
@pytest.mark.parametrize("name", SOUND)
def test_a_file_that_is_cut_off_ends_as_with_pillow_alone(
    tmp_path: Path, without_libdeflate: Alone, name: str
) -> None:
    data = SOUND[name]()
    ends = {len(data) * i // FLIPS for i in range(FLIPS)} | set(range(len(data) - 200, len(data)))
    _same_in_the_end(tmp_path, without_libdeflate, [data[:end] for end in sorted(ends)])


@needs_libdeflate
@pytest.mark.parametrize("name", SOUND)
def test_a_lost_or_doubled_piece_ends_as_with_pillow_alone(
    tmp_path: Path, without_libdeflate: Alone, name: str
) -> None:
    data, dice = SOUND[name](), random.Random(name)
    files = []
    for _ in range(FLIPS // 2):
        a, b = sorted(dice.sample(range(8, len(data)), 2))
        files += [data[:a] + data[b:], data[:b] + data[a:]]
    _same_in_the_end(tmp_path, without_libdeflate, files)


def _flipped(data: bytes) -> list[bytes]:
    """A bit of each byte of the header, of the first chunk and of the end, and of some between."""
    dice = random.Random(len(data))
    places = {*range(80), *range(len(data) - 80, len(data)), *dice.sample(range(len(data)), FLIPS)}
    return [data[:at] + bytes([data[at] ^ 1 << dice.randrange(8)]) + data[at + 1 :] for at in sorted(places)]


def _same_in_the_end(folder: Path, without_libdeflate: Alone, files: list[bytes]) -> None:
    sources = [written(folder, f"{number}.png", data) for number, data in enumerate(files)]
    found = [loaded(source) for source in sources]
    without_libdeflate()
    alone = [loaded(source) for source in sources]
    assert [i for i, (a, b) in enumerate(zip(found, alone, strict=True)) if a != b] == []
    assert 0 < sum("Undecodable" in str(outcome)[:20] for outcome in alone) < len(files)


# --- bounds ---------------------------------------------------------------------------------------------


@needs_libdeflate
@pytest.mark.parametrize(("height", "is_inflated"), [(1024, True), (1025, False)])
def test_more_than_64_mb_are_left_to_pillow(
    tmp_path: Path, inflated: list[bool], height: int, is_inflated: bool
) -> None:
    data = zlib.compress(bytes(2**16 * height), 1)
    loaded(written(tmp_path, "a.png", file_of(2**16 // 3, height, data, colour=2)))
    assert inflated == [is_inflated]


@needs_libdeflate
@pytest.mark.parametrize("filters", ["0", "1"])
def test_rows_take_their_size_twice_at_most_and_are_not_kept(tmp_path: Path, filters: str) -> None:
    rows = noise(1000, 1000, 8, 6, filters)
    source = written(tmp_path, "a.png", file_of(1000, 1000, zlib.compress(rows, 0)))
    work = Job(source, Stamp.of(source.stat()), Recipe(), "png", None, MAX_PIXELS, 8192)
    with SourceFile(source) as file:
        picture = decoders.open_within_budget(work, file)
        tracemalloc.start()  # which does not see Pillow's pixels
        try:
            decoders.load(work, file, picture, 0)
            kept, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert kept < 100_000
    assert len(rows) < peak < 2.3 * len(rows)


_WITH_LITTLE_MEMORY = """
import re, resource, sys
from pathlib import Path
from imagefactory.model.job import Job, Stamp
from imagefactory.model.recipe import Recipe
from imagefactory.render import decoders, libdeflate
from imagefactory.render.source_file import SourceFile

source = Path(sys.argv[1])
work = Job(source, Stamp.of(source.stat()), Recipe(), "png", None, 10**8, 8192)
assert libdeflate.decompressor()
with SourceFile(source) as file:
    picture = decoders.open_within_budget(work, file)
    used = int(re.search(r"VmSize:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) * 1024
    resource.setrlimit(resource.RLIMIT_AS, (used + 45 * 2**20, -1))
    decoders.load(work, file, picture, 0)
    sys.stdout.write(f"{picture.size} {picture.im is not None}")
"""


@needs_libdeflate
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_where_memory_lasts_for_pillow_alone_it_lasts(tmp_path: Path) -> None:
    """30 MB of pixels in 45 MB: there is no room for rows beside what they were deflated to."""
    data = zlib.compress(bytes(5001 * 6000), 0)
    source = written(tmp_path, "a.png", file_of(5000, 6000, data, colour=0))
    command = [sys.executable, "-c", _WITH_LITTLE_MEMORY, str(source)]
    # What Python 3.11 says on stderr about exported buffers is of its own bytearray that could not be made.
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.stdout == "(5000, 6000) True", result.stderr


@needs_libdeflate
@pytest.mark.slow
def test_others_run_while_a_png_is_inflated(tmp_path: Path) -> None:
    rows = noise(3000, 2500, 8, 2)
    source = written(tmp_path, "a.png", file_of(3000, 2500, zlib.compress(rows, 1), colour=2))
    ticks, is_done = [0], threading.Event()

    def count() -> None:
        while not is_done.wait(0.0005):
            ticks[0] += 1

    counter = threading.Thread(target=count)
    counter.start()
    try:
        with SourceFile(source) as file:
            before, began = ticks[0], time.perf_counter()
            found = png_reader.inflated(file, file.head.index(b"IDAT") - 4, len(rows))
            ticked, took = ticks[0] - before, time.perf_counter() - began
        assert found == rows
        assert ticked > took / 0.05
    finally:
        is_done.set()
        counter.join()
