"""What a render is asked for and what comes back: plain values, so that a render may run in another process.

The generator makes a ``Job`` and gives it to a renderer (``render.pipeline`` or anything that behaves like
it); the renderer reads the source, writes the target and hands back a ``Rendered``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from .program import Program, ProgramJob
from .recipe import Recipe
from .source import Header, Stamp

__all__ = ["Job", "Rendered", "Renderer", "Stamp"]


@dataclass(frozen=True, slots=True)
class Job:
    """One variant to render.

    The source is read from *descriptor*, an open file that belongs to the caller and has no other reader
    meanwhile; where that is None, from the file at *source*, which else only tells it from others. It must
    have *stamp* before and after it was read, else SourceChanged. *recipe* is clamped to it. The result goes
    into the file *target*, which exists and is empty, or into memory (``Rendered.body``) where that is None.
    *max_pixels* is the budget of one frame, and of all frames that are kept. *effort* has the encoders'
    settings that are no part of a recipe, as ``{"method": 2}``. With *wants_placeholder* the result has one
    of the whole source, whatever the recipe shows of it. *may_transcode*: the quality is the default one, so
    that a JPEG that stays as it is may become a JPEG XL without a loss, however many bytes that has.
    *encoder* is the external program that writes a still picture, None for our own encoder.
    """

    source: Path
    stamp: Stamp
    recipe: Recipe
    encoding: str
    target: Path | None
    max_pixels: int
    max_side: int
    effort: Mapping[str, int] = field(default_factory=dict)
    wants_placeholder: bool = False
    may_transcode: bool = False
    descriptor: int | None = None
    encoder: Program | None = None


@dataclass(frozen=True, slots=True)
class Rendered:
    """A variant as rendered: its size in pixels, its *body* where no target was given, the *seconds* that
    each phase took, by name, the source's *placeholder* if it was asked for and could be made, and the
    sha256 in hex of the variant's bytes, empty where the renderer does not say."""

    width: int
    height: int
    body: bytes | None = None
    seconds: Mapping[str, float] = field(default_factory=dict)
    placeholder: str = ""
    digest: str = ""

    def is_of(self, data: bytes) -> bool:
        """Whether *data* is what was rendered, as far as is known: never nothing."""
        return bool(data) and self.digest in ("", hashlib.sha256(data).hexdigest())


class Renderer(Protocol):
    """Whatever decodes pictures: in the calling thread, or elsewhere."""

    def probe(self, source: Path, descriptor: int | None = None) -> Header | None:
        """What the header of a source says; None if it is no picture. It is read from *descriptor*, else from
        the file at *source*, as for a ``Job``. Raises Undecodable, TooLarge."""

    def check(self, source: Path, max_pixels: int, descriptor: int | None = None) -> Header | None:
        """The header of a picture whose pixels are all there: decoded to its end. None if it is in no format
        of ours. Raises Undecodable where pixels are lacking or broken, TooLarge over the budget of
        *max_pixels* (one frame), OutOfMemory, SourceChanged."""

    def render(self, job: Job) -> Rendered:
        """Do *job*. Raises Undecodable, TooLarge, SourceChanged, and OSError when the target can't be
        written."""

    def run(self, job: ProgramJob) -> Rendered:
        """Do *job* by its external program. Raises ProgramFailed, ProgramStopped, SourceChanged, and OSError
        when the target can't be written."""

    def is_working(self) -> bool:
        """Whether pictures can be rendered at all."""
