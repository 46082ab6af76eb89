"""Animations: composition, durations, loops, and budgets, from every container to every other."""

from __future__ import annotations

import io
import struct
import tracemalloc
import zlib
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageChops, ImageSequence
from support.drawing import (
    BLUE,
    GREEN,
    RED,
    WHITE,
    corners,
    encoded,
    gif,
    is_moving,
    job,
    near,
    opened,
    photos,
    png_chunk,
    quarters,
    rendered,
    rgb_profile,
    save,
    scene,
    written,
)

from imagefactory.errors import Undecodable
from imagefactory.model.formats import ENCODINGS
from imagefactory.model.recipe import Rect
from imagefactory.render import pipeline as render

MOVING = [name for name, encoding in ENCODINGS.items() if encoding.has_animation]
COLOURS = [RED, GREEN, BLUE, WHITE]


def walk(has_alpha: bool = False, width: int = 96, height: int = 64) -> list[Image.Image]:
    """A square that walks over a ground, and changes its colour; with alpha the ground is transparent."""
    frames = []
    for i, colour in enumerate(COLOURS):
        frame = Image.new("RGBA", (width, height), (0, 0, 0, 0) if has_alpha else (90, 90, 90, 255))
        frame.paste((*colour, 255), (i * 24, 16, i * 24 + 24, 48))
        # libwebp forgets that an animation is transparent where no frame has alpha of its own.
        frame.putpixel((i * 24 + 1, 17), (*colour, 250 if has_alpha else 255))
        frames.append(frame if has_alpha else frame.convert("RGB"))
    return frames


def animated(folder: Path, format: str, frames: list[Image.Image], **options: Any) -> Path:
    suffix = {"gif": "gif", "webp": "webp", "png": "png", "avif": "avif"}[format]
    defaults: dict[str, Any] = {"duration": [100, 200, 300, 400], "loop": 0}
    if format == "gif":
        defaults["disposal"] = 2
    if format == "webp":
        defaults["lossless"] = True
    if format == "avif":
        defaults |= {"quality": 95, "speed": 8}
        defaults.pop("loop")
    return save(
        folder, f"a.{suffix}", frames[0], save_all=True, append_images=frames[1:], **(defaults | options)
    )


def opened_file(source: Path) -> Image.Image:
    return Image.open(io.BytesIO(source.read_bytes()))


def frames_of(image: Image.Image) -> list[Image.Image]:
    return [frame.convert("RGBA") for frame in ImageSequence.Iterator(image)]


def durations_of(image: Image.Image) -> list[int]:
    found = []
    for number in range(getattr(image, "n_frames", 1)):
        image.seek(number)
        image.load()
        found.append(round(image.info["duration"]))
    return found


