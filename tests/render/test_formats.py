"""Every format and pixel mode that may come in, colours, and files that are broken or lie."""

from __future__ import annotations

import io
import random
import resource
import struct
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageCms
from support.drawing import (
    RED,
    cmyk_profile,
    corners,
    encoded,
    gif,
    grey_profile,
    ico,
    job,
    near,
    orientation,
    png,
    png_chunk,
    quarters,
    rendered,
    rgb_profile,
    save,
    scene,
    written,
)

from imagefactory.errors import TooLarge, Undecodable
from imagefactory.model.formats import ENCODINGS
from imagefactory.model.job import Job
from imagefactory.model.recipe import Recipe
from imagefactory.model.source import Header, Stamp
from imagefactory.render import containers, decoders
from imagefactory.render import pipeline as render
from imagefactory.render.source_file import SourceFile

# --- what a header says ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "mode", "format", "has_alpha"),
    [
        ("a.jpg", "RGB", "JPEG", False),
        ("a.jpg", "L", "JPEG", False),
        ("a.jpg", "CMYK", "JPEG", False),
        ("a.png", "RGB", "PNG", False),
        ("a.png", "RGBA", "PNG", True),
        ("a.png", "LA", "PNG", True),
        ("a.png", "1", "PNG", False),
        ("a.webp", "RGBA", "WEBP", True),
        ("a.avif", "RGB", "AVIF", False),
        ("a.gif", "RGB", "GIF", False),
        ("a.tif", "RGB", "TIFF", False),
        ("a.bmp", "RGB", "BMP", False),
        ("a.ico", "RGBA", "ICO", True),
        ("a.jp2", "RGB", "JPEG2000", False),
    ],
)
def test_a_header_is_read(tmp_path: Path, name: str, mode: str, format: str, has_alpha: bool) -> None:
    options = {"sizes": [(120, 90)]} if name == "a.ico" else {}
    image = quarters(120, 90).convert(mode)
    if has_alpha and name != "a.ico":
        image.putpixel((0, 0), (0,) * len(image.getbands()))
    source = save(tmp_path, name, image, **options)
    assert render.probe(source) == Header(120, 90, format, 1, 1, has_alpha)
    if mode == "RGB":
        assert corners(rendered(source, width=40)) == ["red", "green", "blue", "white"]


def test_a_probe_decodes_no_pixels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sources = [
        save(tmp_path, f"a.{suffix}", scene(64, 64), exif=orientation(6))
        for suffix in ("jpg", "png", "webp", "avif", "tif")
    ]
    sources += [save(tmp_path, f"a.{suffix}", scene(64, 64)) for suffix in ("gif", "bmp", "jp2", "ico")]
    sources.append(written(tmp_path, "b.ico", ico(encoded(scene(64, 64), "PNG"))))

    def fail(*_: Any) -> None:
        raise AssertionError("a decoder was asked for pixels")

    monkeypatch.setattr(Image, "_getdecoder", fail)
    for source in sources:
        assert render.probe(source) is not None, source.name


def test_later_pages_and_second_views_are_no_frames(tmp_path: Path) -> None:
    pages = [quarters(), scene()]
    tiff = save(tmp_path, "a.tif", pages[0], save_all=True, append_images=pages[1:])
    mpo = save(tmp_path, "a.mpo", pages[0], save_all=True, append_images=pages[1:])
    assert render.probe(tiff) == Header(400, 300, "TIFF")
    assert render.probe(mpo) == Header(400, 300, "MPO")
    for source in (tiff, mpo):
        for encoding in ENCODINGS:
            result = rendered(source, encoding, width=100)
            assert getattr(result, "n_frames", 1) == 1
            assert corners(result) == ["red", "green", "blue", "white"]


@pytest.mark.parametrize("value", range(1, 9))
def test_tiff_is_turned_once(tmp_path: Path, value: int) -> None:
    undo = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}
    stored = quarters() if value == 1 else quarters().transpose(Image.Transpose(undo[value]))
    for compression in (None, "tiff_lzw"):
        source = save(tmp_path, "a.tif", stored, compression=compression, tiffinfo={274: value})
        assert render.probe(source) == Header(400, 300, "TIFF")
        assert corners(rendered(source, width=80)) == ["red", "green", "blue", "white"]


def test_heif_is_turned_once(tmp_path: Path) -> None:
    heif = pytest.importorskip("pillow_heif")
    stored = quarters().transpose(Image.Transpose.ROTATE_90)
    image = heif.from_pillow(stored)
    path = tmp_path / "a.heic"
    exif = orientation(6, artist="Anna")
    image.save(path, quality=90, exif=exif.tobytes())
    assert render.probe(path) == Header(400, 300, "HEIF")
    result = rendered(path, "jpeg", width=80)
    assert corners(result) == ["red", "green", "blue", "white"]
    assert result.getexif()[0x013B] == "Anna"


