"""JPEG XL, by the library of the extra ``jxl``, which is imported late.

Its Pillow plugin is not used: it would take metadata from ``info``. Not pylibjxl (0.5.0): what that writes
with a loss is without XYB, JPEG XL's own colours, and four times as large (a photograph 235 kB, not 55).
"""

from __future__ import annotations

import os
from functools import cache
from typing import IO, Any

from PIL import Image

from ..errors import Undecodable

__all__ = ["distance_of", "save", "transcoded"]

# The efforts 1 to 9 as the library calls them.
_SPEEDS = ("Lightning", "Thunder", "Falcon", "Cheetah", "Hare", "Wombat", "Squirrel", "Kitten", "Tortoise")
# It takes a larger number for a quality in percent.
_LARGEST_DISTANCE = 15.0


def distance_of(quality: int) -> float:
    """The distance, which libjxl counts by, for a quality of 1 to 100: 1.99 for 79; 0 is without loss.

    As JxlEncoderDistanceFromQuality of libjxl 0.11 (lib/jxl/encode.cc), which cjxl asks; 15 at most, which is
    what a quality of 10 has.
    """
    if quality >= 100:
        return 0.0
    if quality >= 30:
        return 0.1 + (100 - quality) * 0.09
    return min(_LARGEST_DISTANCE, 53 / 3000 * quality**2 - 23 / 20 * quality + 25)


def save(image: Image.Image, file: IO[bytes], quality: int, effort: int, exif: bytes) -> None:
    """Write *image* (L, LA, RGB, RGBA) into *file*; the alpha is kept without loss. *exif* is all of the
    metadata, from its TIFF header on."""
    if image.mode == "LA":  # which not every decoder knows, that of the library neither
        image = image.convert("RGBA")
    codec, distance = _codec(os.getpid()), distance_of(quality)
    file.write(
        codec.encode(
            image.tobytes(),
            image.width,
            image.height,
            lossless=distance == 0,
            quality=distance,
            speed=getattr(codec.EncoderSpeed, _SPEEDS[effort - 1]),
            num_channels=len(image.getbands()),
            exif=exif or None,
        )
    )


def transcoded(jpeg: bytes) -> bytes:
    """A JPEG as a JPEG XL with the same coefficients, of which the same bytes can be made again.

    Raises Undecodable where that can't be: a JPEG that is broken, cut off, or of a rare kind.
    """
    try:
        return bytes(_codec(os.getpid()).jpeg_to_jxl(jpeg))
    except RuntimeError as error:
        raise Undecodable("it can't be turned into a JPEG XL without loss") from error


@cache
def _codec(process: int) -> Any:
    """The library, with one thread for each picture. Set in each *process*: threads don't survive a fork."""
    import pyjpegxl

    pyjpegxl.set_num_threads(1)
    return pyjpegxl
