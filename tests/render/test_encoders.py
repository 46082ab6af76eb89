"""The PNG writer of our own, and what the settings of the other encoders make."""

from __future__ import annotations

import io
import random
import struct
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from PIL import Image
from support.drawing import encoded, job, photos, quarters, rendered, save, scene

from benchmarks import encoders as benchmark
from imagefactory.model.formats import KNOWN_ENCODINGS
from imagefactory.render import encoders, libdeflate, png_writer
from imagefactory.render import pipeline as render
from imagefactory.render.animation import Animation

ROOT = Path(__file__).parents[2]

MODES = ["L", "LA", "RGB", "RGBA"]
SIZES = [(1, 1), (1, 2), (2, 1), (1, 70), (70, 1), (3, 16), (5, 17), (31, 33), (64, 47)]
KINDS = {"none": 0, "sub": 1, "up": 2, "average": 3}


@pytest.fixture(params=["libdeflate", "zlib"])
def deflate(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """A test for each of the two libraries that may compress."""
    if request.param == "libdeflate":
        pytest.importorskip("deflate")
    else:
        monkeypatch.setattr(libdeflate, "compressor", lambda: None)
    return str(request.param)


def noise(mode: str, size: tuple[int, int]) -> Image.Image:
    """Every value of a byte beside every other, as far as there is room."""
    bands = [Image.effect_noise(size, 300).point(lambda v, i=i: (v * 7 + i) % 256) for i in range(len(mode))]
    return Image.merge(mode, bands) if len(mode) > 1 else bands[0]


def written(image: Image.Image, exif: bytes = b"") -> bytes:
    buffer = io.BytesIO()
    png_writer.save(image, buffer, exif)
    return buffer.getvalue()


def chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Name and data of each chunk, whose CRC is right; nothing follows the last."""
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    at = 8
    while at < len(data):
        length, name = struct.unpack_from(">I4s", data, at)
        body = data[at + 8 : at + 8 + length]
        assert struct.unpack_from(">I", data, at + 8 + length) == (zlib.crc32(name + body),)
        yield name, body
        at += 12 + length
    assert at == len(data)


def inflated(data: bytes) -> bytes:
    """The filtered rows: of one whole zlib stream behind which nothing follows."""
    stream = zlib.decompressobj()
    rows = stream.decompress(b"".join(body for name, body in chunks(data) if name == b"IDAT"))
    assert stream.eof
    assert stream.unused_data == b""
    return rows


def unfiltered(data: bytes, image: Image.Image) -> bytes:
    """The pixels of a PNG as the specification's §9.2 has it, without a picture library."""
    step, rows = len(image.getbands()), inflated(data)
    length = image.width * step
    assert len(rows) == image.height * (1 + length)
    above, pixels = bytes(length), b""
    for top in range(0, len(rows), 1 + length):
        kind, row = rows[top], bytearray(rows[top + 1 : top + 1 + length])
        for i in range(length):
            left = row[i - step] if i >= step else 0
            row[i] = (row[i] + (0, left, above[i], (left + above[i]) // 2)[kind]) % 256
        above = bytes(row)
        pixels += above
    return pixels


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("size", SIZES, ids=lambda size: "x".join(map(str, size)))
@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_each_filter_gives_the_pixels_back(
    monkeypatch: pytest.MonkeyPatch, deflate: str, mode: str, size: tuple[int, int], kind: int
) -> None:
    monkeypatch.setattr(png_writer, "_best_filter", lambda image: kind)
    for image in (noise(mode, size), scene(*size).convert(mode)):
        data = written(image)
        assert inflated(data)[0] == kind
        assert unfiltered(data, image) == image.tobytes()
        found = Image.open(io.BytesIO(data))
        assert (found.mode, found.size, found.tobytes()) == (mode, size, image.tobytes())


@pytest.mark.parametrize("mode", MODES)
def test_a_picture_of_many_strips_is_whole(monkeypatch: pytest.MonkeyPatch, deflate: str, mode: str) -> None:
    monkeypatch.setattr(png_writer, "_STRIP_BYTES", 1000)
    for size in ((100, 77), (2000, 3), (1, 5000)):
        image = noise(mode, size)
        assert Image.open(io.BytesIO(written(image))).tobytes() == image.tobytes()


def test_a_picture_too_large_for_one_go_is_written_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(png_writer, "_STRIP_BYTES", 1000)
    image = noise("RGB", (300, 200))
    size = (1 + 3 * 300) * 200
    whole, parts = [], []
    for limit, found in ((size, whole), (size - 1, parts)):
        monkeypatch.setattr(libdeflate, "MAX_BYTES", limit)
        data = written(image)
        assert Image.open(io.BytesIO(data)).tobytes() == image.tobytes()
        found += [len(body) for name, body in chunks(data) if name == b"IDAT"]
    assert len(parts) > 2
    assert max(parts) < size / 2
    assert 0 not in parts
    if libdeflate.compressor():
        assert len(whole) == 1


def test_a_small_picture_is_one_chunk(deflate: str) -> None:
    """So that it is no larger than its source, as a chunk more would make the smallest."""
    for image in (Image.new("L", (9, 9), 5), noise("RGBA", (90, 90))):
        assert [name for name, _ in chunks(written(image))] == [b"IHDR", b"IDAT", b"IEND"]


@pytest.mark.parametrize("exif", [b"", encoders.exif_of("(c) 2026 Ännä", "Ännä").removeprefix(b"Exif\0\0")])
def test_header_and_credits_are_pillows(deflate: str, exif: bytes) -> None:
    for mode in MODES:
        image = scene(40, 30).convert(mode)
        ours = [chunk for chunk in chunks(written(image, exif)) if chunk[0] != b"IDAT"]
        pillows = chunks(encoded(image, "PNG", exif=exif or None))
        assert ours == [chunk for chunk in pillows if chunk[0] != b"IDAT"]
        assert [name for name, _ in ours] == [b"IHDR", *([b"eXIf"] if exif else []), b"IEND"]


def few_colours() -> Image.Image:
    """Red, black and white in no order."""
    palette = Image.frombytes("P", (320, 240), bytes(v % 3 for v in random.Random(1).randbytes(320 * 240)))
    palette.putpalette([220, 30, 30, 0, 0, 0, 255, 255, 255])
    return palette.convert("RGB")


def opened(path: Path) -> Image.Image:
    with Image.open(path) as image:
        mode = "RGBA" if image.has_transparency_data else "RGB"
        return image.convert(mode).resize((320, 320 * image.height // image.width))


PICTURES: dict[str, Callable[[], Image.Image]] = {
    "soft": lambda: scene(320, 240),
    "across": lambda: Image.linear_gradient("L").rotate(90).resize((320, 240)),
    "down": lambda: Image.linear_gradient("L").resize((320, 240)),
    "few colours": few_colours,
    "noise": lambda: noise("RGB", (320, 240)),
    "flat": lambda: Image.new("RGBA", (320, 240), (9, 99, 199, 99)),
    **{path.name: partial(opened, path) for path in photos()},
}


@pytest.mark.parametrize("name", PICTURES)
def test_the_filter_is_near_to_the_best(monkeypatch: pytest.MonkeyPatch, deflate: str, name: str) -> None:
    """Within 15 %, but for pictures that take next to nothing in any case."""
    image = PICTURES[name]()
    ours = len(written(image))
    for kind in KINDS.values():
        monkeypatch.setattr(png_writer, "_best_filter", lambda image, kind=kind: kind)
        assert ours <= len(written(image)) * 1.15 + 500


def test_pictures_take_no_more_bytes_than_pillows(deflate: str) -> None:
    """All together, against Pillow's filter for each row at the level that would take three times as long."""
    images = [draw() for draw in PICTURES.values()]
    ours = sum(len(written(image)) for image in images)
    pillows = sum(len(encoded(image, "PNG", compress_level=4)) for image in images)
    assert ours <= pillows * (1.02 if deflate == "libdeflate" else 1.06)


def test_what_has_few_colours_is_not_filtered_and_what_is_soft_is(deflate: str) -> None:
    assert png_writer._best_filter(few_colours()) == KINDS["none"]
    assert png_writer._best_filter(scene(320, 240)) != KINDS["none"]


def test_a_variant_is_what_the_writer_makes(tmp_path: Path) -> None:
    """In a file and in memory, with and without alpha."""
    for mode in MODES:
        image = scene(60, 40).convert(mode)
        if "A" in mode:
            image.putalpha(Image.linear_gradient("L").resize((60, 40)))
        source = save(tmp_path, "a.tif", image)
        target = tmp_path / "variant"
        target.touch()
        assert render.render(job(source, target=target)).body is None
        assert target.read_bytes() == render.render(job(source)).body == written(image)
        assert rendered(source).tobytes() == image.tobytes()


def test_without_its_extra_the_writer_takes_zlib(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "deflate", None)
    assert libdeflate.compressor.__wrapped__() is None


@pytest.mark.slow
def test_others_run_while_a_png_is_compressed(deflate: str) -> None:
    """Pillow's own writer holds the interpreter for a part of 64 kB at a time."""
    image = noise("RGB", (2000, 1500))
    stalls, is_done = [0.0], threading.Event()

    def watch() -> None:
        last = time.perf_counter()
        while not is_done.is_set():
            time.sleep(0.001)
            now = time.perf_counter()
            stalls.append(now - last)
            last = now

    watcher = threading.Thread(target=watch)
    watcher.start()
    began = time.perf_counter()
    written(image)
    took = time.perf_counter() - began
    is_done.set()
    watcher.join()
    assert max(stalls) < 0.8 * took


def test_a_jpeg_is_baseline_with_half_the_colours(tmp_path: Path) -> None:
    """Progressive, or with tables made to measure, it is 2 to 6 % smaller in two to five times the time."""
    result = rendered(save(tmp_path, "a.png", scene()), "jpeg")
    assert "progressive" not in result.info
    assert [layer[1:3] for layer in result.layer] == [(2, 2), (1, 1), (1, 1)]  # type: ignore[attr-defined]


def test_opaque_pictures_cost_no_alpha(tmp_path: Path) -> None:
    source = save(tmp_path, "a.tif", quarters().convert("RGBA"))
    opaque = save(tmp_path, "b.tif", quarters())
    for encoding in ("png", "webp", "avif"):
        assert render.render(job(source, encoding)).body == render.render(job(opaque, encoding)).body


def test_each_encoding_has_its_encoder() -> None:
    assert [*encoders.ENCODERS] == [name for name, row in KNOWN_ENCODINGS.items() if not row.by_programs]
    for name, encoder in encoders.ENCODERS.items():
        assert (encoder.moving is not None) == KNOWN_ENCODINGS[name].has_animation, name


def test_no_animation_is_written_where_there_is_none() -> None:
    animation = Animation([quarters()], 1, [100], 0)
    with pytest.raises(ValueError, match="no animation is written as jpeg"):
        encoders.moving(animation, encoders.Settings("jpeg"))


# --- the benchmark's own arithmetic; nothing is measured here -------------------------------------------


@pytest.mark.parametrize("name", [*benchmark.TABLES, "equivalents"])
def test_the_docs_have_a_place_for_every_table(name: str) -> None:
    text = (ROOT / "docs" / "encoders.md").read_text(encoding="utf-8")
    once = benchmark.fill(text, name, ["| a |", "| \\1 |"])
    assert "\n| a |\n| \\1 |\n" in once
    assert benchmark.fill(once, name, ["| b |"]) == once.replace("| a |\n| \\1 |", "| b |")


def test_docs_without_a_place_are_left_alone() -> None:
    with pytest.raises(SystemExit, match="<!-- encoders: jpeg -->"):
        benchmark.fill("# Encoders", "jpeg", [])


def test_bytes_at_equal_likeness_are_read_off_the_curve() -> None:
    """Halfway in SSIM is halfway in the logarithm of bytes."""
    curve = [(0.90, 1000), (0.98, 4000), (0.94, 2000)]
    results = {
        name: benchmark.Result(1.0, size, like)
        for name, size, like in (("same", 2000, 0.94), ("half", 1000, 0.94), ("between", 1414, 0.92))
    }
    found = benchmark.equal_bytes(results, curve)
    assert {name: round(value, 3) for name, value in found.items()} == {"same": 1, "half": 0.5, "between": 1}


def test_every_table_begins_with_the_setting_in_use() -> None:
    image = quarters(32, 24)
    for name, candidates in benchmark.TABLES.items():
        first = next(iter(candidates(None)))
        assert first.startswith("**in use**")
        assert candidates(None)[first](image)[1] == benchmark.in_use(name)(image)[1]


def test_a_setting_that_does_not_take_the_pixels_is_left_out() -> None:
    found = benchmark.measure(
        {"png": benchmark.in_use("png"), "jpeg": benchmark.by_pillow("JPEG")},
        scene(40, 30).convert("RGBA"),
        1,
    )
    assert list(found) == ["png"]
    assert found["png"].ssim == pytest.approx(1)
