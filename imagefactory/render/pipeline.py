"""The pipeline: a source and a recipe -> a variant, as a list of steps; and what a source's header says.

The steps are named here in their order and live beside it: ``decoders`` (files -> pixels), ``framing`` (which
part of them, in which size), ``resizing``, ``colours``, ``filters``, ``encoders`` (pixels -> bytes);
``pass_through`` where the source's own bytes will do, ``placeholder``, and ``memory`` (what was made of a
source, for its next variants).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable, Iterator
from dataclasses import replace
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from ..errors import OutOfMemory, RequestError, Undecodable
from ..model.formats import ENCODINGS, SOURCE_FORMATS
from ..model.geometry import settle
from ..model.job import Job, Rendered
from ..model.recipe import Recipe
from ..model.source import Header
from . import colours, decoders, encoders, filters, framing, pass_through, saving
from .animation import Animation
from .boxes import EXIF_TURNS, PixelBox, Size, scaled, sides, whole_pixels
from .memory import Decoded, Finished, Memory, without_metadata
from .placeholder import placeholder
from .programs.targets import encode
from .resizing import resized
from .sheets import laid_out
from .source_file import SourceFile, check_unchanged
from .stopwatch import Stopwatch

__all__ = ["probe", "render"]

# A frame of an animation costs no less than this many pixels do (0.1 ms), however small it is.
_LEAST_FRAME = 4096


def probe(source: Path, descriptor: int | None = None) -> Header | None:
    """What the header of *source* says, read from *descriptor* if there is one; None if it is not in one of
    our formats. Decodes no pixels.

    Raises Undecodable when the header is broken, TooLarge when Pillow refuses the size, OSError when the
    file can't be read. A picture over our own budget has a header; it is ``render`` that refuses it.
    """
    with SourceFile(source, descriptor) as file, decoders.decoding(file):
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
        width, height = EXIF_TURNS[orientation].size(picture.size)
        frames = decoders.count_frames(picture, file)
        return Header(width, height, picture.format or "", frames, orientation, picture.has_transparency_data)


def render(
    job: Job, memory: Memory | None = None, on_decoded: Callable[[], object] = lambda: None
) -> Rendered:
    """Do *job*. Raises Undecodable, TooLarge, SourceChanged; OSError when the source can't be read or the
    target can't be written.

    *memory* may have, and gets, what is of use for the next job; the variant is the same without it, byte for
    byte. *on_decoded* is called as soon as the (first frame of the) source is decoded or remembered: errors
    after it blame the variant rather than the source, or the frames.
    """
    is_decoded = False

    def note_decoded() -> None:
        nonlocal is_decoded
        is_decoded = True
        on_decoded()

    try:
        with SourceFile(job.source, job.descriptor) as file:
            check_unchanged(file, job.stamp)
            rendered = _render(job, file, memory or Memory(0), note_decoded)
            check_unchanged(file, job.stamp)
            return rendered
    except MemoryError as error:
        raise OutOfMemory from error
    except RequestError as error:
        if is_decoded and error.blames == "source":
            error.blames = "variant"
        raise


def _render(job: Job, file: SourceFile, memory: Memory, on_decoded: Callable[[], object]) -> Rendered:
    watch = Stopwatch("decode")
    picture = decoders.open_within_budget(job, file)
    stored = picture.size  # a JPEG that is decoded at a scale has another one afterwards

    watch.turn_to("encode")
    lossless = pass_through.transcoded(job, file, picture)
    if lossless is not None:
        on_decoded()
        return _delivered(job, stored, lossless, watch)

    watch.turn_to("decode")
    plan = framing.plan(job, picture)
    upright = EXIF_TURNS[decoders.orientation_of(picture)]
    sheet = _sheet(job)
    total = decoders.count_frames(picture, file) if _may_move(job) or sheet else 1
    if total > 1:  # a frame is made once, in its order: there is nothing to share
        memory = Memory(0)
    memory.turn_to(job.source, job.stamp, file.changed_ns)
    key = _memory_key(job)
    first, frame_plan, tiny = memory.finished(key), None, ""
    if first is None:
        decoded = memory.decoded(plan.scale) or _decode(job, file, picture, plan.scale, memory)
        on_decoded()
        watch.turn_to("resize")
        if job.wants_placeholder:  # of all that is decoded: what the recipe cuts out is not the whole
            tiny = placeholder(decoded.image, upright.apply)
        first, frame_plan = _first_frame(plan, decoded, memory, may_move=total > 1)
        memory.keep_finished(key, first)
    else:
        on_decoded()

    settings = encoders.Settings(job.encoding, job.recipe.quality, job.effort, first.exif)
    if sheet is not None and frame_plan is not None:
        count = 1
        frames = _frames(
            job, file, picture, first.image, frame_plan, min(total, sheet[0] * sheet[1]), [], watch
        )
        image = laid_out(frames, sheet, job.max_pixels)
        if not ENCODINGS[job.encoding].has_alpha:
            image = filters.laid_on(image, job.recipe.background)
        watch.turn_to("encode")
        return _delivered(job, image.size, _still(image, settings, job), watch, tiny)
    if frame_plan is None or not _may_keep_frames(total, stored, frame_plan.recipe, job.max_pixels):
        count = 1
        image = first.image
        if not ENCODINGS[job.encoding].has_alpha:
            image = filters.laid_on(image, job.recipe.background)
        watch.turn_to("encode")
        body = _still(image, settings, job)
    else:
        count = total
        durations_ms: list[int] = []
        watch.turn_to("encode")
        frames = _frames(job, file, picture, first.image, frame_plan, count, durations_ms, watch)
        animation = Animation(frames, count, durations_ms, decoders.plays(picture))
        body = saving.encoded(encoders.moving(animation, settings))

    own = SOURCE_FORMATS.get(picture.format or "")
    if (
        own
        and own.encoding == job.encoding
        and count == total
        and pass_through.changes_no_pixel(job, picture, stored)
    ):
        body = pass_through.smaller(job, file, body)
    return _delivered(job, first.image.size, body, watch, tiny)


def _sheet(job: Job) -> tuple[int, int] | None:
    """Columns and rows of the sheet of frames that *job* is for; None for one picture or an animation."""
    text = dict(job.recipe.run.values).get("sprite") if job.recipe.run else None
    if not text:
        return None
    columns, rows = text.split("x")
    return int(columns), int(rows)


def _still(image: Image.Image, settings: encoders.Settings, job: Job) -> bytes:
    """*image* encoded, by the external program of *job* where it has one."""
    if job.encoder is None:
        return saving.encoded(encoders.still(image, settings))
    pixels = encoders.for_program(image, job.encoder.format)
    return encode(job.encoder, pixels, image.size, settings.quality, job.encoding)


def _delivered(job: Job, size: Size, body: bytes, watch: Stopwatch, placeholder: str = "") -> Rendered:
    """*body*, in the job's target if it has one."""
    if job.target is not None:
        saving.put(body, job.target)
    digest = hashlib.sha256(body).hexdigest()
    return Rendered(*size, body if job.target is None else None, watch.stop(), placeholder, digest)


