"""Pixels of every mode -> 8-bit sRGB pixels: ``plain`` before resizing, ``to_srgb`` on the smaller result."""

from __future__ import annotations

from functools import lru_cache
from io import BytesIO
from typing import TYPE_CHECKING

from PIL import Image, ImageChops, ImageCms

if TYPE_CHECKING:
    from PIL.ImageCms import ImageCmsTransform

__all__ = ["GREY", "has_alpha", "is_srgb", "plain", "profile_of", "to_srgb", "without_idle_alpha"]

# The key in ``info`` of a picture that is opened as RGBA and is grey with alpha. No text of a PNG can be it.
GREY = (0, 16)

# 16 bits to 8: 65535 / 255 = 257. Pillow's own convert clips all above 255 to white, and `>> 8` is a level
# darker for half of the values.
_FROM_16 = [(value + 128) // 257 for value in range(65_536)]
# A profile as large as this is an attack or a mistake; the largest of the usual CMYK ones has 3 MB.
_MAX_PROFILE = 4_000_000
# The header of a profile names its colour space (ICC.1:2022 §7.2.6).
_SPACES = {"RGB ": "RGB", "GRAY": "L", "CMYK": "CMYK"}


def has_alpha(image: Image.Image) -> bool:
    """Whether pixels of this plain picture may be transparent."""
    return image.mode in ("LA", "RGBA")


def without_idle_alpha(image: Image.Image) -> Image.Image:
    """A plain picture without its alpha where that hides nothing."""
    # Of the resized picture: of a large one, to look and to convert (3 MP: 6 ms) costs more than to filter
    # one channel more (2.5 ms).
    if has_alpha(image) and image.getchannel("A").getextrema() == (255, 255):
        return image.convert(image.mode.removesuffix("A"))
    return image


def plain(image: Image.Image) -> Image.Image:
    """*image* in one of the modes L, LA, RGB, RGBA and CMYK, which can all be resized with a filter.

    Palettes and bits would be resized without one. Grey stays grey. 32-bit integers are 16-bit values,
    unless some are greater: then the greatest is white. In floating point 1 is white, unless some are
    greater: then 255 is.
    """
    mode = image.mode
    if mode in ("LA", "RGBA", "CMYK"):
        return image.convert("LA") if GREY in image.info else image
    if mode in ("1", "L", "RGB"):
        if "transparency" in image.info:
            return _keyed(image)
        return image.convert("L") if mode == "1" else image
    if mode.startswith("I;16") or mode in ("I", "F"):
        return _from_deep(image)
    if mode == "LAB":
        return _from_lab(image)
    if mode == "La":
        return image.convert("LA")
    return image.convert("RGBA" if image.has_transparency_data else "RGB")


def _keyed(image: Image.Image) -> Image.Image:
    """A picture in which one colour means transparent (PNG §11.3.2.1), with alpha instead."""
    key = image.info["transparency"]
    if image.mode == "RGB" and isinstance(key, tuple) and max(key) > 255:
        # A key of 16 bits for samples of which Pillow has kept the upper 8.
        image = image.copy()
        image.info["transparency"] = tuple(value >> 8 for value in key)
    try:
        return image.convert("RGBA" if image.mode == "RGB" else "LA")
    except (ValueError, TypeError):  # a key that no pixel can have
        image = image.copy()
        del image.info["transparency"]
        return image.convert("RGB" if image.mode == "RGB" else "L")


def _from_deep(image: Image.Image) -> Image.Image:
    key = image.info.get("transparency") if image.mode.startswith("I;16") else None
    if image.mode == "F":
        highest = _highest(image)
        return image.point(lambda v: v * 255 + 0.5).convert("L") if highest <= 1 else image.convert("L")
    if image.mode != "I":
        image = image.convert("I")
    elif (highest := _highest(image)) > 65_535:
        scale = 65_535 / highest
        image = image.point(lambda v: v * scale + 0.5)
    grey = image.point(_FROM_16, "L")
    if isinstance(key, int) and 0 <= key <= 65_535:
        grey.putalpha(image.point([255] * key + [0] + [255] * (65_535 - key), "L"))
    return grey


def _highest(image: Image.Image) -> float:
    extremes = image.getextrema()
    highest = extremes[1]
    return highest if isinstance(highest, (int, float)) else 255


def _from_lab(image: Image.Image) -> Image.Image:
    transform = ImageCms.buildTransform(
        ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB"), "LAB", "RGB"
    )
    return _applied(transform, image)


def to_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """A plain picture in sRGB (L, LA, RGB or RGBA), converted from *profile* with perceptual intent.

    A profile that is broken, or for another kind of pixels, is ignored: browsers do so too. Without one,
    CMYK is converted by Pillow's plain formula.
    """
    base = {"LA": "L", "RGBA": "RGB"}.get(image.mode, image.mode)
    transform = _transform(profile, base) if profile else None
    if transform is None:
        return image.convert("RGB") if image.mode == "CMYK" else image
    colour = image if image.mode == base else image.convert(base)
    colour = _applied(transform, colour)
    if base == "L":
        colour = colour.convert("L")
    if image.mode != base and base != "CMYK":
        colour.putalpha(image.getchannel("A"))
    return colour


def _applied(transform: ImageCmsTransform, image: Image.Image) -> Image.Image:
    return ImageCms.applyTransform(image, transform) or image


def profile_of(picture: Image.Image) -> bytes | None:
    """The ICC profile of a picture as opened."""
    profile = picture.info.get("icc_profile")
    return profile if isinstance(profile, bytes) and profile else None


def is_srgb(image: Image.Image) -> bool:
    """Whether the stored colours of *image* (as opened) are sRGB without a conversion."""
    profile = profile_of(image)
    if image.mode not in ("1", "L", "LA", "P", "PA", "RGB", "RGBA"):
        return False
    base = "L" if image.mode in ("1", "L", "LA") else "RGB"
    return profile is None or (_space(profile) == base and _transform(profile, base) is None)


def _space(profile: bytes) -> str:
    """The mode of the pixels that *profile* is for, or an empty text if it can't be read."""
    try:
        return _SPACES.get(ImageCms.ImageCmsProfile(BytesIO(profile)).profile.xcolor_space, "")
    except (OSError, ValueError, TypeError, ImageCms.PyCMSError):
        return ""


@lru_cache(maxsize=16)
def _transform(profile: bytes, base: str) -> ImageCmsTransform | None:
    """How to get from *profile* to sRGB; None where nothing is to be done or nothing can be done.

    Building one for CMYK takes 25 ms, hence the cache; little CMS applies one transform in many threads.
    """
    if len(profile) > _MAX_PROFILE or _space(profile) != base:
        return None
    try:
        transform = ImageCms.buildTransform(
            ImageCms.ImageCmsProfile(BytesIO(profile)),
            ImageCms.createProfile("sRGB"),
            base,
            "RGB",
            ImageCms.Intent.PERCEPTUAL,
        )
        return None if base != "CMYK" and _moves_nothing(transform, base) else transform
    except (OSError, ValueError, TypeError, ImageCms.PyCMSError):
        return None


def _moves_nothing(transform: ImageCmsTransform, base: str) -> bool:
    """Whether a transform moves no colour by more than 2 of 255: names of profiles lie, colours don't."""
    ramp = Image.linear_gradient("L").resize((32, 32))
    colours = Image.merge("RGB", (ramp, ramp.rotate(90), ramp.rotate(45))) if base == "RGB" else ramp
    difference = ImageChops.difference(_applied(transform, colours), colours.convert("RGB"))
    return difference.point([0] * 3 + [1] * 253 + ([0] * 3 + [1] * 253) * 2).getbbox() is None
