"""For an older ``deploy/gunicorn.conf.py``, which imports these from here."""

from .common import take_turns, with_share

__all__ = ["take_turns", "with_share"]
