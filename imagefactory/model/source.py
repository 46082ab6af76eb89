"""A source, and what is known of it."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import NamedTuple

__all__ = ["Header", "Source", "Stamp", "placeholder_in"]

_PLACEHOLDER = re.compile("data:image/webp;base64,[A-Za-z0-9+/]{1,1000}={0,2}")


class Stamp(NamedTuple):
    """The cheap proof that a source has not changed: equal stamps mean equal bytes.

    *identity* and *version* mean something only to the sources that made the stamp: inode and ctime of a
    file, the ETag of an object. *size* is in bytes, *modified_ns* in nanoseconds since 1970."""

    identity: int | str
    size: int
    modified_ns: int
    version: int | str

    @classmethod
    def of(cls, status: os.stat_result) -> Stamp:
        """The stamp of a file, from an answer of stat or fstat."""
        return cls(status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


@dataclass(frozen=True, slots=True)
class Header:
    """What the header of a source says, without a pixel decoded.

    *width* and *height* are those of the upright picture, in pixels: with an EXIF *orientation* of 5 to 8
    the stored sides are swapped. *frames* counts animation frames, and is 1 for pages and thumbnails.

    *programs* are the names of the external programs that read it, with a space between them; then *width*
    and *height* are those of what the first one makes, or 0 where none makes pixels for us. With
    *is_scalable* it makes them in any size. *duration_s* is that of a film, 0 where it is not known.
    """

    width: int
    height: int
    format: str
    frames: int = 1
    orientation: int = 1
    has_alpha: bool = False
    programs: str = ""
    is_scalable: bool = False
    duration_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Source:
    """What is known of the source at *path* (relative to the pictures, with ``/``) while it has *stamp*.

    *digest* is the sha256 of its bytes in hex. *header* is None where the file is no picture, or a broken
    one: then *problem* says what is wrong. *is_racy*: the stamp was less than two seconds old when the bytes
    were hashed, so that a second write could share it; such a row is checked by hashing again. *placeholder*
    is a tiny picture of it as a ``data:`` URI, empty until a variant was rendered. *tables* stands for the
    external programs that could have read it, with their versions; empty where there are none.
    """

    path: str
    stamp: Stamp
    digest: str
    header: Header | None
    is_racy: bool = False
    problem: str = ""
    placeholder: str = ""
    tables: str = ""


def placeholder_in(found: object) -> str:
    """*found* if it is a placeholder, else empty: it goes into pages as it is, and came from a disk or from a
    process that decodes bytes of strangers."""
    return found if isinstance(found, str) and _PLACEHOLDER.fullmatch(found) else ""
