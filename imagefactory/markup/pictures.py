"""What stands in a page: URLs, srcset, ``<picture>`` and preload of pictures, as text that is safe in HTML.

The Flask extension gives the methods of ``Pictures`` to Jinja; other programs make one of their own.
``arguments`` reads what a template says, ``candidates`` says which URLs there are, ``html`` writes them. A
page costs one stat per picture, and finished markup is remembered for as long as its sources do not change.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar
from urllib.parse import quote

from markupsafe import Markup

from ..common.memo import Memo
from ..errors import BadParameter, NotFound, RequestError
from ..factory import Site
from ..model.recipe import Recipe
from ..model.source import Source
from ..storage.originals import check_path
from ..urls.writing import picture_url
from .arguments import (
    OF_FILMS,
    Crop,
    attribute_value,
    one_of,
    read_alt,
    read_attributes,
    read_crops,
    read_formats,
    read_paths,
    read_widths,
)
from .candidates import Candidates
from .html import (
    image_attributes,
    media_type,
    mistake_tag,
    picture_tag,
    placeholder_style,
    sizes_text,
    source_tag,
    srcset_text,
    tag,
)
from .queries import Query, as_query, merged, plain
from .videos import video_tag

__all__ = ["Pictures"]

_log = logging.getLogger(__name__)

_MEMO_BYTES = 8_000_000
_ENTRY_BYTES = 2000  # beside its text
_MAX_REPORTED = 1000  # paths that a warning was logged for

_Text = TypeVar("_Text", bound=str)  # Markup where it is HTML

_NO_PICTURE = "data:,"  # a src is needed, and this one asks for nothing
_LONGEST_S = 10**11  # e has 12 digits at most


@dataclass(frozen=True, slots=True)
class _Entry(Generic[_Text]):
    """Finished text of *sources*. With *is_final* it stays right while they have their stamps."""

    sources: tuple[Source, ...]
    text: _Text
    is_final: bool


class Pictures:
    """The helpers for the pictures of *site*: ``url``, ``srcset``, ``picture``, ``video``, ``preload``.

    URLs begin with *base_url* (``[http] base_url``) and *prefix* (the first of ``[http] prefixes``). With
    *debug* a mistake of the author is BadParameter, and a missing picture is seen in the page; else both
    give a plain ``<img>`` and one warning per path in the log. With *must_sign* all URLs are signed, else
    those that have to be.

    All take *expires*, seconds from now, for signed URLs; and the parameters of a picture URL, by any of
    their names: numbers, text, True, and tuples for ``fp`` and ``rect``. None is as if not given.
    """

    def __init__(
        self,
        site: Site,
        *,
        base_url: str | None = None,
        prefix: str | None = None,
        debug: bool = False,
        must_sign: bool = False,
    ) -> None:
        if not isinstance(site, Site):
            raise TypeError('Pictures takes a site, as app.extensions["imagefactory"].parts is one')
        http = site.config.http
        self.site = site
        self.debug = debug
        self._must_sign = must_sign
        self._base_url = (http.base_url if base_url is None else base_url).rstrip("/")
        self._prefix = http.prefixes[0] if prefix is None else prefix.rstrip("/")
        self._memo: Memo[Hashable, _Entry[Any]] = Memo(_MEMO_BYTES)
        self._reported: set[str] = set()

    # --- for templates

    def url(self, path: str, *, expires: float | None = None, **parameters: Any) -> str:
        """The URL of the picture at *path* with *parameters*, canonical and with its version.

        Without a parameter that changes pixels it is that of the original. Raises BadParameter in debug.
        """
        path, prefix = plain(path), self._base()
        try:
            end_s, query = self._end_s(expires), as_query(parameters)

            def make(sources: Sequence[Source]) -> str:
                return self._candidates(prefix, end_s).url(sources[0], query)

            return self._remembered(("url", path, prefix, end_s, *query.items()), (path,), make)
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
        path, prefix = plain(path), self._base()
        try:
            end_s, query, wide = self._end_s(expires), as_query(parameters), read_widths(widths)

            def make(sources: Sequence[Source]) -> str:
                encoding = query.get("encoding", "")
                offer = self._candidates(prefix, end_s).offer(sources[0], query, [encoding], wide)
                return srcset_text(offer.candidates[encoding])

            return self._remembered(("srcset", path, prefix, end_s, wide, *query.items()), (path,), make)
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
        path, prefix = plain(path), self._base()
        try:
            end_s, shown, text = self._end_s(expires), plain(sizes or "").strip(), read_alt(alt)
            query = as_query({"preset": preset, **parameters})
            names, wide = read_formats(formats), read_widths(widths)
            crops, name, extra = read_crops(sources, shown), attribute_value(class_), read_attributes(attrs)
            is_lazy = one_of("loading", loading, ("lazy", "eager")) == "lazy" and not priority

            def make(found: Sequence[Source]) -> Markup:
                candidates = self._candidates(prefix, end_s)
                encodings = candidates.encodings(found[0], query, names)
                lines, others = [], iter(found[1:])
                for crop in crops:
                    source = found[0] if crop.path is None else next(others)
                    lines += _crop_tags(candidates, crop, source, query, names, is_lazy)
                offer = candidates.offer(found[0], query, encodings, wide)
                fitting = sizes_text(shown, offer, query, is_lazy)
                lines += [source_tag(offer, encoding, fitting) for encoding in encodings[:-1]]
                image = {
                    **image_attributes(offer, encodings[-1], fitting, is_lazy, bool(priority)),
                    "alt": text,
                    "data-imagefactory": len(offer.candidates[encodings[-1]]) > 1,
                    "class": name,
                    "style": self._style(found[0], offer.recipe) if placeholder else None,
                }
                return picture_tag([*lines, tag("img", image | extra)])

            key = (
                "picture", path, text, prefix, end_s, shown, names, wide, crops, is_lazy, bool(priority),
                bool(placeholder), name, tuple(extra.items()), *query.items(),
            )  # fmt: skip
            paths = (path, *(crop.path for crop in crops if crop.path is not None))
            return self._remembered(key, paths, make, bool(placeholder))
        except RequestError as error:
            return self._instead("picture", path, self._bare_image(prefix, path, alt, class_), class_, error)

    def video(
        self,
        path: str,
        *,
        label: str | None = None,
        sources: Iterable[str] = (),
        sprite: str | None = None,
        controls: bool = True,
        preload: str = "none",
        preset: str | None = None,
        class_: str | None = None,
        attrs: Mapping[str, Any] | None = None,
        expires: float | None = None,
        **parameters: Any,
    ) -> Markup:
        """A whole ``<video>`` of the film at *path*, with a poster.

        *parameters* are those of the poster: ``t`` chooses its frame, a size is that in the layout, in CSS
        pixels; the encoding is WebP. *sources* are the paths of the same film in other formats, for browsers
        that don't play the first. With *sprite*, columns and rows as in ``5x5``, a ``<track>`` for scripts
        names the tiles of a sheet of frames. *label* says what is to be seen, for those who don't see it.
        *attrs* are further attributes of the ``<video>``.

        Raises BadParameter in debug.
        """
        path, prefix = plain(path), self._base()
        try:
            end_s, query = self._end_s(expires), as_query({"preset": preset, **parameters})
            others, tiles = read_paths(sources), as_query({"sprite": sprite})
            element = {
                "controls": bool(controls),
                "preload": one_of("preload", preload, ("none", "metadata", "auto")),
                "aria-label": attribute_value(label),
                "class": attribute_value(class_),
                **read_attributes(attrs, OF_FILMS),
            }

            def make(found: Sequence[Source]) -> Markup:
                return video_tag(self._candidates(prefix, end_s), found, query, tiles, element)

            key = ("video", path, prefix, end_s, others, *tiles.items(), *element.items(), *query.items())
            return self._remembered(key, (path, *others), make)
        except RequestError as error:
            return self._instead("film", path, self._bare_video(prefix, path, label, class_), class_, error)

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
        path, prefix = plain(path), self._base()
        try:
            end_s, shown, screen = self._end_s(expires), plain(sizes or "").strip(), attribute_value(media)
            query = as_query({"preset": preset, **parameters})
            names, wide = read_formats(formats), read_widths(widths)

            def make(sources: Sequence[Source]) -> Markup:
                candidates = self._candidates(prefix, end_s)
                encoding = candidates.encodings(sources[0], query, names)[0]
                offer = candidates.offer(sources[0], query, [encoding], wide)
                found = offer.candidates[encoding]
                link = {
                    "rel": "preload",
                    "as": "image",
                    "href": found[0].url if len(found) == 1 else None,
                    "imagesrcset": srcset_text(found) if len(found) > 1 else None,
                    "imagesizes": sizes_text(shown, offer, query, False) if len(found) > 1 else None,
                    "type": media_type(encoding),
                    "media": screen,
                    "fetchpriority": "high",
                }
                return tag("link", link)

            key = ("preload", path, prefix, end_s, shown, names, wide, screen, *query.items())
            return self._remembered(key, (path,), make)
        except RequestError as error:
            self._report(path, error)
            return Markup()

    def forget(self) -> None:
        """Forget all finished markup, for measurements."""
        self._memo = Memo(_MEMO_BYTES)

    def helpers(self) -> dict[str, Callable[..., str]]:
        """These methods by the names that they have in templates."""
        return {
            "picture": self.picture,
            "video": self.video,
            "picture_url": self.url,
            "picture_srcset": self.srcset,
            "picture_preload": self.preload,
        }

    # --- where they are asked

    def root(self) -> str:
        """Where the app is mounted, decoded; empty at the top. For a subclass that knows the request."""
        return ""

    def is_debug(self) -> bool:
        """Whether the page is shown to its author."""
        return self.debug

    # --- the steps

    def _remembered(
        self,
        key: Hashable,
        paths: tuple[str, ...],
        make: Callable[[Sequence[Source]], _Text],
        has_placeholder: bool = False,
    ) -> _Text:
        """The text for *key*, made by *make* of the sources at *paths* unless it is remembered. What *make*
        writes must be in *key* as it is written: an object may be another one, or say another thing, soon."""
        entry: _Entry[_Text] | None = self._memo.get(key)
        if entry is not None and entry.is_final and self._is_current(entry.sources):
            return entry.text
        sources = tuple(self.site.source(path) for path in paths)
        if entry is not None and entry.sources == sources:
            return entry.text
        text = make(sources)
        is_known = not (has_placeholder and self.site.has_placeholders) or bool(sources[0].placeholder)
        is_final = is_known and not any(source.is_racy for source in sources)
        self._memo.put(key, _Entry(sources, text, is_final), len(text) + _ENTRY_BYTES)
        return text

    def _is_current(self, sources: Sequence[Source]) -> bool:
        """Whether all *sources* have their stamps."""
        return all(self.site.sources.is_current(each.path, each.stamp) for each in sources)

    def _style(self, source: Source, recipe: Recipe) -> str | None:
        """The placeholder of *source* as a style; none for another frame or page than that which it shows."""
        is_shown = self.site.resolver.is_default(source, recipe.run)
        return placeholder_style(source, recipe) if is_shown else None

    def _candidates(self, prefix: str, end_s: int | None) -> Candidates:
        return Candidates(self.site, prefix, self._must_sign, end_s, self.is_debug())

    def _base(self) -> str:
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
        return max(0, -(-int(self.site.clock() + expires) // step) * step)

    # --- what goes wrong

    def _plain_url(self, prefix: str, path: str, error: RequestError) -> str:
        self._report(path, error)
        return self._original_url(prefix, path)

    def _original_url(self, prefix: str, path: str) -> str:
        """The URL of *path* itself; empty for what can be no picture's: browsers take ``..`` for a way out,
        also percent-encoded."""
        try:
            check_path(path)
        except NotFound:
            return ""
        return picture_url(prefix, path)

    def _bare_image(self, prefix: str, path: str, alt: object, class_: object) -> Markup:
        src = self._original_url(prefix, path) or _NO_PICTURE
        return tag("img", {"src": src, "alt": "" if alt is None else plain(alt), "class": class_})

    def _bare_video(self, prefix: str, path: str, label: object, class_: object) -> Markup:
        src = self._original_url(prefix, path) or None
        start = tag("video", {"controls": True, "src": src, "aria-label": label, "class": class_})
        return Markup(f"{start}</video>")  # noqa: S704  # escaped

    def _instead(self, kind: str, path: str, bare: Markup, class_: object, error: RequestError) -> Markup:
        """What stands in the page for a picture or a film that is not to be had: *bare*, in debug the
        reason."""
        self._report(path, error)
        return mistake_tag(f"{kind} {path!r}: {error}", class_) if self.is_debug() else bare

    def _report(self, path: str, error: RequestError) -> None:
        """Raise *error* to an author who made it, else log it, once for each path."""
        if self.is_debug() and isinstance(error, BadParameter):
            raise error
        if path not in self._reported and len(self._reported) < _MAX_REPORTED:
            self._reported.add(path)
            _log.warning("a page has a picture %r that can't be shown: %s", path, error)


def _crop_tags(
    candidates: Candidates, crop: Crop, source: Source, base: Query, formats: Sequence[str], is_lazy: bool
) -> list[Markup]:
    """The ``<source>`` lines of one *crop*: also in its last format, else a browser without the others
    would show the picture that is cut for another screen."""
    query = merged(base, dict(crop.query))
    encodings = candidates.encodings(source, query, formats)
    offer = candidates.offer(source, query, encodings, crop.widths)
    shown = sizes_text(crop.sizes, offer, query, is_lazy)
    return [source_tag(offer, encoding, shown, crop.media) for encoding in encodings]