def test_without_its_extra_heif_is_no_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoders, "_heif", list)
    head = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"
    assert render.probe(written(tmp_path, "a.heic", head + bytes(200))) is None
    head = b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic"
    assert render.probe(written(tmp_path, "b.heic", head + bytes(200))) is None


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"a",
        b"\0" * 100,
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"<!doctype html><script>alert(1)</script>",
        b"%PDF-1.7\n",
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n",
        b"\xc5\xd0\xd3\xc6" + bytes(60),
        b"BMW is a car, and this is a text about it",
        b"8BPS\0\1" + bytes(40),
        b"\0\0\0\x18ftypisom\0\0\0\0mp42isom" + bytes(100),
        b"\xff\x0a" + bytes(40),
        b"RIFF\x24\0\0\0WAVEfmt " + bytes(40),
        b"PK\x03\x04" + bytes(40),
    ],
)
def test_what_is_no_picture_is_none(tmp_path: Path, data: bytes) -> None:
    source = written(tmp_path, "a.jpg", data)
    assert render.probe(source) is None
    work = Job(source, Stamp.of(source.stat()), Recipe(width=10, height=10), "png", None, 10**6, 8192)
    with pytest.raises(Undecodable):
        render.render(work)


# --- modes ----------------------------------------------------------------------------------------------


def sixteen(value: int, mode: str = "I;16") -> Image.Image:
    """A 16-bit grey picture of one value."""
    order = ">" if mode == "I;16B" else "<"
    return Image.frombytes(mode, (8, 8), struct.pack(f"{order}H", value) * 64)


def deep(mode: str, value: float) -> Image.Image:
    return Image.new(mode, (8, 8), value)


def keyed(mode: str) -> Image.Image:
    """A picture with a palette of red and (index 1) transparency."""
    image = Image.new("P", (8, 8), 0)
    image.putpalette([*RED, 0, 255, 0])
    image.paste(1, (0, 0, 4, 8))
    if mode == "PA":
        image = image.convert("PA")
        image.putalpha(Image.new("L", (8, 8), 128))
    return image


MODES: list[tuple[str, Callable[[], Image.Image], Any]] = [
    ("1", lambda: Image.new("1", (8, 8), 1), 255),
    ("L", lambda: Image.new("L", (8, 8), 90), 90),
    ("LA", lambda: Image.new("LA", (8, 8), (90, 128)), (90, 128)),
    ("La", lambda: Image.new("LA", (8, 8), (90, 128)).convert("La"), (90, 128)),
    ("P", lambda: keyed("P").crop((4, 0, 8, 8)), RED),
    ("PA", lambda: keyed("PA").crop((4, 0, 8, 8)), (*RED, 128)),
    ("RGB", lambda: Image.new("RGB", (8, 8), RED), RED),
    ("RGBA", lambda: Image.new("RGBA", (8, 8), (*RED, 128)), (*RED, 128)),
    ("RGBa", lambda: Image.new("RGBA", (8, 8), (*RED, 128)).convert("RGBa"), (*RED, 128)),
    ("RGBX", lambda: Image.new("RGBX", (8, 8), (*RED, 0)), RED),
    ("CMYK", lambda: Image.new("CMYK", (8, 8), (255, 0, 0, 0)), (0, 255, 255)),
    ("YCbCr", lambda: Image.new("RGB", (8, 8), RED).convert("YCbCr"), RED),
    ("LAB", lambda: Image.new("LAB", (8, 8), (128, 128, 128)), (119, 119, 119)),
    ("HSV", lambda: Image.new("HSV", (8, 8), (0, 0, 200)), (200, 200, 200)),
    ("I;16", lambda: sixteen(32_896), 128),
    ("I;16", lambda: sixteen(65_535), 255),
    ("I;16", lambda: sixteen(256), 1),
    ("I;16B", lambda: sixteen(32_896, "I;16B"), 128),
    ("I;16L", lambda: sixteen(32_896, "I;16L"), 128),
    ("I 16 bits", lambda: deep("I", 32_896), 128),
    ("I below 0", lambda: deep("I", -5), 0),
    ("F of 1", lambda: deep("F", 0.5), 128),
    ("F of 255", lambda: deep("F", 200.2), 200),
    ("F below 0", lambda: deep("F", -3.0), 0),
]


@pytest.mark.parametrize(("name", "draw", "wanted"), MODES, ids=[name for name, _, _ in MODES])
@pytest.mark.parametrize("encoding", sorted(ENCODINGS))
def test_every_mode_goes_into_every_encoding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, draw: Any, wanted: Any, encoding: str
) -> None:
    image = draw()
    image.format = "TIFF"
    source = save(tmp_path, "a.png", Image.new("RGB", image.size))  # not all modes have a file format
    monkeypatch.setattr(decoders, "open_picture", lambda file: image)
    quality = 100 if encoding == "jxl" else None  # with a loss it is far off in so few pixels
    recipe = Recipe(width=5, height=3, fit="stretch", quality=quality)
    work = Job(source, Stamp.of(source.stat()), recipe, encoding, None, 10**6, 8192)
    body = render.render(work).body
    assert body is not None
    result = Image.open(io.BytesIO(body))
    result.load()
    if encoding == "png":
        assert result.mode == (
            "L" if isinstance(wanted, int) else {2: "LA", 3: "RGB", 4: "RGBA"}[len(wanted)]
        )
        assert near(result.getpixel((2, 1)), wanted, 3)
    values = wanted if isinstance(wanted, tuple) else (wanted,)
    alpha = values[-1] if len(values) in (2, 4) else 255
    red, green, blue = values[:3] if len(values) > 2 else (values[0],) * 3
    if not ENCODINGS[encoding].has_alpha:
        red, green, blue = (round(c * alpha / 255 + 255 - alpha) for c in (red, green, blue))
        alpha = 255
    if encoding == "gif":
        alpha = 255 if alpha >= 128 else 0
    assert near(result.convert("RGBA").getpixel((2, 1)), (red, green, blue, alpha), 5)


