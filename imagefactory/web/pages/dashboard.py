"""The dashboard at ``/-/``: numbers with small charts, the cache by picture, what failed of late.

Registered only with a token in ``[admin]``, also in a host app. Everything that changes something is a POST
with a ticket; a GET changes nothing, neither counts nor the cache.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, urlencode

from flask import Blueprint, Response, request
from werkzeug.http import HTTP_STATUS_CODES

from ...catalog.pictures import Picture
from ...common.units import ratio_text, size_text
from ...errors import BeingWritten, NotFound, RequestError, SourceChanged, StorageError
from ...factory import Parts
from ...model.formats import ENCODINGS
from ...model.source import Source
from ...monitoring.numbers import History, Reader
from ...monitoring.recent_log import watch_log
from ...storage.originals import check_path
from ...upkeep.listing import ORDERS, Cached, find_pictures
from ...upkeep.purge.selection import Selection
from ...upkeep.stats import answered, saved
from ...version import __version__
from ..http.auth import is_authorized
from .charts import charts
from .forms import PurgeForms
from .page import HEADERS, Pages
from .picture_list import PictureList
from .thumbnails import Thumbnails
from .variant_url import encoding_name, variant_url

__all__ = ["blueprint"]

_NAME = "imagefactory-dashboard"
_PAGE = 24  # pictures on one page
_LATEST = 8
_SHOWN = 500  # variants on the page of one picture
_POLICY = (
    "default-src 'none'; style-src 'nonce-{nonce}'; script-src 'nonce-{nonce}'; img-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    **HEADERS,
    "Cache-Control": "no-store",
    "X-Robots-Tag": "noindex",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}


def blueprint(parts: Parts) -> Blueprint:
    """The pages below ``/-/`` of the site with *parts*."""
    return _Dashboard(parts).blueprint()


class _Dashboard:
    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._clock = parts.clock
        self._token = parts.config.admin.token
        self._reader = Reader(parts)
        self._history = History(self._reader)
        parts.keeper.watchers.append(lambda: self._sample())
        self._log = watch_log()
        self._list = PictureList(parts.disk, parts.clock)
        self._thumbnails = Thumbnails(parts)
        self._forms = PurgeForms(self._token)
        self._pages = Pages(_POLICY, _HEADERS, {"size": size_text, "ratio": ratio_text, "moment": _moment})

    def blueprint(self) -> Blueprint:
        """The pages below ``/-/``, each behind the token."""
        found = Blueprint(_NAME, __name__, url_prefix="/-")
        for rule, page, methods in (
            ("/", self._front, ["GET"]),
            ("/numbers", self._numbers, ["GET"]),
            ("/picture/<path:path>", self._picture, ["GET", "POST"]),
            ("/content/<digest>", self._content, ["GET", "POST"]),
            ("/thumbnail/<path:path>", self._thumbnail, ["GET"]),
        ):
            endpoint = rule.split("/")[1] or "front"
            found.add_url_rule(rule, endpoint, self._guarded(page), methods=methods)
        return found

    def _guarded(self, page: Callable[..., Response]) -> Callable[..., Response]:
        """*page* behind the token; errors of ours become a page."""

        def answer(**values: str) -> Response:
            if not is_authorized(request.environ, self._token):
                response = self._message_page(
                    401, "The password is the token of [admin]; any user name will do."
                )
                # RFC 7617 §2.1: the password's characters are sent as UTF-8.
                response.headers["WWW-Authenticate"] = 'Basic realm="imagefactory", charset="UTF-8"'
                return response
            self._parts.keeper.start()
            try:
                return page(**values)
            except RequestError as error:
                return self._message_page(error.status, str(error))
            except StorageError as error:
                return self._message_page(503, f"The cache can't be read at the moment: {error}.")

        return answer

    # --- pages

    def _front(self) -> Response:
        try:
            arguments = request.args
        except UnicodeDecodeError:
            return self._message_page(400, "The query has bytes that are not UTF-8.")
        order = arguments.get("by", "bytes")
        order = order if order in ORDERS else "bytes"
        text = arguments.get("q", "")[:200]
        page = max(1, arguments.get("page", 1, type=int))
        listing = self._list.read()
        now_s = self._clock()

        def link(**changes: object) -> str:
            values = {"q": text, "by": order, **changes}
            return f"{_base()}?{urlencode({name: value for name, value in values.items() if value})}#pictures"

        taking = self._parts.taking
        latest, following = [], ""
        if taking is not None:
            latest = [self._row(_cached(each, {})) for each in taking.pictures.newest(_LATEST)]
        if taking is not None and text:  # also those of which nothing is cached
            rows, following = taking.pictures.page(arguments.get("after", "")[:2000], _PAGE, text)
            by_digest = {each.digest: each for each in listing.pictures}
            found = [_cached(each, by_digest) for each in rows]
            pages = page = 1
        else:
            found = find_pictures(listing.pictures, text, order)
            pages = max(1, math.ceil(len(found) / _PAGE))
            page = min(page, pages)

        return self._page(
            "dashboard.html",
            title="imagefactory",
            message=_purge_message(arguments),
            numbers=self._current_numbers(),
            pictures=[self._row(each) for each in found[(page - 1) * _PAGE : page * _PAGE]],
            found=len(found),
            text=text,
            order=order,
            orders=[(name, title, link(by=name)) for name, title in _ORDER_TITLES.items()],
            page=page,
            pages=pages,
            before=link(page=page - 1) if page > 1 else "",
            after=link(after=following) if following else link(page=page + 1) if page < pages else "",
            is_of_catalog=bool(taking is not None and text),
            latest=latest,
            age=max(0, round(now_s - listing.time_s)) if found else 0,
            listing=listing,
            failures=list(reversed(self._parts.health.failures)),
            logged=list(reversed(self._log)),
            now_s=now_s,
        )

    def _numbers(self) -> Response:
        return self._page("dashboard-numbers.html", numbers=self._current_numbers())

    def _picture(self, path: str) -> Response:
        """The page of the picture at *path*: what it has now, or had when it was last asked for."""
        check_path(path)
        if request.method == "POST":
            return self._purge(Selection(paths=(path,)), path)
        known = self._parts.store.index.sources.get(path)
        if known is None and self._parts.taking is not None and self._parts.taking.pictures.get(path):
            known = self._parts.source(path)  # nobody has asked for it yet
        if known is None:
            raise NotFound
        return self._picture_page(known.digest, known)

    def _content(self, digest: str) -> Response:
        """The page of a picture whose path is no longer known."""
        if len(digest) != 64 or not set(digest) <= set("0123456789abcdef"):
            raise NotFound
        if request.method == "POST":
            return self._purge(Selection(digests=(digest,)), digest)
        return self._picture_page(digest, None)

    def _picture_page(self, digest: str, source: Source | None) -> Response:
        disk = self._parts.disk
        rows = disk.index.variants.of(digest) if disk else []
        picture = Cached(
            source.path if source else "",
            digest,
            len(rows),
            sum(row.bytes for row in rows),
            max((row.used_s for row in rows), default=0.0),
            sum(row.uses for row in rows),
        )
        rows.sort(key=lambda row: (-row.uses, -row.used_s))
        shown = [row for row in rows[:_SHOWN] if row.variant]
        return self._page(
            "dashboard-picture.html",
            title=picture.path or f"sha256:{digest[:12]}…",
            picture=self._row(picture),
            source=source,
            variants=[
                (row, encoding_name(row), variant_url(self._parts, source, row, request.script_root))
                for row in shown
            ],
            hidden=max(0, len(rows) - _SHOWN),
            now_s=self._clock(),
        )

    def _row(self, picture: Cached) -> Mapping[str, object]:
        """What a template needs of *picture*."""
        path = quote(picture.path, safe="/")
        # The URL changes with the content, so a browser may keep the thumbnail.
        thumbnail = f"{_base()}thumbnail/{path}?v={picture.digest[:12]}" if path else ""
        return {
            "cached": picture,
            "name": picture.path or f"sha256:{picture.digest[:12]}…",
            "url": f"{_base()}picture/{path}" if path else f"{_base()}content/{picture.digest}",
            "thumbnail": thumbnail,
            "ticket": self._forms.ticket(picture.path or picture.digest, self._clock()),
        }

    # --- thumbnails

    def _thumbnail(self, path: str) -> Response:
        """A small picture of the source at *path*."""
        try:
            data, encoding = self._thumbnails.make(self._parts.identifier.source(path))
        except SourceChanged:
            raise BeingWritten from None
        response = Response(data, mimetype=ENCODINGS[encoding].media_type)
        response.headers.update(_HEADERS)
        response.headers["Content-Security-Policy"] = "default-src 'none'; sandbox"
        response.headers["Cache-Control"] = "private, max-age=86400"
        return response

    # --- purging

    def _purge(self, selection: Selection, name: str) -> Response:
        """Purge *selection*, if the form was one of ours, and go back to the list."""
        problem = self._forms.problem(request, name, self._clock())
        if problem:
            return self._message_page(403, problem)
        done = self._parts.purger.purge(selection)
        self._list.forget()
        values: dict[str, object] = {"purged": done.purged.variants, "bytes": done.purged.bytes}
        if done.told and not done.told.ok:
            values["hook"] = "failed"
        response = Response(status=303)
        response.headers.update(_HEADERS)
        response.headers["Location"] = f"{_base()}?{urlencode(values)}"
        return response

    # --- numbers

    def _sample(self) -> None:
        self._history.look(self._clock())
        self._list.forget_if_unused()

    def _current_numbers(self) -> Mapping[str, object]:
        """What the template of the numbers shows."""
        now_s = self._clock()
        reading = self._reader.take()
        self._history.look(now_s)
        span_s = self._history.step_s * (self._history.length - 1)
        return {
            "reading": reading,
            "sums": answered(reading.counters),
            "saved": saved(reading.counters),
            "evicted": reading.counters.get("evicted variants", 0),
            "charts": list(charts(self._history.samples(), reading, now_s - span_s, now_s)),
            "minutes": span_s // 60,
            "time": datetime.fromtimestamp(now_s, UTC),
        }

    # --- answers

    def _page(self, template: str, status: int = 200, **values: Any) -> Response:
        return self._pages.render(template, status, base=_base(), version=__version__, **values)

    def _message_page(self, status: int, text: str) -> Response:
        return self._page("dashboard-message.html", status, title=HTTP_STATUS_CODES[status], text=text)


def _cached(picture: Picture, known: Mapping[str, Cached]) -> Cached:
    """What is cached of *picture*, as far as it is *known* by digest."""
    found = known.get(picture.digest) or Cached("", picture.digest, 0, 0, 0.0, 0)
    return replace(found, path=picture.path, others=0)


_ORDER_TITLES = {
    "bytes": "bytes",
    "uses": "uses",
    "used": "last use",
    "variants": "variants",
    "name": "name",
}


def _base() -> str:
    """The URL of the dashboard, below where the app is mounted (SCRIPT_NAME)."""
    return f"{request.script_root}/-/"


def _purge_message(arguments: Mapping[str, str]) -> str:
    """What a purge came to, from the numbers that it redirected with."""
    count, size = arguments.get("purged", ""), arguments.get("bytes", "")
    if not (count.isascii() and count.isdecimal() and size.isascii() and size.isdecimal()):
        return ""
    text = f"{int(count[:12])} variants purged, {size_text(int(size[:18]))}."
    if arguments.get("hook"):
        text += " The hook failed: a CDN may still have copies. The log says why."
    return text


def _moment(time_s: float, now_s: float) -> str:
    """How long ago that was: ``12 s ago``, ``3 h ago``."""
    age_s = max(0, now_s - time_s)
    for unit, seconds, limit in (("s", 1, 60), ("min", 60, 3600), ("h", 3600, 48 * 3600)):
        if age_s < limit:
            return f"{age_s // seconds:.0f} {unit} ago"
    return f"{age_s // 86400:.0f} days ago"
