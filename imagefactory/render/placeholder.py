"""A placeholder: a decoded picture -> a few of its pixels as a ``data:`` URI, shown until it is loaded."""

from __future__ import annotations

import logging
from base64 import b64encode
from collections.abc import Callable
from io import BytesIO

from PIL import Image

from . import colours
from .resizing import premultiplied

__all__ = ["LONGEST", "placeholder"]

_log = logging.getLogger(__name__)

LONGEST = 400  # characters
# Pixels on the long side, the first that is short enough: 20 make 180 to 230 characters of a photo. Alpha is
# stored without loss, and what has much of it takes 14 or 8.
_SIDES = (20, 14, 8)
# Each pixel is the mean of 4 x 4 that are picked from the picture, with nothing between them: that takes as
# long for 50 megapixels as for one, and goes before plain pixels are made of palettes, 16 bits and CMYK.
_PICKED = 4


def placeholder(picture: Image.Image, upright: Callable[[Image.Image], Image.Image]) -> str:
    """*picture* (as decoded, with its ``info``) as a tiny WebP in sRGB, turned by *upright*, with its alpha.

    A ``data:`` URI of at most ``LONGEST`` characters; empty where none can be made: nobody's picture fails
    for it. 0.3 ms after a decode, with cold caches.
    """
    try:
        for side in _SIDES:
            uri = _uri(upright(_tiny(picture, side)))
            if len(uri) <= LONGEST:
                return uri
    except Exception as error:  # whatever it is, the render itself can do without
        _log.debug("no placeholder: %s", error)
    return ""


def _tiny(picture: Image.Image, side: int) -> Image.Image:
    """*picture* with at most *side* pixels on its long side; it is not made larger."""
    scale = max(1.0, max(picture.size) / side)
    width, height = max(1, round(picture.width / scale)), max(1, round(picture.height / scale))
    picked = min(picture.width, width * _PICKED), min(picture.height, height * _PICKED)
    image = colours.plain(picture.resize(picked, Image.Resampling.NEAREST))
    # Of so few pixels: a fifth of the time of ``resized``, which is made for many.
    means = premultiplied(image).resize((width, height), Image.Resampling.BOX)
    image = means if means.mode == image.mode else means.convert(image.mode)
    return colours.without_idle_alpha(colours.to_srgb(image, colours.profile_of(picture)))


def _uri(image: Image.Image) -> str:
    image.info = {}  # Pillow would write the profile and more of the source's
    file = BytesIO()
    image.save(file, "WEBP", quality=30, method=4)
    return f"data:image/webp;base64,{b64encode(file.getvalue()).decode()}"