def test_greater_integers_are_scaled_to_the_greatest() -> None:
    from imagefactory.render import colours

    image = Image.new("I", (2, 1), 2**30)
    image.putpixel((1, 0), 2**29)
    assert list(colours.plain(image).tobytes()) == [255, 128]


def test_sixteen_bits_of_a_png_are_not_white(tmp_path: Path) -> None:
    ramp = Image.frombytes("I;16", (256, 4), b"".join(struct.pack("<H", v * 257) for v in range(256)) * 4)
    result = rendered(save(tmp_path, "a.png", ramp))
    assert result.mode == "L"
    assert list(result.crop((0, 0, 256, 1)).tobytes()) == list(range(256))


def test_sixteen_bit_grey_with_alpha_stays_grey(tmp_path: Path) -> None:
    rows = (b"\0" + struct.pack(">HH", 0x8080, 0x4040) * 8) * 8
    source = written(tmp_path, "a.png", png(8, 8, bits=16, colour=4, data=rows))
    result = rendered(source, width=4)
    assert result.mode == "LA"
    assert near(result.getpixel((1, 1)), (128, 64), 1)


@pytest.mark.parametrize(
    ("transparency", "wanted"), [(1, 0), (b"\xff\x00", 0), (b"\xff\x40", 64), (b"\x80\x00", 0)]
)
def test_a_palette_with_transparency_gets_alpha(tmp_path: Path, transparency: Any, wanted: int) -> None:
    source = save(tmp_path, "a.png", keyed("P"), transparency=transparency)
    header = render.probe(source)
    assert header is not None
    assert header.has_alpha
    result = rendered(source)
    assert result.mode == "RGBA"
    assert result.getpixel((1, 1))[3] == wanted
    red = result.getpixel((6, 1))
    assert near(red, (*RED, 128 if transparency == b"\x80\x00" else 255), 2)


@pytest.mark.parametrize(
    ("bits", "colour", "key", "shown", "hidden"),
    [
        (8, 0, struct.pack(">H", 7), b"\x40", b"\x07"),
        (8, 2, struct.pack(">3H", 1, 2, 3), b"\x40\x40\x40", b"\x01\x02\x03"),
        (16, 0, struct.pack(">H", 0x0102), b"\x40\x40", b"\x01\x02"),
        (16, 2, struct.pack(">3H", 0x0102, 0x0304, 0x0506), b"\x40\x40" * 3, b"\1\2\3\4\5\6"),
    ],
)
def test_a_colour_key_becomes_alpha(
    tmp_path: Path, bits: int, colour: int, key: bytes, shown: bytes, hidden: bytes
) -> None:
    data = (b"\0" + hidden * 4 + shown * 4) * 8
    source = written(
        tmp_path, "a.png", png(8, 8, png_chunk(b"tRNS", key), bits=bits, colour=colour, data=data)
    )
    result = rendered(source).convert("RGBA")
    assert result.getpixel((1, 4))[3] == 0
    assert near(result.getpixel((6, 4)), (64, 64, 64, 255), 1)


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_a_key_of_few_bits_is_no_error(tmp_path: Path, bits: int) -> None:
    data = (b"\0" + b"\xff" * bits) * 8
    for key in (0, 1, 255, 65_535):
        chunk = png_chunk(b"tRNS", struct.pack(">H", key))
        source = written(tmp_path, "a.png", png(8, 8, chunk, bits=bits, colour=0, data=data))
        assert near(rendered(source, "jpeg", width=4).getpixel((1, 1)), 255, 2)


@pytest.mark.parametrize("encoding", ["jpeg", "png", "avif", "gif"])
def test_grey_stays_grey(tmp_path: Path, encoding: str) -> None:
    source = save(tmp_path, "a.png", scene().convert("L"))
    assert rendered(source, encoding, width=50).mode in ("L", "P" if encoding == "gif" else "L")
    padded = rendered(source, encoding, width=50, height=50, fit="pad", background="808080ff")
    assert padded.mode in ("L", "P" if encoding == "gif" else "L")


