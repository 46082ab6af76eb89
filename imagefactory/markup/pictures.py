"""What stands in a page: URLs, srcset, ``<picture>`` and preload of pictures, as text that is safe in HTML.

Called by templates: ``views`` gives the methods of ``Pictures`` to Jinja, other programs make one of their
own. ``candidates`` says which URLs there are; a page costs one stat per picture, and finished markup is
remembered for as long as its sources do not change.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, TypeVar
from urllib.parse import quote

from markupsafe import Markup, escape

from ..common.memo import Memo
from ..engine.generator import Generator
from ..errors import BadParameter, NotFound, RequestError
from ..model.formats import ENCODINGS
from ..model.job import Stamp
from ..model.recipe import Recipe
from ..model.variant import Source, placeholder_in
from ..urls.parameters import address
from .candidates import SIZES, Candidate, Candidates, Offer, Query, as_query, merged, plain

__all__ = ["Pictures"]

_log = logging.getLogger(__name__)

_MEMO_BYTES = 8_000_000
_ENTRY_BYTES = 2000  # beside its text
_TOLD = 1000  # paths that a warning was logged for

_Text = TypeVar("_Text", bound=str)  # Markup where it is HTML

_NO_PICTURE = "data:,"  # a src is needed, and this one asks for nothing
_LONGEST_S = 10**11  # e has 12 digits at most

_LARGEST_SRC = 1280  # for who reads no srcset: crawlers, and browsers of before 2015

_ATTRIBUTE = re.compile(r"(?:data|aria)-[a-z0-9]+(?:[-_.][a-z0-9]+)*", re.ASCII)
_ATTRIBUTES = frozenset(
    """id title role lang dir hidden tabindex draggable translate itemprop slot part elementtiming
    crossorigin referrerpolicy""".split()  # noqa: SIM905  # a list is 14 lines
)
# What no HTML document may have: controls, halves of characters, and what is none.
_UNFIT = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef"
    + "".join(chr(plane * 0x10000 + last) for plane in range(17) for last in (0xFFFE, 0xFFFF))
    + "]"
)


@dataclass(frozen=True, slots=True)
class _Entry(Generic[_Text]):
    """Finished text of *sources*. While their *files* have these stamps it stays right; none are there where
    that is not sure."""

    sources: tuple[Source, ...]
    text: _Text
    files: tuple[tuple[str, Stamp], ...]


class Pictures:
    """The helpers for the pictures of *generator*: ``url``, ``srcset``, ``picture``, ``preload``.

    URLs begin with *base_url* (``[http] base_url``) and *prefix* (the first of ``[http] prefixes``). With
    *debug* a mistake of the author is BadParameter, and a missing picture is seen in the page; else both
    give a plain ``<img>`` and one warning per path in the log. With *must_sign* all URLs are signed, else
    those that have to be.

    All take *expires*, seconds from now, for signed URLs; and the parameters of a picture URL, by any of
    their names: numbers, text, True, and tuples for ``fp`` and ``rect``. None is as if not given.
    """

    def __init__(
        self,
        generator: Generator,
        *,
        base_url: str | None = None,
        prefix: str | None = None,
        debug: bool = False,
        must_sign: bool = False,
    ) -> None:
        http = generator.config.http
        self.generator = generator
        self.debug = debug
        self._must_sign = must_sign
        self._base_url = (http.base_url if base_url is None else base_url).rstrip("/")
        self._prefix = http.prefixes[0] if prefix is None else prefix.rstrip("/")
        self._memo: Memo[Hashable, _Entry[Any]] = Memo(_MEMO_BYTES)
        self._told: set[str] = set()

    # --- for templates

    def url(self, path: str, *, expires: float | None = None, **parameters: Any) -> str:
        """The URL of the picture at *path* with *parameters*, canonical and with its version.

        Without a parameter that changes pixels it is that of the original. Raises BadParameter in debug.
        """
        path, prefix = plain(path), self._start()
        try:
            end_s, query = self._end_s(expires), as_query(parameters)

            def make(sources: Sequence[Source]) -> str:
                return self._candidates(prefix, end_s).url(sources[0], query)

            return self._made(("url", path, prefix, end_s, *query.items()), (path,), make)
        except RequestError as error:
            return self._plain_url(prefix, path, error)

    def srcset(
        self,
        path: str,
        widths: Iterable[int] | None = None,
        *,
        expires: float | None = None,
        **parameters: Any,
    ) -> str:
        """A value for ``srcset``: the picture in the widths of the ladder or in *widths*, never wider than
        the source; with ``trim`` one URL, as only a render can tell how wide that is. Raises BadParameter in
        debug."""
        path, prefix = plain(path), self._start()
        try:
            end_s, query, wide = self._end_s(expires), as_query(parameters), _widths(widths)

            def make(sources: Sequence[Source]) -> str:
                encoding = query.get("encoding", "")
                offer = self._candidates(prefix, end_s).offer(sources[0], query, [encoding], wide)
                return _srcset(offer.candidates[encoding])

            return self._made(("srcset", path, prefix, end_s, wide, *query.items()), (path,), make)
        except RequestError as error:
            return self._plain_url(prefix, path, error)

    def picture(
        self,
        path: str,
        *,
        alt: str,
        sizes: str | None = None,
        preset: str | None = None,
        formats: Sequence[str] = ("avif", "webp"),
        widths: Iterable[int] | None = None,
        sources: Sequence[Mapping[str, Any]] = (),
        loading: str = "lazy",
        priority: bool = False,
        placeholder: bool = True,
        class_: str | None = None,
        attrs: Mapping[str, Any] | None = None,
        expires: float | None = None,
        **parameters: Any,
    ) -> Markup:
        """A whole ``<picture>``, or an ``<img>`` where there is one format only.

        *alt* is empty for decoration. A size in *parameters* is that in the layout, in CSS pixels: up to
        twice as much is offered; without one the source's width is the end. *sources* are crops for art
        direction: mappings with ``media``, and ``path``, ``sizes``, ``widths`` or parameters that differ.
        *priority* is for the largest picture of a page: it is loaded at once, ``preload`` fits to it.
        *attrs* are further attributes of the ``<img>``.

        Raises BadParameter in debug.
        """
        path, prefix = plain(path), self._start()
        try:
            end_s, shown, text = self._end_s(expires), plain(sizes or "").strip(), _alt(alt)
            query, names, wide = as_query({"preset": preset, **parameters}), _names(formats), _widths(widths)
            crops, name, extra = _crops(sources, shown), _value(class_), _extra(attrs)
            is_lazy = _choose("loading", loading, ("lazy", "eager")) == "lazy" and not priority

            def make(found: Sequence[Source]) -> Markup:
                candidates = self._candidates(prefix, end_s)
                encodings = candidates.encodings(found[0], query, names)
                lines, others = [], iter(found[1:])
                for crop in crops:
                    source = found[0] if crop.path is None else next(others)
                    lines += _crop_tags(candidates, crop, source, query, names, is_lazy)
                offer = candidates.offer(found[0], query, encodings, wide)
                fitting = _sizes(shown, offer, query, is_lazy)
                lines += [_source_tag(offer, encoding, fitting) for encoding in encodings[:-1]]
                image = {
                    **_image(offer, encodings[-1], fitting, is_lazy, bool(priority)),
                    "alt": text,
                    "data-imagefactory": len(offer.candidates[encodings[-1]]) > 1,
                    "class": name,
                    "style": _style(found[0], offer.recipe) if placeholder else None,
                }
                return _picture([*lines, _tag("img", image | extra)])

            key = (
                "picture", path, text, prefix, end_s, shown, names, wide, crops, is_lazy, bool(priority),
                bool(placeholder), name, tuple(extra.items()), *query.items(),
            )  # fmt: skip
            paths = (path, *(crop.path for crop in crops if crop.path is not None))
            return self._made(key, paths, make, bool(placeholder))
        except RequestError as error:
            return self._instead(prefix, path, alt, class_, error)

    def preload(
        self,
        path: str,
        *,
        sizes: str | None = None,
        preset: str | None = None,
        formats: Sequence[str] = ("avif", "webp"),
        widths: Iterable[int] | None = None,
        media: str | None = None,
        expires: float | None = None,
        **parameters: Any,
    ) -> Markup:
        """The ``<link rel=preload>`` for a ``picture`` with the same arguments and ``priority``: in its first
        format, which browsers without it skip. Raises BadParameter in debug."""
        path, prefix = plain(path), self._start()
        try:
            end_s, shown, screen = self._end_s(expires), plain(sizes or "").strip(), _value(media)
            query, names, wide = as_query({"preset": preset, **parameters}), _names(formats), _widths(widths)

            def make(sources: Sequence[Source]) -> Markup:
                candidates = self._candidates(prefix, end_s)
                encoding = candidates.encodings(sources[0], query, names)[0]
                offer = candidates.offer(sources[0], query, [encoding], wide)
                found = offer.candidates[encoding]
                link = {
                    "rel": "preload",
                    "as": "image",
                    "href": found[0].url if len(found) == 1 else None,
                    "imagesrcset": _srcset(found) if len(found) > 1 else None,
                    "imagesizes": _sizes(shown, offer, query, False) if len(found) > 1 else None,
                    "type": _media_type(encoding),
                    "media": screen,
                    "fetchpriority": "high",
                }
                return _tag("link", link)

            key = ("preload", path, prefix, end_s, shown, names, wide, screen, *query.items())
            return self._made(key, (path,), make)
        except RequestError as error:
            self._tell(path, error)
            return Markup()

    def forget(self) -> None:
        """Write all markup anew: for who measures."""
        self._memo = Memo(_MEMO_BYTES)

    def helpers(self) -> dict[str, Callable[..., str]]:
        """These methods by the names that they have in templates."""
        return {
            "picture": self.picture,
            "picture_url": self.url,
            "picture_srcset": self.srcset,
            "picture_preload": self.preload,
        }

    # --- where they are asked

    def root(self) -> str:
        """Where the app is mounted, decoded; empty at the top. For a subclass that knows the request."""
        return ""

    def is_debug(self) -> bool:
        """Whether who sees the page is its author."""
        return self.debug

    # --- the steps

    def _made(
        self,
        key: Hashable,
        paths: tuple[str, ...],
        make: Callable[[Sequence[Source]], _Text],
        has_placeholder: bool = False,
    ) -> _Text:
        """The text for *key*, made by *make* of the sources at *paths* unless it is remembered. What *make*
        writes must be in *key* as it is written: an object may be another one, or say another thing, soon."""
        entry: _Entry[_Text] | None = self._memo.get(key)
        if entry is not None and entry.files and _is_unchanged(entry.files):
            return entry.text
        sources = tuple(self.generator.source(path) for path in paths)
        if entry is not None and entry.sources == sources:
            return entry.text
        text = make(sources)
        is_known = not has_placeholder or bool(sources[0].placeholder)
        is_final = is_known and not any(source.is_racy for source in sources)
        locate = self.generator.sources.locate
        files = tuple((str(locate(each.path)), each.stamp) for each in sources) if is_final else ()
        self._memo.put(key, _Entry(sources, text, files), len(text) + _ENTRY_BYTES)
        return text

    def _candidates(self, prefix: str, end_s: int | None) -> Candidates:
        return Candidates(self.generator, prefix, self._must_sign, end_s, self.is_debug())

    def _start(self) -> str:
        """What the URLs of this page begin with."""
        if self._base_url:
            return f"{self._base_url}{self._prefix}"
        root = self.root().strip("/")
        return f"/{quote(root, safe='/')}{self._prefix}" if root else self._prefix

    def _end_s(self, expires: Any) -> int | None:
        """When what lasts *expires* seconds ends, in unix seconds: on the next multiple of a tenth of it, so
        that pages of one time have one URL and caches keep it; before now for less than 0. Raises
        BadParameter."""
        if expires is None:
            return None
        is_number = isinstance(expires, int | float) and not isinstance(expires, bool)
        if not is_number or not abs(expires) <= _LONGEST_S or str(expires) == "-0.0":  # nan: no comparison
            shown = "expires" if is_number else f"expires={expires!r:.80}"  # endless numbers have no text
            problem = f"the longest is {_LONGEST_S}, which are {_LONGEST_S // 604_800} weeks"
            raise BadParameter("expires", f"{shown} is no time in seconds; {problem}")
        step = max(1, int(expires) // 10)
        return max(0, -(-int(self.generator.now_s() + expires) // step) * step)

    # --- what goes wrong

    def _plain_url(self, prefix: str, path: str, error: RequestError) -> str:
        self._tell(path, error)
        return self._address(prefix, path)

    def _address(self, prefix: str, path: str) -> str:
        """The URL of *path* itself; empty for what can be no picture's: browsers take ``..`` for a way out,
        also percent-encoded."""
        try:
            self.generator.sources.locate(path)
        except NotFound:
            return ""
        return address(prefix, path)

    def _instead(self, prefix: str, path: str, alt: object, class_: object, error: RequestError) -> Markup:
        """What stands in the page for a picture that is not to be had."""
        self._tell(path, error)
        if not self.is_debug():
            text = "" if alt is None else plain(alt)
            src = self._address(prefix, path) or _NO_PICTURE
            return _tag("img", {"src": src, "alt": text, "class": class_})
        text = _clean(f"picture {path!r}: {error}")
        tag = _tag("span", {"class": class_, "style": "outline:3px solid red;color:red;background:white"})
        return Markup(f"{tag}{escape(text)}</span>")  # noqa: S704

    def _tell(self, path: str, error: RequestError) -> None:
        """Raise *error* to an author who made it, else log it, once for each path."""
        if self.is_debug() and isinstance(error, BadParameter):
            raise error
        if path not in self._told and len(self._told) < _TOLD:
            self._told.add(path)
            _log.warning("a page has a picture %r that can't be shown: %s", path, error)


def _is_unchanged(files: Sequence[tuple[str, Stamp]]) -> bool:
    """Whether all *files* have their stamps. Paths as text: a Path costs twice as much as the stat itself."""
    try:
        for file, stamp in files:
            if Stamp.of(os.stat(file)) != stamp:  # noqa: PTH116
                return False
    except OSError:
        return False
    return True


# --- arguments: read once, to what is written of them ------------------------------------------------------


class _Crop(NamedTuple):
    """One of ``sources``; *path* is None for the picture's own, *query* what it says itself."""

    media: str
    path: str | None
    sizes: str
    widths: tuple[int, ...] | None
    query: tuple[tuple[str, str], ...]


