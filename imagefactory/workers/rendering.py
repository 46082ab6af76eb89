"""Where renders happen: in a pool of worker processes, or in the calling thread.

A process that answers hits alone never imports Pillow: it is slow to load, and the one place where bytes of
strangers are parsed.
"""

from __future__ import annotations

from pathlib import Path

from ..common.cores import cores
from ..config import Render
from ..model.job import Job, Rendered, Renderer
from ..model.program import ProgramJob
from ..model.source import Header
from .pool import Pool

__all__ = ["InThread", "open_renderer", "slots"]


def open_renderer(settings: Render) -> Renderer:
    """The renderer that *settings* ask for. No process is started before the first picture is rendered."""
    if settings.processes < 0:
        return InThread()
    return Pool(slots(settings), settings.timeout_s, settings.memory_bytes)


def slots(settings: Render) -> int:
    """How many renders go on at a time: one per core where *settings* give no number."""
    return settings.processes if settings.processes > 0 else cores()


class InThread:
    """A ``Renderer`` that works in the thread that asks: for embedding, and for tests. A decoder that hangs
    or crashes takes the process with it."""

    def probe(self, source: Path, descriptor: int | None = None) -> Header | None:
        """See ``pipeline.probe``."""
        from ..render.pipeline import probe

        return probe(source, descriptor)

    def check(self, source: Path, max_pixels: int, descriptor: int | None = None) -> Header | None:
        """See ``checking.check``."""
        from ..render.checking import check

        return check(source, max_pixels, descriptor)

    def render(self, job: Job) -> Rendered:
        """See ``pipeline.render``."""
        from ..render.pipeline import render

        return render(job)

    def run(self, job: ProgramJob) -> Rendered:
        """See ``making.make``. It forks: for a process with one thread."""
        from ..render.making import make

        return make(job)

    def is_working(self) -> bool:
        """Whether the decoder can be loaded."""
        try:
            from ..render import pipeline  # noqa: F401
        except ImportError:
            return False
        return True
