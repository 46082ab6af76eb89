"""Finished pixels -> a GIF: palettes, and what an animation needs for its transparency."""

from __future__ import annotations

from itertools import count
from typing import Any

from PIL import Image, ImageChops

from .animation import Animation
from .saving import Save

__all__ = ["moving", "still"]


def still(image: Image.Image) -> Save:
    """How to write one picture: L, RGB or RGBA."""
    indexed, options = _indexed(image), dict[str, Any]()
    if "transparency" in indexed.info:
        options["transparency"] = indexed.info["transparency"]
    return lambda file: indexed.save(file, "GIF", interlace=0, **options)


def moving(animation: Animation) -> Save:
    """How to write an animation."""
    # Pillow's writer collects all frames before it writes one: nothing is lost by a list.
    first, *rest = frames = [_indexed(frame) for frame in animation.frames]
    options: dict[str, Any] = {"duration": [min(duration, 655_350) for duration in animation.durations_ms]}
    if animation.plays != 1:  # without the extension it plays once; with n it plays n times more
        options["loop"] = max(0, min(animation.plays - 1, 65_535))
    if any("transparency" in frame.info and frame.histogram()[255] for frame in frames):
        # Else a pixel once painted could never become transparent again. Optimizing would drop the
        # transparent colour from frames without it: if from the first, Pillow reads all as opaque.
        options.update(disposal=2, optimize=False)
        _distinguish_background(frames)
    return lambda file: first.save(file, "GIF", interlace=0, save_all=True, append_images=rest, **options)


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