def _choose(name: str, value: str, allowed: Sequence[str]) -> str:
    if value not in allowed:
        raise BadParameter(name, f"{name}={value!r} is not one of {', '.join(allowed)}")
    return value


def _several(name: str, values: object, right: str) -> tuple[Any, ...]:
    """*values* as a tuple: an iterator gives its items only once."""
    if isinstance(values, str | Mapping) or not isinstance(values, Iterable):
        raise BadParameter(name, f"{name}={values!r:.80} is no list; {right}")
    return tuple(values)


def _value(value: object) -> str | bool | None:
    """The value of an attribute: its text, or what ``_tag`` has no text for."""
    return value if value is None or isinstance(value, bool) else plain(value)


def _alt(alt: object) -> str:
    if alt is None:
        raise BadParameter("alt", 'alt is None; write what the picture shows, or alt="" for decoration')
    return plain(alt)


def _names(formats: object) -> tuple[str, ...]:
    if isinstance(formats, str):
        return (plain(formats),)
    return tuple(map(plain, _several("formats", formats, 'write ("avif", "webp"), or () for a plain <img>')))


def _widths(widths: object) -> tuple[int, ...] | None:
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


def _crops(sources: object, sizes: str) -> tuple[_Crop, ...]:
    """The crops in *sources*; *sizes* is that of those which have none. Raises BadParameter."""
    right = "each of sources is a mapping with 'media', as (max-width: 600px)"
    crops = []
    for each in _several("sources", sources, right):
        if not isinstance(each, Mapping) or not each.get("media"):
            raise BadParameter("sources", right)
        own = {str(name): value for name, value in each.items()}
        media, path = plain(own.pop("media")), own.pop("path", None)
        shown = plain(own.pop("sizes", sizes) or "").strip()
        widths = _widths(own.pop("widths", None))
        query = tuple(as_query(own).items())
        crops.append(_Crop(media, None if path is None else plain(path), shown, widths, query))
    return tuple(crops)


