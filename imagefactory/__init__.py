"""imagefactory: image URLs that resize, with a disk cache that is never wrong.

    from imagefactory import ImageFactory
    ImageFactory(app)                    # /picture/cats/tom.jpg?scalex=640&encoding=webp

``create_app`` makes the server that runs on its own. Nothing happens at import: Flask is loaded when one of
the two is asked for, and a render worker, which needs neither, starts in a third of the time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .version import __version__

if TYPE_CHECKING:
    from .web.extension import ImageFactory, create_app

__all__ = ["ImageFactory", "__version__", "create_app"]


def __getattr__(name: str) -> Any:
    if name in ("ImageFactory", "create_app"):
        from .web import extension

        return getattr(extension, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
