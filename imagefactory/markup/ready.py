"""The markup that a job carries when it is done: the same from whichever process did it."""

from __future__ import annotations

from .pictures import Pictures

__all__ = ["ready_markup"]


def ready_markup(pictures: Pictures, path: str) -> str:
    """What stands in a page for the picture at *path*, as wide as the window."""
    return str(pictures.picture(path, alt="", sizes="100vw"))