def test_a_gif_of_few_colours_is_exact(tmp_path: Path) -> None:
    generator = random.Random(1)
    colours = [(i, i, i // 2) for i in range(100)]
    colours += [tuple(generator.randrange(256) for _ in range(3)) for _ in range(155)]
    image = Image.new("RGBA", (64, 64))
    for i in range(64 * 64):
        image.putpixel((i % 64, i // 64), (*colours[i % 255], 255) if i > 64 else (1, 2, 3, 0))
    source = save(tmp_path, "a.png", image)
    result = rendered(source, "gif").convert("RGBA")
    for i in range(64 * 64):
        pixel = result.getpixel((i % 64, i // 64))
        assert pixel[3] == (255 if i > 64 else 0)
        assert pixel[3] == 0 or pixel[:3] == colours[i % 255]


def test_a_gif_of_many_colours_is_dithered(tmp_path: Path) -> None:
    image = scene(160, 120)
    result = rendered(save(tmp_path, "a.png", image), "gif").convert("RGB")
    small, wanted = (picture.reduce(8) for picture in (result, image))
    errors = [abs(a - b) for a, b in zip(small.tobytes(), wanted.tobytes(), strict=True)]
    assert sum(errors) / len(errors) < 4


# --- colours --------------------------------------------------------------------------------------------


def converted(image: Image.Image, profile: bytes, mode: str) -> Image.Image:
    given = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    return ImageCms.profileToProfile(image, given, ImageCms.createProfile("sRGB"), outputMode=mode)  # type: ignore[return-value]


@pytest.mark.parametrize("encoding", sorted(ENCODINGS))
@pytest.mark.parametrize("primaries", ["p3", "adobe"])
def test_wide_colours_become_srgb(tmp_path: Path, encoding: str, primaries: str) -> None:
    colour = (200, 80, 90)
    profile = rgb_profile(primaries)
    image = Image.new("RGB", (32, 32), colour)
    wanted = converted(image, profile, "RGB").getpixel((0, 0))
    assert not near(wanted, colour, 8)
    result = rendered(save(tmp_path, "a.png", image, icc_profile=profile), encoding, width=20)
    assert "icc_profile" not in result.info
    assert near(result.convert("RGB").getpixel((10, 10)), wanted, 4)


def test_alpha_comes_through_a_profile(tmp_path: Path) -> None:
    image = Image.new("RGBA", (8, 8), (200, 80, 90, 77))
    result = rendered(save(tmp_path, "a.png", image, icc_profile=rgb_profile("p3")))
    assert result.getpixel((4, 4))[3] == 77
    assert result.getpixel((4, 4))[0] > 208


def test_a_grey_profile_is_used_and_grey_stays(tmp_path: Path) -> None:
    image = Image.new("L", (8, 8), 100)
    result = rendered(save(tmp_path, "a.png", image, icc_profile=grey_profile(1.0)))
    assert result.mode == "L"
    assert near(result.getpixel((4, 4)), 168, 2)  # 100 of linear light
    image = Image.new("LA", (8, 8), (100, 50))
    result = rendered(save(tmp_path, "b.png", image, icc_profile=grey_profile(1.0)))
    assert near(result.getpixel((4, 4)), (168, 50), 2)


def test_cmyk_takes_its_profile(tmp_path: Path) -> None:
    cyan = Image.new("CMYK", (16, 16), (255, 0, 0, 0))
    for suffix in ("jpg", "tif"):
        source = save(tmp_path, f"a.{suffix}", cyan, icc_profile=cmyk_profile(), quality=95)
        red, green, blue = rendered(source).convert("RGB").getpixel((8, 8))
        assert red > 150 > 100 > max(green, blue)
        plain = save(tmp_path, f"b.{suffix}", cyan, quality=95)
        assert near(rendered(plain).convert("RGB").getpixel((8, 8)), (0, 255, 255), 3)
        white = save(tmp_path, f"c.{suffix}", Image.new("CMYK", (16, 16)), quality=95)
        assert near(rendered(white).convert("RGB").getpixel((8, 8)), (255, 255, 255), 3)


@pytest.mark.parametrize(
    ("mode", "profile"),
    [
        ("RGB", b"garbage"),
        ("RGB", rgb_profile("p3")[:150]),
        ("RGB", rgb_profile("p3")[:-40]),
        ("RGB", bytes(4000)),
        ("RGB", grey_profile(1.0)),
        ("RGB", cmyk_profile()),
        ("L", rgb_profile("p3")),
        ("L", cmyk_profile()),
        ("CMYK", rgb_profile("p3")),
        ("CMYK", b"garbage"),
        ("RGB", rgb_profile("p3") + bytes(5_000_000)),
    ],
)
def test_a_profile_that_does_not_fit_is_ignored(tmp_path: Path, mode: str, profile: bytes) -> None:
    image = Image.new("RGB", (16, 16), (90, 140, 60)).convert(mode)
    plain = rendered(save(tmp_path, "a.jpg", image, quality=95))
    result = rendered(save(tmp_path, "b.jpg", image, quality=95, icc_profile=profile))
    assert result.tobytes() == plain.tobytes()


def test_an_srgb_profile_changes_no_pixel(tmp_path: Path) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    plain = rendered(save(tmp_path, "a.png", scene()))
    result = rendered(save(tmp_path, "b.png", scene(), icc_profile=profile))
    assert result.tobytes() == plain.tobytes()
    assert not result.info.get("icc_profile")


# --- hostile files --------------------------------------------------------------------------------------

SMALL = 2_000_000  # the budget of the renders below, in pixels


def attempt(source: Path, encoding: str = "webp") -> str:
    """What became of a file: ``fine``, ``none``, or the name of the error, which must be one of ours."""
    results = []
    try:
        if render.probe(source) is None:
            results.append("none")
    except (Undecodable, TooLarge) as error:
        check_text(str(error), source)
    for anim in (True, False):
        recipe = Recipe(width=20, height=20, fit="stretch", anim=anim)
        work = Job(source, Stamp.of(source.stat()), recipe, encoding, None, SMALL, 8192)
        try:
            render.render(work)
            results.append("fine")
        except (Undecodable, TooLarge) as error:
            check_text(str(error), source)
            results.append(type(error).__name__)
    return results[-1]


def check_text(text: str, source: Path) -> None:
    assert len(text) < 120
    assert not any(word in text for word in (str(source), source.name, "0x", "<", "PIL"))


def whole(format: str) -> bytes:
    image = scene(90, 60)
    if format in ("GIF", "WEBP", "AVIF", "APNG"):
        rest = [image.rotate(90), image.rotate(180)]
        name = "PNG" if format == "APNG" else format
        return encoded(image, name, save_all=True, append_images=rest, duration=50)
    if format == "TIFF LZW":
        return encoded(image, "TIFF", compression="tiff_lzw")
    if format == "MPO":
        return encoded(image, "MPO", save_all=True, append_images=[image])
    if format == "ICO":
        return encoded(image, "ICO", sizes=[(64, 43)], bitmap_format="bmp")
    return encoded(image, format)


FORMATS = ["JPEG", "MPO", "PNG", "APNG", "GIF", "WEBP", "AVIF", "TIFF", "TIFF LZW", "BMP", "ICO", "JPEG2000"]


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.filterwarnings("ignore")
def test_a_file_cut_anywhere_is_no_crash(tmp_path: Path, format: str) -> None:
    data = whole(format)
    assert attempt(written(tmp_path, "whole", data)) == "fine"
    points = sorted({*range(0, 64, 3), *(len(data) * i // 40 for i in range(40)), len(data) - 1})
    found = [attempt(written(tmp_path, "secret-name", data[:point])) for point in points]
    assert found.count("fine") <= len(found) // 2
    assert attempt(written(tmp_path, "half", data[: len(data) // 2])) in ("Undecodable", "fine")


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.filterwarnings("ignore")
def test_damaged_bytes_are_no_crash(tmp_path: Path, format: str) -> None:
    generator = random.Random(format)
    data = whole(format)
    for _ in range(40):
        damaged = bytearray(data)
        for _ in range(generator.randrange(1, 8)):
            damaged[generator.randrange(min(len(data), generator.choice((100, 10**9))))] = (
                generator.randrange(256)
            )
        attempt(written(tmp_path, "secret-name", bytes(damaged)))


MAGIC = [
    b"\xff\xd8\xff\xe0",
    b"\x89PNG\r\n\x1a\n",
    b"GIF89a",
    b"GIF87a",
    b"RIFF\xff\xff\0\0WEBPVP8 ",
    b"RIFF\xff\xff\0\0WEBPVP8X",
    b"\0\0\0\x1cftypavif\0\0\0\0avifmif1",
    b"\0\0\0\x18ftypheic\0\0\0\0mif1heic",
    b"II*\0\x08\0\0\0",
    b"MM\0*\0\0\0\x08",
    b"II+\0\x08\0\0\0",
    b"BM\xff\xff\0\0\0\0\0\0\x36\0\0\0\x28\0\0\0",
    b"\0\0\1\0\1\0",
    b"\0\0\0\x0cjP  \r\n\x87\n",
    b"\xff\x4f\xff\x51",
]


@pytest.mark.parametrize("magic", MAGIC)
@pytest.mark.filterwarnings("ignore")
def test_random_bytes_behind_a_magic_are_no_crash(tmp_path: Path, magic: bytes) -> None:
    generator = random.Random(magic)
    for length in (0, 1, 10, 100, 5000, 5000, 5000):
        source = written(tmp_path, "secret-name", magic + generator.randbytes(length))
        assert attempt(source) in ("Undecodable", "TooLarge", "fine")
        if length >= 100 and magic[:2] != b"\xff\xd8":
            with pytest.raises((Undecodable, TooLarge)):
                assert render.probe(source) is not None
                raise Undecodable("it has a header")


def lying_bmp() -> bytes:
    data = bytearray(encoded(scene(8, 8), "BMP"))
    data[18:26] = struct.pack("<ii", 50_000, 50_000)
    return bytes(data)


def lying_tiff() -> bytes:
    data = bytearray(encoded(scene(8, 8), "TIFF"))
    for tag in (256, 257):
        at = (
            data.index(struct.pack("<HH", tag, 4))
            if struct.pack("<HH", tag, 4) in data
            else data.index(struct.pack("<HH", tag, 3))
        )
        data[at : at + 12] = struct.pack("<HHII", tag, 4, 1, 60_000)
    return bytes(data)


def lying_webp() -> bytes:
    data = bytearray(encoded(scene(64, 64).convert("RGBA"), "WEBP", exif=orientation(1)))
    data[24:30] = (16_000).to_bytes(3, "little") * 2
    return bytes(data)


def lying_jpeg() -> bytes:
    data = bytearray(encoded(scene(8, 8), "JPEG"))
    at = data.index(b"\xff\xc0")
    data[at + 5 : at + 9] = struct.pack(">HH", 60_000, 60_000)
    return bytes(data)


def text_bomb() -> bytes:
    return png(
        8, 8, png_chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(200_000_000))), data=(b"\0" + bytes(24)) * 8
    )


def profile_bomb() -> bytes:
    return png(
        8, 8, png_chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(200_000_000))), data=(b"\0" + bytes(24)) * 8
    )


def jpeg_of_scans(count: int, width: int = 1000, height: int = 1000) -> bytes:
    """A sound progressive JPEG whose last scan, which refines a grey surface by nothing, comes again and
    again."""
    data = encoded(Image.new("L", (width, height), 128), "JPEG", progressive=True)
    last = data.rindex(b"\xff\xda")
    return data[:last] + data[last:-2] * (count - data.count(b"\xff\xda") + 1) + data[-2:]


def jpeg_of_empty_scans(count: int) -> bytes:
    """A JPEG that is not progressive, with each channel in scans of its own, without data."""
    data = encoded(scene(1000, 1000), "JPEG")
    scan = b"\xff\xda" + struct.pack(">HBBBBBB", 8, 1, 1, 0, 0, 63, 0)
    return data[: data.index(b"\xff\xda")] + scan * count + b"\xff\xd9"


def tiff_of_strips(count: int, order: str = "<", is_big: bool = False) -> bytes:
    """A grey TIFF of one column, each pixel in a strip of its own, all at the same place."""
    start, wide, entry = (16, "Q", "HHQ") if is_big else (8, "I", "HHI")
    at = start + struct.calcsize(order + wide) * 2 + 9 * struct.calcsize(order + entry + wide)
    table = struct.pack(order + ("Q" if is_big else "H"), 9)
    for tag, value in (
        (256, 1),
        (257, count),
        (258, 8),
        (259, 1),
        (262, 1),
        (273, at),
        (277, 1),
        (278, 1),
        (279, at),
    ):
        if value == at:
            table += struct.pack(order + entry + wide, tag, 3, count, at)
        else:
            table += struct.pack(order + entry + "I", tag, 4, 1, value) + bytes(4 * is_big)
    head = struct.pack(order + "HHHQ", 43, 8, 0, start) if is_big else struct.pack(order + "HI", 42, start)
    data = (b"II" if order == "<" else b"MM") + head + table
    return data.ljust(at, b"\0") + struct.pack(order + "H", 8) * count


def gif_with(tail: bytes) -> bytes:
    return gif(1, 1, 1)[:-1] + tail


BOMBS: list[tuple[str, Callable[[], bytes], set[str]]] = [
    ("PNG of 60000 x 60000", lambda: png(60_000, 60_000), {"TooLarge"}),
    ("PNG of 2 x 2^31", lambda: png(2, 2**31 - 1), {"TooLarge", "Undecodable"}),
    ("PNG of 1500 x 1500", lambda: png(1500, 1500), {"TooLarge"}),
    ("PNG of 1000 x 1000 without data", lambda: png(1000, 1000), {"Undecodable"}),
    ("PNG of 0 x 9", lambda: png(0, 9), {"Undecodable"}),
    ("PNG with more data than pixels", lambda: png(9, 9, data=bytes(50_000_000)), {"fine", "Undecodable"}),
    ("JPEG of 60000 x 60000", lying_jpeg, {"TooLarge"}),
    ("JPEG of 40000 scans", lambda: jpeg_of_scans(40_000), {"TooLarge"}),
    ("JPEG of 40000 small scans", lambda: jpeg_of_scans(40_000, 8, 8), {"fine"}),
    ("JPEG of 40000 empty scans", lambda: jpeg_of_empty_scans(40_000), {"TooLarge"}),
    ("BMP of 50000 x 50000", lying_bmp, {"TooLarge"}),
    ("TIFF of 60000 x 60000", lying_tiff, {"TooLarge"}),
    ("TIFF of 5 million strips", lambda: tiff_of_strips(5_000_000), {"Undecodable"}),
    ("BigTIFF of 5 million strips", lambda: tiff_of_strips(5_000_000, is_big=True), {"Undecodable"}),
    ("WebP of 16000 x 16000", lying_webp, {"TooLarge", "Undecodable"}),
    ("GIF of 65535 x 65535", lambda: gif(65_535, 65_535, 1), {"TooLarge"}),
    ("GIF of 5000 frames, 1400 x 1400", lambda: gif(1400, 1400, 5000), {"fine"}),
    ("GIF of 300000 frames", lambda: gif(1, 1, 300_000), {"fine"}),
    (
        "GIF in blocks of one byte",
        lambda: gif_with(b"\x21\xfe" + b"\1a" * 5_000_000 + b"\0;"),
        {"fine", "Undecodable"},
    ),
    (
        "GIF comment in blocks of one byte first",
        lambda: gif(1, 1, 1)[:19] + b"\x21\xfe" + b"\1a" * 5_000_000 + b"\0;",
        {"Undecodable"},
    ),
    (
        "GIF whose second frame is larger",
        lambda: gif_with(b"\x2c" + struct.pack("<4HB", 60_000, 60_000, 1, 1, 0) + b"\x02\x02\x44\x01\x00;"),
        {"fine"},
    ),
    ("ICO with a PNG of 60000 x 60000", lambda: ico(png(60_000, 60_000)), {"TooLarge"}),
    (
        "ICO with a PNG of 1500 x 1500",
        lambda: ico(encoded(Image.new("L", (1500, 1500)), "PNG")),
        {"TooLarge"},
    ),
    (
        "ICO with a bitmap of 20000 x 20000",
        lambda: ico(struct.pack("<IiiHHIIiiII", 40, 20_000, 40_000, 1, 32, 0, 0, 0, 0, 0, 0)),
        {"TooLarge"},
    ),
    ("ICO whose picture is elsewhere", lambda: ico(b"")[:18] + b"\xff" * 4, {"Undecodable"}),
    ("ICO of no pictures", lambda: b"\0\0\1\0\0\0" + bytes(60), {"Undecodable"}),
    ("zTXt bomb", text_bomb, {"Undecodable"}),
    ("iCCP bomb", profile_bomb, {"Undecodable", "fine"}),
    ("PNG of a million chunks", lambda: png(8, 8, png_chunk(b"abCd", b"") * 1_000_000), {"Undecodable"}),
    (
        "JPEG of a million segments",
        lambda: b"\xff\xd8" + b"\xff\xe5\0\2" * 1_500_000 + encoded(scene(8, 8), "JPEG")[2:],
        {"Undecodable", "fine"},
    ),
    (
        "APNG of 2^31 frames",
        lambda: png(8, 8, png_chunk(b"acTL", struct.pack(">II", 2**31 - 1, 0)), data=(b"\0" + bytes(24)) * 8),
        {"fine", "Undecodable"},
    ),
    (
        "APNG of 9 frames without them",
        lambda: png(8, 8, png_chunk(b"acTL", struct.pack(">II", 9, 0)), data=(b"\0" + bytes(24)) * 8),
        {"fine", "Undecodable"},
    ),
]


@pytest.mark.parametrize(("name", "draw", "outcomes"), BOMBS, ids=[name for name, _, _ in BOMBS])
@pytest.mark.filterwarnings("ignore")
@pytest.mark.slow
def test_a_bomb_takes_little_time_and_memory(
    tmp_path: Path, name: str, draw: Callable[[], bytes], outcomes: set[str]
) -> None:
    source = written(tmp_path, "a.png", draw())
    size = source.stat().st_size
    before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    outcome = attempt(source)
    took = time.process_time() - began
    grew = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * (
        1024 if Path("/proc").exists() else 1
    )
    assert outcome in outcomes
    assert took < 6
    assert grew < 100_000_000 + 20 * size


def test_the_scans_of_a_jpeg_are_bounded_by_its_pixels(tmp_path: Path) -> None:
    work = Recipe(width=20, height=20, fit="stretch")
    for scans, pixels in ((16, 1000 * 500), (17, 1000 * 500), (32, 500 * 500)):
        source = written(tmp_path, "a.jpg", jpeg_of_scans(scans, pixels // 500, 500))
        asked = Job(source, Stamp.of(source.stat()), work, "png", None, pixels * 16 // 32, 8192)
        if scans * pixels <= asked.max_pixels * 32 and pixels <= asked.max_pixels:
            assert render.render(asked).width == 20
        else:
            with pytest.raises(TooLarge):
                render.render(asked)


@pytest.mark.parametrize(
    ("data", "scans"),
    [
        (encoded(scene(), "JPEG"), 1),
        (encoded(scene(), "JPEG", progressive=True), 10),
        (encoded(scene().convert("L"), "JPEG", progressive=True), 6),
        (encoded(scene(), "JPEG", progressive=True, comment=b"\xff\xda" * 300), 10),  # a preview, say
        (encoded(scene(), "JPEG", progressive=True) + b"\xff\xda" * 300, 10),  # a film behind it, say
        (jpeg_of_scans(100), 100),
        (jpeg_of_scans(101), 101),
        (jpeg_of_scans(300), 101),
        (jpeg_of_empty_scans(300), 101),
        (b"\xff\xd8\xff\xda", 1),
        (b"", 0),
    ],
)
def test_scans_are_counted_up_to_the_end_of_the_picture(data: bytes, scans: int) -> None:
    assert containers.jpeg_scans(data, 100) == scans


@pytest.mark.parametrize(("order", "is_big"), [("<", False), (">", False), ("<", True)])
def test_the_strips_of_a_tiff_are_counted(tmp_path: Path, order: str, is_big: bool) -> None:
    data = tiff_of_strips(30, order, is_big)
    assert containers.tiff_strips(data) == 30
    assert rendered(written(tmp_path, "a.tif", data), width=1, height=30).size == (1, 30)
    for length in range(40):
        assert containers.tiff_strips(data[:length]) in (0, 30)


def test_an_icon_is_measured_before_it_is_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = encoded(Image.new("RGBA", (1500, 1500)), "BMP")[14:]
    data = data[:8] + struct.pack("<i", 3000) + data[12:]
    source = written(tmp_path, "a.ico", ico(data))

    def fail(*_: Any) -> None:
        raise AssertionError("a decoder was asked for pixels")

    monkeypatch.setattr(Image, "_getdecoder", fail)
    assert render.probe(source) == Header(1500, 1500, "ICO", has_alpha=True)
    with pytest.raises(TooLarge):
        render.render(
            Job(source, Stamp.of(source.stat()), Recipe(width=9, height=9), "png", None, SMALL, 8192)
        )


def test_a_frame_hidden_from_the_count_is_not_decoded(tmp_path: Path) -> None:
    """Pillow takes an extension without data for the start of another block: it sees a frame of 50 Mpx
    where others see a comment."""
    hidden = b"\x2c" + struct.pack("<4HB", 0, 0, 9000, 9000, 0) + b"\x02\x02\x44\x01\x00"
    comment = bytes(31) + b"\0" + hidden
    comment = b"\x21\xfe" + bytes([len(comment)]) + comment + b"\0"
    frame = gif(1, 1, 1)[19:-1]
    data = gif(1, 1, 1)[:-1] + b"\x21\x01\0" + comment + frame + b";"
    source = written(tmp_path, "a.gif", data)
    assert containers.gif_frames(data) == 2
    work = Job(
        source, Stamp.of(source.stat()), Recipe(width=1, height=1, fit="stretch"), "png", None, SMALL, 8192
    )
    with pytest.raises(Undecodable, match="different sizes"):
        render.render(work)


def test_libtiff_gets_no_file_to_map(tmp_path: Path) -> None:
    source = save(tmp_path, "a.tif", quarters(), compression="tiff_lzw")
    with SourceFile(source) as file:
        assert isinstance(decoders.open_picture(file).fp, io.BytesIO)  # type: ignore[attr-defined]


def test_a_bomb_for_pillow_is_too_large_also_when_warnings_are_errors(tmp_path: Path) -> None:
    limit = Image.MAX_IMAGE_PIXELS
    assert limit is not None
    for side, factor in ((11_000, 1), (20_000, 2)):
        source = written(tmp_path, "a.png", png(side, side))
        with pytest.raises(TooLarge, match=f"{factor * limit + 1} pixels or more, above the limit of 1000$"):
            render.render(Job(source, Stamp.of(source.stat()), Recipe(), "png", None, 1000, 8192))


@pytest.mark.parametrize(
    "data",
    [
        encoded(quarters(), "GIF") + b"<script>alert(1)</script>",
        encoded(quarters(), "JPEG")[:2]
        + b"\xff\xfe\0\x1c<script>alert(1)</script>x"
        + encoded(quarters(), "JPEG")[2:],
        encoded(quarters(), "PNG") + b"PK\x03\x04",
    ],
)
@pytest.mark.parametrize("encoding", sorted(ENCODINGS))
def test_nothing_of_a_polyglot_comes_through(tmp_path: Path, data: bytes, encoding: str) -> None:
    source = written(tmp_path, "a", data)
    for quality in (1, 100):
        body = render.render(job(source, encoding, quality=quality)).body
        assert body is not None
        assert b"<script" not in body
        assert b"PK\x03\x04" not in body


# --- containers -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 2, 7])
def test_gif_frames_are_counted_as_pillow_does(count: int) -> None:
    frames = [scene(60, 40).rotate(i) for i in range(count)]
    data = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:], comment="c" * 700)
    assert containers.gif_frames(data) == Image.open(io.BytesIO(data)).n_frames == count  # type: ignore[attr-defined]
    for cut in range(0, len(data), 97):
        assert 1 <= containers.gif_frames(data[:cut]) <= count


def test_a_gif_whose_canvas_would_grow_has_one_frame() -> None:
    beyond = b"\x2c" + struct.pack("<4HB", 1, 0, 1, 1, 0) + b"\x02\x02\x44\x01\x00;"
    assert containers.gif_frames(gif_with(beyond)) == 1
    assert containers.gif_frames(gif(2, 1, 1)[:-1] + beyond) == 2


def test_a_gif_of_tiny_blocks_is_refused() -> None:
    with pytest.raises(Undecodable, match="too many blocks"):
        containers.gif_frames(gif(1, 1, 1)[:19] + b"\x21\xfe" + b"\1a" * 1_000_001 + b"\0;")
