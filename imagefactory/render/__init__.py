"""Decoding and encoding: the only place that imports PIL. ``pipeline`` has the steps in their order.

Loaded when the first picture must be read; a process that answers hits alone never does.
"""

from .decoders import use_one_thread
from .pipeline import probe, render
from .workbench import Workbench

__all__ = ["Workbench", "probe", "render", "use_one_thread"]
