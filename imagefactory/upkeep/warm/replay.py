"""What an access log asks for, as orders for ``warm``: what was asked for most comes first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from urllib.parse import parse_qsl

from ...errors import BadParameter
from ...model.formats import ENCODINGS, USUAL
from ...urls.query import Request
from .access_logs import LogEntry
from .orders import Order, Wish

__all__ = ["Demand", "demand", "orders"]

_ANSWERED = (200, 206, 304)
# Different variants that are counted: 60 MB. Above twice as many, those asked for least are forgotten.
_MAX_COUNTED = 200_000


@dataclass(frozen=True, slots=True)
class Demand:
    """How often each wish was asked for, by the path of its picture; *requests* is the sum, *forgotten* how
    many of them were for variants that were too many to be counted. *unknown* is how many more there were
    whose size the visitor's browser said."""

    counts: Counter[tuple[str, Wish]]
    requests: int
    forgotten: int
    unknown: int = 0


def demand(
    entries: Iterable[LogEntry],
    prefixes: Sequence[str],
    read: Callable[[list[tuple[str, str]]], Request],
    is_meant: Callable[[str], bool],
    limit: int = _MAX_COUNTED,
) -> Demand:
    """What *entries* asked for below *prefixes* and got; *read* makes a request of a query, or raises
    BadParameter. Originals are left out, and pictures whose path is not *is_meant*."""
    counts: Counter[tuple[str, Wish]] = Counter()
    requests = forgotten = unknown = 0

    @lru_cache(maxsize=10_000)
    def wishes(query: str, encoding: str) -> Sequence[Wish] | None:
        try:
            pairs = parse_qsl(query.encode("latin-1"), keep_blank_values=True)
            request = read([(name.decode(), value.decode()) for name, value in pairs])
        except (BadParameter, ValueError):  # answered by another server, or with another config
            return ()
        if request.is_plain and not request.texts:
            return ()
        if request.negotiated.width or request.negotiated.dpr:
            return None
        # What makes no other pixels is left away, so that all who asked for them count together.
        request = Request(
            request.recipe, request.encoding, request.is_plain, texts=request.texts, names=request.names
        )
        return expand(request, query, encoding)

    for entry in entries:
        if entry.method not in ("GET", "HEAD") or entry.status not in _ANSWERED:
            continue
        prefix = next((each for each in prefixes if entry.path.startswith(f"{each}/")), None)
        if prefix is None or not is_meant(path := entry.path[len(prefix) + 1 :]):
            continue
        found = wishes(entry.query, entry.encoding)
        if found is None:
            unknown += 1
            continue
        requests += bool(found)
        for wish in found:
            counts[path, wish] += 1
        if len(counts) > 2 * limit:
            before = counts.total()
            counts = Counter(dict(counts.most_common(limit)))
            forgotten += before - counts.total()
    return Demand(counts, requests, forgotten, unknown)


def expand(request: Request, query: str, encoding: str = "") -> Sequence[Wish]:
    """The wishes that *request* stands for: for ``auto`` the *encoding* that was sent, where that is known,
    or all that browsers get."""
    if request.encoding != "auto":
        return [Wish(request, query)]
    names = [encoding] if encoding in ENCODINGS else [*USUAL, ""]
    return [Wish(replace(request, encoding=name), query) for name in names]


def orders(found: Demand) -> Iterator[Order]:
    """*found* as orders, those asked for most first.

    What was asked of one picture about as often (within a factor of two) is one order: it is decoded once.
    """
    bands: dict[int, dict[str, list[Wish]]] = {}
    for (path, wish), count in found.counts.most_common():
        bands.setdefault(count.bit_length(), {}).setdefault(path, []).append(wish)
    seen: set[str] = set()
    for band in bands.values():
        for path, wishes in band.items():
            yield Order(path, wishes, is_more=path in seen)
            seen.add(path)