def _extra(attrs: object) -> dict[str, str | bool | None]:
    """Further attributes, by names that can do no harm. Raises BadParameter."""
    if not isinstance(attrs, Mapping | None):
        raise BadParameter("attrs", f'attrs={attrs!r:.80} is no mapping; write {{"id": "tom"}}')
    extra = {str(name): _value(value) for name, value in (attrs or {}).items()}
    for name in extra:
        if not (_ATTRIBUTE.fullmatch(name) or name in _ATTRIBUTES):
            known = f"data-*, aria-*, {', '.join(sorted(_ATTRIBUTES))}"
            raise BadParameter("attrs", f"{name!r} is no attribute to be added; there are {known}")
    return extra


# --- HTML -------------------------------------------------------------------------------------------------


def _clean(text: str) -> str:
    """*text* without what no HTML document may have."""
    # Nearly all of a page is printable ASCII: to see that takes a twentieth of the search.
    return text if text.isascii() and text.isprintable() else _UNFIT.sub("\ufffd", text)


def _tag(name: str, attributes: Mapping[str, Any]) -> Markup:
    """An HTML tag; an attribute that is None or False is left out, one that is True has no value."""
    words = [name]
    for key, value in attributes.items():
        if value is True:
            words.append(key)
        elif value is not None and value is not False:
            words.append(f'{key}="{escape(_clean(plain(value)))}"')
    return Markup(f"<{' '.join(words)}>")  # noqa: S704  # values are escaped, names are known or checked


