"""The dashboard at ``/-/``: numbers with small charts, the cache by picture, what failed of late.

Registered only with a token in ``[admin]``, also in an app of somebody else's. Pages are HTML made here: the
host's templates, filters and context take no part in it, so this has a Jinja of its own. Everything that
changes something is a POST with a ticket; a look changes nothing, neither counts nor the cache.
"""

from __future__ import annotations

import hashlib
import hmac
import math
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, urlencode

from flask import Blueprint, Response, request
from werkzeug.exceptions import RequestEntityTooLarge
from werkzeug.http import HTTP_STATUS_CODES

from ...common.memo import Memo
from ...common.units import ratio_text, size_text
from ...engine.generator import Generator
from ...engine.health import watch_log
from ...errors import NotFound, RequestError, SourceChanged, StorageError, Unavailable
from ...model.formats import ENCODINGS
from ...model.recipe import Recipe, parse
from ...model.variant import Key, Source
from ...monitoring.numbers import History, Reader, Reading, Sample
from ...storage.index import VariantRow
from ...storage.store import DiskStore
from ...upkeep.listing import ORDERS, Cached, find_pictures, list_pictures
from ...upkeep.purge.removing import Selection
from ...upkeep.stats import answered, saved
from ...version import __version__
from ..auth import is_authorized
from ..purge import purge_and_tell
from . import charts
from .page import HEADERS, Pages

__all__ = ["blueprint"]

_NAME = "imagefactory-dashboard"
_PAGE = 24  # pictures on one page
_LISTED_S = 60.0  # how long a list of all pictures serves
_TICKET_S = 3600
_MAX_BODY = 4096
_LINK_S = 3600  # how long a link to a picture lasts that needs a signature
_THUMBNAIL = 192  # pixels of the longer side
_THUMBNAILS_BYTES = 4_000_000
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
# Small enough for a list, large enough to be recognised, shown by every browser.
_SMALL = range(96, 401)
_SMALL_BYTES = 60_000
_EVERYWHERE = ("webp", "jpeg", "png", "gif")


def blueprint(generator: Generator) -> Blueprint:
    """The pages below ``/-/`` for *generator*."""
    return _Dashboard(generator).blueprint()


@dataclass(frozen=True, slots=True)
class _Listing:
    """All pictures as they were at unix time *time_s*; *problem* says why there are none."""

    pictures: list[Cached]
    time_s: float
    problem: str = ""


