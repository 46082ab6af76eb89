"""What is in a cache, and what it was good for: ``imagefactory stats``, and the sums on the dashboard.

Reads and changes nothing. Rows are taken as they pass by: what is kept is a few sums, the ten largest and
most used, and about a hundred bytes for each picture, to know it again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from heapq import nlargest

from ..storage.disk import DiskStore
from ..storage.variant_rows import VariantRow

__all__ = ["SIZES", "Answered", "Notable", "Stats", "Sum", "answered", "saved", "take_stats"]

# Upper bounds of the size classes: the longer side of a variant, in pixels.
SIZES = (160, 320, 640, 1280, 2560)
_LARGER = "larger"
_NOTABLE = 10
_AT_ONCE = 1000


@dataclass(frozen=True, slots=True)
class Sum:
    """So many *variants* with so many *bytes* together."""

    variants: int = 0
    bytes: int = 0

    def __add__(self, other: Sum) -> Sum:
        return Sum(self.variants + other.variants, self.bytes + other.bytes)


@dataclass(frozen=True, slots=True)
class Notable:
    """A variant that stands out. *path* is that of its source, the first where several have these bytes;
    empty where none is known any more, and *digest* is left."""

    path: str
    digest: str
    recipe: str
    encoding: str
    bytes: int
    uses: int


@dataclass(frozen=True, slots=True)
class Answered:
    """How pictures were answered since the index was begun, in every process.

    *hits* are variants handed out without a render for it (``X-Cache: hit`` and ``coalesced``), *misses*
    those that were rendered (``miss`` and ``bypass``); 304 and the like count as well, originals in neither.
    *originals* were sent as they are, *errors* are answers without a picture.
    """

    hits: int = 0
    misses: int = 0
    originals: int = 0
    errors: int = 0

    @property
    def hit_ratio(self) -> float | None:
        """The part of *hits*, from 0 to 1; None before the first variant."""
        return self.hits / (self.hits + self.misses) if self.hits + self.misses else None


@dataclass(frozen=True, slots=True)
class Stats:
    """The numbers of one cache; all sizes in bytes.

    *pictures* are sources, by content, that have variants; *objects* the files that hold bodies, and
    *bytes* what the rows say that they have. *source_bytes* are the bytes of those originals whose path is
    known. *saved* is what visitors did not have to load: originals instead of the variants that they got.
    *free* is what the disk has left for this user.
    """

    pictures: int = 0
    variants: int = 0
    bytes: int = 0
    max_bytes: int = 0
    by_encoding: Mapping[str, Sum] = field(default_factory=dict)
    by_size: Mapping[str, Sum] = field(default_factory=dict)
    objects: int = 0
    hits: int = 0
    misses: int = 0
    originals: int = 0
    errors: int = 0
    hit_ratio: float | None = None
    sent: int = 0
    saved: int = 0
    source_bytes: int = 0
    evicted: Sum = Sum()
    free: int = 0
    largest: tuple[Notable, ...] = ()
    most_used: tuple[Notable, ...] = ()


def answered(counters: Mapping[str, float]) -> Answered:
    """What the *counters* of an index say of the requests."""
    sums = dict.fromkeys(("hits", "misses", "originals", "errors"), 0)
    kinds = {
        "hit": "hits",
        "coalesced": "hits",
        "miss": "misses",
        "bypass": "misses",
        "original": "originals",
    }
    for name, count in counters.items():
        words = name.split(" ")
        if words[0] != "requests" or len(words) != 4 or words[1] in ("explain", "options", "purge", "upload"):
            continue
        if kind := kinds.get(words[1], "" if words[3] < "400" else "errors"):
            sums[kind] += int(count)
    return Answered(**sums)


def saved(counters: Mapping[str, float]) -> int:
    """The bytes that visitors did not have to load, as the *counters* of an index have it."""
    return _total(counters, "bytes_of_sources") - _total(counters, "bytes_of_variants")


def take_stats(store: DiskStore) -> Stats:
    """The numbers of *store*; zeros where there is no cache yet, and none is made. Raises StorageError.

    One pass over the rows, one over the names of the objects.
    """
    if not store.root.is_dir():
        return Stats(max_bytes=store.max_bytes)
    objects = sum(1 for _ in store.objects.walk())
    if not (store.index.database.path / "cache.db").exists():
        return Stats(max_bytes=store.max_bytes, objects=objects, free=store.free_bytes())
    digests: set[int] = set()
    by_encoding: dict[str, Sum] = {}
    by_size = dict.fromkeys([*map(str, SIZES), _LARGER], Sum())
    largest: list[VariantRow] = []
    used: list[VariantRow] = []
    some: list[VariantRow] = []
    for row in store.index.variants.scan():
        if row.key is None or row.variant is None:
            continue  # damaged: a miss for whoever asks, so not there
        digests.add(_short(row.key.digest))
        one = Sum(1, row.bytes)
        by_encoding[row.key.encoding] = by_encoding.get(row.key.encoding, Sum()) + one
        size = _size_class(row.variant.width, row.variant.height)
        by_size[size] += one
        some.append(row)
        if len(some) == _AT_ONCE:
            largest, used = _largest(largest + some), _most_used(used + some)
            some.clear()
    largest, used = _largest(largest + some), _most_used(used + some)
    paths = {row.key.digest: "" for row in largest + used if row.key}
    source_bytes = 0
    for source in store.index.sources.walk():
        if _short(source.digest) in digests:
            source_bytes += source.stamp.size
            if paths.get(source.digest) == "":
                paths[source.digest] = source.path
    counters = store.index.counts.all()
    requests = answered(counters)
    return Stats(
        pictures=len(digests),
        variants=sum(each.variants for each in by_encoding.values()),
        bytes=sum(each.bytes for each in by_encoding.values()),
        max_bytes=store.max_bytes,
        by_encoding=dict(sorted(by_encoding.items())),
        by_size=by_size,
        objects=objects,
        hits=requests.hits,
        misses=requests.misses,
        originals=requests.originals,
        errors=requests.errors,
        hit_ratio=requests.hit_ratio,
        sent=_total(counters, "bytes_sent"),
        saved=saved(counters),
        source_bytes=source_bytes,
        evicted=Sum(_total(counters, "evicted variants"), _total(counters, "evicted bytes")),
        free=store.free_bytes(),
        largest=tuple(_notable(row, paths) for row in largest),
        most_used=tuple(_notable(row, paths) for row in used),
    )


def _short(digest: str) -> int:
    """60 bits of a digest: a third of the memory, and among a million pictures no two are the same."""
    return int(digest[-15:], 16)


def _size_class(width: int, height: int) -> str:
    longer = max(width, height)
    return next((str(side) for side in SIZES if longer <= side), _LARGER)


def _largest(rows: Iterable[VariantRow]) -> list[VariantRow]:
    return nlargest(_NOTABLE, rows, key=lambda row: row.bytes)


def _most_used(rows: Iterable[VariantRow]) -> list[VariantRow]:
    return nlargest(_NOTABLE, (row for row in rows if row.uses), key=lambda row: row.uses)


def _total(counters: Mapping[str, float], name: str) -> int:
    """The counter of *name*, and all whose names go on from there."""
    return int(sum(count for each, count in counters.items() if f"{each} ".startswith(f"{name} ")))


def _notable(row: VariantRow, paths: Mapping[str, str]) -> Notable:
    assert row.key is not None  # noqa: S101  # rows without were left out
    key = row.key
    return Notable(paths.get(key.digest, ""), key.digest, key.recipe, key.encoding, row.bytes, row.uses)