def _srcset(candidates: Sequence[Candidate]) -> str:
    return ", ".join(f"{each.url} {each.width}w" if each.width else each.url for each in candidates)


def _sizes(sizes: str, offer: Offer, query: Query, is_lazy: bool) -> str:
    """The value of ``sizes``: where nothing is said, as wide as asked for and as the window at most.

    ``auto`` lets the browser use the size in the layout, which it knows when it loads lazily.
    """
    bare = re.sub(r"^auto\s*(,|$)\s*", "", sizes, flags=re.IGNORECASE)
    if not bare:
        is_sized = bool(SIZES & query.keys()) or "preset" in query
        bare = f"(max-width: {offer.width}px) 100vw, {offer.width}px" if is_sized and offer.width else "100vw"
    return f"auto, {bare}" if is_lazy else bare


def _crop_tags(
    candidates: Candidates, crop: _Crop, source: Source, base: Query, formats: Sequence[str], is_lazy: bool
) -> list[Markup]:
    """The ``<source>`` lines of one *crop*: also in its last format, else a browser without the others
    would show the picture that is cut for another screen."""
    query = merged(base, dict(crop.query))
    encodings = candidates.encodings(source, query, formats)
    offer = candidates.offer(source, query, encodings, crop.widths)
    shown = _sizes(crop.sizes, offer, query, is_lazy)
    return [_source_tag(offer, encoding, shown, crop.media) for encoding in encodings]