class _Dashboard:
    def __init__(self, generator: Generator) -> None:
        self._generator = generator
        self._token = generator.config.admin.token
        self._reader = Reader(generator)
        self._history = History(self._reader)
        generator.keeper.watchers.append(lambda: self._look())
        self._log = watch_log()
        self._listing = _Listing([], -math.inf)
        self._is_listing = threading.Lock()
        self._thumbnails: Memo[str, bytes] = Memo(_THUMBNAILS_BYTES)
        self._pages = Pages(_POLICY, _HEADERS, {"size": size_text, "ratio": ratio_text, "moment": _moment})

    def blueprint(self) -> Blueprint:
        """The pages below ``/-/``, each for who has the token."""
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
        """*page* for who has the token; errors of ours become a page."""

        def answer(**values: str) -> Response:
            if not is_authorized(request.environ, self._token):
                response = self._said(401, "The password is the token of [admin]; any user name will do.")
                # RFC 7617 §2.1: the password's characters are sent as UTF-8.
                response.headers["WWW-Authenticate"] = 'Basic realm="imagefactory", charset="UTF-8"'
                return response
            self._generator.keeper.start()
            try:
                return page(**values)
            except RequestError as error:
                return self._said(error.status, str(error))
            except StorageError as error:
                return self._said(503, f"The cache can't be read at the moment: {error}.")

        return answer

    # --- pages

    def _front(self) -> Response:
        try:
            arguments = request.args
        except UnicodeDecodeError:
            return self._said(400, "The query has bytes that are not UTF-8.")
        order = arguments.get("by", "bytes")
        order = order if order in ORDERS else "bytes"
        text = arguments.get("q", "")[:200]
        page = max(1, arguments.get("page", 1, type=int))
        listing = self._list()
        found = find_pictures(listing.pictures, text, order)
        pages = max(1, math.ceil(len(found) / _PAGE))
        page = min(page, pages)
        now_s = self._generator.now_s()

        def link(**changes: object) -> str:
            values = {"q": text, "by": order, **changes}
            return f"{_base()}?{urlencode({name: value for name, value in values.items() if value})}#pictures"

        return self._page(
            "dashboard.html",
            title="imagefactory",
            message=_message(arguments),
            numbers=self._shown_numbers(),
            pictures=[self._row(each) for each in found[(page - 1) * _PAGE : page * _PAGE]],
            found=len(found),
            text=text,
            order=order,
            orders=[(name, title, link(by=name)) for name, title in _ORDER_TITLES.items()],
            page=page,
            pages=pages,
            before=link(page=page - 1) if page > 1 else "",
            after=link(page=page + 1) if page < pages else "",
            age=max(0, round(now_s - listing.time_s)) if found else 0,
            listing=listing,
            failures=list(reversed(self._generator.troubles.failures)),
            logged=list(reversed(self._log)),
            now_s=now_s,
        )

    def _numbers(self) -> Response:
        return self._page("dashboard-numbers.html", numbers=self._shown_numbers())

    def _picture(self, path: str) -> Response:
        """The page of the picture at *path*: what it has now, or had when it was last asked for."""
        store = self._generator.store
        self._generator.sources.locate(path)
        if request.method == "POST":
            return self._purge(Selection(paths=(path,)), path)
        known = store.source(path)
        if known is None:
            raise NotFound
        return self._of(known.digest, known)

    def _content(self, digest: str) -> Response:
        """The page of a picture whose path nobody knows any more."""
        if len(digest) != 64 or not set(digest) <= set("0123456789abcdef"):
            raise NotFound
        if request.method == "POST":
            return self._purge(Selection(digests=(digest,)), digest)
        return self._of(digest, None)

    def _of(self, digest: str, source: Source | None) -> Response:
        store = self._generator.store
        rows = store.index.of(digest) if isinstance(store, DiskStore) else []
        picture = Cached(
            source.path if source else "",
            digest,
            len(rows),
            sum(row.bytes for row in rows),
            max((row.used_s for row in rows), default=0.0),
            sum(row.uses for row in rows),
        )
        rows.sort(key=lambda row: (-row.uses, -row.used_s))
        return self._page(
            "dashboard-picture.html",
            title=picture.path or f"sha256:{digest[:12]}…",
            picture=self._row(picture),
            source=source,
            variants=[(row, self._address(source, row)) for row in rows[:_SHOWN] if row.variant],
            hidden=max(0, len(rows) - _SHOWN),
            now_s=self._generator.now_s(),
        )

    def _row(self, picture: Cached) -> Mapping[str, object]:
        """What a template needs of *picture*."""
        path = quote(picture.path, safe="/")
        # The address changes with the content, so a browser may keep the thumbnail.
        thumbnail = f"{_base()}thumbnail/{path}?v={picture.digest[:12]}" if path else ""
        return {
            "cached": picture,
            "name": picture.path or f"sha256:{picture.digest[:12]}…",
            "address": f"{_base()}picture/{path}" if path else f"{_base()}content/{picture.digest}",
            "thumbnail": thumbnail,
            "ticket": self._ticket(picture.path or picture.digest),
        }

    def _address(self, source: Source | None, row: VariantRow) -> str:
        """The URL that gives the variant of *row*, where a simple one does; else empty."""
        takes_presets_only = self._generator.config.limits.sizes == "presets"
        if source is None or source.header is None or row.key is None or takes_presets_only:
            return ""
        recipe = _recipe(row.key)
        if recipe is None:
            return ""
        values = {
            "scalex": recipe.width,
            "scaley": recipe.height,
            "fit": "" if recipe.fit in ("inside", "stretch") else recipe.fit,
            "quality": recipe.quality,
            "encoding": row.key.encoding,
        }
        pairs = [(name, str(value)) for name, value in values.items() if value]
        wanted = self._generator.rules.wanted(source, self._generator.rules.operators_request(pairs), "")
        if wanted.key != row.key:
            return ""
        access = self._generator.access
        if access.signer is not None and access.must_sign(source.path):
            pairs += access.signer.sign(source.path, pairs, int(self._generator.now_s()) + _LINK_S)
        prefix = self._generator.config.http.prefixes[0]
        return f"{request.script_root}{prefix}/{quote(source.path, safe='/')}?{urlencode(pairs)}"

    # --- thumbnails

    def _thumbnail(self, path: str) -> Response:
        """A small picture of the source at *path*: of a variant that is there, else rendered for this page
        alone. It counts as no use, and is not stored in the cache."""
        try:
            data, encoding = self._small(self._generator.source(path))
        except SourceChanged:
            raise Unavailable("the picture is being written at the moment", retry_after_s=1) from None
        response = Response(data, mimetype=ENCODINGS[encoding].media_type)
        response.headers.update(_HEADERS)
        response.headers["Content-Security-Policy"] = "default-src 'none'; sandbox"
        response.headers["Cache-Control"] = "private, max-age=86400"
        return response

    def _small(self, source: Source) -> tuple[bytes, str]:
        data = self._thumbnails.get(source.digest)
        if data is not None:
            return data, "webp"
        store = self._generator.store
        if isinstance(store, DiskStore):
            for row in sorted(store.index.of(source.digest), key=lambda row: row.bytes):
                if row.key and row.variant and _is_small(row):
                    file = store.open(row.variant)
                    if file is not None:
                        with file:
                            return file.read(), row.key.encoding
        pairs = [("size", f"{_THUMBNAIL}x{_THUMBNAIL}"), ("encoding", "webp"), ("anim", "0")]
        wanted = self._generator.rules.wanted(source, self._generator.rules.operators_request(pairs), "")
        data = self._generator.preview(source, wanted)
        self._thumbnails.put(source.digest, data, len(data) + 300)
        return data, "webp"

    # --- purging

    def _purge(self, selection: Selection, name: str) -> Response:
        """Purge *selection*, if the form was one of ours, and go back to the list."""
        request.max_content_length = _MAX_BODY
        try:
            ticket = request.form.get("ticket", "")
        except RequestEntityTooLarge:
            ticket = ""
        if not _is_from_here(request.headers.get):
            return self._said(403, "Another site has sent this form.")
        if not self._is_good(ticket, name):
            return self._said(403, "This form is too old. Go back, reload the page, and try again.")
        done = purge_and_tell(self._generator, selection, is_dry_run=False)
        self._listing = _Listing([], -math.inf)
        hook = done.get("hook")
        told = {"hook": "failed"} if hook and not hook["ok"] else {}
        values = urlencode({"purged": done["variants"], "bytes": done["bytes"], **told})
        response = Response(status=303)
        response.headers.update(_HEADERS)
        response.headers["Location"] = f"{_base()}?{values}"
        return response

    def _ticket(self, name: str) -> str:
        """What a form must bring to purge *name*: good for an hour."""
        until = str(int(self._generator.now_s()) + _TICKET_S)
        return f"{until}.{self._seal(until, name)}"

    def _is_good(self, ticket: str, name: str) -> bool:
        until, _, seal = ticket.partition(".")
        is_sealed = hmac.compare_digest(seal.encode(), self._seal(until, name).encode())
        return is_sealed and int(until) >= self._generator.now_s()

    def _seal(self, until: str, name: str) -> str:
        text = f"imagefactory dashboard\npurge\n{until}\n{name}"
        return hmac.new(self._token.encode(), text.encode(), hashlib.sha256).hexdigest()

    # --- numbers

    def _look(self) -> None:
        self._history.look(self._generator.now_s())
        if self._generator.now_s() - self._listing.time_s > 10 * _LISTED_S:
            self._listing = _Listing([], -math.inf)  # nobody looks any more

    def _shown_numbers(self) -> Mapping[str, object]:
        """What the template of the numbers shows."""
        now_s = self._generator.now_s()
        reading = self._reader.take()
        self._history.look(now_s)
        span_s = self._history.step_s * (self._history.length - 1)
        return {
            "reading": reading,
            "sums": answered(reading.counters),
            "saved": saved(reading.counters),
            "evicted": reading.counters.get("evicted variants", 0),
            "charts": list(_charts(self._history.samples(), reading, now_s - span_s, now_s)),
            "minutes": span_s // 60,
            "time": datetime.fromtimestamp(now_s, UTC),
        }

    def _list(self) -> _Listing:
        """All pictures, a minute old at most."""
        store = self._generator.store
        if not isinstance(store, DiskStore):
            return _Listing([], self._generator.now_s(), "in memory mode there is no list of pictures")
        with self._is_listing:  # one at a time; who waits finds it done
            if self._generator.now_s() - self._listing.time_s > _LISTED_S:
                try:
                    self._listing = _Listing(list_pictures(store), self._generator.now_s())
                except StorageError as error:
                    return replace(self._listing, problem=f"the list can't be read at the moment: {error}")
            return self._listing

    # --- answers

    def _page(self, template: str, status: int = 200, **values: Any) -> Response:
        return self._pages.render(template, status, base=_base(), version=__version__, **values)

    def _said(self, status: int, text: str) -> Response:
        return self._page("dashboard-said.html", status, title=HTTP_STATUS_CODES[status], text=text)


