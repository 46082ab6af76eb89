"""Arguments of the helpers: read once, to the text that is written of them.

What is wrong raises BadParameter, with the name of the argument and what would be right.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from ..errors import BadParameter
from .queries import as_query, plain

__all__ = [
    "OF_FILMS",
    "Crop",
    "attribute_value",
    "one_of",
    "read_alt",
    "read_attributes",
    "read_crops",
    "read_formats",
    "read_paths",
    "read_widths",
]

_ATTRIBUTE = re.compile(r"(?:data|aria)-[a-z0-9]+(?:[-_.][a-z0-9]+)*", re.ASCII)
_ATTRIBUTES = frozenset(
    """id title role lang dir hidden tabindex draggable translate itemprop slot part elementtiming
    crossorigin referrerpolicy""".split()  # noqa: SIM905  # a list is 14 lines
)
# Those that a film may have, too.
OF_FILMS = frozenset({"autoplay", "controlslist", "disablepictureinpicture", "loop", "muted", "playsinline"})


class Crop(NamedTuple):
    """One of ``sources``; *path* is None for the picture's own, *query* what it says itself."""

    media: str
    path: str | None
    sizes: str
    widths: tuple[int, ...] | None
    query: tuple[tuple[str, str], ...]


def one_of(name: str, value: str, allowed: Sequence[str]) -> str:
    """*value* of the argument *name*, which is one of those *allowed*."""
    if value not in allowed:
        raise BadParameter(name, f"{name}={value!r} is not one of {', '.join(allowed)}")
    return value


def _several(name: str, values: object, right: str) -> tuple[Any, ...]:
    """*values* as a tuple: an iterator gives its items only once."""
    if isinstance(values, str | Mapping) or not isinstance(values, Iterable):
        raise BadParameter(name, f"{name}={values!r:.80} is no list; {right}")
    return tuple(values)


def attribute_value(value: object) -> str | bool | None:
    """The value of an attribute: its text, or what ``html.tag`` writes without a text."""
    return value if value is None or isinstance(value, bool) else plain(value)


def read_alt(alt: object) -> str:
    """The text of *alt*, which may be empty but not left out."""
    if alt is None:
        raise BadParameter("alt", 'alt is None; write what the picture shows, or alt="" for decoration')
    return plain(alt)


def read_formats(formats: object) -> tuple[str, ...]:
    """The names in *formats*, which may be one; not checked to be encodings."""
    if isinstance(formats, str):
        return (plain(formats),)
    return tuple(map(plain, _several("formats", formats, 'write ("avif", "webp"), or () for a plain <img>')))


def read_paths(sources: object) -> tuple[str, ...]:
    """The paths in *sources*."""
    return tuple(map(plain, _several("sources", sources, 'write ("clip.webm",)')))


def read_widths(widths: object) -> tuple[int, ...] | None:
    """The *widths* in pixels; None where the ladder's are wanted."""
    if widths is None:
        return None
    found = _several("widths", widths, "widths are whole pixels, as [320, 640]")
    if not found:
        raise BadParameter("widths", "widths is empty; name one or more, or leave it out")
    for each in found:
        if not isinstance(each, int) or isinstance(each, bool) or each < 1:
            problem = f"{each!r:.80} is not a width; widths are whole pixels, as [320, 640]"
            raise BadParameter("widths", problem)
    return tuple(map(int, found))


def read_crops(sources: object, sizes: str) -> tuple[Crop, ...]:
    """The crops in *sources*; *sizes* is that of those which have none."""
    right = "each of sources is a mapping with 'media', as (max-width: 600px)"
    crops = []
    for each in _several("sources", sources, right):
        if not isinstance(each, Mapping) or not each.get("media"):
            raise BadParameter("sources", right)
        own = {str(name): value for name, value in each.items()}
        media, path = plain(own.pop("media")), own.pop("path", None)
        shown = plain(own.pop("sizes", sizes) or "").strip()
        widths = read_widths(own.pop("widths", None))
        query = tuple(as_query(own).items())
        crops.append(Crop(media, None if path is None else plain(path), shown, widths, query))
    return tuple(crops)


def read_attributes(attrs: object, more: frozenset[str] = frozenset()) -> dict[str, str | bool | None]:
    """Further attributes, by names that can do no harm, or that are in *more*."""
    if not isinstance(attrs, Mapping | None):
        raise BadParameter("attrs", f'attrs={attrs!r:.80} is no mapping; write {{"id": "tom"}}')
    extra = {str(name): attribute_value(value) for name, value in (attrs or {}).items()}
    for name in extra:
        if not (_ATTRIBUTE.fullmatch(name) or name in _ATTRIBUTES | more):
            known = f"data-*, aria-*, {', '.join(sorted(_ATTRIBUTES | more))}"
            raise BadParameter("attrs", f"{name!r} is no attribute to be added; there are {known}")
    return extra
