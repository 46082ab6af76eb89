"""Steps on pixels: bars, blur, sharpening, a background below what is transparent; and what to trim.

Plain pictures in, plain pictures out: L, LA, RGB or RGBA.
"""

from __future__ import annotations

from PIL import Image, ImageFilter

from . import colours
from .boxes import PixelBox, Size, Turn, whole_pixels
from .resizing import premultiplied

__all__ = ["blurred", "flat", "laid_on", "padded", "sharpened", "trim_box"]


def padded(image: Image.Image, size: Size, spot: Size, background: str) -> Image.Image:
    """*image* at *spot* of a canvas of *size* in *background*, a recipe's. What is transparent in it stays
    so: the background is for the bars."""
    red, green, blue, alpha = _rgba(background)
    is_grey = image.mode in ("L", "LA") and red == green == blue
    colour = (red,) if is_grey else (red, green, blue)
    mode = "L" if is_grey else "RGB"
    if alpha < 255 or colours.has_alpha(image):
        mode, colour = mode + "A", (*colour, alpha)
    canvas = Image.new(mode, size, colour)
    canvas.paste(image if image.mode == mode else image.convert(mode), spot)
    return canvas


def blurred(image: Image.Image, sigma: float) -> Image.Image:
    """*image* with a Gaussian blur; colours under full transparency don't come out."""
    soft = premultiplied(image).filter(ImageFilter.GaussianBlur(sigma))
    return soft if soft.mode == image.mode else soft.convert(image.mode)


def sharpened(image: Image.Image, sigma: float) -> Image.Image:
    """*image* with an unsharp mask on its colours; its alpha stays."""
    colour = image.convert(image.mode.removesuffix("A")) if colours.has_alpha(image) else image
    colour = colour.filter(ImageFilter.UnsharpMask(radius=sigma, percent=100, threshold=0))
    if colours.has_alpha(image):
        colour.putalpha(image.getchannel("A"))
    return colour


def laid_on(image: Image.Image, background: str) -> Image.Image:
    """*image* on *background*, a recipe's, for an encoding without alpha."""
    red, green, blue, _ = _rgba(background)
    return flat(image, (red, green, blue))


def flat(image: Image.Image, background: tuple[int, int, int]) -> Image.Image:
    """*image* laid on a colour, without alpha. Grey on grey stays grey."""
    if not colours.has_alpha(image):
        return image
    is_grey = image.mode == "LA" and len(set(background)) == 1
    mode = "L" if is_grey else "RGB"
    canvas = Image.new(mode, image.size, background[0] if is_grey else background)
    canvas.paste(image.convert(mode), mask=image.getchannel("A"))
    return canvas


def _rgba(background: str) -> bytes:
    return bytes.fromhex(background or "ffffffff")


def trim_box(image: Image.Image, tolerance: float, turn: Turn) -> PixelBox:
    """The box around all that differs from the top left pixel (of the upright picture) by more than
    *tolerance* percent in some channel; the whole of a picture where nothing does."""
    opaque = premultiplied(image)  # colours under full transparency are no difference
    corner = whole_pixels(turn.stored((0, 0, 1, 1), turn.size(image.size)), image.size)
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
