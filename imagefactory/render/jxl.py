"""JPEG XL, by the library of the extra ``jxl``. Used by ``encoders`` and ``pipeline``; imports pylibjxl late.

Its Pillow plugin is not used: it would take metadata from ``info``, and as many threads as there are cores.
"""

from __future__ import annotations

import os
from functools import cache
from typing import IO, Any

from PIL import Image

from ..errors import Undecodable

__all__ = ["distance_of", "save", "transcoded"]


def distance_of(quality: int) -> float:
    """The distance, which libjxl counts by, for a quality of 1 to 100: 1.99 for 79; 0 is without loss.

    As JxlEncoderDistanceFromQuality of libjxl 0.11 (lib/jxl/encode.cc), which cjxl asks.
    """
    if quality >= 100:
        return 0.0
    if quality >= 30:
        return 0.1 + (100 - quality) * 0.09
    return 53 / 3000 * quality**2 - 23 / 20 * quality + 25


def save(image: Image.Image, file: IO[bytes], quality: int, effort: int, exif: bytes) -> None:
    """Write *image* (L, LA, RGB, RGBA) into *file*; the alpha is kept without loss. *exif* is all of the
    metadata, from its TIFF header on."""
    if image.mode == "LA":  # the library has one, three or four channels
        image = image.convert("RGBA")
    shape = image.height, image.width, len(image.getbands())
    pixels = memoryview(bytearray(image.tobytes())).cast("B", shape)
    distance = distance_of(quality)
    file.write(_codec(os.getpid()).encode(pixels, effort, distance, distance == 0, exif=exif or None))


def transcoded(jpeg: bytes, effort: int) -> bytes:
    """A JPEG as a JPEG XL with the same coefficients, of which the same bytes can be made again.

    Raises Undecodable where that can't be: a JPEG that is broken, cut off, or of a rare kind.
    """
    try:
        return bytes(_codec(os.getpid()).jpeg_to_jxl(jpeg, effort))
    except RuntimeError as error:
        raise Undecodable("it can't be turned into a JPEG XL without loss") from error


@cache
def _codec(process: int) -> Any:
    """The library, with one thread for each picture. One for each *process*: threads don't survive a fork."""
    import pylibjxl

    return pylibjxl.JXL(threads=1)
