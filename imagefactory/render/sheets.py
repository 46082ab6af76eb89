"""A sheet of frames: finished pictures of one size beside and below each other, for the preview of a film."""

from __future__ import annotations

from collections.abc import Iterable

from PIL import Image

from ..errors import TooLarge

__all__ = ["laid_out"]


def laid_out(frames: Iterable[Image.Image], sheet: tuple[int, int], max_pixels: int) -> Image.Image:
    """*frames* in their order on a *sheet* of (columns, rows), row by row; places without a frame are empty.
    Raises TooLarge above *max_pixels*."""
    canvas: Image.Image | None = None
    columns, rows = sheet
    for number, frame in zip(range(columns * rows), frames, strict=False):
        if canvas is None:
            size = frame.width * columns, frame.height * rows
            if size[0] * size[1] > max_pixels:
                raise TooLarge("pixels in its sheet", size[0] * size[1], max_pixels)
            canvas = Image.new(frame.mode, size)
        canvas.paste(frame, (number % columns * frame.width, number // columns * frame.height))
    if canvas is None:
        raise ValueError("a sheet of no frames")
    return canvas