def _source_tag(offer: Offer, encoding: str, sizes: str, media: str | None = None) -> Markup:
    candidates = offer.candidates[encoding]
    is_several = len(candidates) > 1
    attributes = {
        "media": media,
        "type": _media_type(encoding),
        "sizes": sizes if is_several else None,
        "srcset": _srcset(candidates) if is_several else candidates[0].url,
        "width": offer.width or None,
        "height": offer.height or None,
    }
    return _tag("source", attributes)


def _image(offer: Offer, encoding: str, sizes: str, is_lazy: bool, is_first: bool) -> dict[str, Any]:
    """The attributes of an ``<img>`` that say what is loaded, and when; who reads no srcset gets a candidate
    from the middle."""
    candidates = offer.candidates[encoding]
    is_several = len(candidates) > 1
    enough = min(offer.width or _LARGEST_SRC, _LARGEST_SRC)
    return {
        "loading": "lazy" if is_lazy else "eager",  # before src: some browsers begin to load there
        "decoding": "async",
        "fetchpriority": "high" if is_first else None,
        "sizes": sizes if is_several else None,
        "srcset": _srcset(candidates) if is_several else None,
        "src": next((each for each in candidates if each.width >= enough), candidates[-1]).url,
        "width": offer.width or None,
        "height": offer.height or None,
    }


def _media_type(encoding: str) -> str | None:
    return ENCODINGS[encoding].media_type if encoding in ENCODINGS else None


def _picture(tags: Sequence[Markup]) -> Markup:
    """*tags* in a ``<picture>``, where that is needed."""
    if len(tags) == 1:
        return tags[0]
    inside = "".join(f"  {tag}\n" for tag in tags)
    return Markup(f"<picture>\n{inside}</picture>")  # noqa: S704  # tags are escaped


def _style(source: Source, recipe: Recipe) -> str | None:
    """The source's tiny picture as a background, where it fits and nothing would shine through."""
    text = placeholder_in(source.placeholder)
    is_other = recipe.rotate or recipe.flop or recipe.rect or recipe.trim is not None or recipe.grayscale
    has_alpha = source.header is None or source.header.has_alpha
    if is_other or has_alpha or recipe.fit == "pad" or not text:
        return None
    return f"background:url({text}) center/cover no-repeat"