@pytest.mark.parametrize("encoding", MOVING)
@pytest.mark.parametrize("format", MOVING)
@pytest.mark.parametrize("has_alpha", [False, True])
@pytest.mark.parametrize("scale", [1, 2])
def test_frames_are_what_was_seen(
    tmp_path: Path, format: str, encoding: str, has_alpha: bool, scale: int
) -> None:
    source = animated(tmp_path, format, walk(has_alpha))
    header = render.probe(source)
    assert header is not None
    assert header.frames == 4
    result = rendered(source, encoding, width=96 // scale)
    assert durations_of(result) == [100, 200, 300, 400]
    assert "icc_profile" not in result.info
    for number, frame in enumerate(frames_of(result)):
        for spot in range(4):
            pixel = frame.getpixel(((spot * 24 + 12) // scale, 32 // scale))
            if spot == number:
                assert near(pixel, (*COLOURS[number], 255), 12), (number, spot)
            elif has_alpha:
                assert pixel[3] < 8, (number, spot)
            else:
                assert near(pixel, (90, 90, 90, 255), 12), (number, spot)


@pytest.mark.parametrize("encoding", MOVING)
def test_the_pixels_of_a_gif_stay_as_they_are(tmp_path: Path, encoding: str) -> None:
    """Few colours, lossless encodings: nothing may change, whatever disposal the frames have."""
    for disposal in (0, 1, 2, 3, [1, 2, 3, 0]):
        source = animated(tmp_path, "gif", walk(True), disposal=disposal)
        wanted = frames_of(opened_file(source))
        result = frames_of(rendered(source, encoding))
        assert len(result) == len(wanted)
        if encoding in ("gif", "png"):
            for one, other in zip(result, wanted, strict=True):
                assert ImageChops.difference(one.convert("RGBa"), other.convert("RGBa")).getbbox() is None


@pytest.mark.parametrize("encoding", ["gif", "png"])
def test_many_frames_of_many_colours_follow_each_other(tmp_path: Path, encoding: str) -> None:
    frames = [scene(80, 60).rotate(i * 20).convert("RGBA") for i in range(6)]
    frames[3].paste((0, 0, 0, 0), (10, 10, 40, 40))
    source = animated(tmp_path, "webp", frames, duration=50)
    for number, frame in enumerate(frames_of(rendered(source, encoding))):
        alpha = frame.getchannel("A")
        assert ImageChops.difference(alpha, frames[number].getchannel("A")).getbbox() is None
        one, other = (picture.convert("RGB").reduce(8).tobytes() for picture in (frame, frames[number]))
        assert sum(abs(a - b) for a, b in zip(one, other, strict=True)) / len(one) < 6


@pytest.mark.parametrize(
    ("format", "loop", "plays"),
    [
        ("gif", None, 1),
        ("gif", 0, 0),
        ("gif", 1, 2),
        ("gif", 7, 8),
        ("webp", 0, 0),
        ("webp", 1, 1),
        ("webp", 5, 5),
        ("png", 0, 0),
        ("png", 1, 1),
        ("png", 3, 3),
    ],
)
def test_it_plays_as_often_as_before(tmp_path: Path, format: str, loop: int | None, plays: int) -> None:
    source = animated(tmp_path, format, walk(), **({} if loop is None else {"loop": loop}))
    if loop is None:
        data = encoded(walk()[0], "GIF", save_all=True, append_images=walk()[1:], duration=100)
        source = written(tmp_path, "a.gif", data)
    for encoding in ("gif", "webp", "png"):
        found = rendered(source, encoding, width=48).info.get("loop")
        assert found == ({0: 0, 1: None}.get(plays, plays - 1) if encoding == "gif" else plays), encoding


def test_no_duration_is_a_tenth_of_a_second(tmp_path: Path) -> None:
    source = animated(tmp_path, "gif", walk(), duration=0)
    for encoding in MOVING:
        assert durations_of(rendered(source, encoding, width=48)) == [100] * 4


@pytest.mark.parametrize("encoding", [*MOVING, "jpeg"])
def test_a_still_is_the_first_frame(tmp_path: Path, encoding: str) -> None:
    for format in MOVING:
        source = animated(tmp_path, format, walk())
        result = rendered(source, encoding, anim=False, width=96)
        assert getattr(result, "n_frames", 1) == 1
        assert near(result.convert("RGB").getpixel((12, 32)), RED, 12)
        assert near(result.convert("RGB").getpixel((36, 32)), (90, 90, 90), 12)


def test_every_frame_gets_the_same_steps(tmp_path: Path) -> None:
    frames = [quarters(80, 60), quarters(80, 60).rotate(180), quarters(80, 60)]
    source = animated(tmp_path, "webp", frames, duration=50)
    result = frames_of(rendered(source, "png", rotate=90, flop=True, width=30))
    assert [frame.size for frame in result] == [(30, 40)] * 3
    assert corners(result[0]) == ["red", "blue", "green", "white"]
    assert corners(result[1]) == ["white", "green", "blue", "red"]
    result = frames_of(rendered(source, "png", rect=Rect(0, 0, 40, 30)))
    assert [corners(frame)[0] for frame in result] == ["red", "white", "red"]
    result = frames_of(rendered(source, "webp", width=50, height=50, fit="pad", background="00000000"))
    assert [frame.getpixel((25, 2))[3] for frame in result] == [0, 0, 0]
    result = frames_of(rendered(source, "gif", grayscale=True, blur=1.0, sharpen=1.0))
    assert all(near(pixel[:2], pixel[1:3], 2) for frame in result for _, pixel in frame.getcolors(5000))


def test_smart_and_trim_are_decided_on_the_first_frame(tmp_path: Path) -> None:
    first, second = (Image.new("RGB", (160, 40), (128, 128, 128)) for _ in range(2))
    first.paste(RED, (130, 10, 150, 30))
    second.paste(BLUE, (10, 10, 30, 30))
    source = animated(tmp_path, "png", [first, second], duration=50)
    result = frames_of(rendered(source, "png", width=40, height=40, fit="cover", gravity="smart"))
    assert any(near(pixel, (*RED, 255)) for _, pixel in result[0].getcolors(2000))
    assert result[1].getcolors() == [(1600, (128, 128, 128, 255))]
    result = frames_of(rendered(source, "png", trim=5.0))
    assert [frame.size for frame in result] == [(20, 20), (20, 20)]
    assert result[0].getcolors() == [(400, (*RED, 255))]


def test_a_profile_is_applied_to_every_frame(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (16, 16), (200, 80, 90)), Image.new("RGB", (16, 16), (80, 200, 90))]
    source = animated(tmp_path, "png", frames, duration=50, icc_profile=rgb_profile("p3"))
    first, second = frames_of(rendered(source, "webp"))
    assert first.getpixel((8, 8))[0] > 210
    assert second.getpixel((8, 8))[1] > 202


def test_credits_stay_in_animations(tmp_path: Path) -> None:
    from support.drawing import orientation

    source = animated(tmp_path, "webp", walk(), exif=orientation(1, artist="Anna", copyright="(c)"))
    for encoding in ("webp", "png", "avif"):
        found = rendered(source, encoding, width=48).getexif()
        assert dict(found) == {0x8298: "(c)", 0x013B: "Anna"}, encoding


# --- APNG -----------------------------------------------------------------------------------------------


def apng(*frames: tuple[Image.Image, tuple[int, int], int, int], default: Image.Image | None = None) -> bytes:
    """An APNG of (picture, place, dispose, blend); *default* is shown by those who know no APNG."""
    width, height = (default or frames[0][0]).size
    header = struct.pack(">IIBBBBB", width, height, 8, 6, 0, 0, 0)
    parts = [png_chunk(b"IHDR", header), png_chunk(b"acTL", struct.pack(">II", len(frames), 0))]
    if default:
        parts.append(png_chunk(b"IDAT", pixels(default)))
    number = 0
    for i, (image, (x, y), dispose, blend) in enumerate(frames):
        control = struct.pack(">5I2H2B", number, *image.size, x, y, 100, 1000, dispose, blend)
        parts.append(png_chunk(b"fcTL", control))
        number += 1
        if i == 0 and not default:
            parts.append(png_chunk(b"IDAT", pixels(image)))
        else:
            parts.append(png_chunk(b"fdAT", struct.pack(">I", number) + pixels(image)))
            number += 1
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts) + png_chunk(b"IEND", b"")


def pixels(image: Image.Image) -> bytes:
    rgba = image.convert("RGBA")
    rows = (rgba.crop((0, y, rgba.width, y + 1)).tobytes() for y in range(rgba.height))
    return zlib.compress(b"".join(b"\0" + row for row in rows))


def plain(colour: tuple[int, ...], size: tuple[int, int] = (20, 20)) -> Image.Image:
    return Image.new("RGBA", size, (*colour, 255)[:4])


CLEAR = (0, 0, 0, 0)


@pytest.mark.parametrize("encoding", ["png", "webp", "gif"])
@pytest.mark.parametrize(
    ("frames", "wanted"),
    [
        (  # over what is there
            [(plain(RED), (0, 0), 0, 0), (plain(CLEAR, (10, 10)), (0, 0), 0, 1)],
            [(RED, RED), (RED, RED)],
        ),
        (  # instead of what is there
            [(plain(RED), (0, 0), 0, 0), (plain(CLEAR, (10, 10)), (0, 0), 0, 0)],
            [(RED, RED), (None, RED)],
        ),
        (  # cleared after it was shown
            [(plain(RED), (0, 0), 1, 0), (plain(BLUE, (10, 10)), (10, 10), 0, 1)],
            [(RED, RED), (None, BLUE)],
        ),
        (  # taken back after it was shown
            [
                (plain(RED), (0, 0), 0, 0),
                (plain(BLUE, (10, 10)), (0, 0), 2, 0),
                (plain(GREEN, (5, 5)), (15, 15), 0, 0),
            ],
            [(RED, RED), (BLUE, RED), (RED, GREEN)],
        ),
    ],
)
def test_apng_frames_are_put_together(
    tmp_path: Path, frames: list[Any], wanted: list[Any], encoding: str
) -> None:
    result = frames_of(rendered(written(tmp_path, "a.png", apng(*frames)), encoding))
    if encoding == "gif" and frames[1][3] == 1 and wanted[0] == wanted[1]:
        wanted = wanted[:1]  # equal frames become one
    if encoding != "gif" and wanted[0] == wanted[1:2]:
        wanted = wanted[:1]
    for frame, (first, last) in zip(result, wanted, strict=False):
        for spot, colour in (((4, 4), first), ((17, 17), last)):
            pixel = frame.getpixel(spot)
            assert pixel[3] == 0 if colour is None else near(pixel, (*colour, 255), 10)


@pytest.mark.parametrize("blend", [0, 1])
def test_the_default_image_of_an_apng_is_no_frame(tmp_path: Path, blend: int) -> None:
    first = plain(CLEAR)
    first.paste((*BLUE, 255), (0, 0, 10, 20))
    frames = [(first, (0, 0), 0, blend), (plain(GREEN), (0, 0), 0, 0)]
    source = written(tmp_path, "a.png", apng(*frames, default=plain(RED)))
    header = render.probe(source)
    assert header is not None
    assert header.frames == 2
    for encoding in MOVING:
        result = frames_of(rendered(source, encoding))
        assert len(result) == 2
        assert near(result[0].getpixel((4, 4)), (*BLUE, 255), 12)
        assert result[0].getpixel((16, 4))[3] < 8
        assert near(result[1].getpixel((16, 4)), (*GREEN, 255), 12)
    still = rendered(source, "png", anim=False).convert("RGBA")
    assert near(still.getpixel((4, 4)), (*BLUE, 255))
    assert still.getpixel((16, 4))[3] == 0


# --- budgets --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", MOVING)
def test_an_animation_over_the_budget_is_its_first_frame(tmp_path: Path, encoding: str) -> None:
    source = animated(tmp_path, "webp", walk(width=96, height=64))
    budget = 4 * 96 * 64
    assert rendered(source, encoding, width=48, max_pixels=budget).n_frames == 4  # type: ignore[attr-defined]
    still = rendered(source, encoding, width=48, max_pixels=budget - 1)
    assert getattr(still, "n_frames", 1) == 1
    large = rendered(source, encoding, width=192, enlarge=True, max_pixels=budget)
    assert getattr(large, "n_frames", 1) == 1


def test_tiny_frames_have_their_price(tmp_path: Path) -> None:
    source = written(tmp_path, "a.gif", gif(1, 1, 100))
    assert getattr(rendered(source, "avif", max_pixels=100 * 4096), "n_frames", 1) == 100
    assert getattr(rendered(source, "avif", max_pixels=100 * 4096 - 1), "n_frames", 1) == 1


def test_frames_are_made_one_by_one(tmp_path: Path) -> None:
    """100 frames of 400 x 400 in memory would be 64 MB; their pixels live outside of Python's heap."""
    import resource

    frames = [Image.new("RGB", (400, 400), (i, 0, 0)) for i in range(100)]
    source = animated(tmp_path, "webp", frames, duration=50)
    rendered(source, "webp", width=300)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    tracemalloc.start()
    rendered(source, "webp", width=399)
    tracemalloc.stop()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 40_000


@pytest.mark.parametrize("encoding", ["webp", "avif"])
@pytest.mark.parametrize("has_target", [False, True])
def test_an_encoder_that_fails_late_gives_no_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoding: str, has_target: bool
) -> None:
    """The frames can't be made twice: a second attempt would show the last one for all."""
    saving = Image.Image.save

    def fail(self: Image.Image, *arguments: Any, **options: Any) -> None:
        monkeypatch.setattr(Image.Image, "save", saving)
        saving(self, *arguments, **options)
        raise OSError("encoder error")

    work = job(
        animated(tmp_path, "gif", walk()), encoding, target=tmp_path / "target" if has_target else None
    )
    monkeypatch.setattr(Image.Image, "save", fail)
    with pytest.raises(Undecodable, match="can't be written") as caught:
        render.render(work)
    assert caught.value.blames == "variant"


