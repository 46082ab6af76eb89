"""Decoding and encoding: the only place that imports PIL. ``pipeline`` has the steps in their order.

Loaded when the first picture must be read; a process that answers hits alone never does.
"""

from .decoders import use_one_thread
from .memory import Memory
from .pipeline import probe, render

__all__ = ["Memory", "probe", "render", "use_one_thread"]
