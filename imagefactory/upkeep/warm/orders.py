"""What a warming is asked for, and what it returns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from ...model.formats import PICTURE_SUFFIXES
from ...urls.query import Request

__all__ = ["Budget", "FailedVariant", "Order", "Warmed", "Wish", "is_picture"]


@dataclass(frozen=True, slots=True)
class Wish:
    """A variant to have ahead: its *request*, and the *query* of a URL that asks for it."""

    request: Request
    query: str = field(compare=False)


@dataclass(frozen=True, slots=True)
class Order:
    """What is wanted of the picture at *path*. *is_named*: the operator wrote this path, so a missing picture
    is a failure; else the path was found in the folder or in a log, and the picture may be gone by now.
    *is_more*: the picture had an order before."""

    path: str
    wishes: Sequence[Wish]
    is_named: bool = False
    is_more: bool = False


@dataclass(frozen=True, slots=True)
class Budget:
    """Where to stop: at so many *bytes* of variants, after so many *seconds*; None for no bound."""

    bytes: int | None = None
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class FailedVariant:
    """A variant that can't be made: the *path* of its source, the *error* code and the *detail* that a
    visitor would get, and the *query* of its URL."""

    path: str
    error: str
    detail: str
    query: str


@dataclass(frozen=True, slots=True)
class Warmed:
    """What came of it. Each variant that was reached is *rendered*, *present* (also where it coincides with
    another one, or another process made it first) or in *failed*; *bytes* are those of the rendered ones.

    *stopped* is empty when all was reached, else ``budget``, ``full`` (the cache has nothing left that may
    go) or ``interrupted``.
    """

    pictures: int
    rendered: int
    present: int
    failed: Sequence[FailedVariant]
    bytes: int
    seconds: float
    stopped: str = ""

    @property
    def variants(self) -> int:
        """How many variants were reached."""
        return self.rendered + self.present + len(self.failed)


def is_picture(path: str) -> bool:
    """Whether the file at *path* is meant to be a picture, by its name."""
    return path.rpartition(".")[2].lower() in PICTURE_SUFFIXES
