"""HTML: tags and their attributes, of what a page may offer of a picture. All text is escaped here."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup, escape

from ..model.formats import ENCODINGS
from ..model.recipe import Recipe
from ..model.source import Source, placeholder_in
from .candidates import Candidate, Offer
from .queries import SIZES, Query, plain

__all__ = [
    "image_attributes",
    "media_type",
    "mistake_tag",
    "picture_tag",
    "placeholder_style",
    "sizes_text",
    "source_tag",
    "srcset_text",
    "tag",
]

_LARGEST_SRC = 1280  # for readers of src alone: crawlers, and browsers of before 2015

# What no HTML document may have: controls, halves of characters, and what is none.
_UNFIT = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef"
    + "".join(chr(plane * 0x10000 + last) for plane in range(17) for last in (0xFFFE, 0xFFFF))
    + "]"
)


def _clean(text: str) -> str:
    """*text* without what no HTML document may have."""
    # Nearly all of a page is printable ASCII: to see that takes a twentieth of the search.
    return text if text.isascii() and text.isprintable() else _UNFIT.sub("\ufffd", text)


def tag(name: str, attributes: Mapping[str, Any]) -> Markup:
    """An HTML tag; an attribute that is None or False is left out, one that is True has no value."""
    words = [name]
    for key, value in attributes.items():
        if value is True:
            words.append(key)
        elif value is not None and value is not False:
            words.append(f'{key}="{escape(_clean(plain(value)))}"')
    return Markup(f"<{' '.join(words)}>")  # noqa: S704  # values are escaped, names are known or checked


def srcset_text(candidates: Sequence[Candidate]) -> str:
    """The value of ``srcset``."""
    return ", ".join(f"{each.url} {each.width}w" if each.width else each.url for each in candidates)


def sizes_text(sizes: str, offer: Offer, query: Query, is_lazy: bool) -> str:
    """The value of ``sizes``: where nothing is said, as wide as asked for and as the window at most.

    ``auto`` lets the browser use the size in the layout, which it knows when it loads lazily.
    """
    bare = re.sub(r"^auto\s*(,|$)\s*", "", sizes, flags=re.IGNORECASE)
    if not bare:
        is_sized = bool(SIZES & query.keys()) or "preset" in query
        bare = f"(max-width: {offer.width}px) 100vw, {offer.width}px" if is_sized and offer.width else "100vw"
    return f"auto, {bare}" if is_lazy else bare


def source_tag(offer: Offer, encoding: str, sizes: str, media: str | None = None) -> Markup:
    """The ``<source>`` for one *encoding*, and for one screen with *media*."""
    candidates = offer.candidates[encoding]
    is_several = len(candidates) > 1
    attributes = {
        "media": media,
        "type": media_type(encoding),
        "sizes": sizes if is_several else None,
        "srcset": srcset_text(candidates) if is_several else candidates[0].url,
        "width": offer.width or None,
        "height": offer.height or None,
    }
    return tag("source", attributes)


def image_attributes(
    offer: Offer, encoding: str, sizes: str, is_lazy: bool, is_first: bool
) -> dict[str, Any]:
    """The attributes of an ``<img>`` that say what is loaded, and when; a reader of ``src`` alone gets a
    candidate from the middle."""
    candidates = offer.candidates[encoding]
    is_several = len(candidates) > 1
    enough = min(offer.width or _LARGEST_SRC, _LARGEST_SRC)
    return {
        "loading": "lazy" if is_lazy else "eager",  # before src: some browsers begin to load there
        "decoding": "async",
        "fetchpriority": "high" if is_first else None,
        "sizes": sizes if is_several else None,
        "srcset": srcset_text(candidates) if is_several else None,
        "src": next((each for each in candidates if each.width >= enough), candidates[-1]).url,
        "width": offer.width or None,
        "height": offer.height or None,
    }


def mistake_tag(text: str, class_: object) -> Markup:
    """*text* for the author of a page, in red, where the picture would be."""
    start = tag("span", {"class": class_, "style": "outline:3px solid red;color:red;background:white"})
    return Markup(f"{start}{escape(_clean(text))}</span>")  # noqa: S704  # escaped


def media_type(encoding: str) -> str | None:
    """The value of ``type``; None where the URL decides."""
    return ENCODINGS[encoding].media_type if encoding in ENCODINGS else None


def picture_tag(tags: Sequence[Markup]) -> Markup:
    """*tags* in a ``<picture>``, where that is needed."""
    if len(tags) == 1:
        return tags[0]
    inside = "".join(f"  {each}\n" for each in tags)
    return Markup(f"<picture>\n{inside}</picture>")  # noqa: S704  # tags are escaped


def placeholder_style(source: Source, recipe: Recipe) -> str | None:
    """The source's tiny picture as a background, where it fits and nothing would shine through."""
    text = placeholder_in(source.placeholder)
    is_other = recipe.rotate or recipe.flop or recipe.rect or recipe.trim is not None or recipe.grayscale
    has_alpha = source.header is None or source.header.has_alpha
    if is_other or has_alpha or recipe.fit == "pad" or not text:
        return None
    return f"background:url({text}) center/cover no-repeat"
