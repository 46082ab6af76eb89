"""Draws inputs: pictures whose turns and crops can be seen, colour profiles, files that lie about themselves.

And renders them as the generator does, from a path and a recipe to an opened result.
"""

from __future__ import annotations

import importlib
import io
import os
import struct
import time
import zlib
from pathlib import Path
from typing import Any

from PIL import Image

from imagefactory.model.formats import ENCODINGS
from imagefactory.model.geometry import clamp
from imagefactory.model.job import Job, Rendered
from imagefactory.model.recipe import Recipe
from imagefactory.model.source import Stamp
from imagefactory.render import pipeline as render

RED, GREEN, BLUE, WHITE = (220, 30, 30), (30, 180, 30), (30, 30, 220), (250, 250, 250)
QUALITY = {"jpeg": 80, "webp": 80, "avif": 65, "jxl": 79}
if "jxl" in ENCODINGS:  # for the eyes of the tests; the package reads none
    importlib.import_module("pyjpegxl.pillow").register()
MAX_PIXELS = 50_000_000


# --- pictures -------------------------------------------------------------------------------------------


def quarters(width: int = 400, height: int = 300) -> Image.Image:
    """Red and green above, blue and white below."""
    image = Image.new("RGB", (width, height), RED)
    image.paste(GREEN, (width // 2, 0, width, height // 2))
    image.paste(BLUE, (0, height // 2, width // 2, height))
    image.paste(WHITE, (width // 2, height // 2, width, height))
    return image


def corners(image: Image.Image) -> list[str]:
    """The colours of the quarters, by name: top left, top right, bottom left, bottom right."""
    rgb = image.convert("RGB")
    names = {RED: "red", GREEN: "green", BLUE: "blue", WHITE: "white"}

    def name(x: int, y: int) -> str:
        pixel = rgb.getpixel((x, y))
        return names[min(names, key=lambda c: sum((a - b) ** 2 for a, b in zip(c, pixel, strict=True)))]

    w, h = image.size
    return [name(x, y) for y in (h // 4, h * 3 // 4) for x in (w // 4, w * 3 // 4)]


def scene(width: int = 400, height: int = 300) -> Image.Image:
    """Something like a photograph: soft gradients with some detail in all channels."""
    x = Image.linear_gradient("L").rotate(90).resize((width, height))
    y = Image.linear_gradient("L").resize((width, height))
    waves = Image.radial_gradient("L").resize((width, height)).point(lambda v: abs(v * 4 % 510 - 255))
    return Image.merge("RGB", (x, y, waves))


def near(pixel: Any, wanted: Any, within: int = 6) -> bool:
    """Whether two pixels (numbers or tuples) are alike."""
    a = pixel if isinstance(pixel, tuple) else (pixel,)
    b = wanted if isinstance(wanted, tuple) else (wanted,)
    return len(a) == len(b) and all(abs(p - q) <= within for p, q in zip(a, b, strict=True))


def save(folder: Path, name: str, image: Image.Image, **options: Any) -> Path:
    """*image* as a file; its format follows from *name*."""
    path = folder / name
    image.save(path, **options)
    return path


def orientation(value: int, **tags: str) -> Image.Exif:
    """EXIF with an orientation, and ``copyright`` and ``artist``."""
    exif = Image.Exif()
    exif[0x0112] = value
    if "copyright" in tags:
        exif[0x8298] = tags["copyright"]
    if "artist" in tags:
        exif[0x013B] = tags["artist"]
    return exif


# --- rendering ------------------------------------------------------------------------------------------


def job(
    source: Path,
    encoding: str = "png",
    *,
    target: Path | None = None,
    max_pixels: int = MAX_PIXELS,
    max_side: int = 8192,
    **recipe: Any,
) -> Job:
    """The job that the generator would make for *source* and the fields of a recipe."""
    header = render.probe(source)
    assert header is not None
    recipe.setdefault("quality", QUALITY.get(encoding))
    clamped = clamp(Recipe(**recipe), header, ENCODINGS[encoding], max_side)
    return Job(source, Stamp.of(source.stat()), clamped, encoding, target, max_pixels, max_side)


def rendered(source: Path, encoding: str = "png", **options: Any) -> Image.Image:
    """The variant, opened; it has been checked to have the size that was promised."""
    return opened(render.render(job(source, encoding, **options)), encoding)


def opened(result: Rendered, encoding: str) -> Image.Image:
    """The picture in a result, still with its frames."""
    assert result.body is not None
    assert set(result.seconds) == {"decode", "resize", "encode"}
    image = Image.open(io.BytesIO(result.body))
    assert image.format == encoding.upper()
    assert image.size == (result.width, result.height)
    image.load()
    if image.info.get("icc_profile", b"")[4:8] == b"jxl ":  # made up by the decoder, which is asked for one
        del image.info["icc_profile"]
    return image


# --- colour profiles ------------------------------------------------------------------------------------

# Columns of the RGB-to-XYZ matrix, adapted to D50 (as in the profiles that everybody embeds).
PRIMARIES = {
    "srgb": ((0.43607, 0.22249, 0.01392), (0.38515, 0.71687, 0.09708), (0.14307, 0.06061, 0.71410)),
    "p3": ((0.51512, 0.24120, -0.00105), (0.29198, 0.69225, 0.04189), (0.15710, 0.06657, 0.78407)),
    "adobe": ((0.60974, 0.31111, 0.01947), (0.20528, 0.62567, 0.06087), (0.14919, 0.06322, 0.74457)),
}


def rgb_profile(primaries: str, gamma: float = 2.2) -> bytes:
    """A matrix profile with a plain gamma."""
    columns = zip((b"rXYZ", b"gXYZ", b"bXYZ"), PRIMARIES[primaries], strict=True)
    tags = [(name, _xyz(*column)) for name, column in columns]
    tags += [(name, _gamma(gamma)) for name in (b"rTRC", b"gTRC", b"bTRC")]
    return _profile(b"RGB ", b"XYZ ", b"mntr", tags)


def grey_profile(gamma: float) -> bytes:
    """A grey profile with a plain gamma."""
    return _profile(b"GRAY", b"XYZ ", b"mntr", [(b"kTRC", _gamma(gamma))])


def cmyk_profile() -> bytes:
    """A CMYK profile that is easily told from Pillow's formula: every ink but black is red.

    A table of the 2 x 2 x 2 x 2 corners in Lab (ICC.1:2022 §10.10, lut8Type), black varying fastest.
    """
    straight = bytes(range(256))
    corners = b"".join(bytes((0, 128, 128) if i % 2 else (128, 190, 170)) for i in range(1, 16))
    identity = struct.pack(">9i", *(65536 if i % 4 == 0 else 0 for i in range(9)))
    lut = b"mft1\0\0\0\0" + bytes((4, 3, 2, 0)) + identity + straight * 4
    return _profile(b"CMYK", b"Lab ", b"prtr", [(b"A2B0", lut + b"\xff\x80\x80" + corners + straight * 3)])


def _profile(space: bytes, connection: bytes, device: bytes, tags: list[tuple[bytes, bytes]]) -> bytes:
    text = b"drawn\0"
    tags = [
        (b"desc", b"desc\0\0\0\0" + struct.pack(">I", len(text)) + text + bytes(78)),
        (b"cprt", b"text\0\0\0\0" + text),
        (b"wtpt", _xyz(0.9642, 1.0, 0.8249)),
        *tags,
    ]
    at = 128 + 4 + 12 * len(tags)
    table, data = struct.pack(">I", len(tags)), b""
    for name, body in tags:
        body += bytes(-len(body) % 4)
        table += struct.pack(">4sII", name, at + len(data), len(body))
        data += body
    head = struct.pack(">I4sI4s4s4s", at + len(data), b"none", 0x02400000, device, space, connection)
    head += struct.pack(">6H4s", 2026, 1, 1, 0, 0, 0, b"acsp") + bytes(28)
    head += struct.pack(">3i", 63190, 65536, 54061)  # D50
    return head + bytes(128 - len(head)) + table + data


def _xyz(*values: float) -> bytes:
    return b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(value * 65536) for value in values))


def _gamma(value: float) -> bytes:
    return b"curv\0\0\0\0" + struct.pack(">IH", 1, round(value * 256))


# --- bytes ----------------------------------------------------------------------------------------------


def png_chunk(name: bytes, data: bytes) -> bytes:
    """A chunk of a PNG."""
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(width: int, height: int, *chunks: bytes, bits: int = 8, colour: int = 2, data: bytes = b"") -> bytes:
    """A PNG with this header, whatever *data* really are."""
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    parts = [png_chunk(b"IHDR", header), *chunks, png_chunk(b"IDAT", zlib.compress(data))]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts) + png_chunk(b"IEND", b"")


def gif(width: int, height: int, frames: int, block: bytes = b"\x02\x02\x44\x01\x00") -> bytes:
    """A GIF of black frames of one pixel on a canvas of any size; *block* is the data of each frame."""
    head = b"GIF89a" + struct.pack("<HHBBB", width, height, 0x80, 0, 0) + bytes((0, 0, 0, 255, 255, 255))
    frame = b"\x21\xf9\x04\x00\x05\x00\x00\x00" + b"\x2c" + struct.pack("<4HB", 0, 0, 1, 1, 0) + block
    return head + frame * frames + b";"


def ico(picture: bytes, width: int = 16, height: int = 16, bits: int = 32) -> bytes:
    """An icon whose directory says what is told, and whose one picture is what it is."""
    return struct.pack("<3H4B2H2I", 0, 1, 1, width, height, 0, 0, 1, bits, len(picture), 22) + picture


def written(folder: Path, name: str, data: bytes) -> Path:
    """*data* as a file."""
    path = folder / name
    path.write_bytes(data)
    return path


def at_rest(path: Path) -> Path:
    """*path*, whose file was modified an hour ago: whoever wrote it is done."""
    then_s = time.time() - 3600
    os.utime(path, (then_s, then_s))
    return path


def encoded(image: Image.Image, format: str, **options: Any) -> bytes:
    """*image* as bytes."""
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def is_moving(path: Path) -> bool:
    with Image.open(path) as image:
        return getattr(image, "is_animated", False)


def is_opaque(path: Path) -> bool:
    with Image.open(path) as image:
        return not image.has_transparency_data


def photos() -> list[Path]:
    """The real photographs in the folder ``IMAGEFACTORY_PHOTOS``, else the project's sample pictures."""
    samples = Path(__file__).parents[2] / "pictures"
    found = sorted(Path(os.environ.get("IMAGEFACTORY_PHOTOS") or samples).rglob("*"))
    return [path for path in found if path.suffix in (".jpg", ".png", ".webp", ".avif", ".gif")]