_ORDER_TITLES = {
    "bytes": "bytes",
    "uses": "uses",
    "used": "last use",
    "variants": "variants",
    "name": "name",
}


def _base() -> str:
    """The address of the dashboard in the app that it is part of."""
    return f"{request.script_root}/-/"


def _message(arguments: Mapping[str, str]) -> str:
    """What a purge came to, from the numbers that it redirected with."""
    count, size = arguments.get("purged", ""), arguments.get("bytes", "")
    if not (count.isascii() and count.isdecimal() and size.isascii() and size.isdecimal()):
        return ""
    text = f"{int(count[:12])} variants purged, {size_text(int(size[:18]))}."
    if arguments.get("hook"):
        text += " The hook failed: a CDN may still have copies. The log says why."
    return text


def _is_from_here(header: Callable[[str], str | None]) -> bool:
    """Whether a browser says that a page of this server has sent the form.

    ``Sec-Fetch-Site`` (W3C Fetch Metadata) can't be set by a page. Where it is missing, over plain HTTP, the
    Origin must be our host; ``null`` is what our own pages send, as they tell nobody where they are.
    """
    site = header("Sec-Fetch-Site")
    if site is not None:
        return site == "same-origin"
    origin = header("Origin")
    return origin in (None, "null") or origin in (f"http://{header('Host')}", f"https://{header('Host')}")


