"""Where renders happen. Here in the calling thread; the decoder is loaded when the first is needed.

A process that answers hits alone never imports Pillow: it is slow to load, and the one place where bytes of
strangers are parsed.
"""

from __future__ import annotations

from pathlib import Path

from .formats import Header
from .jobs import Job, Rendered

__all__ = ["InThread"]


class InThread:
    """A ``Renderer`` that works in the thread that asks."""

    def probe(self, source: Path) -> Header | None:
        """See ``render.probe``."""
        from .render import probe

        return probe(source)

    def render(self, job: Job) -> Rendered:
        """See ``render.render``."""
        from .render import render

        return render(job)

    def is_working(self) -> bool:
        """Whether the decoder can be loaded."""
        try:
            from . import render  # noqa: F401
        except ImportError:
            return False
        return True
