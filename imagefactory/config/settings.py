"""What a field of the schema is made with, and the names that several sections have."""

from __future__ import annotations

from dataclasses import field
from typing import TypeVar

from .values import Parser

__all__ = ["ARGUMENT", "NAME", "setting"]

T = TypeVar("T")

NAME = (r"[a-z0-9][a-z0-9_-]{0,63}", "1 to 64 of a-z, 0-9, _ and -, and starts with a letter or digit")
ARGUMENT = (r"[^\x00]+", "an argument of a command; write ['/usr/local/bin/purge-cdn', '--now']")


def setting(default: object, parse: Parser[T], is_secret: bool = False) -> T:
    """A dataclass field. Typed as what *parse* returns, so that mypy compares it with the annotation."""
    return field(default_factory=lambda: parse(default), metadata={"parse": parse, "is_secret": is_secret})
