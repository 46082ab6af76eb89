"""Boxes, sizes and turns: where a part of a picture lies, upright and as the file has it.

Two coordinate systems: a *stored* picture is as the file has it, the *upright* one is turned by EXIF,
``rotate`` and ``flop``. Recipes speak of the upright picture, the decoder of the stored one. Boxes are (left,
top, right, bottom) in pixels, right and bottom exclusive.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import ceil, floor

from PIL import Image

from ..model.recipe import Recipe

__all__ = [
    "EXIF_TURNS",
    "Box",
    "PixelBox",
    "Size",
    "Turn",
    "rect_of",
    "scaled",
    "sides",
    "whole_pixels",
]

Size = tuple[int, int]
Box = tuple[float, float, float, float]
PixelBox = tuple[int, int, int, int]

_TRANSPOSES = {
    (False, True, False): Image.Transpose.FLIP_LEFT_RIGHT,
    (False, False, True): Image.Transpose.FLIP_TOP_BOTTOM,
    (False, True, True): Image.Transpose.ROTATE_180,
    (True, False, False): Image.Transpose.TRANSPOSE,
    (True, True, False): Image.Transpose.ROTATE_270,  # Pillow turns to the left
    (True, False, True): Image.Transpose.ROTATE_90,
    (True, True, True): Image.Transpose.TRANSVERSE,
}


@dataclass(frozen=True, slots=True)
class Turn:
    """How a stored picture becomes upright: first swap the axes, then mirror x, then mirror y."""

    swap: bool = False
    mirror_x: bool = False
    mirror_y: bool = False

    def then(self, rotate: int, flop: bool) -> Turn:
        """This turn, then *rotate* degrees clockwise, then left to right."""
        turn = self
        for _ in range(rotate // 90):  # x becomes y, y becomes -x
            turn = Turn(not turn.swap, not turn.mirror_y, turn.mirror_x)
        return replace(turn, mirror_x=turn.mirror_x != flop)

    def size(self, size: Size) -> Size:
        """Upright sides from stored ones, and back."""
        return size[::-1] if self.swap else size

    def stored(self, box: Box, upright_size: tuple[float, float]) -> Box:
        """A box of the upright picture, in the stored one."""
        left, top, right, bottom = box
        if self.mirror_x:
            left, right = upright_size[0] - right, upright_size[0] - left
        if self.mirror_y:
            top, bottom = upright_size[1] - bottom, upright_size[1] - top
        return (top, left, bottom, right) if self.swap else (left, top, right, bottom)

    def apply(self, image: Image.Image) -> Image.Image:
        """The upright picture."""
        method = _TRANSPOSES.get((self.swap, self.mirror_x, self.mirror_y))
        return image if method is None else image.transpose(method)


# EXIF 3.0 §4.6.4, tag 0x0112: where row 0 and column 0 of the stored picture belong.
EXIF_TURNS = {
    1: Turn(),
    2: Turn(mirror_x=True),
    3: Turn(mirror_x=True, mirror_y=True),
    4: Turn(mirror_y=True),
    5: Turn(swap=True),
    6: Turn(swap=True, mirror_x=True),
    7: Turn(swap=True, mirror_x=True, mirror_y=True),
    8: Turn(swap=True, mirror_y=True),
}


def rect_of(recipe: Recipe, size: Size) -> Box:
    """The ``rect`` of *recipe*, else the whole of an upright picture of *size*."""
    rect = recipe.rect
    if rect is None:
        return (0, 0, *size)
    if rect.is_relative:  # of what a program made, in whatever size
        left, right = (round(size[0] * edge) for edge in (rect.left, rect.left + rect.width))
        top, bottom = (round(size[1] * edge) for edge in (rect.top, rect.top + rect.height))
        return left, top, max(right, left + 1), max(bottom, top + 1)
    return rect.left, rect.top, rect.left + rect.width, rect.top + rect.height


def sides(box: Box) -> Size:
    """Width and height of *box*, rounded to whole pixels."""
    return round(box[2] - box[0]), round(box[3] - box[1])


def scaled(box: Box, scale: float) -> Box:
    """*box* in a picture at 1 / *scale*."""
    return box[0] / scale, box[1] / scale, box[2] / scale, box[3] / scale


def whole_pixels(box: Box, size: Size) -> PixelBox:
    """All pixels of a picture of *size* that *box* touches."""
    return floor(box[0]), floor(box[1]), min(ceil(box[2]), size[0]), min(ceil(box[3]), size[1])
