"""imagefactory: image URLs that resize, with a disk cache that is never wrong.

    from imagefactory import ImageFactory
    ImageFactory(app)                    # /picture/cats/tom.jpg?scalex=640&encoding=webp

``create_app`` makes the server that runs on its own. Nothing happens at import.
"""

from .version import __version__
from .views import ImageFactory, create_app

__all__ = ["ImageFactory", "__version__", "create_app"]
