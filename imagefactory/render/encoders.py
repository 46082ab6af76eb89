"""Finished pixels -> how to write a variant: one entry for each encoding.

Nothing is left to a picture's ``info``: Pillow would write the source's metadata from it. docs/encoders.md
has each setting beside those that were not taken; ``make encoders`` measures them again.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from io import BytesIO
from types import MappingProxyType
from typing import IO, Any

from PIL import Image

from . import gif_writer, jxl, png_writer
from .animation import Animation, Reel
from .colours import without_idle_alpha
from .saving import Save

__all__ = ["ENCODERS", "Encoder", "Settings", "exif_of", "for_program", "moving", "still"]

_Options = dict[str, Any]

_COPYRIGHT, _ARTIST = 0x8298, 0x013B  # EXIF 3.0 §4.6.4
_MAX_CREDIT = 500


@dataclass(frozen=True, slots=True)
class Settings:
    """How to encode. *exif* is all of the metadata that goes along, as a JPEG has it."""

    encoding: str
    quality: int | None = None
    effort: Mapping[str, int] = field(default_factory=dict)
    exif: bytes = b""

    @property
    def tiff(self) -> bytes:
        """*exif* for other encodings: from its TIFF header on. Pillow leaves the six bytes before it in an
        animated WebP."""
        return self.exif.removeprefix(b"Exif\0\0")


@dataclass(frozen=True, slots=True)
class Encoder:
    """How an encoding is written: a *still* picture (L, LA, RGB or RGBA, with alpha only where the encoding
    has it); a *moving* one, None where no animation is written; and *from_jpeg*, whose bytes it can take up
    without a loss, or None."""

    still: Callable[[Image.Image, Settings], Save]
    moving: Callable[[Animation, Settings], Save] | None = None
    from_jpeg: Callable[[bytes], bytes] | None = None


def still(image: Image.Image, settings: Settings) -> Save:
    """How to write one picture."""
    # Without alpha that hides nothing it is smaller, and faster to decode.
    return ENCODERS[settings.encoding].still(without_idle_alpha(image), settings)


def for_program(image: Image.Image, kind: str) -> bytes:
    """*image* as an external program reads it: ``ppm``, without alpha (PGM where it is grey), or ``png``."""
    buffer = BytesIO()
    if kind == "ppm":
        image = image.convert("L" if image.mode in ("L", "LA") else "RGB")
        image.save(buffer, "PPM")
    else:
        image.save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def moving(animation: Animation, settings: Settings) -> Save:
    """How to write an animation. Raises ValueError for an encoding in which none is written."""
    write = ENCODERS[settings.encoding].moving
    if write is None:
        raise ValueError(f"no animation is written as {settings.encoding}")
    return write(animation, settings)


# --- encodings ------------------------------------------------------------------------------------------


def _jpeg(image: Image.Image, settings: Settings) -> Save:
    # Huffman tables made to measure save 1.4 % of 54 kB and cost 1 ms on top of 0.7; progressive saves
    # 4 % for 3.5 ms. Both need the whole picture in one buffer, whose size Pillow guesses: noise fails.
    options: _Options = {"quality": settings.quality or 80, "subsampling": "4:2:0"}
    if settings.exif:
        options["exif"] = settings.exif

    def save(file: IO[bytes]) -> None:
        image.save(file, "JPEG", **options)
        _check_end(file)

    return save


def _check_end(file: IO[bytes]) -> None:
    """Raise OSError for a JPEG without its end. Pillow's C code writes JPEGs to the descriptor itself, and
    takes a write of fewer bytes than asked, as on a disk that becomes full, for a success."""
    if not isinstance(file, BytesIO):
        size = os.fstat(file.fileno()).st_size
        if os.pread(file.fileno(), 2, max(0, size - 2)) != b"\xff\xd9":
            raise OSError("the file is cut off")


def _png(image: Image.Image, settings: Settings) -> Save:
    return partial(png_writer.save, image, exif=settings.tiff)


def _moving_png(animation: Animation, settings: Settings) -> Save:
    # Pillow's writer collects all frames before it writes one: nothing is lost by a list.
    first, *rest = animation.frames
    # Level 6 saves 1 to 2 % in twice the time.
    options = _with_exif({"compress_level": 4}, settings)
    options.update(duration=animation.durations_ms, loop=animation.plays, append_images=rest)
    return lambda file: first.save(file, "PNG", save_all=True, **options)


def _webp_options(settings: Settings) -> _Options:
    # Method 4 saves 7 % at equal SSIM in twice the time; 6 with alpha takes over a hundred times as long.
    options = {"quality": settings.quality or 80, "method": settings.effort.get("method", 2)}
    return _with_exif(options, settings)


def _webp(image: Image.Image, settings: Settings) -> Save:
    options = _webp_options(settings)
    return lambda file: image.save(file, "WEBP", **options)


def _moving_webp(animation: Animation, settings: Settings) -> Save:
    """A transparent one is marked as such (VP8X chunk, flag L): libwebp does so only where a frame has alpha
    of its own. Opaque pieces on an empty canvas have none, and then Pillow and others show the canvas in
    black."""
    reel, options = Reel(animation), _webp_options(settings)
    options.update(duration=animation.durations_ms, loop=animation.plays)

    def save(file: IO[bytes]) -> None:
        data = reel.encoded("WEBP", **options)
        if reel.mode == "RGBA" and bytes(data[12:16]) == b"VP8X":
            data[20] |= 0x10
        file.write(data)

    return save


def _avif_options(settings: Settings) -> _Options:
    # One render, one thread: the default is one per core, for every render at once. None of libaom's own
    # switches saves bytes without a loss of looks; speed 9 takes 1.7 times the bytes of ours with alpha.
    options = {"quality": settings.quality or 65, "speed": settings.effort.get("speed", 8), "max_threads": 1}
    return _with_exif(options, settings)


def _avif(image: Image.Image, settings: Settings) -> Save:
    options = _avif_options(settings)
    return lambda file: image.save(file, "AVIF", **options)


def _moving_avif(animation: Animation, settings: Settings) -> Save:
    """It always plays for ever: Pillow can't say anything else."""
    reel, options = Reel(animation), _avif_options(settings)

    def save(file: IO[bytes]) -> None:
        file.write(reel.encoded("AVIF", duration=animation.durations_ms, **options))

    return save