def _is_small(row: VariantRow) -> bool:
    """Whether the variant of *row* does as a thumbnail: the whole picture, small, as it is."""
    key, variant = row.key, row.variant
    if key is None or variant is None or key.encoding not in _EVERYWHERE or row.bytes > _SMALL_BYTES:
        return False
    recipe = _recipe(key)
    if recipe is None:
        return False
    plain = replace(Recipe(), width=recipe.width, height=recipe.height, quality=recipe.quality)
    is_plain = replace(recipe, salt="", fit="inside", enlarge=False) == plain and recipe.fit != "pad"
    return is_plain and max(variant.width, variant.height) in _SMALL


def _recipe(key: Key) -> Recipe | None:
    """The recipe of *key*; None for a text that this version does not write."""
    try:
        return parse(key.recipe)
    except ValueError:
        return None


def _moment(time_s: float, now_s: float) -> str:
    """How long ago that was: ``12 s ago``, ``3 h ago``."""
    age_s = max(0, now_s - time_s)
    for unit, seconds, limit in (("s", 1, 60), ("min", 60, 3600), ("h", 3600, 48 * 3600)):
        if age_s < limit:
            return f"{age_s // seconds:.0f} {unit} ago"
    return f"{age_s // 86400:.0f} days ago"


# --- charts


