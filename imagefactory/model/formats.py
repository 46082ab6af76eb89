"""Facts about picture formats: one row per encoding that is written, one per source format that is read.

How an encoding is written is in ``render.encoders``, its settings are in ``config.schema``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as version_of
from importlib.util import find_spec
from types import MappingProxyType
from typing import Literal

from ..version import __version__
from .source import Header

__all__ = [
    "ALIASES",
    "CLASSIC",
    "BY_PROGRAMS",
    "ENCODINGS",
    "EVERYWHERE",
    "FOREIGN_FORMATS",
    "HEAD_BYTES",
    "KNOWN_ENCODINGS",
    "MODERN",
    "NEEDS_EXTRA",
    "PICTURE_SUFFIXES",
    "SOURCE_FORMATS",
    "USUAL",
    "Encoding",
    "SourceFormat",
    "decoders",
    "default_encoding",
    "fallback_encoding",
    "format_of",
    "may_be_picture",
    "media_type_of",
    "starts_as",
]


@dataclass(frozen=True, slots=True)
class Encoding:
    """An output format. *max_side* is the longest side that its container can hold, in pixels.

    *browsers* says which show it. *auto_rank* is its place for ``auto`` among those that browsers name in
    Accept, the smallest files first; 0 for one that all show and none names. *has_slow_animation*: a long one
    takes minutes to write. *by_programs*: only external programs write it.
    """

    name: str
    media_type: str
    suffix: str
    max_side: int
    browsers: Literal["all", "most", "few"]
    auto_rank: int = 0
    has_alpha: bool = False
    has_animation: bool = False
    has_slow_animation: bool = False
    has_quality: bool = False
    by_programs: bool = False


@dataclass(frozen=True, slots=True)
class SourceFormat:
    """A format that sources may have. *encoding* is empty where that format is read and never written."""

    media_type: str
    encoding: str = ""


# Also those that this installation can't write: a cache may have them from one that could.
KNOWN_ENCODINGS: Mapping[str, Encoding] = MappingProxyType(
    {
        row.name: row
        for row in (
            Encoding("jpeg", "image/jpeg", "jpg", 65_535, "all", has_quality=True),
            Encoding("png", "image/png", "png", 65_535, "all", has_alpha=True, has_animation=True),
            Encoding(
                "webp",
                "image/webp",
                "webp",
                16_383,
                "all",
                auto_rank=3,
                has_alpha=True,
                has_animation=True,
                has_quality=True,
            ),
            Encoding(
                "avif",
                "image/avif",
                "avif",
                65_535,
                "most",
                auto_rank=1,
                has_alpha=True,
                has_animation=True,
                has_slow_animation=True,
                has_quality=True,
            ),
            Encoding("gif", "image/gif", "gif", 65_535, "all", has_alpha=True, has_animation=True),
            # The library writes no animations: a variant of one is its first frame.
            Encoding("jxl", "image/jxl", "jxl", 65_535, "few", auto_rank=2, has_alpha=True, has_quality=True),
            # What a program made of a source, for our own pipeline: no URL asks for it.
            Encoding("ppm", "image/x-portable-anymap", "ppm", 10**6, "few", has_alpha=True, by_programs=True),
            Encoding("mp4", "video/mp4", "mp4", 65_535, "few", by_programs=True),
            Encoding("webm", "video/webm", "webm", 65_535, "few", by_programs=True),
        )
    }
)
ALIASES: Mapping[str, str] = MappingProxyType({"jpg": "jpeg"})
# Encodings that take an extra of the same name, and the library in it. It is looked for, once, and not
# imported: a server process has no use for it.
_LIBRARIES = {"jxl": "pyjpegxl"}
# Known names that this installation can't write, and the extra that would change that.
NEEDS_EXTRA: Mapping[str, str] = MappingProxyType(
    {name: name for name, library in _LIBRARIES.items() if find_spec(library) is None}
)
ENCODINGS: Mapping[str, Encoding] = MappingProxyType(
    {name: row for name, row in KNOWN_ENCODINGS.items() if name not in NEEDS_EXTRA and not row.by_programs}
)
# Those that a URL may ask for where a program of the config makes them.
BY_PROGRAMS = frozenset({"mp4", "webm"})

# What browsers name in Accept, the best first; of these what most of them get; and what none of them names.
_RANKS = {name: row.auto_rank for name, row in ENCODINGS.items() if row.auto_rank}
MODERN = tuple(sorted(_RANKS, key=lambda name: _RANKS[name]))
USUAL = tuple(name for name in MODERN if ENCODINGS[name].browsers != "few")
CLASSIC = tuple(name for name in ENCODINGS if name not in MODERN)
# What every browser shows.
EVERYWHERE = frozenset(name for name, row in KNOWN_ENCODINGS.items() if row.browsers == "all")

# Keys are Pillow's format names; a phone's JPEG with a second picture inside calls itself MPO.
SOURCE_FORMATS: Mapping[str, SourceFormat] = MappingProxyType(
    {
        "JPEG": SourceFormat("image/jpeg", "jpeg"),
        "MPO": SourceFormat("image/jpeg", "jpeg"),
        "PNG": SourceFormat("image/png", "png"),
        "WEBP": SourceFormat("image/webp", "webp"),
        "AVIF": SourceFormat("image/avif", "avif"),
        "GIF": SourceFormat("image/gif", "gif"),
        "TIFF": SourceFormat("image/tiff"),
        "BMP": SourceFormat("image/bmp"),
        "ICO": SourceFormat("image/vnd.microsoft.icon"),
        "JPEG2000": SourceFormat("image/jp2"),
        "HEIF": SourceFormat("image/heic"),
    }
)
# Of sources that external programs read, and we don't. FILE is any other.
FOREIGN_FORMATS: Mapping[str, str] = MappingProxyType(
    {
        "MP4": "video/mp4",
        "MOV": "video/quicktime",
        "WEBM": "video/webm",
        "MATROSKA": "video/x-matroska",
        "PDF": "application/pdf",
        "SVG": "image/svg+xml",
        "FILE": "application/octet-stream",
    }
)

# How many bytes of a file tell whether it may be a picture.
HEAD_BYTES = 64
# How files of each kind start: (offset, bytes). Of a program's output, and of sources that programs read.
_KINDS: Mapping[str, Sequence[tuple[int, bytes]]] = MappingProxyType(
    {
        "jpeg": ((0, b"\xff\xd8\xff"),),
        "png": ((0, b"\x89PNG\r\n\x1a\n"),),
        "gif": ((0, b"GIF87a"), (0, b"GIF89a")),
        "webp": ((8, b"WEBP"),),
        "avif": ((8, b"avif"), (8, b"avis")),
        "heif": ((8, b"hei"), (8, b"hev"), (8, b"mif1"), (8, b"msf1")),
        "tiff": tuple((0, each) for each in (b"II*\0", b"MM\0*", b"II\0*", b"MM*\0", b"II+\0", b"MM\0+")),
        "bmp": ((0, b"BM"),),
        "ico": ((0, b"\0\0\1\0"),),
        "jxl": ((0, b"\xff\x0a"), (4, b"JXL ")),
        "jpeg2000": ((0, b"\xff\x4f\xff\x51"), (4, b"jP  ")),
        "pam": ((0, b"P7"),),
        "ppm": ((0, b"P5"), (0, b"P6"), (0, b"P7")),
        "mov": ((4, b"ftypqt  "), (4, b"moov"), (4, b"mdat"), (4, b"wide")),
        "mp4": ((4, b"ftyp"),),
        "webm": ((0, b"\x1a\x45\xdf\xa3"),),
        "pdf": ((0, b"%PDF-"),),
    }
)
# How pictures that we read start, at the least: what Pillow and pillow-heif look for. A BMP is looked at more
# closely when it is opened, as words start with "BM", too.
_STARTS = (
    *(start for kind in ("jpeg", "png", "gif", "bmp", "ico", "tiff") for _, start in _KINDS[kind]),
    *(b"\xff\x4f\xff\x51", b"\0\0\0\x0cjP  \r\n\x87\n"),  # JPEG 2000
)
# Brands of files in boxes (ISO/IEC 14496-12) that are no films.
_BRANDS = re.compile(b"avi[fs]|he[iv][cxms]|mif1|msf1")

# A file with one of these names is meant to be a picture: if it can't be read as one, that is worth saying.
PICTURE_SUFFIXES = frozenset(
    """jpg jpeg jpe jfif mpo png apng webp avif avifs gif tif tiff bmp ico
    jp2 j2k jpx jpf heic heif hif""".split()  # noqa: SIM905  # a list of 22 strings is 22 lines
)


def may_be_picture(head: bytes) -> bool:
    """Whether a file that starts with *head* (``HEAD_BYTES`` of it, or all) may be in a format that sources
    have, with whatever extra. False is sure: no decoder would take it."""
    if head[4:8] == b"ftyp":
        return _BRANDS.search(head, 8) is not None
    return head.startswith(_STARTS) or (head.startswith(b"RIFF") and head[8:12] == b"WEBP")


def starts_as(kind: str, head: bytes) -> bool:
    """Whether *head* is the beginning of a file of this *kind*, an encoding or a format that programs
    give."""
    return any(head[at : at + len(start)] == start for at, start in _KINDS[kind])


def format_of(head: bytes, path: str) -> str:
    """The format (of ``SOURCE_FORMATS`` or ``FOREIGN_FORMATS``) of a source at *path* that starts with
    *head*, for its media type; only SVG is believed to be what its name says."""
    kind = next((kind for kind in _KINDS if starts_as(kind, head)), "")
    if kind == "webm" and b"webm" not in head:
        return "MATROSKA"
    if not kind:
        return "SVG" if path.lower().endswith(".svg") else "FILE"
    return kind.upper() if kind.upper() in SOURCE_FORMATS or kind.upper() in FOREIGN_FORMATS else "FILE"


def media_type_of(header: Header) -> str:
    """The media type of a source with *header*."""
    own = SOURCE_FORMATS.get(header.format)
    return own.media_type if own else FOREIGN_FORMATS[header.format]


@cache
def decoders() -> str:
    """What reads sources here, with versions: what one of these could not read, another may."""
    return f"{__version__} pillow {_version('pillow')} heif {_version('pillow-heif')}"


def _version(package: str) -> str:
    try:
        return version_of(package)
    except PackageNotFoundError:
        return "-"


def default_encoding(header: Header) -> str:
    """The encoding of a variant when none is asked for: the source's own, or one that every browser shows."""
    own = SOURCE_FORMATS[header.format].encoding if header.format in SOURCE_FORMATS else ""
    return own or ("png" if header.has_alpha else "jpeg")


def fallback_encoding(header: Header, is_moving: bool) -> str:
    """The encoding of a variant for a browser of which nothing is known; *is_moving*: it keeps the animation.

    A still picture is a JPEG or a PNG then, which the oldest show too.
    """
    own = default_encoding(header)
    if is_moving:
        return own if own in EVERYWHERE else "webp"
    if own in ("jpeg", "png"):
        return own
    return "png" if header.has_alpha or own == "gif" else "jpeg"
