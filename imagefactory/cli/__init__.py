"""The commands. Results go to stdout, messages to stderr."""

from .program import main

__all__ = ["main"]
