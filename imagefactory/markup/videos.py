"""The ``<video>`` of a film: its poster, which is a picture like any other, and the files that are played."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from ..errors import BadParameter
from ..model.formats import media_type_of
from ..model.source import Source
from .candidates import Candidates
from .html import tag
from .queries import Query, encoded

__all__ = ["video_tag"]

_WIDEST_POSTER = 1280  # pixels, unless the layout has more: a poster has no srcset
_TILE_WIDTH = 160  # pixels
# Browsers pass over a file of another type, also where they could play what is in it, as in QuickTime.
_KNOWN_TYPES = frozenset({"video/mp4", "video/webm"})


def video_tag(
    candidates: Candidates, films: Sequence[Source], query: Query, tiles: Query, element: Mapping[str, Any]
) -> Markup:
    """A ``<video>`` with the attributes of *element*, which plays the first of *films* that a browser can.
    Its poster is what *query* asks for of the first one; *tiles* asks for a sheet of frames of that.

    Raises BadParameter for what is no film, and as ``Candidates.offer``.
    """
    types = [_type(candidates, film) for film in films]
    film = films[0]
    encoding = candidates.encodings(film, query, ("webp",))[0]
    offer = candidates.offer(film, query, [encoding], None)
    enough = max(_WIDEST_POSTER, offer.recipe.width)
    posters = offer.candidates[encoding]
    attributes = {
        **element,
        "poster": next((each for each in reversed(posters) if each.width <= enough), posters[0]).url,
        "width": offer.width or None,
        "height": offer.height or None,
    }
    lines = [
        tag("source", {"src": candidates.url(each, {}), "type": kind if kind in _KNOWN_TYPES else None})
        for each, kind in zip(films, types, strict=True)
    ]
    if tiles and film.header is not None and film.header.duration_s:
        sheet = encoded({**tiles, "vtt": "1", "scalex": str(_TILE_WIDTH)}, "webp")
        text = candidates.url(film, sheet)
        lines.append(tag("track", {"kind": "metadata", "label": "thumbnails", "src": text}))
    inside = "".join(f"  {each}\n" for each in lines)
    return Markup(f"{tag('video', attributes)}\n{inside}</video>")  # noqa: S704  # tags are escaped


def _type(candidates: Candidates, film: Source) -> str:
    """The media type of *film*. Raises BadParameter where it is none that a browser may have."""
    found = "" if film.header is None else media_type_of(film.header)
    if not found.startswith("video/"):
        raise BadParameter("path", f"{film.path!r} is no film; write picture()")
    if not candidates.site.access.has_originals:
        raise BadParameter("path", "a film is played as it is, and this server has no originals")
    return found