def _gif(image: Image.Image, settings: Settings) -> Save:
    return gif_writer.still(image)


def _moving_gif(animation: Animation, settings: Settings) -> Save:
    return gif_writer.moving(animation)


def _jxl(image: Image.Image, settings: Settings) -> Save:
    quality, effort = settings.quality or 79, settings.effort.get("effort", 3)
    return lambda file: jxl.save(image, file, quality, effort, settings.tiff)


def _with_exif(options: _Options, settings: Settings) -> _Options:
    return {**options, "exif": settings.tiff} if settings.exif else options


# By the names in ``model.formats``.
ENCODERS: Mapping[str, Encoder] = MappingProxyType(
    {
        "jpeg": Encoder(_jpeg),
        "png": Encoder(_png, _moving_png),
        "webp": Encoder(_webp, _moving_webp),
        "avif": Encoder(_avif, _moving_avif),
        "gif": Encoder(_gif, _moving_gif),
        "jxl": Encoder(_jxl, from_jpeg=jxl.transcoded),
    }
)


# --- metadata -------------------------------------------------------------------------------------------


def exif_of(copyright_text: object, artist: object) -> bytes:
    """An EXIF block of these two alone, at most 500 characters each; empty when there is nothing to say."""
    exif = Image.Exif()
    for tag, text in ((_COPYRIGHT, copyright_text), (_ARTIST, artist)):
        data = _credit(text)
        if data:
            exif[tag] = data
    return exif.tobytes() if len(exif) else b""


def _credit(text: object) -> bytes:
    """Bytes for an EXIF text. Pillow reads those as Latin-1 whatever they are: so they go back unchanged."""
    if isinstance(text, tuple):
        text = text[0] if text else ""
    if isinstance(text, bytes):
        text = text.decode("latin-1")
    if not isinstance(text, str):
        return b""
    text = str(text).replace("\0", " ").strip()[:_MAX_CREDIT]
    try:
        return text.encode("latin-1")
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace")
