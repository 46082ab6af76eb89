"""Resizing: a box of a plain picture -> that box in another size, by Lanczos on premultiplied colours.

This is the one importer of ``cykooz_resizer`` (the extra "fast"), whose SIMD filter takes a seventh of the
time of Pillow's. With and without it a picture is the same within ``MAX_DIFFERENCE``.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import cache

import PIL
from PIL import Image, ImageChops, ImageStat

from .boxes import Box, Size

__all__ = ["MAX_DIFFERENCE", "MEAN_DIFFERENCE", "premultiplied", "resized"]

_log = logging.getLogger(__name__)

# How far the two filters may differ in a premultiplied channel, of 255. They round differently, by 1 or 2. In
# noise of full contrast single pixels differ by 40: each of the two passes clips what the filter overshoots,
# and the passes run in another order.
MAX_DIFFERENCE = 3
MEAN_DIFFERENCE = 0.5

# Pillow's own filter is slow: before it, a picture is reduced by whole numbers to 2.5 times the wanted size.
# Photographs would do with 1.5; an ink drawing (722 to 72 pixels) has an SSIM of 0.947 with 1.5, 0.968 with
# 2, 0.990 with 2.5 and 0.998 with 3. The SIMD filter sees all pixels. From 12 MP it takes 12 to 20 ms; with a
# reduction 8 to 18, and with alpha the reduction is the slower one (3 MP: 13 to 33 against 5 to 10 ms).
_REDUCING_GAP = 2.5
# The library reads the C structure of Pillow's pictures. Of one that is laid out otherwise it would read wild
# memory, which no check can catch. These major versions have the layout that it knows.
_KNOWN_LAYOUTS = ("12", "13")
# It aborts the process when memory runs out, where Pillow raises MemoryError. So what might take more than
# 512 MB on the way (source, picture between the two passes and result, 4 bytes each) is Pillow's.
_MAX_PIXELS = 2**27
# Both filters weigh each pixel of a side for six others, in numbers of 8 bytes. Of 50,000,000 x 1 pixels that
# are 2.4 GB and 10 s for each size, by the library, and 0.1 s after Pillow's reduction.
_MAX_SIDE = 2**16


def premultiplied(image: Image.Image) -> Image.Image:
    """A plain picture with its colours multiplied by alpha, in the mode La or RGBa; without alpha, itself."""
    mode = {"LA": "La", "RGBA": "RGBa"}.get(image.mode)
    return image.convert(mode) if mode else image


def resized(image: Image.Image, size: Size, box: Box) -> Image.Image:
    """*box* of *image* as *size*, in the same mode; *image* itself where nothing is to be done.

    *image* is L, LA, RGB, RGBA or CMYK. *box* is cut to it. Colours are filtered premultiplied, else edges of
    transparency would get dark halos. Takes one thread, and lets others run. Raises ValueError for a box or
    a size without a pixel.
    """
    box = _clamped(box, image.size)
    if min(size) < 1 or box[0] >= box[2] or box[1] >= box[3]:
        raise ValueError(f"{box} can't be resized to {size}: there are no pixels")
    whole: Box = (0, 0, *image.size)
    if (size, box) == (image.size, whole):
        return image
    fast = _fast()
    if fast is None or not _is_safe(image, size):
        return _by_pillow(image, size, box)
    try:
        if image.mode == "LA":
            # Unknown to the library. Grey comes back as it went: the weights of luma add up to 1.
            return fast(image.convert("RGBA"), size, box).convert("LA")
        return fast(image, size, box)
    except RuntimeError:  # whatever the library refuses
        return _by_pillow(image, size, box)


def _clamped(box: Box, size: Size) -> Box:
    # In this order of arguments a NaN becomes 0.
    left, top = min(max(0.0, box[0]), size[0]), min(max(0.0, box[1]), size[1])
    return left, top, min(max(0.0, box[2]), size[0]), min(max(0.0, box[3]), size[1])


def _is_safe(image: Image.Image, size: Size) -> bool:
    """Whether the library, which believes *image*, may touch its memory."""
    image.load()
    width, height = image.size
    between = max(size[0] * height, width * size[1])
    return (
        (image.mode, image.size) == (image.im.mode, image.im.size)
        and max(image.size) <= _MAX_SIDE
        and width * height + between + size[0] * size[1] <= _MAX_PIXELS
    )


def _by_pillow(image: Image.Image, size: Size, box: Box) -> Image.Image:
    mode = image.mode
    # Pillow premultiplies by itself, and then forgets the gap.
    image = premultiplied(image).resize(size, Image.Resampling.LANCZOS, box, reducing_gap=_REDUCING_GAP)
    return image if image.mode == mode else image.convert(mode)


_Resize = Callable[[Image.Image, Size, Box], Image.Image]


@cache
def _fast() -> _Resize | None:
    """The SIMD filter for L, RGB, RGBA and CMYK; None where it is missing or differs from Pillow's."""
    if PIL.__version__.split(".")[0] not in _KNOWN_LAYOUTS:
        return None
    try:
        fast = _load()
        difference = max(_difference(fast, mode) for mode in ("L", "RGB", "RGBA", "CMYK"))
    except ImportError:  # the extra "fast": without it Pillow does the work
        return None
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # a panic of Rust is no Exception
        _log.warning("cykooz-resizer fails (%r): Pillow resizes, slower", error)
        return None
    if difference > MAX_DIFFERENCE:
        _log.warning("cykooz-resizer differs from Pillow by %d of 255: Pillow resizes, slower", difference)
        return None
    return fast


def _load() -> _Resize:
    from cykooz_resizer import CropBox, FilterType, ResizeAlg, ResizeOptions, Resizer

    lanczos = ResizeAlg.convolution(FilterType.lanczos3)

    def fast(image: Image.Image, size: Size, box: Box) -> Image.Image:
        target = Image.new(image.mode, size)
        left, top, right, bottom = box
        # One for each call: it has a lock, and keeps its buffers. Without a pool of threads it uses none.
        Resizer().resize_pil(
            image, target, ResizeOptions(lanczos, crop_box=CropBox(left, top, right - left, bottom - top))
        )
        return target

    return fast


def _difference(fast: _Resize, mode: str) -> int:
    """How far *fast* is from Pillow, of 255, on a small drawing; 255 where it is far on the average."""
    across = Image.linear_gradient("L").rotate(90).resize((64, 48))
    down = Image.linear_gradient("L").resize((64, 48))
    rings = Image.radial_gradient("L").resize((64, 48)).point(lambda v: abs(v * 4 % 320 - 160) + 40)
    bands = {"L": (rings,), "RGB": (across, down, rings), "RGBA": (across, down, rings, down)}
    image = Image.merge(mode, bands.get(mode, (across, down, rings, rings)))
    tasks: list[tuple[Size, Box]] = [
        ((23, 17), (3.3, 2.6, 60.2, 47.5)),
        ((64, 48), (8, 8, 24, 24)),
        ((7, 1), (0, 0, 64, 48)),
    ]
    worst = 0
    for size, box in tasks:
        result = fast(image, size, box)
        if (result.mode, result.size) != (mode, size):
            return 255
        wanted = premultiplied(image).resize(size, Image.Resampling.LANCZOS, box)
        difference = ImageChops.difference(premultiplied(result), wanted)
        if max(ImageStat.Stat(difference).mean) > MEAN_DIFFERENCE:
            return 255
        worst = max(worst, *(int(high) for _, high in ImageStat.Stat(difference).extrema))
    return worst
