"""For a ``deploy/gunicorn.conf.py`` of version 0.1, which imports ``cores`` from here; gone after 0.2."""

from .workers.rendering import cores

__all__ = ["cores"]
