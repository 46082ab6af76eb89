"""What of a source is decoded, at which scale, and where in the result it goes.

``plan`` knows the header, ``placement`` the pixels too. Pixels are turned after resizing, when there are few;
until then boxes are turned instead.
"""

from __future__ import annotations

from dataclasses import dataclass

from PIL import Image

from ..model.formats import ENCODINGS
from ..model.geometry import cover_box, inner_size, place, settle
from ..model.job import Job
from ..model.recipe import Recipe
from .boxes import EXIF_TURNS, Box, PixelBox, Size, Turn, rect_of, scaled, sides
from .decoders import orientation_of
from .smart_crop import smart_place

__all__ = ["FramePlan", "Placement", "Plan", "max_side", "placement", "plan"]

# A JPEG is decoded at 1/2, 1/4 or 1/8 as long as 1.55 times the wanted pixels are left. Lowest SSIM against
# Lanczos on a full decode, of five photographs, when so many times the wanted pixels are left:
#   1.3  0.984    1.4  0.988    1.5  0.9898    1.55  0.991    1.6  0.992    1.8  0.994    2.0  0.996
# The smaller decode is always less work, also before the SIMD filter (ms, decode + filter):
#   12 MP to 640 px   1/4  34 + 1.5   1/2  38 + 3.5   full  54 + 12     (Pillow's filter: 34 + 12, 38 + 33)
#    6 MP to 512 px   1/4   9 + 0.9   1/2  11 + 2     full  17 + 7
# A gap of 1.6 would have the much wanted 640 px of 12 MP (4032 px wide) decoded at 1/2.
_DECODING_GAP = 1.55
# Up to 3 MP it is decoded whole, for all sizes: one decode for a page's pictures of one source, and all that
# the filter can see (2 MP to 320 px: 6.8 ms + 1.9, at 1/2 4.6 + 0.7; to 640 px it is whole anyway).
_WHOLE_PIXELS = 3_000_000


@dataclass(frozen=True, slots=True)
class Plan:
    """What is known before a pixel is: the stored *region* that is wanted, decoded at 1 / *scale* or larger.
    *recipe* is settled, unless it trims."""

    turn: Turn
    region: Box
    recipe: Recipe
    scale: int
    max_side: int


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a cut-out stored picture goes: *box* of it becomes *size* (both stored), is turned, and lies at
    *spot* on the canvas of the recipe."""

    turn: Turn
    box: Box
    size: Size
    spot: Size


@dataclass(frozen=True, slots=True)
class FramePlan:
    """What is done with every frame of a source. *cut* is in pixels of the decoded picture, *recipe* is
    settled, *profile* is that of its colours."""

    cut: PixelBox
    placement: Placement
    recipe: Recipe
    profile: bytes | None


def plan(job: Job, picture: Image.Image) -> Plan:
    """The plan for the first frame of *picture*, which is not decoded yet."""
    turn = EXIF_TURNS[orientation_of(picture)].then(job.recipe.rotate, job.recipe.flop)
    upright = turn.size(picture.size)
    region = turn.stored(rect_of(job.recipe, upright), upright)
    if job.recipe.trim is not None:  # the size is known only when the pixels are
        return Plan(turn, region, job.recipe, 1, max_side(job))
    recipe = settle(job.recipe, *turn.size(sides(region)), max_side(job))
    return Plan(turn, region, recipe, _scale(picture, turn, recipe, region), max_side(job))


def max_side(job: Job) -> int:
    """The longest side that the result of *job* may have, in pixels."""
    return min(job.max_side, ENCODINGS[job.encoding].max_side)


def _scale(picture: Image.Image, turn: Turn, recipe: Recipe, region: Box) -> int:
    """8, 4 or 2 where a large JPEG decoded at 1/8, 1/4 or 1/2 is enough, else 1.

    Enough for what is really needed: the part that ``rect`` and ``cover`` leave. A ``rect`` whose edges
    would fall inside of a pixel is decoded larger, else its neighbours would shine through at the edge.
    """
    if picture.format not in ("JPEG", "MPO") or picture.width * picture.height <= _WHOLE_PIXELS:
        return 1
    width, height = sides(region)
    wide, high = turn.size(_inner(recipe, turn.size((width, height))))
    if recipe.fit == "cover":
        box = cover_box(width, height, wide, high, 0, 0)
        needed = box[2] - box[0], box[3] - box[1]
    else:
        needed = width, height
    stored = picture.size
    for scale in (8, 4, 2):
        is_enough = needed[0] >= wide * scale * _DECODING_GAP and needed[1] >= high * scale * _DECODING_GAP
        is_sharp = all(edge % scale == 0 or edge == stored[i % 2] for i, edge in enumerate(region))
        if is_enough and is_sharp:
            return scale
    return 1


def _inner(recipe: Recipe, size: Size) -> Size:
    """The size that the picture (upright, of *size*) gets on the canvas."""
    return inner_size(recipe, *size) if recipe.fit == "pad" else (recipe.width, recipe.height)


def placement(image: Image.Image, turn: Turn, recipe: Recipe, region: Box, scale: int) -> Placement:
    """Where *image* goes, which shows *region* decoded at 1 / *scale*. *recipe* is settled."""
    width, height = turn.size(sides(region))
    wide, high = _inner(recipe, (width, height))
    box: Box = (0, 0, width, height)
    spot = (0, 0)
    if recipe.fit == "cover":
        box = cover_box(width, height, wide, high, 0, 0)
        free = width - box[2], height - box[3]
        if recipe.gravity == "smart":
            x, y = smart_place(image, turn, box[2] / width, box[3] / height)
        else:
            x, y = place(recipe, *free, width, height)
        box = cover_box(width, height, wide, high, x, y)
    elif recipe.fit == "pad":
        x, y = place(recipe, recipe.width - wide, recipe.height - high, width, height)
        spot = int((recipe.width - wide) * x), int((recipe.height - high) * y)
    left, top, right, bottom = scaled(turn.stored(box, (width, height)), scale)
    box = max(0.0, left), max(0.0, top), min(right, image.width), min(bottom, image.height)
    return Placement(turn, box, turn.size((wide, high)), spot)