@dataclass(frozen=True, slots=True)
class _Chart:
    """A chart with its *lines*: (css class, name, value now, path, path of the area below or empty)."""

    title: str
    top: str
    lines: list[tuple[str, str, str, str, str]]
    text: str


def _charts(samples: list[Sample], reading: Reading, begin_s: float, end_s: float) -> Iterable[_Chart]:
    def chart(title: str, tops: str, top: float, *lines: tuple[str, str, str, list[charts.Point]]) -> _Chart:
        drawn = [
            (
                kind,
                name,
                value,
                charts.line(points, begin_s, end_s, top),
                charts.area(points, begin_s, end_s, top) if number == 0 else "",
            )
            for number, (kind, name, value, points) in enumerate(lines)
        ]
        text = ", ".join(f"{name} {value}" for _, name, value, _ in lines)
        return _Chart(title, tops, drawn, f"{title}: {text}; the upper edge is {tops}")

    hits = charts.rates([(each.time_s, each.hits) for each in samples])
    misses = charts.rates([(each.time_s, each.misses) for each in samples])
    others = charts.rates([(each.time_s, each.others) for each in samples])
    top = _round_up(max((value or 0 for _, value in [*hits, *misses, *others]), default=0))
    yield chart(
        "Requests a second",
        f"{top:g}/s",
        top,
        ("hit", "hits", _rate_text(hits), hits),
        ("miss", "misses", _rate_text(misses), misses),
        ("other", "other", _rate_text(others), others),
    )
    ratios: list[charts.Point] = []
    for (time_s, hit), (_, miss) in zip(hits, misses, strict=True):
        asked = (hit or 0) + (miss or 0)
        ratios.append((time_s, (hit or 0) / asked if asked else None))
    yield chart(
        "Hit ratio", "100 %", 1, ("hit", "now", ratio_text(ratios[-1][1] if ratios else None), ratios)
    )
    running: list[charts.Point] = [(each.time_s, each.running) for each in samples]
    waiting: list[charts.Point] = [(each.time_s, each.waiting) for each in samples]
    top = _round_up(max((value or 0 for _, value in [*running, *waiting]), default=0))
    gauges = reading.gauges
    yield chart(
        "Renders",
        f"{top:g}",
        top,
        ("hit", "running", f"{gauges.get('renders_running', 0):g}", running),
        ("miss", "waiting", f"{gauges.get('renders_waiting', 0):g}", waiting),
    )
    sizes: list[charts.Point] = [(each.time_s, each.bytes) for each in samples]
    budget: list[charts.Point] = [(each.time_s, each.capacity) for each in samples]
    highest = max((value or 0 for _, value in [*sizes, *budget]), default=0)
    yield chart(
        "Cache",
        size_text(highest),
        highest,
        ("hit", "bytes", size_text(reading.bytes), sizes),
        ("other", "budget", size_text(reading.capacity), budget),
    )


def _rate_text(points: list[charts.Point]) -> str:
    value = points[-1][1] if points else 0
    return f"{value or 0:.1f}"


def _round_up(value: float) -> float:
    """The next of 1, 2, 5, 10, 20, ...: a chart's upper edge that does not move all the time."""
    power = 10 ** math.floor(math.log10(value)) if value >= 1 else 1
    return next(step * power for step in (1, 2, 5, 10) if step * power >= value)
