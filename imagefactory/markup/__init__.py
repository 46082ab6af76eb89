"""What stands in a page: URLs, srcset, ``<picture>`` and preload of pictures."""

from .pictures import Pictures

__all__ = ["Pictures"]
