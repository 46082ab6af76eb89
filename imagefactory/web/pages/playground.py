"""The playground at ``/`` of the stand-alone server: choose a picture, drag sizes, see what it costs.

Without JavaScript it is a plain gallery, and that is all that the server makes: a page of links, and what a
script asks about one picture (``/?about=cats/tom.jpg``). Results are the pictures' own URLs, fetched by the
script. Like the dashboard's, its pages come from a Jinja of their own.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import files
from urllib.parse import quote, urlencode

from flask import Response, abort, request
from markupsafe import Markup

from ...catalog.pictures import READY
from ...errors import Busy, NotFound, RequestError, Undecodable
from ...factory import Parts
from ...model.formats import ENCODINGS, PICTURE_SUFFIXES
from ...model.recipe import COMPASS
from ...urls.query import parse_request
from ..http.flask_response import to_flask
from ..http.responses import error_reply, json_reply
from .names import NameList, Names
from .page import HEADERS, Pages

__all__ = ["playground"]

_PAGE = 60  # pictures on one page
_AT_ONCE = 4  # requests for pages: one is made, the others wait, and all other threads are for pictures
_PAGES_READ = 10  # of the catalog, for one page that leaves out what not everybody may see
_PAGES_FOUND = 10  # pages of what was looked for: further ones would have to be counted up to
_LARGE = 1280  # pixels of what stands for the original
_WIDTHS = (320, 640, 1280)
_POLICY = (
    "default-src 'none'; img-src 'self' blob: data:; style-src 'nonce-{nonce}'; script-src 'nonce-{nonce}'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_Query = Mapping[str, str | int]


def playground(parts: Parts) -> Callable[[], Response]:
    """The view for ``/``."""
    return _Playground(parts).answer


@dataclass(frozen=True, slots=True)
class _Listed:
    """A page of the catalog: the *paths*, and from behind which one the next page begins."""

    paths: list[str]
    following: str
    is_whole: bool = True
    is_cut: bool = False

    def find(self, text: str, start: int, stop: int) -> list[str]:
        """They were found already."""
        return self.paths


class _Playground:
    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._limits = parts.config.limits
        self._presets = {name: preset.values for name, preset in sorted(parts.resolver.presets.items())}
        self._names = NameList(parts.sources.walk, self._is_listed)
        self._places = threading.BoundedSemaphore(_AT_ONCE)
        self._turn = threading.Lock()
        parts.keeper.watchers.append(lambda: self._names.forget_if_unused())
        self._pages = Pages(_POLICY, {**HEADERS, "Cache-Control": "no-cache"}, {"url": _url})
        # Not included by Jinja: a script has braces of its own.
        folder = files(__package__) / "templates"
        self._css, self._js = (
            Markup((folder / name).read_text(encoding="utf-8"))  # noqa: S704  # files of this package
            for name in ("playground.css", "playground.js")
        )

    def answer(self) -> Response:
        """The page, or what a script asks about one picture."""
        try:
            arguments = request.args
        except UnicodeDecodeError:
            abort(400, "the query has bytes that are not UTF-8")
        if "about" in arguments:
            return self._about(arguments["about"])
        page, text = arguments.get("page", default=1, type=int), arguments.get("q", "")[:200]
        if not 1 <= page <= (_PAGES_FOUND if text.split() else 100_000):
            abort(404)
        after = arguments.get("after", "")[:2000]
        try:
            names = Names(is_whole=True) if self._limits.sizes == "signed" else self._read(text, after)
            with self._at_a_time():
                return self._page(page, text, names)
        except RequestError as error:
            return to_flask(error_reply(error))

    def _read(self, text: str, after: str) -> Names | _Listed:
        """The names to show: those of the catalog where there is one, else those of the folder."""
        taking = self._parts.taking
        if taking is None:
            return self._names.read()
        found: list[str] = []
        following = after
        for _ in range(_PAGES_READ):
            rows, following = taking.pictures.page(following, _PAGE, text, state=READY)
            found += [each.path for each in rows if self._is_listed(each.path)]
            if not following or len(found) >= _PAGE:
                break
        if len(found) > _PAGE:  # the rest is on the next page
            found = found[:_PAGE]
            following = found[-1]
        return _Listed(found, following)

    @contextmanager
    def _at_a_time(self) -> Iterator[None]:
        """Make one page at a time. It is all Python: two at once would take as long, and 64 threads that
        want the interpreter keep it from hits. Raises Busy."""
        if not self._places.acquire(blocking=False):
            raise Busy("more pages are asked for than are made at a time", retry_after_s=1)
        try:
            with self._turn:
                yield
        finally:
            self._places.release()

    def _page(self, page: int, text: str, names: Names | _Listed) -> Response:
        """The page of pictures of *names* whose paths have all words of *text*."""
        is_signed = self._limits.sizes == "signed"
        first = (page - 1) * _PAGE
        found = names.find(text, first, first + _PAGE + 1)
        has_more = len(found) > _PAGE
        is_last = bool(text.split()) and page == _PAGES_FOUND
        following = names.following if isinstance(names, _Listed) else ""
        base = f"{request.script_root}/"
        prefix = f"{request.script_root}{self._parts.config.http.prefixes[0]}/"
        thumb, large, links = self._queries()
        limits = self._limits
        has_originals = self._parts.access.has_originals and not is_signed
        settings = {
            "base": base,
            "prefix": prefix,
            "sizes": limits.sizes,
            "ladder": limits.ladder,
            "maxSide": limits.max_side,
            "originals": has_originals,
            "large": large,
            "fixed": [name for name, values in self._presets.items() if "encoding" in values],
        }

        def link(number: int, after: str = "") -> str:
            values = {"q": text, "after": after} if after else {"q": text, "page": number}
            return f"{base}?{urlencode({name: value for name, value in values.items() if value})}"

        return self._pages.render(
            "playground.html",
            css=self._css,
            js=self._js,
            base=base,
            prefix=prefix,
            folder=self._parts.config.paths.pictures.name,
            pictures=found[:_PAGE],
            text=text,
            before=link(page - 1) if page > 1 else "",
            after=link(0, following) if following else link(page + 1) if has_more and not is_last else "",
            again=link(page),
            names=names,
            is_not_all=has_more and is_last,
            thumb=thumb,
            large=large,
            links=links,
            originals=has_originals,
            sizes=limits.sizes,
            limits=limits,
            presets=list(self._presets),
            encodings=list(ENCODINGS),
            compass=[name for name in COMPASS if name != "center"],
            pairs=lambda names: [(name, name) for name in names],
            settings=settings,
        )

    def _queries(self) -> tuple[_Query, _Query, dict[str, _Query]]:
        """The queries of a thumbnail, of a large rendition, and of the links below a picture, by name."""
        if self._limits.sizes != "presets":
            return (
                {"size": "480x320", "fit": "cover", "gravity": "smart", "encoding": "auto"},
                {"scalex": _LARGE, "encoding": "auto"},
                {str(width): {"scalex": width, "encoding": "auto"} for width in _WIDTHS},
            )
        queries: dict[str, _Query] = {
            name: {"preset": name} if "encoding" in values else {"preset": name, "encoding": "auto"}
            for name, values in self._presets.items()
        }
        largest = max(queries, key=self._side)
        return next(iter(queries.values())), queries[largest], queries

    def _side(self, preset: str) -> float:
        """The longer side that *preset* asks for, in pixels."""
        recipe = parse_request([("preset", preset)], self._parts.resolver.presets).recipe
        return max(recipe.width, recipe.height) or math.inf

    def _is_listed(self, path: str) -> bool:
        """Whether *path* has the name of a picture, or of what a program makes one of; and anybody
        may see it."""
        is_picture = path.rpartition(".")[2].lower() in PICTURE_SUFFIXES
        is_read = is_picture or self._parts.resolver.programs.may_read(path)
        return is_read and not self._parts.access.must_sign(path)

    def _about(self, path: str) -> Response:
        """What a form has to know of the source at *path*, as JSON, with the parameters that it takes beside
        those of pictures, and their defaults; or the error that it gives."""
        try:
            if self._parts.access.must_sign(path):
                raise NotFound
            source = self._parts.identifier.source(path)
            if source.header is None:
                raise Undecodable(source.problem) if source.problem else NotFound
            header = source.header
            reply = json_reply(
                200,
                {
                    "width": header.width,
                    "height": header.height,
                    "bytes": source.stamp.size,
                    "format": header.format,
                    "frames": header.frames,
                    "duration": header.duration_s,
                    "scalable": header.is_scalable,
                    "parameters": self._parts.resolver.programs.parameters(header),
                },
            )
        except RequestError as error:
            reply = error_reply(error)
        return to_flask(reply)


def _url(path: str, prefix: str, query: _Query) -> str:
    """The URL of a picture, as the script writes it too."""
    return prefix + quote(path, safe="/") + (f"?{urlencode(query)}" if query else "")
