"""Sizes and boxes: what a recipe means for a source of a known size. Whole numbers in, whole numbers out.

``clamp`` is called before the key is built, so that all requests with one result share one variant;
``settle`` is called by it, and again by the renderer where the size is known only after trimming.
A settled recipe has its final size, and one of three fits: ``stretch`` (the whole picture becomes
exactly width x height), ``cover`` (a part of it does, chosen by gravity) or ``pad`` (it lies on a canvas).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache

from ..errors import BadParameter
from .formats import Encoding
from .recipe import COMPASS, Recipe, Rect
from .source import Header

__all__ = ["clamp", "cover_box", "inner_size", "place", "settle", "snap", "source_size", "turned"]


def clamp(recipe: Recipe, header: Header, encoding: Encoding, max_side: int) -> Recipe:
    """*recipe* for a source with *header*, without anything that would not change the result.

    *max_side* bounds each side of the variant, in pixels, as does the encoding's own limit. Raises
    BadParameter for a ``rect`` that lies outside of the picture.
    """
    max_side = min(max_side, encoding.max_side)
    if not header.width:  # only an external program knows its size
        recipe = replace(recipe, width=min(recipe.width, max_side), height=min(recipe.height, max_side))
    else:
        recipe = _frame(recipe, header, max_side)
    quality = recipe.quality if encoding.has_quality else None
    anim = recipe.anim or not (encoding.has_animation and header.frames > 1)
    background = recipe.background and _visible_background(recipe, header, encoding)
    if (quality, anim, background) == (recipe.quality, recipe.anim, recipe.background):
        return recipe
    return replace(recipe, quality=quality, anim=anim, background=background)


@lru_cache(maxsize=1024)  # a page asks for each size in three encodings
def _frame(recipe: Recipe, header: Header, max_side: int) -> Recipe:
    """*recipe* with its ``rect`` in pixels and its final size, which depend on no encoding."""
    width, height = turned(recipe, header.width, header.height)
    if header.is_scalable:
        recipe = replace(recipe, enlarge=True)
    if recipe.rect:
        rect = _pixels(recipe.rect, width, height)
        is_whole = (rect.width, rect.height) == (width, height)
        width, height = int(rect.width), int(rect.height)
        recipe = replace(recipe, rect=None if is_whole else rect)
    if recipe.trim is not None:  # the size is known only when the pixels are: bound it, the renderer settles
        return replace(recipe, width=min(recipe.width, max_side), height=min(recipe.height, max_side))
    return settle(recipe, width, height, max_side)


def settle(recipe: Recipe, width: int, height: int, max_side: int) -> Recipe:
    """*recipe* with its final size for a picture of *width* x *height* pixels (after rotate, rect and trim).

    Settling a settled recipe changes nothing.
    """
    wide, high, fit = recipe.width, recipe.height, recipe.fit
    if fit == "pad" and (wide or high):
        return _settle_pad(recipe, width, height, max_side)
    if wide and high and fit == "cover":
        # What does not fit into the source is made smaller in proportion: the asked ratio stays.
        bounds = (max_side, max_side) if recipe.enlarge else (min(width, max_side), min(height, max_side))
        wide, high = _shrink(wide, high, *bounds)
        is_whole = (wide, high) == _outside(width, height, wide, high)
        if not is_whole:
            left, top, right, bottom = cover_box(width, height, wide, high, 0, 0)
            recipe = _aim(recipe, width - (right - left), height - (bottom - top), width, height)
            return replace(recipe, width=wide, height=high, enlarge=wide > width or high > height)
    elif wide and high and fit == "stretch":
        if not recipe.enlarge:
            wide, high = min(wide, width), min(high, height)
        wide, high = min(wide, max_side), min(high, max_side)
    else:
        if not (wide or high):
            wide, high = width, height
        elif wide and high and fit == "outside":
            wide, high = _outside(width, height, wide, high)
        else:
            wide, high = _inside(width, height, wide, high)
        if not recipe.enlarge and (wide > width or high > height):
            wide, high = width, height
        wide, high = _shrink(wide, high, max_side, max_side)
    enlarge = wide > width or high > height
    return replace(
        recipe,
        width=wide,
        height=high,
        fit="stretch",
        gravity="center",
        focus=(0.5, 0.5),
        enlarge=enlarge,
    )


def _settle_pad(recipe: Recipe, width: int, height: int, max_side: int) -> Recipe:
    wide, high = recipe.width, recipe.height
    if not (wide and high):
        wide, high = _inside(width, height, wide, high)
    wide, high = _shrink(wide, high, max_side, max_side)
    recipe = replace(recipe, width=wide, height=high)
    inner = inner_size(recipe, width, height)
    enlarge = inner[0] > width or inner[1] > height
    if inner == (wide, high):
        return replace(recipe, fit="stretch", gravity="center", focus=(0.5, 0.5), enlarge=enlarge)
    return replace(_aim(recipe, wide - inner[0], high - inner[1], wide, high), enlarge=enlarge)


def inner_size(recipe: Recipe, width: int, height: int) -> tuple[int, int]:
    """The size in pixels of the picture that ``pad`` lays on its canvas."""
    wide, high = _inside(width, height, recipe.width, recipe.height)
    if not recipe.enlarge and (wide > width or high > height):
        return width, height
    return wide, high


def source_size(recipe: Recipe, header: Header, max_pixels: int) -> tuple[int, int]:
    """The size in pixels in which a source with *header* is to be made, so that *recipe*, which is clamped,
    gets all its pixels and has nothing to enlarge; at most *max_pixels*, and its own size unless it is
    scalable."""
    whole = turned(recipe, header.width, header.height)
    width, height = (recipe.rect.width, recipe.rect.height) if recipe.rect else whole
    is_settled = recipe.trim is None
    wide, high = recipe.width, recipe.height
    if is_settled and recipe.fit == "pad":
        wide, high = inner_size(recipe, int(width), int(height))
    if not is_settled and not (wide or high):
        wide, high = int(width), int(height)
    factor = max(wide / width, high / height)
    if not header.is_scalable:
        factor = min(factor, 1.0)
    factor = min(factor, (max_pixels / (header.width * header.height)) ** 0.5)
    size = max(1, int(header.width * factor + 0.5)), max(1, int(header.height * factor + 0.5))
    exact = (high, wide) if recipe.rotate in (90, 270) else (wide, high)
    is_near = all(abs(one - other) <= 1 for one, other in zip(size, exact, strict=True))
    return exact if is_near and not recipe.rect and is_settled else size


def turned(recipe: Recipe, width: int, height: int) -> tuple[int, int]:
    """The sides of an upright picture after ``rotate``."""
    return (height, width) if recipe.rotate in (90, 270) else (width, height)


def snap(recipe: Recipe, width: int, height: int, ladder: Sequence[int]) -> Recipe:
    """*recipe* with its width on the next higher step of *ladder* and its height in proportion.

    *width* and *height* are the source's after ``rotate``; *ladder* is sorted. A recipe without a size
    keeps none. Above the last step it stays there.
    """
    wide, high = recipe.width, recipe.height
    if not (wide or high):
        return recipe
    if not wide:
        wide, high = max(1, _divide(width * high, height)), 0
    step = ladder[min(bisect_left(ladder, wide), len(ladder) - 1)]
    return replace(recipe, width=step, height=max(1, _divide(high * step, wide)) if high else 0)


def cover_box(
    width: int, height: int, wide: int, high: int, x: float, y: float
) -> tuple[float, float, float, float]:
    """The part of a *width* x *height* picture that ``cover`` shows: (left, top, right, bottom) in pixels.

    It has the ratio *wide* : *high* and the greatest size that fits. *x* and *y* place it in the space
    that is left over (0 is left or top, 1 right or bottom).
    """
    box_width = min(float(width), height * wide / high)
    box_height = min(float(height), width * high / wide)
    left, top = (width - box_width) * x, (height - box_height) * y
    return left, top, left + box_width, top + box_height


def place(recipe: Recipe, free_x: float, free_y: float, width: float, height: float) -> tuple[float, float]:
    """Where gravity puts a box: (x, y) as parts of the free space.

    *free_x* and *free_y* are the pixels left over on each axis, *width* and *height* the whole picture. A
    focal point comes as near to the middle of the box as the edges allow. ``smart`` is not decided here.
    """
    if recipe.gravity != "point":
        return COMPASS.get(recipe.gravity, (0.5, 0.5))
    x = (recipe.focus[0] * width - (width - free_x) / 2) / free_x if free_x > 0 else 0.5
    y = (recipe.focus[1] * height - (height - free_y) / 2) / free_y if free_y > 0 else 0.5
    return min(max(x, 0.0), 1.0), min(max(y, 0.0), 1.0)


def _aim(recipe: Recipe, free_x: float, free_y: float, width: float, height: float) -> Recipe:
    """*recipe* with its gravity in the fewest words: nothing about an axis without free space, and a focal
    point that ends up in the middle or at an edge is a compass word."""
    if recipe.gravity == "smart":
        return replace(recipe, gravity="center") if recipe.fit == "pad" else recipe
    if (
        recipe.fit == "pad" and recipe.gravity == "point"
    ):  # the whole picture shows: there is nothing to aim at
        return replace(recipe, gravity="center", focus=(0.5, 0.5))
    x, y = place(recipe, free_x, free_y, width, height)
    spot = (x if free_x > 0 else 0.5, y if free_y > 0 else 0.5)
    word = next((word for word, place_of_word in COMPASS.items() if place_of_word == spot), "")
    if word:
        return replace(recipe, gravity=word, focus=(0.5, 0.5))
    return replace(
        recipe, focus=(recipe.focus[0] if free_x > 0 else 0.5, recipe.focus[1] if free_y > 0 else 0.5)
    )


def _visible_background(recipe: Recipe, header: Header, encoding: Encoding) -> str:
    """The background as it comes out: opaque where the encoding has no alpha; empty where it is white or, of
    a framed *recipe*, nowhere to be seen."""
    may_show = recipe.fit == "pad" or (header.has_alpha and not encoding.has_alpha) or recipe.trim is not None
    text = recipe.background if may_show else ""
    if text and not encoding.has_alpha:
        red, green, blue, alpha = bytes.fromhex(text)
        text = (
            "".join(f"{_divide(c * alpha + 255 * (255 - alpha), 255):02x}" for c in (red, green, blue)) + "ff"
        )
    return "" if text == "ffffffff" else text


def _pixels(rect: Rect, width: int, height: int) -> Rect:
    """*rect* in whole pixels, cut to a picture of *width* x *height*."""
    scale_x, scale_y = (width, height) if rect.is_relative else (1, 1)
    left, top = _round(rect.left * scale_x), _round(rect.top * scale_y)
    right = min(width, max(left + 1, _round((rect.left + rect.width) * scale_x)))
    bottom = min(height, max(top + 1, _round((rect.top + rect.height) * scale_y)))
    if rect.is_relative:  # a part of a picture is never empty
        left, top = min(left, right - 1), min(top, bottom - 1)
    if left >= right or top >= bottom:
        raise BadParameter(
            "rect", f"rect starts at {left},{top}, outside of the picture of {width}x{height} pixels"
        )
    return Rect(left, top, right - left, bottom - top)


def _inside(width: int, height: int, wide: int, high: int) -> tuple[int, int]:
    """The greatest size in proportion that fits into *wide* x *high*; a 0 does not bind."""
    if not high or (wide and wide * height <= high * width):
        return wide, max(1, _divide(height * wide, width))
    return max(1, _divide(width * high, height)), high


def _outside(width: int, height: int, wide: int, high: int) -> tuple[int, int]:
    """The smallest size in proportion that covers *wide* x *high*."""
    if wide * height >= high * width:
        return wide, max(1, _divide(height * wide, width))
    return max(1, _divide(width * high, height)), high


def _shrink(wide: int, high: int, max_wide: int, max_high: int) -> tuple[int, int]:
    """*wide* x *high*, made smaller in proportion where it is beyond a bound."""
    if wide <= max_wide and high <= max_high:
        return wide, high
    return _inside(wide, high, max_wide, max_high)


def _divide(a: int, b: int) -> int:
    """a / b for whole numbers, rounded half up."""
    return (2 * a + b) // (2 * b)


def _round(value: float) -> int:
    return int(value + 0.5)
