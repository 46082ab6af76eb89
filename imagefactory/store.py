"""The cache as the generator sees it: on disk (index, objects, claims, epoch) or in memory.

Both have the same methods. What can fail because of the disk raises StorageError, and the generator
answers without the cache; in memory nothing fails.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

from .claims import Claims
from .config import Config
from .errors import StorageError, TimedOut
from .index import Index
from .jobs import Rendered
from .memo import Memo
from .objects import Objects, Temp
from .variants import Key, Source, Variant

__all__ = ["Body", "DiskStore", "MemoryStore", "Store", "open_store"]


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
    """What the generator asks of a cache."""

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


def open_store(config: Config) -> Store:
    """The store that *config* asks for. Nothing is touched on disk before the first use."""
    if config.cache.mode == "memory":
        return MemoryStore(config.cache.memory_bytes)
    return DiskStore(config.paths.cache, config.cache.max_bytes)


class DiskStore:
    """The cache in the folder *root*, shared by all processes of a machine; *max_bytes* bounds its objects.

    The order of writes is object before row, so that a crash at any moment leaves at worst an object
    without a row: wasted bytes, never a wrong answer.
    """

    def __init__(self, root: Path, max_bytes: int) -> None:
        self.root = root
        self.max_bytes = max_bytes
        self.index = Index(root / "index", root / "locks" / "index", root / "tmp" / "damaged-index")
        self.objects = Objects(root)
        self.claims = Claims(root / "locks" / "claims")
        self._epoch_path = str(root / "epoch")  # asked for at each hit

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
        if self.index.total_bytes() + size > self.max_bytes:
            raise StorageError("budget", f"the cache has reached its max_bytes of {self.max_bytes}")
        before = self.index.variant(key)
        variant = self.objects.publish(temp, key, rendered.width, rendered.height)
        try:
            self.index.put_variant(variant)
        except StorageError:
            if before is None or before.body != variant.body:  # nobody would find it, and nobody count it
                self.objects.remove(key, variant.body)
            raise
        if before is not None and before.body != variant.body:
            self.objects.remove(key, before.body)
        return variant

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
        if not self.epoch():
            with suppress(StorageError, OSError):
                self.renew_epoch()

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

    Look-ups take no lock. Rows of sources are bounded in number.
    """

    _max_sources = 100_000

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self._sources: dict[str, Source] = {}
        self._variants: Memo[Key, tuple[Variant, bytes]] = Memo(max_bytes)
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
        return 0

    def follow(self) -> None:
        """Nothing: no other process sees this memo."""

    def start(self) -> None:
        """Nothing to sweep."""

    def probe(self, size: int) -> None:
        """Nothing can fail."""
