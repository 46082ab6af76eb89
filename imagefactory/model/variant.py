"""The values that the cache remembers: what is known of a source, and what a variant is."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

from .formats import Header
from .job import Stamp

__all__ = ["Key", "Source", "Variant", "placeholder_in", "version"]

_PLACEHOLDER = re.compile("data:image/webp;base64,[A-Za-z0-9+/]{1,1000}={0,2}")


@dataclass(frozen=True, slots=True)
class Source:
    """What is known of the source at *path* (relative to the pictures, with ``/``) while it has *stamp*.

    *digest* is the sha256 of its bytes in hex. *header* is None where the file is no picture, or a broken
    one: then *problem* says what is wrong. *is_racy*: the stamp was less than two seconds old when the
    bytes were hashed, so that a second write could share it; such a row is checked by hashing again.
    *placeholder* is a tiny picture of it as a ``data:`` URI, empty until a variant was rendered.
    """

    path: str
    stamp: Stamp
    digest: str
    header: Header | None
    is_racy: bool = False
    problem: str = ""
    placeholder: str = ""


def placeholder_in(found: object) -> str:
    """*found* if it is a placeholder, else empty: it goes into pages as it is, and came from a disk or from a
    process that decodes bytes of strangers."""
    return found if isinstance(found, str) and _PLACEHOLDER.fullmatch(found) else ""


@dataclass(frozen=True, slots=True)
class Key:
    """Names a variant by what it is made of: source digest, canonical recipe, encoding."""

    digest: str
    recipe: str
    encoding: str

    def text(self) -> str:
        """One line; no part has a space."""
        return f"{self.digest} {self.recipe} {self.encoding}"

    def version(self) -> str:
        """The value of ``v`` for a URL that names all of this."""
        return version(self.digest, self.recipe, self.encoding)


def version(digest: str, recipe: str, encoding: str) -> str:
    """The value of ``v`` for a URL: changes when the pixels may. *encoding* is ``auto`` where the URL leaves
    it to the visitor."""
    return hashlib.sha256(f"{digest}\n{recipe}\n{encoding}".encode()).hexdigest()[:12]


@dataclass(frozen=True, slots=True)
class Variant:
    """A rendered picture: sha256 of its *body* in hex, *bytes* long, *width* x *height* pixels: 0
    where it came back from its object alone, and the recipe does not say it."""

    key: Key
    body: str
    bytes: int
    width: int
    height: int

    @property
    def etag(self) -> str:
        """The strong entity tag, with its quotes."""
        return f'"{self.body[:32]}"'
