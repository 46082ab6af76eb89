"""Finished pixels -> the bytes of a variant, in a file or in memory.

One row of save options per encoding, and what each container needs to hold an animation.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from io import BytesIO
from itertools import count
from pathlib import Path
from typing import IO, Any

from PIL import Image, ImageChops

from ..errors import Undecodable
from . import jxl, png_writer
from .colours import without_idle_alpha

__all__ = ["Settings", "exif_of", "moving", "ready", "still", "write"]

# Writes a variant into a file that is open for writing.
Save = Callable[[IO[bytes]], None]
_Options = dict[str, Any]

_COPYRIGHT, _ARTIST = 0x8298, 0x013B  # EXIF 3.0 §4.6.4
_MAX_CREDIT = 500


@dataclass(frozen=True, slots=True)
class Settings:
    """How to encode. *exif* is all of the metadata that goes along."""

    encoding: str
    quality: int | None = None
    effort: Mapping[str, int] = field(default_factory=dict)
    exif: bytes = b""


def _options(settings: Settings) -> _Options:
    """What Pillow's ``save`` is told. Nothing is left to ``info``: that would leak the source's metadata.

    docs/encoders.md has each setting beside those that were not taken; ``make encoders`` measures them again.
    """
    encoding, quality, effort, exif = settings.encoding, settings.quality, settings.effort, settings.exif
    rows: dict[str, _Options] = {
        # Huffman tables made to measure save 1.4 % of 54 kB and cost 1 ms on top of 0.7; progressive saves
        # 4 % for 3.5 ms. Both need the whole picture in one buffer, whose size Pillow guesses: noise fails.
        "jpeg": {"quality": quality or 80, "subsampling": "4:2:0"},
        # Of animations; a still picture is written by ``png``. Level 6 saves 1 to 2 % in twice the time.
        "png": {"compress_level": 4},
        # Method 4 saves 7 % at equal SSIM in twice the time; 6 with alpha takes over a hundred times as long.
        "webp": {"quality": quality or 80, "method": effort.get("method", 2)},
        # One render, one thread: the default is one per core, for every render at once. None of libaom's own
        # switches saves bytes without a loss of looks; speed 9 takes 1.7 times the bytes of ours with alpha.
        "avif": {"quality": quality or 65, "speed": effort.get("speed", 8), "max_threads": 1},
        "gif": {"interlace": 0},
    }
    options = {"format": encoding.upper(), **rows[encoding]}
    if exif and encoding != "gif":
        # Only JPEG has the six bytes before the TIFF header; Pillow leaves them in animated WebP.
        options["exif"] = exif if encoding == "jpeg" else exif.removeprefix(b"Exif\0\0")
    return options


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


def still(image: Image.Image, settings: Settings) -> Save:
    """How to write one picture. *image* is L, LA, RGB or RGBA, and has alpha only where the encoding has."""
    image = without_idle_alpha(image)  # smaller, and faster to decode
    if settings.encoding == "jxl":
        quality, effort = settings.quality or 79, settings.effort.get("effort", 3)
        exif = settings.exif.removeprefix(b"Exif\0\0")
        return lambda file: jxl.save(image, file, quality, effort, exif)
    options = _options(settings)
    if settings.encoding == "png":
        return partial(png_writer.save, image, exif=options.get("exif", b""))
    if settings.encoding == "gif":
        image = _indexed(image)
        if "transparency" in image.info:
            options["transparency"] = image.info["transparency"]

    def save(file: IO[bytes]) -> None:
        image.save(file, **options)
        if settings.encoding == "jpeg":
            _check_end(file)

    return save


def ready(data: bytes) -> Save:
    """How to write a picture that is encoded already."""

    def save(file: IO[bytes]) -> None:
        file.write(data)

    return save


def _check_end(file: IO[bytes]) -> None:
    """Raise OSError for a JPEG without its end. Pillow's C code writes JPEGs to the descriptor itself, and
    takes a write of fewer bytes than asked, as on a disk that becomes full, for a success."""
    if not isinstance(file, BytesIO):
        size = os.fstat(file.fileno()).st_size
        if os.pread(file.fileno(), 2, max(0, size - 2)) != b"\xff\xd9":
            raise OSError("the file is cut off")


def moving(
    frames: Iterable[Image.Image],
    length: int,
    durations_ms: list[int],
    plays: int,
    settings: Settings,
) -> Save:
    """How to write an animation of *length* frames, all of one size and mode.

    *durations_ms* may grow while *frames* is read. *plays* is 0 for ever; AVIF always plays for ever
    (Pillow can't say it).
    """
    encoding, options = settings.encoding, _options(settings)
    options.update(save_all=True, duration=durations_ms)
    if encoding in ("webp", "png"):
        options["loop"] = plays
    if encoding in ("webp", "avif"):
        reel = _Reel(iter(frames), length)
        return lambda file: _save_reel(reel, file, options)

    # Pillow's GIF and PNG writers collect all frames before they write one: nothing is lost by a list.
    rest = [_indexed(frame) if encoding == "gif" else frame for frame in frames]
    if encoding == "gif":
        options["duration"] = [min(duration, 655_350) for duration in durations_ms]
        if plays != 1:  # without the extension it plays once; with n it plays n times more
            options["loop"] = max(0, min(plays - 1, 65_535))
        if any("transparency" in frame.info and frame.histogram()[255] for frame in rest):
            # Else a pixel once painted could never become transparent again. Optimizing would drop the
            # transparent colour from frames without it: if from the first, Pillow reads all as opaque.
            options.update(disposal=2, optimize=False)
            _distinguish_background(rest)
    first = rest.pop(0)
    options["append_images"] = rest
    return lambda file: first.save(file, **options)


def _distinguish_background(frames: list[Image.Image]) -> None:
    """Give the transparent colour of a GIF's frames a value that no other colour has.

    To find what is to be written, Pillow compares a frame with a canvas of this value, as if it were opaque:
    what shows the same colour at a frame's edge would be cut off, and become transparent.
    """
    palettes = [bytes(frame.getpalette() or b"")[: 255 * 3] for frame in frames]
    used = {palette[i : i + 3] for palette in palettes for i in range(0, len(palette), 3)}
    value = next(value for n in count() if (value := n.to_bytes(3, "big")) not in used)
    for frame, palette in zip(frames, palettes, strict=True):
        frame.putpalette(palette + value)


def _save_reel(reel: _Reel, file: IO[bytes], options: _Options) -> None:
    """Save frames as they are made, once. A transparent WebP is marked as such (VP8X chunk, flag L): libwebp
    does so only where a frame has alpha of its own. Opaque pieces on an empty canvas have none, and then
    Pillow and others show the canvas in black."""
    if reel.tell() > 0:
        raise ValueError("the frames are used up")
    buffer = BytesIO()
    reel.save(buffer, **options)
    data = buffer.getbuffer()
    if options["format"] == "WEBP" and reel.mode == "RGBA" and bytes(data[12:16]) == b"VP8X":
        data[20] |= 0x10
    file.write(data)


class _Reel(Image.Image):
    """A picture whose frames are made when an encoder asks for them, one in memory at a time.

    It runs forward once: Pillow rewinds after the last frame, which is ignored.
    """

    def __init__(self, frames: Iterator[Image.Image], length: int) -> None:
        super().__init__()
        self.n_frames = length
        self.is_animated = length > 1
        self._frames = frames
        self._position = -1
        self.seek(0)

    def seek(self, frame: int) -> None:
        """Show the next frame; EOFError after the last one."""
        if frame >= self.n_frames:
            raise EOFError
        if frame == self._position + 1:
            image = next(self._frames)
            self.im = image.im
            self._mode, self._size = image.mode, image.size
            self._position = frame

    def tell(self) -> int:
        """The position of the frame that is shown."""
        return self._position


def _indexed(image: Image.Image) -> Image.Image:
    """*image* with a palette: exact up to 256 colours, else median cut with Floyd-Steinberg dithering.

    With alpha, the colour 255 is transparent, as ``info`` says: what is less than half opaque.
    """
    if image.mode == "L":
        return image
    if image.mode == "RGB":
        return _with_palette(image, 256)
    hidden = image.getchannel("A").point([255] * 128 + [0] * 128)
    colour = image.convert("RGB")
    # What is hidden must not cost a colour (GIFs often have 255 and a transparent one): it gets one of those.
    shown = ImageChops.invert(hidden)
    if box := shown.getbbox():
        left, top, right, _ = box
        row = shown.crop((left, top, right, top + 1)).getbbox() or (0, 0, 0, 0)
        one = left + row[0], top
        colour.paste(colour.crop((*one, one[0] + 1, one[1] + 1)).resize(colour.size), mask=hidden)
    indexed = _with_palette(colour, 255)
    palette = (indexed.getpalette() or [])[: 255 * 3]
    indexed.putpalette(palette + [0] * (768 - len(palette)))
    indexed.paste(255, mask=hidden)
    indexed.info = {"transparency": 255}
    return indexed


def _with_palette(image: Image.Image, colours: int) -> Image.Image:
    indexed = image.quantize(colours, Image.Quantize.MEDIANCUT)
    if image.getcolors(colours) is None:
        indexed = image.quantize(palette=indexed, dither=Image.Dither.FLOYDSTEINBERG)
    indexed.info = {}
    return indexed


def write(save: Save, target: Path | None) -> bytes | None:
    """Write into *target*, or return the bytes when that is None.

    Raises OSError when the target can't be written, Undecodable when the picture can't be encoded.
    """
    try:
        if target is not None:
            with target.open("w+b") as file:
                save(file)
            return None
        if hasattr(os, "memfd_create"):
            # A descriptor, for JPEG's sake: into a BytesIO it is encoded with the GIL held (57 ms for 12 MP).
            with os.fdopen(os.memfd_create("variant"), "w+b") as file:
                save(file)
                file.seek(0)
                return file.read()
        return _in_buffer(save)
    except OSError as error:
        if error.errno is not None:
            raise
    except _ENCODER_ERRORS as error:
        raise Undecodable(_UNENCODABLE) from error
    # C code wrote and did not say why it failed ("encoder error -2", or a file that is cut off): a full disk
    # or a picture that can't be encoded? In a buffer only the second fails; then Python's own write of the
    # bytes tells the first.
    body = _in_buffer(save)
    if target is None:
        return body
    target.write_bytes(body)
    return None


_ENCODER_ERRORS = (OSError, ValueError, RuntimeError, OverflowError, struct.error)
_UNENCODABLE = "its pixels can't be written in this encoding"


def _in_buffer(save: Save) -> bytes:
    buffer = BytesIO()
    try:
        save(buffer)
    except _ENCODER_ERRORS as error:
        raise Undecodable(_UNENCODABLE) from error
    return buffer.getvalue()