@pytest.mark.parametrize("encoding", MOVING)
def test_a_smaller_animation_is_its_own_variant(tmp_path: Path, encoding: str) -> None:
    options: dict[str, Any] = {
        "webp": {"lossless": False, "quality": 1, "method": 6},
        "avif": {"quality": 5},
    }.get(encoding, {"optimize": True})
    frames = [scene(120, 90).rotate(i) for i in range(4)] if encoding in ("webp", "avif") else walk()
    source = animated(tmp_path, encoding, frames, **options)
    body = render.render(job(source, encoding)).body
    assert body is not None
    assert len(body) <= source.stat().st_size
    assert opened(render.render(job(source, encoding)), encoding).n_frames == 4  # type: ignore[attr-defined]


def test_a_frame_cut_off_is_undecodable(tmp_path: Path) -> None:
    for format in ("gif", "png", "webp", "avif"):
        data = animated(tmp_path, format, [scene().rotate(i) for i in range(4)]).read_bytes()
        source = written(tmp_path, "b", data[: len(data) * 3 // 4])
        try:
            work = job(source, "webp", width=50)
        except Undecodable:
            continue
        with pytest.raises(Undecodable, match="broken or cut off") as caught:
            render.render(work)
        assert caught.value.blames == "frames"


@pytest.mark.parametrize("encoding", MOVING)
@pytest.mark.parametrize(
    "source",
    [path for path in photos() if is_moving(path)],
    ids=lambda p: p.name,
)
@pytest.mark.slow
def test_a_real_animation_keeps_its_time_and_look(source: Path, encoding: str) -> None:
    given = opened_file(source)
    result = rendered(source, encoding)
    assert sum(durations_of(result)) == sum(durations_of(given))
    at = 0
    starts = []
    for duration in durations_of(given):
        starts.append(at)
        at += duration
    shown, clock = [], 0
    for frame, duration in zip(frames_of(result), durations_of(result), strict=True):
        shown.append((clock, clock + duration, frame))
        clock += duration
    for start, wanted in zip(starts, frames_of(given), strict=True):
        frame = next(frame for begin, end, frame in shown if begin <= start < end)
        one, other = (picture.convert("RGBa").reduce(8).tobytes() for picture in (frame, wanted))
        assert sum(abs(a - b) for a, b in zip(one, other, strict=True)) / len(one) < 3
