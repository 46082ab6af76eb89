"""The cache in memory: a bounded memo of one process; nothing is written anywhere. Look-ups take no lock."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext

from ..common.memo import Memo
from ..errors import StorageError
from ..model.job import Rendered
from ..model.source import Source
from ..model.variant import Key, Variant
from .body import Body
from .temp_files import Temp

__all__ = ["MemoryStore"]

# What an entry of the memo takes beside its bytes: 680 were measured.
_ENTRY_BYTES = 700
_MAX_SOURCES = 100_000

_Bodies = Memo[Key, tuple[Variant, bytes]]


class MemoryStore:
    """At most *max_bytes* of bodies, of this process alone, and what is known of their sources."""

    def __init__(self, max_bytes: int) -> None:
        bodies: _Bodies = Memo(max_bytes)
        self.max_bytes = max_bytes
        self.is_tight = False
        self.index = MemoryIndex(bodies)
        self.objects = MemoryObjects(bodies)
        self.claims = NoClaims()
        self.notices = MemoryNotices()
        self.processes = MemoryProcesses()
        self._bodies = bodies

    def temp(self) -> AbstractContextManager[Temp | None]:
        return nullcontext()

    def keep(self, key: Key, rendered: Rendered, temp: Temp | None) -> Variant | None:
        """Keep what was rendered into memory; None for a body above the bound. Raises StorageError when it is
        not what the renderer made."""
        data = rendered.body or b""
        if not rendered.is_of(data):
            raise StorageError("objects", "a render is not as it was made")
        digest = hashlib.sha256(data).hexdigest()
        variant = Variant(key, digest, len(data), rendered.width, rendered.height)
        return variant if self._bodies.put(key, (variant, data), len(data) + _ENTRY_BYTES) else None

    def remove(self, variant: Variant) -> None:
        self._bodies.drop(variant.key)

    def adopt(self, key: Key) -> Variant | None:
        """Nothing lies there but what is known."""
        return None

    def capacity(self) -> int:
        return self.max_bytes

    def free_bytes(self) -> int | None:
        return None

    def start(self) -> None:
        """Nothing to sweep."""

    def follow(self) -> None:
        """Nothing: no other process sees this memo."""

    def probe(self, size: int) -> None:
        """Nothing can fail."""


class MemoryIndex:
    """What is known of sources, which variants there are, and what was counted."""

    def __init__(self, bodies: _Bodies) -> None:
        self.sources = MemorySourceRows()
        self.variants = MemoryVariantRows(bodies)
        self.counts = MemoryCounts()


class MemorySourceRows:
    """What is known of up to 100,000 sources."""

    def __init__(self) -> None:
        self._sources: dict[str, Source] = {}
        self._lock = threading.Lock()

    def get(self, path: str) -> Source | None:
        return self._sources.get(path)

    def put(self, source: Source) -> None:
        with self._lock:
            if len(self._sources) >= _MAX_SOURCES:
                self._sources.clear()
            self._sources[source.path] = source

    def known(self, paths: Sequence[str]) -> dict[str, Source]:
        return {path: source for path in paths if (source := self._sources.get(path))}

    def walk(self, folder: str = "") -> Iterator[Source]:
        for path, source in sorted(self._sources.copy().items()):
            if not folder or path == folder or path.startswith(f"{folder}/"):
                yield source

    def remove(self, paths: Iterable[str]) -> None:
        with self._lock:
            for path in paths:
                self._sources.pop(path, None)


class MemoryVariantRows:
    """Which variants are in *bodies*."""

    def __init__(self, bodies: _Bodies) -> None:
        self._bodies = bodies

    def get(self, key: Key) -> Variant | None:
        entry = self._bodies.get(key)
        return entry and entry[0]

    def count(self) -> int:
        return len(self._bodies)

    def total_bytes(self) -> int:
        return self._bodies.bytes

    def all(self) -> list[Variant]:
        """All variants that are there now."""
        found = (self._bodies.get(key) for key in self._bodies.keys())  # noqa: SIM118  # no dict
        return [entry[0] for entry in found if entry]


class MemoryCounts:
    """Counts of this process."""

    def __init__(self) -> None:
        self._counts: dict[str, float] = {}
        self._lock = threading.Lock()

    def add(self, uses: Mapping[str, int], counts: Mapping[str, float], now_s: float) -> None:
        """Keep *counts*; the memo knows by itself what is used."""
        with self._lock:
            for name, amount in counts.items():
                self._counts[name] = self._counts.get(name, 0) + amount

    def all(self) -> Mapping[str, float]:
        return dict(self._counts)


class MemoryObjects:
    """The bytes in *bodies*."""

    def __init__(self, bodies: _Bodies) -> None:
        self._bodies = bodies

    def body(self, variant: Variant) -> Body | None:
        entry = self._bodies.get(variant.key)
        return Body(entry[1]) if entry is not None and entry[0] == variant else None

    def has(self, variant: Variant) -> bool:
        return self.body(variant) is not None


class NoClaims:
    """None are needed: no other process makes variants for this memo, and threads share a future already."""

    def take(self, key: str, timeout_s: float) -> AbstractContextManager[bool]:
        return nullcontext(False)


class MemoryNotices:
    """The epoch of one process."""

    def __init__(self) -> None:
        self._epoch = 0
        self._lock = threading.Lock()

    def epoch(self) -> int:
        return self._epoch

    def renew(self) -> None:
        with self._lock:
            self._epoch += 1


class MemoryProcesses:
    """This process alone."""

    def __init__(self) -> None:
        self._gauges: Mapping[str, float] = {}

    def report(self, gauges: Mapping[str, float]) -> None:
        self._gauges = gauges

    def reports(self) -> list[Mapping[str, float]]:
        return [self._gauges]
