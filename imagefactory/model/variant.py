"""What a variant is, and what names it."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

__all__ = ["Key", "Variant", "is_digest", "version"]

_DIGEST = re.compile("[0-9a-f]{64}")


def is_digest(found: object) -> bool:
    """Whether *found* is a sha256 in hex."""
    return isinstance(found, str) and _DIGEST.fullmatch(found) is not None


@dataclass(frozen=True, slots=True)
class Key:
    """Names a variant by what it is made of: source digest, canonical recipe, encoding."""

    digest: str
    recipe: str
    encoding: str

    def text(self) -> str:
        """One line; no part has a space."""
        return f"{self.digest} {self.recipe} {self.encoding}"


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
