"""For a ``deploy/gunicorn.conf.py`` of version 0.1, which imports these from here; gone after 0.2."""

from .common import take_turns, with_share

__all__ = ["take_turns", "with_share"]
