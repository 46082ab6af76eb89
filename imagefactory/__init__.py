"""imagefactory: image URLs that resize, with a disk cache that is never wrong.

    from imagefactory import ImageFactory
    ImageFactory(app)                    # /picture/cats/tom.jpg?scalex=640&encoding=webp

``create_app`` makes the server that runs on its own, ``Pictures`` writes HTML without Flask. Nothing is
loaded before the first use of its name: a render worker, which needs none of the three, starts in a third of
the time.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .version import __version__

if TYPE_CHECKING:
    from .markup import Pictures
    from .web.app import create_app
    from .web.extension import ImageFactory

__all__ = ["ImageFactory", "Pictures", "__version__", "create_app"]

_MODULES = {"ImageFactory": ".web.extension", "Pictures": ".markup", "create_app": ".web.app"}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULES[name], __name__), name)
