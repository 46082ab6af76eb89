"""The cache as the generator sees it: on disk (index, objects, claims, epoch) or in memory.

Both have the same methods. What can fail because of the disk raises StorageError, and the generator
answers without the cache; in memory nothing fails.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

from ..common.memo import Memo
from ..config import Config
from ..errors import Full, StorageError, TimedOut
from ..model.job import Rendered
from ..model.recipe import parse
from ..model.variant import Key, Source, Variant
from .claims import Claims
from .index import Index, VariantRow
from .live_processes import Sessions
from .objects import Objects, Temp
from .purge_journal import Removals

__all__ = ["Body", "DiskStore", "MemoryStore", "Store", "open_store"]


# How long a process that starts waits for the render of a picture that another one was about to remove.
_FINISH_S = 1.0
# What an entry of the memo takes beside its bytes: 680 were measured.
_ENTRY_BYTES = 700


@dataclass(frozen=True, slots=True)
class Body:
    """The bytes of an answer: *data*, or an open *file*, or the file *name* below the folder *root*."""

    data: bytes | None = None
    file: BinaryIO | None = None
    root: Path = Path()
    name: str = ""


class Store(Protocol):
    """What the generator asks of a cache. *is_tight*: what was stored last took from the reserve."""

    is_tight: bool

    def source(self, path: str) -> Source | None:
        """What is remembered of the source at *path*, for its stamp of then."""

    def put_source(self, source: Source) -> None:
        """Remember *source*."""

    def find(self, key: Key) -> Variant | None:
        """The variant with *key*, by its row alone."""

    def body(self, variant: Variant) -> Body | None:
        """The bytes of *variant*; None if they are gone, or not what was stored."""

    def open(self, variant: Variant) -> bytes | BinaryIO | None:
        """The bytes of *variant*, or a file with them that is open at its start; None as for ``body``."""

    def temp(self) -> AbstractContextManager[Temp | None]:
        """A context manager that gives a file to render into, or None to render into memory."""

    def keep(self, key: Key, rendered: Rendered, temp: Temp | None) -> Variant:
        """Store what was rendered. Raises StorageError."""

    def remove(self, variant: Variant) -> None:
        """Forget *variant* and its bytes."""

    def claim(self, key: Key, timeout_s: float) -> AbstractContextManager[bool]:
        """Hold *key* for the time of a with-block; tells whether somebody else held it before."""

    def epoch(self) -> int:
        """A number that changes with each purge."""

    def follow(self) -> None:
        """After a change of epoch: look at what is there now."""

    def start(self) -> None:
        """Called once in each process before the first use."""

    def probe(self, size: int) -> None:
        """Raise StorageError if *size* bytes could not be stored now."""

    def adopt(self, key: Key) -> Variant | None:
        """The variant with *key*, if its object is there though its row is not."""

    def add_up(self, uses: Mapping[str, int], counts: Mapping[str, float], now_s: float) -> None:
        """Keep what was counted: uses of variants by the text of their key, and counts by name."""

    def counters(self) -> Mapping[str, float]:
        """All that was counted, by name."""

    def size(self) -> tuple[int, int]:
        """How many variants there are, and their bytes."""

    def tell(self, gauges: Mapping[str, float]) -> None:
        """Let others know how this process is doing at the moment."""

    def told(self) -> list[Mapping[str, float]]:
        """What each living process has told of itself last."""


def open_store(config: Config) -> Store:
    """The store that *config* asks for. Nothing is touched on disk before the first use."""
    if config.cache.mode == "memory":
        return MemoryStore(config.cache.memory_bytes)
    return DiskStore(
        config.paths.cache,
        config.cache.max_bytes,
        config.cache.min_free,
        config.limits.variants_per_source,
    )


class DiskStore:
    """The cache in the folder *root*, shared by all processes of a machine.

    Its objects have *max_bytes* together at most, and *min_free* bytes of the disk stay free; a source has
    *variants_per_source* variants at most (0: any number), the one used least recently gives way.

    The order of writes is object before row, so that a crash at any moment leaves at worst an object
    without a row: wasted bytes, never a wrong answer.
    """

    def __init__(self, root: Path, max_bytes: int, min_free: int = 0, variants_per_source: int = 0) -> None:
        self.root = root
        self.max_bytes = max_bytes
        self.min_free = min_free
        self.variants_per_source = variants_per_source
        self.index = Index(root / "index", root / "locks" / "index", root / "tmp" / "damaged-index")
        self.objects = Objects(root)
        self.claims = Claims(root / "locks" / "claims")
        self.sessions = Sessions(root / "locks")
        self.removals = Removals(self.index, self.objects, self.claims, self.renew_epoch)
        self._epoch_path = str(root / "epoch")  # asked for at each hit
        self._largest = 0
        self.is_tight = False

    def source(self, path: str) -> Source | None:
        return self.index.source(path)

    def put_source(self, source: Source) -> None:
        self.index.put_source(source)

    def find(self, key: Key) -> Variant | None:
        return self.index.variant(key)

    def body(self, variant: Variant) -> Body | None:
        if not self.objects.is_sound(variant):
            return None
        return Body(root=self.objects.root, name=self.objects.name(variant.key, variant.body))

    def open(self, variant: Variant) -> BinaryIO | None:
        return self.objects.open(variant)

    @contextmanager
    def temp(self) -> Iterator[Temp | None]:
        with self.objects.temp() as temp:
            yield temp

    def keep(self, key: Key, rendered: Rendered, temp: Temp | None) -> Variant:
        """Store what was rendered into *temp*: fsync, rename, fsync of the folder, then the row."""
        if temp is None:
            raise StorageError("objects", "there is no file to keep")
        size = os.fstat(temp.number).st_size
        self._largest = max(self._largest, size)
        total, free = self.index.total_bytes(), self.free_bytes()
        if total + size > self.max_bytes:
            raise Full(size, f"the cache has reached its max_bytes of {self.max_bytes}")
        if free < self.min_free:
            raise Full(size, f"the disk has reached the min_free of {self.min_free} bytes")
        before = self.index.variant(key)
        variant = self.objects.publish(temp, key, rendered.width, rendered.height)
        try:
            surplus = self.index.put_variant(variant, self.variants_per_source)
        except StorageError:
            if before is None or before.body != variant.body:  # nobody would find it, and nobody count it
                self.objects.remove(key, variant.body)
            raise
        if before is not None and before.body != variant.body:
            self.objects.remove(key, before.body)
        for row in surplus:
            self.remove_object(row)
        capacity = self._capacity(total, free + size)
        self.is_tight = total + size > capacity - self._reserve(capacity) // 2
        return variant

    def remove_object(self, row: VariantRow) -> None:
        """Remove the object of *row*, also where the row does not say any more which one that is."""
        for body in self.bodies(row):
            if row.key is not None:
                self.objects.remove(row.key, body)

    def bodies(self, row: VariantRow) -> list[str]:
        """The body digests of the objects of *row*, whole or their first 32 hex digits: what it says, or what
        lies there where it is damaged."""
        if row.variant is not None:
            return [row.variant.body]
        return self.objects.bodies(row.key) if row.key is not None else []

    def free_bytes(self) -> int:
        """The bytes that this user may still write on the disk. Raises StorageError."""
        try:
            status = os.statvfs(self.root)
        except OSError as error:
            raise StorageError("objects", f"the disk can't be asked: {error.strerror}") from error
        return status.f_bavail * status.f_frsize

    def room(self) -> tuple[int, int, int]:
        """The bytes that all objects have together; the capacity, which is ``max_bytes`` or what the disk
        leaves them; and that without a reserve for what is rendered meanwhile."""
        total = self.index.total_bytes()
        capacity = self._capacity(total, self.free_bytes())
        return total, capacity, capacity - self._reserve(capacity)

    def capacity(self) -> int:
        """The bytes that objects may have together now."""
        return self.room()[1]

    def _capacity(self, total: int, free: int) -> int:
        return max(0, min(self.max_bytes, total + free - self.min_free))

    def _reserve(self, capacity: int) -> int:
        # A fiftieth, or 16 of the largest objects of late, but no more than a quarter.
        return max(capacity // 50, min(capacity // 4, 16 * self._largest))

    def remove(self, variant: Variant) -> None:
        self.index.remove_variant(variant.key)
        self.objects.remove(variant.key, variant.body)

    @contextmanager
    def claim(self, key: Key, timeout_s: float) -> Iterator[bool]:
        with self.claims.take(key.text(), timeout_s) as has_waited:
            yield has_waited

    def epoch(self) -> int:
        try:
            return os.stat(self._epoch_path).st_mtime_ns  # noqa: PTH116
        except OSError:
            return 0

    def renew_epoch(self) -> None:
        """Tell all processes that the cache was purged, or its index replaced.

        The file's time is a random number, so that one stat tells two epochs apart also when they follow
        each other within a tick of the clock and reuse an inode.
        """
        with self.objects.temp() as temp:
            random_ns = secrets.randbelow(2**31 * 10**9 - 1) + 1  # before 2038, for older file systems
            os.utime(temp.path, ns=(random_ns, random_ns))
            temp.path.rename(self.root / "epoch")

    def follow(self) -> None:
        self.index.follow()

    def start(self) -> None:
        self.objects.sweep()
        with suppress(StorageError, OSError):
            if self.sessions.begin():  # somebody died: between an object and its row, perhaps
                self.index.set_whole(False)
            if not self.epoch():
                self.renew_epoch()
        with suppress(StorageError, OSError, TimedOut):
            self.removals.finish(_FINISH_S)

    def adopt(self, key: Key) -> Variant | None:
        """While the index is not whole an object may lie there without its row: then it gets one.

        None where there is no such object. Raises StorageError.
        """
        if self.index.is_whole():
            return None
        for body in self.objects.bodies(key):
            found = self.objects.inspect(key, body)
            if found is not None:
                variant = Variant(key, *found, *parse(key.recipe).size())
                for row in self.index.put_variant(variant, self.variants_per_source):
                    self.remove_object(row)
                return variant
        return None

    def add_up(self, uses: Mapping[str, int], counts: Mapping[str, float], now_s: float) -> None:
        self.index.add_up(uses, counts, now_s)

    def counters(self) -> Mapping[str, float]:
        return self.index.counters()

    def size(self) -> tuple[int, int]:
        return self.index.count(), self.index.total_bytes()

    def tell(self, gauges: Mapping[str, float]) -> None:
        self.sessions.tell(gauges)

    def told(self) -> list[Mapping[str, float]]:
        return self.sessions.told()

    def probe(self, size: int) -> None:
        """Try what a miss does, on a small scale: write and sync a file, begin to write the index."""
        with self.objects.temp() as temp:
            try:
                with open(temp.number, "wb", closefd=False) as file:
                    file.write(bytes(size))
                os.fsync(temp.number)
            except OSError as error:
                raise StorageError(
                    "objects", f"no file can be written in the cache: {error.strerror}"
                ) from error
        with suppress(TimedOut), self.claims.take("probe", 0.1):
            pass
        self.index.probe()


class MemoryStore:
    """A memo of at most *max_bytes* of bodies in this process; nothing is written anywhere.

    Look-ups take no lock. Rows of sources are bounded in number. A purge reaches this process alone.
    """

    _max_sources = 100_000

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self._sources: dict[str, Source] = {}
        self.is_tight = False
        self._variants: Memo[Key, tuple[Variant, bytes]] = Memo(max_bytes)
        self._counts: dict[str, float] = {}
        self._gauges: Mapping[str, float] = {}
        self._epoch = 0
        self._lock = threading.Lock()

    def source(self, path: str) -> Source | None:
        return self._sources.get(path)

    def put_source(self, source: Source) -> None:
        with self._lock:
            if len(self._sources) >= self._max_sources:
                self._sources.clear()
            self._sources[source.path] = source

    def find(self, key: Key) -> Variant | None:
        entry = self._variants.get(key)
        return entry and entry[0]

    def body(self, variant: Variant) -> Body | None:
        data = self.open(variant)
        return None if data is None else Body(data)

    def open(self, variant: Variant) -> bytes | None:
        entry = self._variants.get(variant.key)
        return entry[1] if entry is not None and entry[0] == variant else None

    @contextmanager
    def temp(self) -> Iterator[Temp | None]:
        yield None

    def keep(self, key: Key, rendered: Rendered, temp: Temp | None) -> Variant:
        """Keep what was rendered into memory; a body above the bound is not kept."""
        data = rendered.body or b""
        digest = hashlib.sha256(data).hexdigest()
        variant = Variant(key, digest, len(data), rendered.width, rendered.height)
        self._variants.put(key, (variant, data), len(data) + _ENTRY_BYTES)
        return variant

    def remove(self, variant: Variant) -> None:
        self._variants.drop(variant.key)

    @contextmanager
    def claim(self, key: Key, timeout_s: float) -> Iterator[bool]:
        yield False  # the threads of a process share a future already

    def epoch(self) -> int:
        return self._epoch

    def renew_epoch(self) -> None:
        """Let nobody give an answer again that he has remembered."""
        with self._lock:
            self._epoch += 1

    def known(self, paths: Sequence[str]) -> dict[str, Source]:
        """What is remembered of the sources at *paths*, by path."""
        return {path: source for path in paths if (source := self._sources.get(path))}

    def sources(self, folder: str = "") -> Iterator[Source]:
        """What is remembered of the sources at and below the path *folder*; without one of all."""
        for path, source in sorted(self._sources.copy().items()):
            if not folder or path == folder or path.startswith(f"{folder}/"):
                yield source

    def remove_sources(self, paths: Iterable[str]) -> None:
        """Forget the sources at *paths*."""
        with self._lock:
            for path in paths:
                self._sources.pop(path, None)

    def variants(self) -> list[Variant]:
        """All variants that are there now."""
        found = (self._variants.get(key) for key in self._variants.keys())  # noqa: SIM118  # no dict
        return [entry[0] for entry in found if entry]

    def follow(self) -> None:
        """Nothing: no other process sees this memo."""

    def start(self) -> None:
        """Nothing to sweep."""

    def probe(self, size: int) -> None:
        """Nothing can fail."""

    def adopt(self, key: Key) -> Variant | None:
        """Nothing lies there but what is known."""
        return None

    def add_up(self, uses: Mapping[str, int], counts: Mapping[str, float], now_s: float) -> None:
        """Keep *counts*; the memo knows by itself what is used."""
        with self._lock:
            for name, amount in counts.items():
                self._counts[name] = self._counts.get(name, 0) + amount

    def counters(self) -> Mapping[str, float]:
        return dict(self._counts)

    def size(self) -> tuple[int, int]:
        return len(self._variants), self._variants.bytes

    def tell(self, gauges: Mapping[str, float]) -> None:
        self._gauges = gauges

    def told(self) -> list[Mapping[str, float]]:
        return [self._gauges]
