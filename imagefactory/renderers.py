"""For an older ``deploy/gunicorn.conf.py``, which imports ``cores`` from here."""

from .common.cores import cores

__all__ = ["cores"]
