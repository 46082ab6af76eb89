"""The source's own pixels: where a recipe changes none, its bytes may go out as they are.

Or in another encoding that keeps each pixel.
"""

from __future__ import annotations

from dataclasses import replace

from PIL import Image

from ..errors import Undecodable
from ..model.job import Job
from ..model.recipe import Recipe
from . import colours, containers, decoders
from .boxes import Size
from .encoders import ENCODERS
from .source_file import SourceFile

__all__ = ["changes_no_pixel", "smaller", "transcoded"]


def changes_no_pixel(job: Job, picture: Image.Image, stored: Size) -> bool:
    """Whether the recipe asks for the pixels that the source has. *stored* is the size of *picture* before it
    was decoded, at whatever scale."""
    nothing = Recipe(width=stored[0], height=stored[1], fit="stretch")
    recipe = replace(job.recipe, quality=None, salt="", background="")
    return recipe == nothing and decoders.orientation_of(picture) == 1 and colours.is_srgb(picture)


def transcoded(job: Job, file: SourceFile, picture: Image.Image) -> bytes | None:
    """A JPEG in another encoding without loss, where that can be, the recipe changes no pixel and there is
    nothing to strip."""
    transcode = ENCODERS[job.encoding].from_jpeg
    if not (job.may_transcode and transcode and picture.format == "JPEG"):
        return None
    if not changes_no_pixel(job, picture, picture.size):
        return None
    data = _bare_bytes(file, "jpeg")
    try:
        return data and transcode(data)
    except Undecodable:  # a broken one: rendering says so, or shows it all the same
        return None


def smaller(job: Job, file: SourceFile, body: bytes) -> bytes:
    """The source's own bytes, if they are no more than the re-encode *body* and there is nothing to strip."""
    if job.stamp.size > len(body):
        return body
    return _bare_bytes(file, job.encoding) or body


def _bare_bytes(file: SourceFile, encoding: str) -> bytes | None:
    """All of the source, which is in *encoding*, if there is nothing to strip. *file* stays where it is."""
    at = file.tell()
    file.seek(0)
    data = file.read()
    file.seek(at)
    return data if containers.is_bare(data, encoding) else None
