"""The pipeline: a source and a recipe -> a variant, as a list of steps; and what a source's header says.

Called by the renderers with a ``Job``. Beside it: ``decoders`` (files -> pixels), ``srgb`` (colours),
``resizing``, ``encoders`` (pixels -> bytes), ``placeholder``, ``memory`` (what was made of a source, for its
next variants), and ``containers``, which walks bytes without a picture library.

Two coordinate systems: a *stored* picture is as the file has it, the *upright* one is turned by EXIF,
``rotate`` and ``flop``. Recipes speak of the upright picture, the decoder of the stored one. Pixels are
turned after resizing, when there are few; until then boxes are turned instead. Boxes are (left, top, right,
bottom), right and bottom exclusive.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, replace
from math import ceil, floor
from pathlib import Path

from PIL import Image, ImageChops, ImageFilter, UnidentifiedImageError

from ..errors import Undecodable
from ..model.formats import ENCODINGS, SOURCE_FORMATS, Header
from ..model.geometry import cover_box, inner_size, place, settle
from ..model.job import Job, Rendered
from ..model.recipe import Recipe
from . import colours, containers, decoders, encoders, jxl
from .memory import Finished, Memory, Still, bare
from .placeholder import placeholder
from .resizing import premultiplied, resized

__all__ = ["probe", "render"]

_Size = tuple[int, int]
_Box = tuple[float, float, float, float]

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
# A frame of an animation costs no less than this many pixels do (0.1 ms), however small it is.
_LEAST_FRAME = 4096
_SMART_SIDE = 128


# --- what the two doors do ------------------------------------------------------------------------------


def probe(source: Path) -> Header | None:
    """What the header of *source* says; None if it is not in one of our formats. Decodes no pixels.

    Raises Undecodable when the header is broken, TooLarge when Pillow refuses the size, OSError when the
    file can't be read. A picture over our own budget has a header; it is ``render`` that refuses it.
    """
    with decoders.Source(source) as file, decoders.decoding(file):
        if decoders.is_icon(file):
            width, height = decoders.icon_size(file)
            return Header(width, height, "ICO", has_alpha=True)
        try:
            picture = decoders.open_picture(file)
        except UnidentifiedImageError:
            if decoders.claims_to_be_ours(file.head):
                raise
            return None
        orientation = decoders.orientation_of(picture)
        width, height = _EXIF_TURNS[orientation].size(picture.size)
        frames = decoders.count_frames(picture, file)
        return Header(width, height, picture.format or "", frames, orientation, picture.has_transparency_data)


def render(
    job: Job, memory: Memory | None = None, on_decoded: Callable[[], object] = lambda: None
) -> Rendered:
    """Do *job*. Raises Undecodable, TooLarge, SourceChanged; OSError when the source can't be read or the
    target can't be written.

    *memory* may have, and gets, what is of use for the next job; the variant is the same without it, byte for
    byte. *on_decoded* is called as soon as the (first frame of the) source is decoded or remembered: what
    fails after it is the recipe's fault rather than the source's.
    """
    try:
        with decoders.Source(job.source) as file:
            return _render(job, file, memory, on_decoded)
    except MemoryError as error:
        raise Undecodable("it takes more memory than there is") from error


def _render(
    job: Job,
    file: decoders.Source,
    memory: Memory | None = None,
    on_decoded: Callable[[], object] = lambda: None,
) -> Rendered:
    watch = _Watch("decode")
    decoders.check_unchanged(file, job.stamp)
    picture = decoders.open_within_budget(job, file)
    watch.turn_to("encode")
    transcoded = _transcoded(job, file, picture)
    if transcoded is not None:
        on_decoded()
        body = encoders.write(encoders.ready(transcoded), job.target)
        decoders.check_unchanged(file, job.stamp)
        return Rendered(*picture.size, body, watch.stop())
    watch.turn_to("decode")
    plan, stored = _plan(job, picture), picture.size
    upright = _EXIF_TURNS[decoders.orientation_of(picture)]
    total = decoders.count_frames(picture, file) if _may_move(job) else 1
    if memory is None or total > 1:  # a frame is made once, in its order: there is nothing to share
        memory = Memory(0)
    memory.turn_to(job.source, job.stamp)

    first, look, tiny = memory.finished(_name(job)), None, ""
    if first is None:
        still = memory.still(plan.scale) or _decode(job, file, picture, plan.scale, memory)
        on_decoded()
        watch.turn_to("resize")
        if job.wants_placeholder:  # of the still: what the recipe cuts out is not the whole
            tiny = placeholder(still.image, upright.apply)
        first, look = _first(plan, still, memory, may_move=total > 1)
        memory.keep_finished(_name(job), first)
    else:
        on_decoded()
    background = job.recipe.background
    settings = encoders.Settings(job.encoding, job.recipe.quality, job.effort, first.exif)

    if look is None or total == 1 or not _is_within_budget(total, stored, look.recipe, job.max_pixels):
        count = 1
        image = _laid(first.image, background, job.encoding)
        watch.turn_to("encode")
        save = encoders.still(image, settings)
    else:
        count = total
        durations_ms: list[int] = []
        watch.turn_to("encode")
        frames = _frames(job, file, picture, first.image, look, count, durations_ms, watch)
        save = encoders.moving(frames, count, durations_ms, decoders.plays(picture), settings)
    body = encoders.write(save, job.target)
    is_own = SOURCE_FORMATS[picture.format or ""].encoding == job.encoding
    if is_own and count == total and _changes_no_pixel(job, picture, stored):
        body = _smaller(job, file, body)
    decoders.check_unchanged(file, job.stamp)
    return Rendered(*first.image.size, body, watch.stop(), tiny)


class _Watch:
    """The seconds spent in each phase, of which one runs at a time."""

    def __init__(self, phase: str) -> None:
        self._seconds = {"decode": 0.0, "resize": 0.0, "encode": 0.0}
        self._phase, self._since = phase, time.perf_counter()

    def turn_to(self, phase: str) -> None:
        """Count from now on for *phase*."""
        now = time.perf_counter()
        self._seconds[self._phase] += now - self._since
        self._phase, self._since = phase, now

    def stop(self) -> dict[str, float]:
        """The seconds by phase."""
        self.turn_to(self._phase)
        return self._seconds


def _name(job: Job) -> Hashable:
    """What tells finished pictures of one source apart: all of the recipe but what is left to the encoder."""
    background = job.recipe.background if job.recipe.fit == "pad" else ""
    return replace(job.recipe, background=background, quality=None, salt="", anim=True), _max_side(job)


def _may_move(job: Job) -> bool:
    return job.recipe.anim and ENCODINGS[job.encoding].has_animation


def _is_within_budget(frames: int, size: _Size, recipe: Recipe, max_pixels: int) -> bool:
    """Whether all frames together, before and after resizing, are no more work than one picture may be."""
    largest = max(size[0] * size[1], recipe.width * recipe.height, _LEAST_FRAME)
    return frames == 1 or frames * largest <= max_pixels


# --- geometry -------------------------------------------------------------------------------------------

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
class _Turn:
    """How a stored picture becomes upright: first swap the axes, then mirror x, then mirror y."""

    swap: bool = False
    mirror_x: bool = False
    mirror_y: bool = False

    def then(self, rotate: int, flop: bool) -> _Turn:
        """This turn, then *rotate* degrees clockwise, then left to right."""
        turn = self
        for _ in range(rotate // 90):  # x becomes y, y becomes -x
            turn = _Turn(not turn.swap, not turn.mirror_y, turn.mirror_x)
        return replace(turn, mirror_x=turn.mirror_x != flop)

    def size(self, size: _Size) -> _Size:
        """Upright sides from stored ones, and back."""
        return size[::-1] if self.swap else size

    def stored(self, box: _Box, upright_size: tuple[float, float]) -> _Box:
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
_EXIF_TURNS = {
    1: _Turn(),
    2: _Turn(mirror_x=True),
    3: _Turn(mirror_x=True, mirror_y=True),
    4: _Turn(mirror_y=True),
    5: _Turn(swap=True),
    6: _Turn(swap=True, mirror_x=True),
    7: _Turn(swap=True, mirror_x=True, mirror_y=True),
    8: _Turn(swap=True, mirror_y=True),
}


@dataclass(frozen=True, slots=True)
class _Plan:
    """What is known before a pixel is: the stored *region* that is wanted, decoded at 1 / *scale* or larger.
    *recipe* is settled, unless it trims."""

    turn: _Turn
    region: _Box
    recipe: Recipe
    scale: int
    max_side: int


@dataclass(frozen=True, slots=True)
class _View:
    """What is seen of a cut-out stored picture: *box* of it becomes *size* (both stored), is turned, and
    lies at *spot* on the canvas of the recipe."""

    turn: _Turn
    box: _Box
    size: _Size
    spot: _Size


@dataclass(frozen=True, slots=True)
class _Look:
    """How every frame of a source is developed. *cut* is in pixels of the decoded picture."""

    view: _View
    recipe: Recipe
    profile: bytes | None
    cut: tuple[int, int, int, int]


def _max_side(job: Job) -> int:
    return min(job.max_side, ENCODINGS[job.encoding].max_side)


def _rect(recipe: Recipe, size: _Size) -> _Box:
    rect = recipe.rect
    if rect is None:
        return (0, 0, *size)
    return rect.left, rect.top, rect.left + rect.width, rect.top + rect.height


def _sides(box: _Box) -> _Size:
    return round(box[2] - box[0]), round(box[3] - box[1])


def _scaled(box: _Box, scale: float) -> _Box:
    return box[0] / scale, box[1] / scale, box[2] / scale, box[3] / scale


def _whole_pixels(box: _Box, size: _Size) -> tuple[int, int, int, int]:
    return floor(box[0]), floor(box[1]), min(ceil(box[2]), size[0]), min(ceil(box[3]), size[1])


def _plan(job: Job, picture: Image.Image) -> _Plan:
    turn = _EXIF_TURNS[decoders.orientation_of(picture)].then(job.recipe.rotate, job.recipe.flop)
    upright = turn.size(picture.size)
    region = turn.stored(_rect(job.recipe, upright), upright)
    if job.recipe.trim is not None:  # the size is known only when the pixels are
        return _Plan(turn, region, job.recipe, 1, _max_side(job))
    recipe = settle(job.recipe, *turn.size(_sides(region)), _max_side(job))
    return _Plan(turn, region, recipe, _scale(picture, turn, recipe, region), _max_side(job))


def _scale(picture: Image.Image, turn: _Turn, recipe: Recipe, region: _Box) -> int:
    """8, 4 or 2 where a large JPEG decoded at 1/8, 1/4 or 1/2 is enough, else 1.

    Enough for what is really needed: the part that ``rect`` and ``cover`` leave. A ``rect`` whose edges
    would fall inside of a pixel is decoded larger, else its neighbours would shine through at the edge.
    """
    if picture.format not in ("JPEG", "MPO") or picture.width * picture.height <= _WHOLE_PIXELS:
        return 1
    width, height = _sides(region)
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


def _inner(recipe: Recipe, size: _Size) -> _Size:
    """The size that the picture (upright, of *size*) gets on the canvas."""
    return inner_size(recipe, *size) if recipe.fit == "pad" else (recipe.width, recipe.height)


def _aim(image: Image.Image, turn: _Turn, recipe: Recipe, region: _Box, scale: int) -> _View:
    """What is seen of *image*, which shows *region* decoded at 1 / *scale*."""
    width, height = turn.size(_sides(region))
    wide, high = _inner(recipe, (width, height))
    box: _Box = (0, 0, width, height)
    spot = (0, 0)
    if recipe.fit == "cover":
        box = cover_box(width, height, wide, high, 0, 0)
        free = width - box[2], height - box[3]
        if recipe.gravity == "smart":
            x, y = _smart(turn.apply(_small(image)), box[2] / width, box[3] / height)
        else:
            x, y = place(recipe, *free, width, height)
        box = cover_box(width, height, wide, high, x, y)
    elif recipe.fit == "pad":
        x, y = place(recipe, recipe.width - wide, recipe.height - high, width, height)
        spot = int((recipe.width - wide) * x), int((recipe.height - high) * y)
    left, top, right, bottom = _scaled(turn.stored(box, (width, height)), scale)
    box = max(0.0, left), max(0.0, top), min(right, image.width), min(bottom, image.height)
    return _View(turn, box, turn.size((wide, high)), spot)


def _small(image: Image.Image) -> Image.Image:
    scale = max(1.0, max(image.size) / _SMART_SIDE)
    size = max(1, round(image.width / scale)), max(1, round(image.height / scale))
    small = resized(image, size, (0, 0, *image.size))
    return _flat(small, (255, 255, 255)).convert("RGB")


def _smart(small: Image.Image, part_x: float, part_y: float) -> tuple[float, float]:
    """Where to cut a window of *part_x* by *part_y* (parts of the sides): (x, y) as parts of the free space.

    The window with the most detail wins: the difference to a blurred copy, in colour, per row or column.
    Less than a tenth of difference goes to what is nearer to the middle.
    """
    energy = ImageChops.difference(small, small.filter(ImageFilter.GaussianBlur(2))).convert("L")
    return (
        _best_place(energy.resize((small.width, 1), Image.Resampling.BOX), part_x) if part_x < 1 else 0.5,
        _best_place(energy.resize((1, small.height), Image.Resampling.BOX), part_y) if part_y < 1 else 0.5,
    )


def _best_place(line: Image.Image, part: float) -> float:
    values = line.tobytes()
    window = max(1, round(len(values) * part))
    places = len(values) - window
    if places < 1:
        return 0.5
    best, best_place = -1.0, 0.5
    for left in range(places + 1):
        spot = left / places
        score = sum(values[left : left + window]) * (1 - 0.1 * abs(2 * spot - 1))
        if score > best or (score == best and abs(spot - 0.5) < abs(best_place - 0.5)):
            best, best_place = score, spot
    return best_place


def _trimmed(image: Image.Image, tolerance: float, turn: _Turn) -> tuple[int, int, int, int]:
    """The box around all that differs from the top left pixel (of the upright picture) by more than
    *tolerance* percent in some channel; the whole of a picture where nothing does."""
    opaque = premultiplied(image)  # colours under full transparency are no difference
    corner = _whole_pixels(turn.stored((0, 0, 1, 1), turn.size(image.size)), image.size)
    boxes = []
    for band in opaque.split():  # band by band: a whole picture of differences takes four times the memory
        empty = band.crop(corner).tobytes()[0]
        seen = band.point([255 * (abs(value - empty) > tolerance * 2.55) for value in range(256)])
        if box := seen.getbbox():
            boxes.append(box)
    if not boxes:
        return (0, 0, *image.size)
    lefts, tops, rights, bottoms = zip(*boxes, strict=True)
    return min(lefts), min(tops), max(rights), max(bottoms)


# --- pixels ---------------------------------------------------------------------------------------------


def _decode(job: Job, file: decoders.Source, picture: Image.Image, scale: int, memory: Memory) -> Still:
    """The first frame, which *memory* gets too."""
    if scale > 1:
        picture.draft(None, (picture.width // scale, picture.height // scale))
    decoders.load(job, file, picture, _start(picture))
    exif = encoders.exif_of(*decoders.credits_of(picture))
    still = Still(picture._new(picture.im), scale, exif)  # not the file and all that its decoder holds
    memory.keep_still(still)
    return still


def _start(picture: Image.Image) -> int:
    """The first frame: of an APNG, the default image may be no part of the animation."""
    return 1 if getattr(picture, "default_image", False) else 0


def _first(plan: _Plan, still: Still, memory: Memory, *, may_move: bool) -> tuple[Finished, _Look]:
    """The first frame, finished, and how all frames are to be."""
    turn, region, recipe = plan.turn, plan.region, plan.recipe
    cut = _whole_pixels(_scaled(region, still.scale), still.image.size)
    is_whole = recipe.rect is None and recipe.trim is None
    image = (memory.whole(still.scale) if is_whole else None) or _cut_out(still.image, cut)
    if recipe.trim is not None:
        found = _trimmed(image, recipe.trim, turn)
        image = image.crop(found)
        region = cut = (cut[0] + found[0], cut[1] + found[1], cut[0] + found[2], cut[1] + found[3])
        recipe = settle(recipe, *turn.size(_sides(region)), plan.max_side)
    view = _aim(image, turn, recipe, region, still.scale)
    look = _Look(view, recipe, colours.profile_of(still.image), cut)
    if is_whole:
        memory.keep_whole(still.scale, image)
    image = resized(image, view.size, view.box)
    if not may_move:  # frames of one animation stay alike
        image = colours.without_idle_alpha(image)
    return Finished(_develop(image, look), still.exif), look


def _cut_out(picture: Image.Image, cut: tuple[int, int, int, int]) -> Image.Image:
    """The region, in plain pixels. Cut before resizing: the filter would look over the edge."""
    return colours.plain(picture if cut == (0, 0, *picture.size) else picture.crop(cut))


def _develop(image: Image.Image, look: _Look) -> Image.Image:
    """What the view shows, in its size -> the finished picture, as a new one without metadata."""
    recipe, view = look.recipe, look.view
    image = view.turn.apply(image)
    # On the reduced picture: 12 million pixels take 0.4 s to convert, 0.3 million 5 ms.
    image = colours.to_srgb(image, look.profile)
    if recipe.fit == "pad":
        image = _padded(image, (recipe.width, recipe.height), view.spot, _colour(recipe.background))
    if recipe.blur:
        image = _blurred(image, recipe.blur)
    if recipe.sharpen:
        image = _sharpened(image, recipe.sharpen)
    if recipe.grayscale:
        image = image.convert("LA" if colours.has_alpha(image) else "L")
    return bare(image)


def _colour(background: str) -> bytes:
    return bytes.fromhex(background or "ffffffff")


def _padded(image: Image.Image, size: _Size, spot: _Size, background: bytes) -> Image.Image:
    """*image* on a canvas. What is transparent in it stays so: the background is for the bars."""
    red, green, blue, alpha = background
    is_grey = image.mode in ("L", "LA") and red == green == blue
    colour = (red,) if is_grey else (red, green, blue)
    mode = "L" if is_grey else "RGB"
    if alpha < 255 or colours.has_alpha(image):
        mode, colour = mode + "A", (*colour, alpha)
    canvas = Image.new(mode, size, colour)
    canvas.paste(image if image.mode == mode else image.convert(mode), spot)
    return canvas


def _blurred(image: Image.Image, sigma: float) -> Image.Image:
    blurred = premultiplied(image).filter(ImageFilter.GaussianBlur(sigma))
    return blurred if blurred.mode == image.mode else blurred.convert(image.mode)


def _sharpened(image: Image.Image, sigma: float) -> Image.Image:
    colour = image.convert(image.mode.removesuffix("A")) if colours.has_alpha(image) else image
    colour = colour.filter(ImageFilter.UnsharpMask(radius=sigma, percent=100, threshold=0))
    if colours.has_alpha(image):
        colour.putalpha(image.getchannel("A"))
    return colour


def _laid(image: Image.Image, background: str, encoding: str) -> Image.Image:
    """A finished picture as *encoding* can hold it: laid on *background* where it has no alpha."""
    if ENCODINGS[encoding].has_alpha:
        return image
    red, green, blue, _ = _colour(background)
    return _flat(image, (red, green, blue))


def _flat(image: Image.Image, background: tuple[int, int, int]) -> Image.Image:
    """*image* laid on a colour, without alpha. Grey on grey stays grey."""
    if not colours.has_alpha(image):
        return image
    is_grey = image.mode == "LA" and len(set(background)) == 1
    mode = "L" if is_grey else "RGB"
    canvas = Image.new(mode, image.size, background[0] if is_grey else background)
    canvas.paste(image.convert(mode), mask=image.getchannel("A"))
    return canvas


def _frames(
    job: Job,
    file: decoders.Source,
    picture: Image.Image,
    first: Image.Image,
    look: _Look,
    count: int,
    durations_ms: list[int],
    watch: _Watch,
) -> Iterator[Image.Image]:
    """The finished frames, each made when the encoder asks for it; *durations_ms* grows with them."""
    mode = "RGBA" if colours.has_alpha(first) or picture.has_transparency_data else "RGB"
    start = _start(picture)
    for number in range(start, start + count):
        if number > start:
            watch.turn_to("decode")
            decoders.load(job, file, picture, number)
            watch.turn_to("resize")
            first = resized(_cut_out(picture, look.cut), look.view.size, look.view.box)
            first = _develop(first, look)
        # Browsers show a frame of no duration for 100 ms; WebP and AVIF would skip it.
        durations_ms.append(round(picture.info.get("duration") or 0) or 100)
        watch.turn_to("encode")
        yield first.convert(mode)


# --- the source's own pixels ----------------------------------------------------------------------------


def _changes_no_pixel(job: Job, picture: Image.Image, stored: _Size) -> bool:
    """Whether the recipe asks for the pixels that the source has."""
    nothing = Recipe(width=stored[0], height=stored[1], fit="stretch")
    recipe = replace(job.recipe, quality=None, salt="", background="")
    return recipe == nothing and decoders.orientation_of(picture) == 1 and colours.is_srgb(picture)


def _transcoded(job: Job, file: decoders.Source, picture: Image.Image) -> bytes | None:
    """A JPEG as a JPEG XL without loss, if the recipe changes no pixel and there is nothing to strip."""
    if not (job.may_transcode and job.encoding == "jxl" and picture.format == "JPEG"):
        return None
    if not _changes_no_pixel(job, picture, picture.size):
        return None
    data = _bare_bytes(file, "jpeg")
    try:
        return data and jxl.transcoded(data)
    except Undecodable:  # a broken one: rendering says so, or shows it all the same
        return None


def _smaller(job: Job, file: decoders.Source, body: bytes | None) -> bytes | None:
    """The source's own bytes, if they are no more than the re-encode and there is nothing to strip."""
    size = job.target.stat().st_size if body is None and job.target else len(body or b"")
    if job.stamp.size > size:
        return body
    data = _bare_bytes(file, job.encoding)
    if data is None:
        return body
    if job.target is None:
        return data
    job.target.write_bytes(data)
    return None


def _bare_bytes(file: decoders.Source, encoding: str) -> bytes | None:
    """All of the source, which is in *encoding*, if there is nothing to strip. *file* stays where it is."""
    at = file.tell()
    file.seek(0)
    data = file.read()
    file.seek(at)
    return data if containers.is_bare(data, encoding) else None