def _memory_key(job: Job) -> Hashable:
    """What tells finished pictures of one source apart: all of the recipe but what is left to the encoder."""
    background = job.recipe.background if job.recipe.fit == "pad" else ""
    recipe = replace(job.recipe, background=background, quality=None, salt="", anim=True)
    return recipe, framing.max_side(job)


def _may_move(job: Job) -> bool:
    return job.recipe.anim and ENCODINGS[job.encoding].has_animation


def _may_keep_frames(frames: int, size: Size, recipe: Recipe, max_pixels: int) -> bool:
    """Whether there are several *frames*, and together, before and after resizing, they are no more work than
    one picture may be."""
    largest = max(size[0] * size[1], recipe.width * recipe.height, _LEAST_FRAME)
    return frames > 1 and frames * largest <= max_pixels


def _decode(job: Job, file: SourceFile, picture: Image.Image, scale: int, memory: Memory) -> Decoded:
    """The first frame at 1 / *scale*, which *memory* gets too."""
    if scale > 1:
        picture.draft(None, (picture.width // scale, picture.height // scale))
    decoders.load(job, file, picture, decoders.first_frame(picture))
    exif = encoders.exif_of(*decoders.credits_of(picture))
    decoded = Decoded(picture._new(picture.im), scale, exif)  # not the file and all that its decoder holds
    memory.keep_decoded(decoded)
    return decoded


def _first_frame(
    plan: framing.Plan, decoded: Decoded, memory: Memory, *, may_move: bool
) -> tuple[Finished, framing.FramePlan]:
    """The first frame, finished, and what is to be done with all frames."""
    turn, region, recipe = plan.turn, plan.region, plan.recipe
    cut = whole_pixels(scaled(region, decoded.scale), decoded.image.size)
    is_whole = recipe.rect is None and recipe.trim is None
    image = (memory.whole(decoded.scale) if is_whole else None) or _cut_out(decoded.image, cut)
    if recipe.trim is not None:
        found = filters.trim_box(image, recipe.trim, turn)
        image = image.crop(found)
        region = cut = (cut[0] + found[0], cut[1] + found[1], cut[0] + found[2], cut[1] + found[3])
        recipe = settle(recipe, *turn.size(sides(region)), plan.max_side)
    placement = framing.placement(image, turn, recipe, region, decoded.scale)
    frame_plan = framing.FramePlan(cut, placement, recipe, colours.profile_of(decoded.image))
    if is_whole:
        memory.keep_whole(decoded.scale, image)
    image = resized(image, placement.size, placement.box)
    if not may_move:  # frames of one animation stay alike
        image = colours.without_idle_alpha(image)
    return Finished(_finish(image, frame_plan), decoded.exif), frame_plan


def _between_ms(job: Job) -> float:
    """The milliseconds between two frames that a program made; 0 where it is not known."""
    fps = dict(job.recipe.run.values).get("fps") if job.recipe.run else None
    return 1000 / float(fps) if fps else 0


def _cut_out(picture: Image.Image, cut: PixelBox) -> Image.Image:
    """The region, in plain pixels. Cut before resizing: the filter would look over the edge."""
    return colours.plain(picture if cut == (0, 0, *picture.size) else picture.crop(cut))


def _finish(image: Image.Image, frame_plan: framing.FramePlan) -> Image.Image:
    """What is cut out and resized -> the finished picture, as a new one without metadata."""
    recipe, placement = frame_plan.recipe, frame_plan.placement
    image = placement.turn.apply(image)
    # On the reduced picture: 12 million pixels take 0.4 s to convert, 0.3 million 5 ms.
    image = colours.to_srgb(image, frame_plan.profile)
    if recipe.fit == "pad":
        image = filters.padded(image, (recipe.width, recipe.height), placement.spot, recipe.background)
    if recipe.blur:
        image = filters.blurred(image, recipe.blur)
    if recipe.sharpen:
        image = filters.sharpened(image, recipe.sharpen)
    if recipe.grayscale:
        image = image.convert("LA" if colours.has_alpha(image) else "L")
    return without_metadata(image)


def _frames(
    job: Job,
    file: SourceFile,
    picture: Image.Image,
    first: Image.Image,
    frame_plan: framing.FramePlan,
    count: int,
    durations_ms: list[int],
    watch: Stopwatch,
) -> Iterator[Image.Image]:
    """The finished frames, each made when the encoder asks for it; *durations_ms* grows with them."""
    mode = "RGBA" if colours.has_alpha(first) or picture.has_transparency_data else "RGB"
    placement, start, image = frame_plan.placement, decoders.first_frame(picture), first
    for number in range(start, start + count):
        if number > start:
            watch.turn_to("decode")
            try:
                decoders.load(job, file, picture, number)
            except Undecodable as error:
                if error.blames == "source":
                    error.blames = "frames"
                raise
            watch.turn_to("resize")
            image = resized(_cut_out(picture, frame_plan.cut), placement.size, placement.box)
            image = _finish(image, frame_plan)
        # Browsers show a frame of no duration for 100 ms; WebP and AVIF would skip it.
        durations_ms.append(round(picture.info.get("duration") or _between_ms(job) or 0) or 100)
        watch.turn_to("encode")
        yield image.convert(mode)
