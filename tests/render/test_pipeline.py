"""The pipeline: each step of a recipe, and what happens when files can't be read or written."""

from __future__ import annotations

import errno
import io
import itertools
import os
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageChops, ImageDraw, ImageOps
from support.drawing import (
    BLUE,
    RED,
    WHITE,
    corners,
    encoded,
    is_opaque,
    job,
    near,
    opened,
    orientation,
    photos,
    png_chunk,
    quarters,
    rendered,
    save,
    scene,
    written,
)

from imagefactory.errors import OutOfMemory, SourceChanged, TooLarge, Undecodable
from imagefactory.model.formats import ENCODINGS
from imagefactory.model.recipe import Rect
from imagefactory.model.source import Header
from imagefactory.render import decoders, resizing
from imagefactory.render import pipeline as render
from imagefactory.render.memory import Memory
from imagefactory.render.source_file import SourceFile


@pytest.fixture(params=["fast", "pillow"])
def each_filter(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The test holds with the SIMD filter, and without the extra."""
    if request.param == "pillow":
        monkeypatch.setattr(resizing, "_fast", lambda: None)
    elif resizing._fast() is None:
        pytest.skip('needs the extra "fast"')


# --- what an error blames -----------------------------------------------------------------------------------


def test_a_source_that_is_cut_off_is_to_blame(tmp_path: Path) -> None:
    whole = encoded(scene(), "JPEG")
    with pytest.raises(Undecodable) as caught:
        rendered(written(tmp_path, "a.jpg", whole[: len(whole) // 2]), width=50)
    assert caught.value.blames == "source"


@pytest.mark.parametrize("step", ["open_within_budget", "load"])
def test_too_little_memory_blames_the_variant(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """Another size may be decoded at a smaller scale."""

    def fail(*arguments: object) -> None:
        raise MemoryError

    work = job(save(tmp_path, "a.jpg", scene()), width=50)
    monkeypatch.setattr(decoders, step, fail)
    with pytest.raises(OutOfMemory) as caught:
        render.render(work)
    assert caught.value.blames == "variant"


# --- turning --------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("each_filter")
@pytest.mark.parametrize("value", range(1, 9))
@pytest.mark.parametrize("width", [400, 40])  # as it is, and by a scaled decode
def test_a_picture_stands_upright_whatever_its_orientation(tmp_path: Path, value: int, width: int) -> None:
    undo = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # the transpose that EXIF's takes back
    stored = quarters() if value == 1 else quarters().transpose(Image.Transpose(undo[value]))
    source = save(tmp_path, "a.jpg", stored, exif=orientation(value), quality=95, subsampling=0)
    assert render.probe(source) == Header(400, 300, "JPEG", 1, value, False)
    result = rendered(source, "png", width=width)
    assert result.size == (width, width * 3 // 4)
    assert corners(result) == ["red", "green", "blue", "white"]
    assert not result.getexif()


def test_exif_behind_the_pixels_of_a_png_is_found(tmp_path: Path) -> None:
    exif = orientation(6, artist="Anna")
    data = encoded(quarters().transpose(Image.Transpose.ROTATE_90), "PNG")
    late = png_chunk(b"eXIf", exif.tobytes().removeprefix(b"Exif\0\0"))
    source = written(tmp_path, "a.png", data[:-12] + late + data[-12:])
    assert render.probe(source) == Header(400, 300, "PNG", 1, 6, False)
    result = rendered(source, width=40)
    assert corners(result) == ["red", "green", "blue", "white"]
    assert result.getexif()[0x013B] == "Anna"


@pytest.mark.parametrize("value", range(1, 9))
def test_every_turn_equals_pillows(tmp_path: Path, value: int) -> None:
    source = save(tmp_path, "a.png", scene(31, 20), exif=orientation(value))
    upright = ImageOps.exif_transpose(Image.open(source)).convert("RGB")
    for rotate, flop in itertools.product((0, 90, 180, 270), (False, True)):
        wanted = upright.rotate(-rotate, expand=True)
        wanted = ImageOps.mirror(wanted) if flop else wanted
        result = rendered(source, "png", rotate=rotate, flop=flop)
        assert ImageChops.difference(result.convert("RGB"), wanted).getbbox() is None, (rotate, flop)


@pytest.mark.usefixtures("each_filter")
def test_resizing_before_turning_gives_the_same_pixels(tmp_path: Path) -> None:
    source = save(tmp_path, "a.png", scene(310, 200), exif=orientation(6))
    upright = ImageOps.exif_transpose(Image.open(source)).convert("RGB")
    wanted = upright.resize((100, 155), Image.Resampling.LANCZOS)
    result = rendered(source, "png", width=100).convert("RGB")
    assert max(high for _, high in ImageChops.difference(result, wanted).getextrema()) <= 2


# --- cutting and sizing ---------------------------------------------------------------------------------


@pytest.mark.usefixtures("each_filter")
@pytest.mark.parametrize(
    ("recipe", "size", "names"),
    [
        ({"width": 200, "height": 200, "fit": "inside"}, (200, 150), ["red", "green", "blue", "white"]),
        ({"width": 200, "height": 200, "fit": "outside"}, (267, 200), ["red", "green", "blue", "white"]),
        ({"width": 80, "height": 200, "fit": "stretch"}, (80, 200), ["red", "green", "blue", "white"]),
        (
            {"width": 50, "height": 100, "fit": "cover", "gravity": "west"},
            (50, 100),
            ["red", "red"] + ["blue"] * 2,
        ),
        (
            {"width": 50, "height": 100, "fit": "cover", "gravity": "east"},
            (50, 100),
            ["green"] * 2 + ["white"] * 2,
        ),
        ({"width": 100, "height": 30, "fit": "cover", "gravity": "south"}, (100, 30), ["blue", "white"] * 2),
        (
            {"width": 100, "height": 30, "fit": "cover", "gravity": "northwest"},
            (100, 30),
            ["red", "green"] * 2,
        ),
        ({"width": 100, "height": 30, "fit": "cover"}, (100, 30), ["red", "green", "blue", "white"]),
        ({"rect": Rect(0, 0, 200, 150)}, (200, 150), ["red"] * 4),
        ({"rect": Rect(200, 0, 200, 150), "width": 20}, (20, 15), ["green"] * 4),
        ({"rect": Rect(0.5, 0.5, 0.5, 0.5, True), "width": 10}, (10, 8), ["white"] * 4),
        ({"rect": Rect(100, 150, 100, 1), "rotate": 180}, (100, 1), ["green"] * 4),
    ],
)
def test_a_cut_shows_what_it_should(
    tmp_path: Path, recipe: dict[str, Any], size: tuple[int, int], names: list[str]
) -> None:
    for name in ("a.png", "a.jpg"):
        result = rendered(save(tmp_path, name, quarters()), **recipe)
        assert result.size == size
        assert corners(result) == (names if len(names) == 4 else names * 2), name


def test_a_focal_point_is_in_the_picture(tmp_path: Path) -> None:
    image = Image.new("RGB", (400, 100), WHITE)
    image.paste(RED, (290, 40, 310, 60))
    result = rendered(
        save(tmp_path, "a.png", image), width=100, height=100, fit="cover", gravity="point", focus=(0.75, 0.5)
    )
    assert near(result.convert("RGB").getpixel((50, 50)), RED)


@pytest.mark.usefixtures("each_filter")
@pytest.mark.parametrize("edge", [96, 100, 101])  # between pixels of a scaled decode, and inside of them
def test_nothing_from_beyond_a_rect_shines_in(tmp_path: Path, edge: int) -> None:
    image = Image.new("RGB", (800, 400), (255, 0, 0))
    image.paste((0, 0, 255), (edge, 0, 800, 400))
    source = save(tmp_path, "a.png", image)
    result = rendered(source, rect=Rect(edge, 0, 800 - edge, 400), width=50).convert("RGB")
    assert result.getcolors() == [(50 * result.height, (0, 0, 255))]
    # A JPEG has rings around an edge; a scaled decode across it would add a column of purple.
    source = save(tmp_path, "a.jpg", image, quality=100, subsampling=0)
    result = rendered(source, rect=Rect(edge, 0, 800 - edge, 400), width=50).convert("RGB")
    assert all(near(result.getpixel((0, y)), (0, 0, 255), 10) for y in range(result.height))


@pytest.mark.parametrize(
    ("recipe", "box"),
    [
        ({"width": 200, "height": 200}, (0, 25, 200, 175)),
        ({"width": 200, "height": 200, "gravity": "north"}, (0, 0, 200, 150)),
        ({"width": 200, "height": 200, "gravity": "southeast"}, (0, 50, 200, 200)),
        ({"width": 600, "height": 300, "gravity": "west"}, (0, 0, 400, 300)),
        ({"width": 500, "height": 400}, (50, 50, 450, 350)),  # not enlarged
    ],
)
def test_pad_lays_the_picture_on_a_canvas(
    tmp_path: Path, recipe: dict[str, Any], box: tuple[int, int, int, int]
) -> None:
    source = save(tmp_path, "a.png", quarters())
    result = rendered(source, fit="pad", background="102030ff", **recipe).convert("RGB")
    assert result.size == (recipe["width"], recipe["height"])
    assert corners(result.crop(box)) == ["red", "green", "blue", "white"]
    bars = result.copy()
    bars.paste((16, 32, 48), box)
    assert bars.getcolors() == [(result.width * result.height, (16, 32, 48))]


def test_bars_may_be_transparent_where_the_encoding_can(tmp_path: Path) -> None:
    source = save(tmp_path, "a.jpg", quarters())
    for encoding in ("png", "webp", "avif", "gif"):
        result = rendered(source, encoding, width=100, height=100, fit="pad", background="00000000")
        alpha = result.convert("RGBA").getchannel("A")
        assert alpha.getpixel((50, 2)) == 0
        assert alpha.getpixel((50, 50)) == 255
    result = rendered(source, "jpeg", width=100, height=100, fit="pad", background="ff000080")
    assert near(result.getpixel((50, 2)), (255, 127, 127))  # half transparent red on white


@pytest.mark.usefixtures("each_filter")
def test_a_small_picture_is_enlarged_only_when_asked(tmp_path: Path) -> None:
    source = save(tmp_path, "a.png", quarters(40, 30))
    assert rendered(source, width=80).size == (40, 30)
    result = rendered(source, width=80, enlarge=True)
    assert result.size == (80, 60)
    assert corners(result) == ["red", "green", "blue", "white"]


@given(
    width=st.integers(1, 90),
    height=st.integers(1, 90),
    value=st.integers(1, 8),
    encoding=st.sampled_from(sorted(ENCODINGS)),
    jpeg=st.booleans(),
    recipe=st.fixed_dictionaries(
        {},
        optional={
            "width": st.integers(0, 200),
            "height": st.integers(0, 200),
            "fit": st.sampled_from(["inside", "cover", "pad", "stretch", "outside"]),
            "gravity": st.sampled_from(["center", "north", "southeast", "smart"]),
            "rotate": st.sampled_from([0, 90, 180, 270]),
            "flop": st.booleans(),
            "enlarge": st.booleans(),
            "trim": st.sampled_from([None, 0.0, 10.0, 100.0]),
            "blur": st.sampled_from([0.0, 0.1, 3.0]),
            "sharpen": st.sampled_from([0.0, 1.0]),
            "grayscale": st.booleans(),
            "rect": st.sampled_from([None, Rect(0, 0, 0.5, 0.5, True), Rect(0, 0, 7, 5)]),
        },
    ),
)
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_any_recipe_gives_the_size_that_was_settled(
    tmp_path: Path, width: int, height: int, value: int, encoding: str, jpeg: bool, recipe: dict[str, Any]
) -> None:
    image = quarters(width, height)
    source = save(tmp_path, "a.jpg" if jpeg else "a.png", image, exif=orientation(value))
    work = job(source, encoding, **recipe)
    result = opened(render.render(work), encoding)
    if work.recipe.trim is None:
        assert result.size == (work.recipe.width, work.recipe.height)


# --- smart ----------------------------------------------------------------------------------------------


def flower(at: tuple[int, int], size: tuple[int, int]) -> Image.Image:
    """A plain ground with one detailed spot."""
    image = Image.new("RGB", size, (120, 130, 140))
    draw = ImageDraw.Draw(image)
    for i in range(0, 80, 8):
        draw.ellipse(
            (at[0] - 40 + i / 2, at[1] - 40 + i / 2, at[0] + 40 - i / 2, at[1] + 40 - i / 2),
            (i * 3, 255 - i, 40),
        )
    return image


@pytest.mark.usefixtures("each_filter")
@pytest.mark.parametrize(
    ("at", "size", "wanted"),
    [
        ((60, 100), (800, 200), (200, 200)),
        ((740, 100), (800, 200), (200, 200)),
        ((400, 100), (800, 200), (200, 200)),
        ((100, 740), (200, 800), (200, 200)),
        ((100, 60), (200, 800), (200, 100)),
    ],
)
def test_smart_finds_the_detail(
    tmp_path: Path, at: tuple[int, int], size: tuple[int, int], wanted: tuple[int, int]
) -> None:
    for value in (1, 6, 8):  # decided on the upright picture
        stored = flower(at, size)
        stored = {1: stored, 6: stored.rotate(90, expand=True), 8: stored.rotate(-90, expand=True)}[value]
        source = save(tmp_path, "a.png", stored, exif=orientation(value))
        result = rendered(source, width=wanted[0], height=wanted[1], fit="cover", gravity="smart").convert(
            "RGB"
        )
        colours = {pixel for _, pixel in result.getcolors(100_000)}
        assert any(near(pixel, (216, 183, 40), 20) for pixel in colours), value


def test_of_two_details_smart_takes_the_nearer_to_the_middle(tmp_path: Path) -> None:
    image = flower((60, 100), (800, 200))
    image.paste((10, 10, 10), (60, 90, 62, 110))
    image.paste(ImageOps.mirror(flower((60, 100), (200, 200))).crop((80, 0, 200, 200)), (440, 0))
    result = rendered(save(tmp_path, "a.png", image), width=200, height=200, fit="cover", gravity="smart")
    assert not any(near(pixel, (10, 10, 10), 40) for _, pixel in result.convert("RGB").getcolors(90_000))


def test_smart_stays_in_the_middle_of_nothing(tmp_path: Path) -> None:
    image = Image.new("RGB", (300, 100), WHITE)
    source = save(tmp_path, "a.png", image)
    first = render.render(job(source, width=100, height=100, fit="cover", gravity="smart"))
    assert first.body == render.render(job(source, width=100, height=100, fit="cover", gravity="smart")).body
    ramp = Image.linear_gradient("L").rotate(90).resize((300, 100))
    source = save(tmp_path, "b.png", ramp)
    centred = rendered(source, width=100, height=100, fit="cover")
    smart = rendered(source, width=100, height=100, fit="cover", gravity="smart")
    assert abs(centred.getpixel((50, 50)) - smart.getpixel((50, 50))) < 12


# --- trim -----------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("each_filter")
@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "P", "LA"])
@pytest.mark.parametrize("value", [1, 3, 6])
def test_trim_cuts_the_border(tmp_path: Path, mode: str, value: int) -> None:
    image = Image.new("RGB", (100, 80), (240, 240, 240))
    image.paste((10, 10, 10), (20, 30, 60, 50))
    stored = {1: image, 3: image.rotate(180), 6: image.rotate(90, expand=True)}[value]
    source = save(
        tmp_path, "a.png", stored.quantize() if mode == "P" else stored.convert(mode), exif=orientation(value)
    )
    result = rendered(source, trim=1.0)
    assert result.size == (40, 20)
    assert near(result.convert("RGB").getpixel((0, 0)), (10, 10, 10), 2)
    assert rendered(source, trim=1.0, width=20).size == (20, 10)
    assert rendered(source, trim=1.0, width=30, height=30, fit="pad").size == (30, 30)
    assert rendered(source, trim=1.0, width=10, height=20, fit="cover").size == (10, 20)
    assert rendered(source, trim=95.0).size == (100, 80)  # nothing differs that much


def test_trim_knows_only_what_can_be_seen(tmp_path: Path) -> None:
    image = Image.new("RGBA", (60, 40), (0, 0, 0, 0))
    image.paste((200, 100, 50, 0), (0, 0, 30, 40))  # hidden colour
    image.paste((200, 100, 50, 255), (10, 10, 20, 30))
    assert rendered(save(tmp_path, "a.png", image), trim=0.0).size == (10, 20)
    uniform = Image.new("RGB", (60, 40), RED)
    assert rendered(save(tmp_path, "b.png", uniform), trim=10.0).size == (60, 40)


def test_trim_takes_the_upright_corner_of_the_rect(tmp_path: Path) -> None:
    image = Image.new("RGB", (100, 100), BLUE)
    image.paste(WHITE, (0, 0, 60, 60))
    image.paste(RED, (20, 20, 30, 40))
    assert rendered(save(tmp_path, "a.png", image), rect=Rect(0, 0, 60, 60), trim=5.0).size == (10, 20)
    assert rendered(save(tmp_path, "a.png", image), rotate=90, rect=Rect(40, 0, 60, 60), trim=5.0).size == (
        20,
        10,
    )


# --- effects --------------------------------------------------------------------------------------------


def test_blur_and_sharpen_change_edges_alone(tmp_path: Path) -> None:
    image = Image.new("L", (100, 20), 60)
    image.paste(180, (50, 0, 100, 20))
    source = save(tmp_path, "a.png", image)
    plain, soft, hard = (
        rendered(source, **effect) for effect in ({"width": 99}, {"blur": 4.0}, {"sharpen": 2.0})
    )
    assert near(plain.getpixel((46, 10)), 60)
    assert 100 < soft.getpixel((49, 10)) < 140
    assert hard.getpixel((49, 10)) < 55
    for result in (soft, hard):
        assert result.mode == "L"
        assert near(result.getpixel((5, 10)), 60, 1)
        assert near(result.getpixel((95, 10)), 180, 1)


def test_blur_mixes_no_hidden_colour(tmp_path: Path) -> None:
    image = Image.new("RGBA", (60, 60), (0, 255, 0, 0))
    image.paste((200, 0, 0, 255), (20, 20, 40, 40))
    result = rendered(save(tmp_path, "a.png", image), blur=3.0)
    assert result.mode == "RGBA"
    seen = [pixel for _, pixel in result.getcolors(5000) if pixel[3] > 20]
    assert all(green < 12 for _, green, _, _ in seen)
    assert result.getpixel((30, 30))[3] > result.getpixel((20, 30))[3] > result.getpixel((14, 30))[3]


def test_sharpen_leaves_alpha_alone(tmp_path: Path) -> None:
    image = scene(40, 40).convert("RGBA")
    image.putalpha(Image.linear_gradient("L").resize((40, 40)))
    source = save(tmp_path, "a.png", image)
    result = rendered(source, sharpen=2.0)
    assert result.getchannel("A").tobytes() == image.getchannel("A").tobytes()
    assert result.convert("RGB").tobytes() != image.convert("RGB").tobytes()


@pytest.mark.parametrize("encoding", sorted(ENCODINGS))
def test_grayscale_keeps_alpha(tmp_path: Path, encoding: str) -> None:
    image = quarters(40, 40).convert("RGBA")
    image.paste((0, 0, 0, 0), (0, 0, 20, 20))
    result = rendered(save(tmp_path, "a.png", image), encoding, grayscale=True).convert("RGBA")
    red, green, blue, alpha = result.getpixel((30, 10))
    assert near((red, green), (green, blue), 3)
    assert near(red, 118, 4)
    assert alpha == 255
    assert result.getpixel((5, 5))[3] == (0 if ENCODINGS[encoding].has_alpha else 255)


# --- alpha ----------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("each_filter")
def test_edges_of_transparency_get_no_halo(tmp_path: Path) -> None:
    image = Image.new("RGBA", (400, 400), (0, 0, 0, 0))
    ImageDraw.Draw(image).ellipse((50, 50, 350, 350), (255, 255, 255, 255))
    result = rendered(save(tmp_path, "a.png", image), width=90)
    assert all(min(pixel[:3]) > 245 for _, pixel in result.getcolors(9000) if pixel[3] > 8)


@pytest.mark.parametrize(("background", "wanted"), [("", (255, 255, 255)), ("102030ff", (16, 32, 48))])
def test_transparency_is_laid_on_the_background(
    tmp_path: Path, background: str, wanted: tuple[int, int, int]
) -> None:
    image = Image.new("RGBA", (40, 40), (255, 0, 0, 0))
    result = rendered(save(tmp_path, "a.png", image), "jpeg", background=background)
    assert near(result.convert("RGB").getpixel((20, 20)), wanted, 3)


def test_alpha_that_hides_nothing_is_dropped(tmp_path: Path) -> None:
    source = save(tmp_path, "a.png", quarters().convert("RGBA"))
    assert rendered(source, "png", width=100).mode == "RGB"
    assert rendered(source, "webp", width=100).mode == "RGB"
    assert rendered(save(tmp_path, "b.png", Image.new("LA", (9, 9), (5, 255))), "png").mode == "L"


# --- metadata -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", sorted(ENCODINGS))
@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "avif", "tif"])
def test_metadata_go_and_credits_stay(tmp_path: Path, encoding: str, suffix: str) -> None:
    exif = orientation(1, copyright="(c) 2026 Ännä", artist="Ännä " * 1000)
    exif[0x010F] = "a camera"
    if suffix != "tif":
        exif[0x8825] = {1: "N", 2: (52.0, 30.0, 0.0)}
    options: dict[str, Any] = {"exif": exif}
    if suffix in ("jpg", "webp", "avif", "png"):
        options["xmp"] = (
            b"<x:xmpmeta xmlns:x='adobe:ns:meta/'>secret</x:xmpmeta>" if suffix != "png" else None
        )
    if suffix == "jpg":
        options["comment"] = "secret"
    source = save(tmp_path, f"a.{suffix}", quarters(), **{k: v for k, v in options.items() if v})
    result = render.render(job(source, encoding, width=100))
    assert result.body is not None
    for word in (b"secret", b"a camera", b"icc", b"ICC"):
        assert word not in result.body
    found = opened(result, encoding).getexif()
    if encoding == "gif":
        assert not found
        return
    assert set(found) == {0x8298, 0x013B}
    assert found[0x8298].startswith("(c) 2026 ")
    assert 400 < len(found[0x013B]) <= 1000


def test_the_texts_of_a_png_count_as_credits(tmp_path: Path) -> None:
    from PIL.PngImagePlugin import PngInfo

    texts = PngInfo()
    texts.add_text("Copyright", "Jörg")
    texts.add_itxt("Author", "山田")
    texts.add_text("Comment", "secret")
    source = save(tmp_path, "a.png", quarters(), pnginfo=texts)
    result = render.render(job(source, "jpeg", width=100))
    found = opened(result, "jpeg").getexif()
    assert found[0x8298] == "Jörg"
    assert found[0x013B].encode("latin-1").decode() == "山田"
    assert b"secret" not in (result.body or b"")


@pytest.mark.parametrize(
    "exif", [b"Exif\0\0garbage", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0MM\0*\0\0\0\x08\xff\xff"]
)
@pytest.mark.filterwarnings("ignore")
def test_broken_exif_is_no_error(tmp_path: Path, exif: bytes) -> None:
    source = save(tmp_path, "a.jpg", quarters(), exif=exif)
    assert corners(rendered(source, width=100)) == ["red", "green", "blue", "white"]


# --- the smaller of source and re-encode ----------------------------------------------------------------


def bare(format: str) -> bytes:
    options: dict[str, Any] = {
        "JPEG": {"quality": 20},
        "WEBP": {"quality": 10},
        "AVIF": {"quality": 10, "speed": 8},
    }.get(format, {"optimize": True, "interlace": 0})
    # Grey for GIF: a palette made anew may compress a little better by chance.
    return encoded(scene().convert("L") if format == "GIF" else scene(), format, **options)


@pytest.mark.parametrize("encoding", sorted(set(ENCODINGS) - {"jxl"}))  # which no source has
@pytest.mark.parametrize("has_target", [False, True])
def test_a_source_that_is_smaller_is_its_own_variant(tmp_path: Path, encoding: str, has_target: bool) -> None:
    data = bare(encoding.upper())
    source = written(tmp_path, f"a.{encoding}", data)
    target = tmp_path / "target" if has_target else None
    if target:
        target.touch()
    result = render.render(job(source, encoding, target=target))
    assert (result.body if target is None else target.read_bytes()) == data
    smaller = render.render(job(source, encoding, width=399))
    assert smaller.body != data


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("a trailer", lambda data: data + b"trailer"),
        ("a second picture", lambda data: data + data),
        ("a comment", lambda data: data[:2] + b"\xff\xfe\0\x08secret" + data[2:]),
        ("an unknown segment", lambda data: data[:2] + b"\xff\xeb\0\x08secret" + data[2:]),
        ("a thumbnail", lambda data: data[:2] + b"\xff\xe0\0\x13JFIF\0\1\1\0\0\1\0\1\1\1abc" + data[20:]),
    ],
)
def test_a_source_with_more_than_pixels_is_never_its_variant(tmp_path: Path, name: str, change: Any) -> None:
    data = bare("JPEG")
    source = written(tmp_path, "a.jpg", change(data))
    assert render.render(job(source, "jpeg", quality=95)).body != source.read_bytes(), name
    assert render.render(job(written(tmp_path, "b.jpg", data), "jpeg", quality=95)).body == data


def test_a_smaller_re_encode_wins(tmp_path: Path) -> None:
    source = save(tmp_path, "a.jpg", scene(), quality=98)
    body = render.render(job(source, "jpeg")).body
    assert body is not None
    assert len(body) < source.stat().st_size


# --- files ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", sorted(ENCODINGS))
def test_a_file_and_memory_get_the_same_bytes(tmp_path: Path, encoding: str) -> None:
    source = save(tmp_path, "a.png", scene())
    target = tmp_path / "target"
    target.touch()
    assert render.render(job(source, encoding, width=90, target=target)).body is None
    assert target.read_bytes() == render.render(job(source, encoding, width=90)).body


def test_without_memfd_memory_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = save(tmp_path, "a.png", scene())
    wanted = render.render(job(source, "jpeg")).body
    monkeypatch.delattr(os, "memfd_create", raising=False)
    assert render.render(job(source, "jpeg")).body == wanted


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
@pytest.mark.parametrize("encoding", sorted(ENCODINGS))
@pytest.mark.parametrize("frames", [1, 3])
def test_a_full_disk_is_no_broken_picture(tmp_path: Path, encoding: str, frames: int) -> None:
    pictures = [scene().rotate(i) for i in range(frames)]
    options = {"save_all": True, "append_images": pictures[1:]} if frames > 1 else {}
    source = save(tmp_path, "a.webp", pictures[0], **options)
    with pytest.raises(OSError, match="No space left") as caught:
        render.render(job(source, encoding, target=Path("/dev/full")))
    assert caught.value.errno == errno.ENOSPC


@pytest.mark.parametrize("encoding", sorted(ENCODINGS))
def test_a_disk_that_becomes_full_leaves_no_half_picture(tmp_path: Path, encoding: str) -> None:
    """A limit on file sizes cuts a write in the middle, as the last free bytes of a disk do."""
    import resource

    source = save(tmp_path, "a.png", Image.effect_noise((300, 300), 80).convert("RGB"))
    work = job(source, encoding, target=tmp_path / "target")
    (tmp_path / "target").touch()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, limits[1]))
    try:
        with pytest.raises(OSError, match="too large") as caught:
            render.render(work)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert caught.value.errno == errno.EFBIG


@pytest.mark.parametrize("encoding", sorted(ENCODINGS))
def test_a_target_that_is_gone_is_not_made_again(tmp_path: Path, encoding: str) -> None:
    """Another file of its name is not the one that the caller holds: he would find nothing in his."""
    source = written(tmp_path, "a.png", bare("PNG"))  # which as a PNG is its own variant
    with pytest.raises(FileNotFoundError):
        render.render(job(source, encoding, target=tmp_path / "target"))
    assert not (tmp_path / "target").exists()


def test_a_target_has_no_bytes_of_an_attempt_before(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_bytes(bytes(100_000))
    source = save(tmp_path, "a.png", scene())
    result = render.render(job(source, "jpeg", width=90, target=target))
    assert result.is_of(target.read_bytes())
    assert result.digest


def test_a_source_that_cannot_be_read_is_an_os_error(tmp_path: Path) -> None:
    source = save(tmp_path, "a.png", scene())
    work = job(source)
    source.unlink()
    with pytest.raises(FileNotFoundError):
        render.render(work)
    with pytest.raises(FileNotFoundError):
        render.probe(source)
    with pytest.raises(IsADirectoryError):
        render.probe(tmp_path)


def test_a_disk_error_while_decoding_is_an_os_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = save(tmp_path, "a.jpg", scene())
    work = job(source)

    def fail(self: Any, size: int | None = -1) -> bytes:
        raise OSError(errno.EIO, "Input/output error")

    with SourceFile(source) as file:
        monkeypatch.setattr(SourceFile, "read", fail)
        with pytest.raises(OSError, match="Input/output") as caught:
            render._render(work, file, Memory(0), lambda: None)
    assert caught.value.errno == errno.EIO


def test_a_changed_source_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = save(tmp_path, "a.png", scene())
    work = job(source)
    with pytest.raises(SourceChanged):
        render.render(replace(work, stamp=work.stamp._replace(modified_ns=1)))
    load = decoders.load

    def touch_and_load(*arguments: Any) -> None:
        load(*arguments)
        os.utime(source, ns=(1, 1))

    monkeypatch.setattr(decoders, "load", touch_and_load)
    with pytest.raises(SourceChanged):
        render.render(job(source))


def test_a_source_cut_while_it_is_read_has_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for suffix in ("png", "jpg", "tif", "gif"):
        source = save(tmp_path, f"a.{suffix}", scene())
        opening = decoders.open_picture

        def cut(file: Any, source: Path = source, opening: Any = opening) -> Image.Image:
            picture = opening(file)
            os.truncate(source, 4000)
            return picture

        work = job(source)
        with monkeypatch.context() as patch:
            patch.setattr(decoders, "open_picture", cut)
            with pytest.raises(SourceChanged):
                render.render(work)


def test_a_frame_over_the_budget_is_refused(tmp_path: Path) -> None:
    source = save(tmp_path, "a.png", quarters())
    assert rendered(source, width=10, max_pixels=120_000).size == (10, 8)
    with pytest.raises(TooLarge, match="the source has 120000 pixels, above the limit of 119999"):
        render.render(job(source, width=10, max_pixels=119_999))


def test_pixels_that_cannot_be_encoded_are_undecodable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise OSError("encoder error -2 when writing image file")

    source = save(tmp_path, "a.png", quarters())
    work = job(source, "jpeg", target=tmp_path / "target")
    monkeypatch.setattr(Image.Image, "save", fail)
    with pytest.raises(Undecodable, match="can't be written"):
        render.render(work)


def test_no_memory_is_undecodable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise MemoryError

    work = job(save(tmp_path, "a.png", quarters()), width=100)
    monkeypatch.setattr(render, "resized", fail)
    with pytest.raises(Undecodable, match="more memory"):
        render.render(work)


def test_threads_render_what_one_thread_does(tmp_path: Path) -> None:
    from support.drawing import rgb_profile

    sources = [
        save(tmp_path, "a.jpg", scene(), icc_profile=rgb_profile("p3")),
        save(tmp_path, "b.jpg", scene().convert("CMYK")),
        save(tmp_path, "c.png", scene().convert("RGBA"), icc_profile=rgb_profile("adobe")),
    ]
    jobs = [job(source, encoding, width=100) for source in sources for encoding in ("jpeg", "png", "webp")]
    wanted = [render.render(work).body for work in jobs]
    wrong: list[Any] = []

    def check() -> None:
        wrong.extend(
            work for work, body in zip(jobs, wanted, strict=True) if render.render(work).body != body
        )

    threads = [threading.Thread(target=check) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_nothing_of_pillows_settings_is_touched(tmp_path: Path) -> None:
    from PIL import ImageFile

    before = Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES
    rendered(save(tmp_path, "a.png", quarters()), width=10)
    assert before == (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES)


# --- real photographs -----------------------------------------------------------------------------------

FULL = [path for path in photos() if "animated" not in path.name and "rotating" not in path.name]


def reference(source: Path) -> Image.Image:
    """An independent upright sRGB rendering at full size; transparency on white."""
    from PIL import ImageCms

    image = ImageOps.exif_transpose(Image.open(source))
    profile = image.info.get("icc_profile")
    alpha = image.convert("RGBA").getchannel("A") if "A" in image.mode else None
    if profile:
        given = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        mode = {"GRAY": "L", "CMYK": "CMYK"}.get(given.profile.xcolor_space, "RGB")
        colour = image.convert(mode)
        image = ImageCms.profileToProfile(colour, given, ImageCms.createProfile("sRGB"), outputMode="RGB")
    image = image.convert("RGB")
    if alpha is not None:
        flat = Image.new("RGB", image.size, (255, 255, 255))
        flat.paste(image, mask=alpha)
        image = flat
    return image


def shown(image: Image.Image) -> Any:
    import numpy

    flat = Image.new("RGB", image.size, (255, 255, 255))
    rgba = image.convert("RGBA")
    flat.paste(rgba, mask=rgba.getchannel("A"))
    return numpy.asarray(flat, dtype=numpy.float64) / 255


@pytest.mark.parametrize("source", FULL, ids=lambda path: path.name)
@pytest.mark.slow
def test_a_photograph_has_its_colours_in_every_encoding(source: Path) -> None:
    import numpy
    from skimage.color import deltaE_cie76, rgb2lab
    from skimage.transform import resize

    full = numpy.asarray(reference(source), dtype=numpy.float64) / 255
    height, width = full.shape[:2]
    wide, high = min(240, width), min(160, height)
    scale = min(wide / width, high / height)
    inner = max(1, round(height * scale)), max(1, round(width * scale))
    whole = resize(full, inner, anti_aliasing=True)
    part = min(width / wide, height / high)
    left, top = round((width - wide * part) / 2), round((height - high * part) / 2)
    middle = full[top : top + round(high * part), left : left + round(wide * part)]
    covered = resize(middle, (high, wide), anti_aliasing=True)
    worst = 0.0
    for fit, encoding in itertools.product(("inside", "cover", "pad"), ENCODINGS):
        result = shown(rendered(source, encoding, width=wide, height=high, fit=fit))
        assert result.shape[:2] == (inner if fit == "inside" else (high, wide))
        if fit == "pad":
            top, left = (high - inner[0]) // 2, (wide - inner[1]) // 2
            result = result[top : top + inner[0], left : left + inner[1]]
        if encoding == "gif" and "alpha" in source.name:
            continue  # transparency is cut at half, and colours with it
        blocks = [rgb2lab(means(pixels)) for pixels in (result, covered if fit == "cover" else whole)]
        worst = max(worst, float(deltaE_cie76(*blocks).mean()))
    print(f"{source.name}: {worst:.2f}")
    assert worst < 2.5


def means(pixels: Any) -> Any:
    high, wide = pixels.shape[0] // 8 * 8, pixels.shape[1] // 8 * 8
    if not high or not wide:
        return pixels
    return pixels[:high, :wide].reshape(high // 8, 8, wide // 8, 8, 3).mean(axis=(1, 3))


@pytest.mark.usefixtures("each_filter")
@pytest.mark.parametrize(
    "source",
    [path for path in FULL if path.stat().st_size > 50_000 and is_opaque(path)],
    ids=lambda p: p.name,
)
@pytest.mark.slow
def test_a_scaled_decode_is_as_good_as_a_full_one(source: Path) -> None:
    import numpy
    from skimage.metrics import structural_similarity

    full = reference(source)
    for width in (160, 320, 480, 512, 640, 1000, 1280):
        if width >= full.width:
            continue
        result = rendered(source, "png", width=width).convert("RGB")
        wanted = full.resize(result.size, Image.Resampling.LANCZOS)
        found = structural_similarity(numpy.asarray(result), numpy.asarray(wanted), channel_axis=2)
        print(f"{source.name} {width} ({full.width / width:.1f}x): {found:.4f}")
        assert found >= (0.97 if full.width / width > 8 else 0.99), (width, found)
