"""What the engine asks of the places where things lie: small protocols, and the store that joins them.

Originals lie in a folder; all else has an implementation on the local disk and one in memory. What can fail
because of the disk raises StorageError, and the engine answers without the cache; in memory nothing fails.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import BinaryIO, NamedTuple, Protocol

from ..model.job import Rendered
from ..model.source import Source, Stamp
from ..model.variant import Key, Variant
from .body import Body
from .temp_files import Temp

__all__ = [
    "Budget",
    "Claims",
    "Contents",
    "Counts",
    "Index",
    "Keeping",
    "Listing",
    "LocalFile",
    "Notices",
    "Objects",
    "Processes",
    "SourceRows",
    "Sources",
    "Stamps",
    "Store",
    "VariantRows",
]


class LocalFile(NamedTuple):
    """A source as an open file on this machine: its *descriptor*, open for reading at the start, and its
    *stamp*. By *path* it is known again, not opened: another file may lie there by now."""

    path: Path
    stamp: Stamp
    descriptor: int


class Stamps(Protocol):
    """Whether originals have changed. Methods raise NotFound, and Unavailable when the place fails."""

    def stamp(self, path: str) -> Stamp:
        """The stamp of the source at *path* now. Asked at each look-up. It may be that of a file which may
        not be shown: only one that ``Contents`` gave before means something."""

    def look(self, path: str) -> Stamp:
        """As ``stamp``, of a source that may be shown."""

    def is_current(self, path: str, stamp: Stamp) -> bool:
        """Whether the source at *path*, which was opened before, still has *stamp*. Asked at each hit; raises
        nothing."""

    def is_settled(self, stamp: Stamp, now_s: float) -> bool:
        """Whether bytes that were read at unix time *now_s* are those of *stamp* for good: no later write can
        have the same stamp."""


class Contents(Protocol):
    """The bytes of originals. Methods raise as those of ``Stamps``."""

    def open(self, path: str) -> tuple[BinaryIO, Stamp]:
        """The source at *path*, open for reading, and its stamp. Also raises TooLarge."""

    def digest(self, path: str) -> tuple[str, Stamp]:
        """The sha256 in hex of the bytes at *path*, and their stamp. Also raises SourceChanged, TooLarge."""

    def fetch(self, path: str, stamp: Stamp) -> AbstractContextManager[LocalFile]:
        """The source at *path* as an open local file for the time of a block, for a renderer. Also raises
        SourceChanged where it has another stamp, TooLarge."""


class Listing(Protocol):
    """Which originals there are."""

    def walk(self, below: str = "") -> Iterator[str]:
        """The canonical paths of all sources, or of those in the folder *below*."""

    def is_readable(self) -> bool:
        """Whether sources can be listed now."""


class Sources(Stamps, Contents, Listing, Protocol):
    """The originals, by canonical paths."""


class SourceRows(Protocol):
    """What is known of sources, by path."""

    def get(self, path: str) -> Source | None:
        """What is remembered of the source at *path*, for its stamp of then."""

    def put(self, source: Source) -> None:
        """Remember *source*."""

    def known(self, paths: Sequence[str]) -> dict[str, Source]:
        """As ``get`` for many, by path."""

    def walk(self, folder: str = "") -> Iterator[Source]:
        """All that is remembered, or what lies at and below the path *folder*."""

    def remove(self, paths: Iterable[str]) -> None:
        """Forget the sources at *paths*; their variants stay."""


class VariantRows(Protocol):
    """Which variants there are."""

    def get(self, key: Key) -> Variant | None:
        """The variant with *key*, by its row alone."""

    def count(self) -> int:
        """How many there are."""

    def total_bytes(self) -> int:
        """The bytes of all of them together."""


class Counts(Protocol):
    """What was counted."""

    def add(self, uses: Mapping[str, int], counts: Mapping[str, float], now_s: float) -> None:
        """Add *uses* of variants by the text of their key, the last at *now_s*, and *counts* by name."""

    def all(self) -> Mapping[str, float]:
        """All that was counted, by name."""


class Index(Protocol):
    """The rows of one cache."""

    @property
    def sources(self) -> SourceRows:
        """What is known of sources."""

    @property
    def variants(self) -> VariantRows:
        """Which variants there are."""

    @property
    def counts(self) -> Counts:
        """What was counted."""


class Objects(Protocol):
    """The bytes of variants."""

    def body(self, variant: Variant) -> Body | None:
        """The bytes of *variant*; None if they are gone, or not what was stored."""

    def has(self, variant: Variant) -> bool:
        """Whether ``body`` would give them."""


class Claims(Protocol):
    """One process at a time makes a variant."""

    def take(self, key: str, timeout_s: float) -> AbstractContextManager[bool]:
        """Hold *key* for the time of a block; tells whether another process held it before. Raises TimedOut
        after *timeout_s* seconds."""


class Notices(Protocol):
    """What tells every process of a purge."""

    def epoch(self) -> int:
        """A number that changes with each purge. Asked at each hit; raises nothing."""

    def renew(self) -> None:
        """Change it."""


class Processes(Protocol):
    """The processes that use one cache, and what they do at the moment."""

    def report(self, gauges: Mapping[str, float]) -> None:
        """Let others know how this process is doing."""

    def reports(self) -> list[Mapping[str, float]]:
        """What each living process has reported last."""


class Keeping(Protocol):
    """How variants come and go."""

    def temp(self) -> AbstractContextManager[Temp | None]:
        """A context manager that gives a file to render into, or None to render into memory."""

    def keep(self, key: Key, rendered: Rendered, temp: Temp | None) -> Variant | None:
        """Store what was rendered; None where it is too large to be stored. Raises StorageError, and Full
        where the budget has no room."""

    def adopt(self, key: Key) -> Variant | None:
        """The variant with *key*, if its object is there though its row is not."""

    def remove(self, variant: Variant) -> None:
        """Forget *variant* and its bytes."""


class Budget(Protocol):
    """How many bytes there may be: *max_bytes*. *is_tight*: the last variant took from the reserve."""

    max_bytes: int
    is_tight: bool

    def capacity(self) -> int:
        """The bytes that variants may have together now."""

    def free_bytes(self) -> int | None:
        """The bytes that the disk has left; None for a store that has none."""


class Store(Keeping, Budget, Protocol):
    """One cache, of which the parts are these."""

    @property
    def index(self) -> Index:
        """Its rows."""

    @property
    def objects(self) -> Objects:
        """Its bodies."""

    @property
    def claims(self) -> Claims:
        """Who makes what."""

    @property
    def notices(self) -> Notices:
        """The epoch."""

    @property
    def processes(self) -> Processes:
        """Who uses it."""

    def start(self) -> None:
        """Called once in each process before the first use."""

    def follow(self) -> None:
        """After a change of epoch: look at what is there now."""

    def probe(self, size: int) -> None:
        """Raise StorageError if *size* bytes could not be stored now."""
