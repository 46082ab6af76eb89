"""What stands in a page: URLs, srcset, ``<picture>`` and preload of pictures, as text that is safe in HTML.

Called by templates: ``views`` gives the methods of ``Pictures`` to Jinja, other programs make one of their
own. The generator says what a URL would give (size, version), so that nothing is rendered here; a page costs
one stat per picture, and finished markup is remembered for as long as its sources do not change.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import quote

from markupsafe import Markup, escape

from .config import parameter
from .errors import BadParameter, RequestError, nearest
from .formats import ALIASES, ENCODINGS, NEEDS_EXTRA, Header, default_encoding
from .generator import Generator, Wanted
from .jobs import Stamp
from .memo import Memo
from .parameters import NAMES, OURS, Request, address, in_order
from .recipe import Recipe
from .signing import Policy
from .variants import Source

__all__ = ["Pictures"]

_log = logging.getLogger(__name__)

Query = dict[str, str]  # values by canonical names, in the order of the table of parameters

_MEMO_BYTES = 8_000_000
_ENTRY_BYTES = 2000  # beside its text
_TOLD = 1000  # paths that a warning was logged for

_SIZES = frozenset({"scalex", "scaley", "size", "resize", "dpr"})
_BOXED = frozenset({"cover", "pad", "stretch"})  # fits whose result has the ratio that was asked for
# What is inherited by a crop that does not say it itself, unless it says something of the same kind.
_KINDS = (_SIZES, frozenset({"gravity", "fp"}), frozenset({"preset", *_SIZES}))
_LARGEST_SRC = 1280  # for who reads no srcset: crawlers, and browsers of before 2015

_ATTRIBUTE = re.compile(r"(?:data|aria)-[a-z0-9]+(?:[-_.][a-z0-9]+)*", re.ASCII)
_ATTRIBUTES = frozenset(
    """id title role lang dir hidden tabindex draggable translate itemprop slot part elementtiming
    crossorigin referrerpolicy""".split()  # noqa: SIM905  # a list is 14 lines
)
_PLACEHOLDER = re.compile(r"data:image/webp;base64,[A-Za-z0-9+/]{1,4000}={0,2}", re.ASCII)
# What no HTML document may have: controls, halves of characters, and what is none.
_UNFIT = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef"
    + "".join(chr(plane * 0x10000 + last) for plane in range(17) for last in (0xFFFE, 0xFFFF))
    + "]"
)


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A URL, and the size in pixels of what it gives (the height 0 where only a render can tell)."""

    url: str
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class _Set:
    """The candidates of one picture by encoding, widths ascending, and its size in the layout."""

    candidates: Mapping[str, Sequence[_Candidate]]
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class _Entry:
    """Finished text of *sources*. While their *files* have these stamps it stays right; none are there where
    that is not sure."""

    sources: tuple[Source, ...]
    text: str
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
        self._memo: Memo[Hashable, _Entry] = Memo(_MEMO_BYTES)
        self._told: set[str] = set()

    # --- for templates

    def url(self, path: str, *, expires: float | None = None, **parameters: Any) -> str:
        """The URL of the picture at *path* with *parameters*, canonical and with its version.

        Without a parameter that changes pixels it is that of the original. Raises BadParameter in debug.
        """
        path, root, end = _plain(path), self.root(), self._end(expires)

        def make(sources: Sequence[Source]) -> str:
            query = _query(parameters)
            request = self._request(query)
            if request.is_plain and not self._has_originals():
                problem = "this server has no originals; name a size, an encoding or a preset"
                raise BadParameter("scalex", problem)
            signature = self._sign(path, query, end)
            if request.is_plain:
                return self._address(root, path, query, *signature)
            version = self._wanted(sources[0], request).version
            return self._address(root, path, query, ("v", version), *signature)

        key = ("url", path, root, end, *parameters.items())
        try:
            return self._made(key, (path,), make)
        except RequestError as error:
            return self._plain_url(root, path, error)

    def srcset(
        self,
        path: str,
        widths: Iterable[int] | None = None,
        *,
        expires: float | None = None,
        **parameters: Any,
    ) -> str:
        """A value for ``srcset``: the picture in the widths of the ladder or in *widths*, never wider than
        the source. Raises BadParameter in debug."""
        path, root, end = _plain(path), self.root(), self._end(expires)
        widths = None if widths is None else tuple(widths)

        def make(sources: Sequence[Source]) -> str:
            query = _query(parameters)
            encodings = [query.pop("encoding", "")]
            return _srcset(
                self._set(root, sources[0], query, encodings, widths, end).candidates[encodings[0]]
            )

        try:
            return self._made(("srcset", path, root, end, widths, *parameters.items()), (path,), make)
        except RequestError as error:
            return self._plain_url(root, path, error)

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
        path, alt, root, end = _plain(path), _plain(alt), self.root(), self._end(expires)
        widths = None if widths is None else tuple(widths)
        paths = (
            path,
            *(_plain(crop["path"]) for crop in sources if "path" in crop),
        )

        def make(found: Sequence[Source]) -> str:
            base = _query({"preset": preset, **parameters})
            query = dict(base)
            wanted = self._encodings(found[0], query, formats)
            others = dict(zip(paths[1:], found[1:], strict=True))
            is_lazy = _choose("loading", loading, ("lazy", "eager")) == "lazy" and not priority
            lines = []
            for crop in sources:
                lines += self._crop(root, crop, found[0], others, base, formats, sizes, is_lazy, end)
            own = self._set(root, found[0], query, wanted, widths, end)
            for encoding in wanted[:-1]:
                lines.append(_source_tag(own, encoding, _sizes(sizes, own, query, is_lazy)))
            fallback = own.candidates[wanted[-1]]
            image: dict[str, Any] = {
                "loading": "lazy" if is_lazy else "eager",  # first: some browsers begin to load at src
                "decoding": "async",
                "fetchpriority": "high" if priority else None,
                "sizes": _sizes(sizes, own, query, is_lazy) if len(fallback) > 1 else None,
                "srcset": _srcset(fallback) if len(fallback) > 1 else None,
                "src": _middle(own, fallback).url,
                "width": own.width or None,
                "height": own.height or None,
                "alt": alt,
                "data-imagefactory": len(fallback) > 1,
                "class": class_,
                "style": _style(found[0], self._request(query).recipe) if placeholder else None,
            }
            tag = _tag("img", image | _extra(attrs))
            if not lines:
                return tag
            inside = "".join(f"  {line}\n" for line in [*lines, tag])
            return f"<picture>\n{inside}</picture>"

        key = (
            "picture", path, alt, root, end, sizes, preset, formats, widths, sources, loading, priority,
            placeholder, class_, attrs, *parameters.items(),
        )  # fmt: skip
        try:
            return Markup(self._made(key, paths, make, placeholder))  # noqa: S704  # all of it was escaped
        except RequestError as error:
            return self._instead(root, path, alt, class_, error)

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
        path, root, end = _plain(path), self.root(), self._end(expires)
        widths = None if widths is None else tuple(widths)

        def make(sources: Sequence[Source]) -> str:
            base = _query({"preset": preset, **parameters})
            encoding = self._encodings(sources[0], base, formats)[0]
            own = self._set(root, sources[0], base, [encoding], widths, end)
            found = own.candidates[encoding]
            link = {
                "rel": "preload",
                "as": "image",
                "href": found[0].url if len(found) == 1 else None,
                "imagesrcset": _srcset(found) if len(found) > 1 else None,
                "imagesizes": _sizes(sizes, own, base, False) if len(found) > 1 else None,
                "type": ENCODINGS[encoding].media_type if encoding in ENCODINGS else None,
                "media": media,
                "fetchpriority": "high",
            }
            return _tag("link", link)

        key = ("preload", path, root, end, sizes, preset, formats, widths, media, *parameters.items())
        try:
            return Markup(self._made(key, (path,), make))  # noqa: S704  # all of it was escaped
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
        key: tuple[object, ...],
        paths: tuple[str, ...],
        make: Callable[[Sequence[Source]], str],
        has_placeholder: bool = False,
    ) -> str:
        """The text for *key*, made by *make* of the sources at *paths* unless it is remembered."""
        try:
            hash(key)
        except TypeError:
            key = _frozen(key)
        entry = self._memo.get(key)
        if entry is not None and entry.files and all(_has(stamp, file) for file, stamp in entry.files):
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

    def _request(self, query: Query) -> Request:
        return self.generator.request(query.items(), strict=True)

    def _wanted(self, source: Source, request: Request) -> Wanted:
        """What *request* gives, with the version of its URL, which is made only where one was asked for."""
        return self.generator.wanted(source, replace(request, version="?"), "")

    def _has_originals(self) -> bool:
        config = self.generator.config
        return config.http.originals and config.limits.sizes != "presets"

    def _encodings(self, source: Source, query: Query, formats: Sequence[str]) -> list[str]:
        """The encodings to offer, best first, the last one for every browser. "" leaves it to the URL.

        An ``encoding`` in *query* (which it is taken from) or in its preset is the only one.
        """
        request = self._request(query)
        chosen = query.pop("encoding", "")
        if request.encoding and request.encoding != "auto":
            return [chosen or ("" if self._takes_presets_only() else request.encoding)]
        preset = self.generator.presets.get(request.preset)
        if self._takes_presets_only() and preset is not None and "encoding" in preset.values:
            return [""]
        if source.header is None:
            return [""]  # an error of its own comes when it is asked for
        is_moving = source.header.frames > 1 and request.recipe.anim
        last = _fallback(source.header, is_moving)
        found = []
        for name in (formats,) if isinstance(formats, str) else formats:
            encoding = ALIASES.get(str(name), str(name))
            if encoding not in ENCODINGS:
                if self.is_debug():
                    raise _unknown_format(encoding)
            elif is_moving and (not ENCODINGS[encoding].has_animation or encoding == "avif"):
                pass  # a still picture is not what was asked for, and a long AVIF takes minutes to render
            elif encoding != last and encoding not in found:
                found.append(encoding)
        return [*found, last]

    def _takes_presets_only(self) -> bool:
        return self.generator.config.limits.sizes == "presets"

    def _crop(
        self,
        root: str,
        crop: Mapping[str, Any],
        source: Source,
        others: Mapping[str, Source],
        base: Query,
        formats: Sequence[str],
        sizes: str | None,
        is_lazy: bool,
        end: int | None,
    ) -> list[str]:
        """The ``<source>`` lines of one *crop*: also in its last format, else a browser without the others
        would show the picture that is cut for another screen."""
        if not crop.get("media"):
            raise BadParameter("sources", "each of sources is a mapping with 'media', as (max-width: 600px)")
        own = {
            name: value for name, value in crop.items() if name not in ("media", "path", "sizes", "widths")
        }
        query = _merged(base, _query(own))
        if "path" in crop:
            source = others[_plain(crop["path"])]
        encodings = self._encodings(source, query, formats)
        found = self._set(root, source, query, encodings, crop.get("widths"), end)
        shown = _sizes(crop.get("sizes", sizes), found, query, is_lazy)
        return [_source_tag(found, encoding, shown, crop["media"]) for encoding in encodings]

    def _set(
        self,
        root: str,
        source: Source,
        query: Query,
        encodings: Sequence[str],
        widths: Iterable[int] | None,
        end: int | None,
    ) -> _Set:
        """What *query* (which has no encoding) gives in several widths and in *encodings*."""
        if self._takes_presets_only() and "preset" not in query:
            named = ", ".join(sorted(self.generator.presets))
            raise BadParameter("preset", f"this server takes presets only; name one of {named}")
        first = self._with_encoding(query, encodings[-1])
        request = self._request(first)
        width, height = self._wanted(source, request).recipe.size()
        queries = self._steps(source, query, request, widths)
        steps = [step["scalex"] for step in queries if "scalex" in step]
        names = tuple(name for name in encodings if name)
        fixed = {tuple(item for item in step.items() if item[0] != "scalex") for step in queries}
        signed = None
        if steps and len(fixed) == 1 and len(names) == len(encodings) and "auto" not in names:
            signed = self._sign(source.path, queries[0], end, [int(step) for step in steps], names)
        candidates = {}
        for encoding in encodings:
            rungs: dict[int, _Candidate] = {}
            for step in queries:
                full = self._with_encoding(step, encoding)
                found = self._wanted(source, self._request(full))
                size = found.recipe.size()
                wide = size[0] or int(step.get("scalex", 0)) or 1
                mine = self._sign(source.path, full, end) if signed is None else signed
                url = self._address(root, source.path, full, ("v", found.version), *mine)
                rungs[wide] = _Candidate(url, wide, size[1])
            candidates[encoding] = [rungs[wide] for wide in sorted(rungs)]
        return _Set(candidates, width, height)

    def _steps(
        self, source: Source, query: Query, request: Request, widths: Iterable[int] | None
    ) -> list[Query]:
        """*query* in each width of the ladder, or of *widths*, up to what the source has."""
        limits, recipe = self.generator.config.limits, request.recipe
        if self._takes_presets_only():
            if widths is not None:
                raise BadParameter("widths", "this server takes presets only, in the one size that they have")
            return [query]
        whole = replace(recipe, width=0, height=0, fit="inside", enlarge=False, trim=None)
        natural = self._wanted(source, replace(request, recipe=whole)).recipe.size()
        size = self._wanted(source, request).recipe.size()
        width = size[0] or min(recipe.width or natural[0], natural[0])
        is_boxed = bool(recipe.width and recipe.height) and recipe.fit in _BOXED
        box = size if recipe.fit == "stretch" and all(size) else (recipe.width, recipe.height)
        limit = min(natural[0], natural[1] * box[0] // box[1]) if is_boxed else natural[0]
        limit = max(limit, width)
        if widths is None:
            top = min(2 * width, limit) if recipe.width or recipe.height else limit
            chosen = {*(step for step in limits.ladder if step < top), top}
        else:
            chosen = {min(_width(each), limit) for each in widths}
            if not chosen:
                raise BadParameter("widths", "widths is empty; name one or more, or leave it out")
        base = {name: value for name, value in query.items() if name not in _SIZES}
        preset = self.generator.presets.get(request.preset)
        if preset is not None and "dpr" in preset.values:
            base["dpr"] = "1"
        steps = []
        for wide in sorted(chosen):
            step = {**base, "scalex": str(wide)}
            if is_boxed:
                step["scaley"] = str(max(1, (2 * wide * box[1] + box[0]) // (2 * box[0])))
            elif preset is not None and "sizes" in preset.values:
                step["scaley"] = "0"  # else the preset's would bind
            steps.append(in_order(step))
        return steps

    def _with_encoding(self, query: Query, encoding: str) -> Query:
        return in_order({**query, "encoding": encoding}) if encoding else query

    def _address(self, root: str, path: str, query: Query | None = None, *more: tuple[str, str]) -> str:
        """The URL for *query* and *more* pairs, as the version and a signature."""
        start = self._base_url or (quote(f"/{root.strip('/')}", safe="/") if root.strip("/") else "")
        return address(f"{start}{self._prefix}", path, [*(query or {}).items(), *more])

    # --- signatures

    def _sign(
        self,
        path: str,
        query: Query,
        end: int | None,
        widths: Sequence[int] = (),
        encodings: tuple[str, ...] = (),
    ) -> list[tuple[str, str]]:
        """The pairs that sign *query*, none where that is not needed; with *widths* for all of these, and for
        all of *encodings*."""
        access = self.generator.access
        if access.signer is None or not (self._must_sign or access.must_sign(path)):
            return []
        policy = None
        if widths:
            is_ladder = {*widths[:-1]} <= {*self.generator.config.limits.ladder}
            policy = Policy(max(widths), encodings, is_ladder)
        try:
            return access.signer.sign(path, list(query.items()), end, policy)
        except ValueError as error:
            raise BadParameter("", str(error)) from error

    def _end(self, expires: float | None) -> int | None:
        """When what lasts *expires* seconds ends, in unix seconds: on the next multiple of a tenth of it, so
        that pages of one time have one URL and caches keep it."""
        if expires is None:
            return None
        step = max(1, int(expires) // 10)
        return -(-int(self.generator.now_s() + expires) // step) * step

    # --- what goes wrong

    def _plain_url(self, root: str, path: str, error: RequestError) -> str:
        self._tell(path, error)
        return self._address(root, path)

    def _instead(self, root: str, path: str, alt: str, class_: str | None, error: RequestError) -> Markup:
        """What stands in the page for a picture that is not to be had."""
        self._tell(path, error)
        if not self.is_debug():
            return Markup(_tag("img", {"src": self._address(root, path), "alt": alt, "class": class_}))  # noqa: S704
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


def _has(stamp: Stamp, file: str) -> bool:
    """Whether *file* has *stamp*. The path as text: a Path costs twice as much as the stat itself."""
    try:
        return Stamp.of(os.stat(file)) == stamp  # noqa: PTH116
    except OSError:
        return False


# --- parameters -------------------------------------------------------------------------------------------


def _query(parameters: Mapping[str, Any]) -> Query:
    """*parameters* as text by canonical names, in canonical order. Raises BadParameter."""
    query: Query = {}
    for name, value in parameters.items():
        if value is None:
            continue
        canonical = NAMES.get(name)
        if canonical is None:
            raise BadParameter(name, f"there is no parameter {name!r}{nearest(name, NAMES)}")
        if canonical in OURS:
            raise BadParameter(name, f"{name} is written by the helpers themselves")
        if canonical in query:
            raise BadParameter(name, f"{name} is given twice; give it once")
        try:
            parts = [*value] if isinstance(value, list | tuple) else [value]
            query[canonical] = ",".join(_plain(parameter(part)) for part in parts)
        except ValueError as error:
            raise BadParameter(name, f"{name}: {error}") from error
    return in_order(query)


def _merged(base: Query, own: Query) -> Query:
    """*own*, and what *base* says of other things."""
    hidden = set(own).union(*(kind for kind in _KINDS[:2] if kind & own.keys()))
    if "preset" in own:
        hidden |= _KINDS[2]
    return in_order({name: value for name, value in base.items() if name not in hidden} | own)


def _width(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise BadParameter("widths", f"{value!r} is not a width; widths are whole pixels, as [320, 640]")
    return value


def _choose(name: str, value: str, allowed: Sequence[str]) -> str:
    if value not in allowed:
        raise BadParameter(name, f"{name}={value!r} is not one of {', '.join(allowed)}")
    return value


def _fallback(header: Header, is_moving: bool) -> str:
    """The encoding that every browser shows."""
    own = default_encoding(header)
    if is_moving:
        return "webp" if own == "avif" else own
    if own in ("jpeg", "png"):
        return own
    return "png" if header.has_alpha or own == "gif" else "jpeg"


def _unknown_format(name: str) -> BadParameter:
    if name in NEEDS_EXTRA:
        problem = f"needs the extra {NEEDS_EXTRA[name]!r}, which this server does not have"
    else:
        problem = (
            f"is not a format of this server; there are {', '.join(ENCODINGS)}{nearest(name, ENCODINGS)}"
        )
    return BadParameter("formats", f"{name!r} {problem}")


def _frozen(value: object) -> Any:
    """*value* as a key; True is another one than 1."""
    if isinstance(value, Mapping):
        return tuple((name, _frozen(item)) for name, item in value.items())
    if isinstance(value, list | tuple):
        return tuple(map(_frozen, value))
    return (type(value).__name__, repr(value))


# --- HTML -------------------------------------------------------------------------------------------------


def _plain(text: object) -> str:
    """*text* as text. Markup is taken for what it shows, as it is escaped here anyway."""
    if isinstance(text, Markup):
        return text.unescape()
    return str(text)


def _clean(text: str) -> str:
    """*text* without what no HTML document may have."""
    return _UNFIT.sub("\ufffd", text)


def _tag(name: str, attributes: Mapping[str, Any]) -> str:
    """An HTML tag; an attribute that is None or False is left out, one that is True has no value."""
    words = [name]
    for key, value in attributes.items():
        if value is True:
            words.append(key)
        elif value is not None and value is not False:
            words.append(f'{key}="{escape(_clean(_plain(value)))}"')
    return f"<{' '.join(words)}>"


def _extra(attrs: Mapping[str, Any] | None) -> dict[str, Any]:
    """Further attributes, by names that can do no harm. Raises BadParameter."""
    for name in attrs or {}:
        if not (_ATTRIBUTE.fullmatch(str(name)) or name in _ATTRIBUTES):
            known = f"data-*, aria-*, {', '.join(sorted(_ATTRIBUTES))}"
            raise BadParameter("attrs", f"{name!r} is no attribute to be added; there are {known}")
    return dict(attrs or {})


def _srcset(candidates: Sequence[_Candidate]) -> str:
    return ", ".join(f"{each.url} {each.width}w" for each in candidates)


def _sizes(sizes: str | None, found: _Set, query: Query, is_lazy: bool) -> str:
    """The value of ``sizes``: where nothing is said, as wide as asked for and as the window at most.

    ``auto`` lets the browser use the size in the layout, which it knows when it loads lazily.
    """
    text = _plain(sizes or "").strip()
    bare = re.sub(r"^auto\s*(,|$)\s*", "", text, flags=re.IGNORECASE)
    if not bare:
        is_sized = bool(_SIZES & query.keys()) or "preset" in query
        bare = f"(max-width: {found.width}px) 100vw, {found.width}px" if is_sized and found.width else "100vw"
    return f"auto, {bare}" if is_lazy else bare


def _source_tag(found: _Set, encoding: str, sizes: str, media: str | None = None) -> str:
    candidates = found.candidates[encoding]
    is_several = len(candidates) > 1
    attributes = {
        "media": media,
        "type": ENCODINGS[encoding].media_type if encoding in ENCODINGS else None,
        "sizes": sizes if is_several else None,
        "srcset": _srcset(candidates) if is_several else candidates[0].url,
        "width": found.width or None,
        "height": found.height or None,
    }
    return _tag("source", attributes)


def _middle(found: _Set, candidates: Sequence[_Candidate]) -> _Candidate:
    """What is shown by who reads no srcset."""
    wanted = min(found.width or _LARGEST_SRC, _LARGEST_SRC)
    return next((each for each in candidates if each.width >= wanted), candidates[-1])


def _style(source: Source, recipe: Recipe) -> str | None:
    """The source's tiny picture as a background, where it fits and nothing would shine through."""
    text = source.placeholder
    is_other = recipe.rotate or recipe.flop or recipe.rect or recipe.trim is not None or recipe.grayscale
    has_alpha = source.header is None or source.header.has_alpha
    if is_other or has_alpha or recipe.fit == "pad" or not _PLACEHOLDER.fullmatch(text):
        return None
    return f"background:url({text}) center/cover no-repeat"
