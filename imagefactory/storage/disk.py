"""The cache on the local disk: index, objects, claims and epoch as one store, and the order of writes."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import AbstractContextManager, suppress
from pathlib import Path

from ..errors import Full, StorageError, TimedOut
from ..model.job import Rendered
from ..model.recipe import parse
from ..model.variant import Key, Variant
from .claims import FileClaims
from .index import DiskIndex
from .live_processes import LiveProcesses
from .notices import EpochFile
from .objects import DiskObjects
from .purge_journal import PurgeJournal
from .temp_files import Temp, TempFiles
from .variant_rows import VariantRow

__all__ = ["DiskStore"]

# How long a process that starts waits for the render of a picture that another one was about to remove.
_FINISH_S = 1.0


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
        self.index = DiskIndex(root / "index", root / "locks" / "index", root / "tmp" / "damaged-index")
        self.objects = DiskObjects(root / "objects")
        self.temps = TempFiles(root / "tmp")
        self.claims = FileClaims(root / "locks" / "claims")
        self.notices = EpochFile(root / "epoch", self.temps)
        self.processes = LiveProcesses(root / "locks")
        self.journal = PurgeJournal(self.index, self.objects, self.temps, self.claims, self.notices)
        self.is_tight = False
        # Whether an object stayed without its row, as it could not be removed: nobody finds or counts it.
        self.has_orphans = False
        self._largest = 0

    def temp(self) -> AbstractContextManager[Temp]:
        return self.temps.create()

    def keep(self, key: Key, rendered: Rendered, temp: Temp | None) -> Variant:
        """Store what was rendered into *temp*: fsync, rename, fsync of the folder, then the row."""
        if temp is None:
            raise StorageError("objects", "there is no file to keep")
        size = temp.size()
        self._largest = max(self._largest, size)
        total, free = self.index.variants.total_bytes(), self.free_bytes()
        if total + size > self.max_bytes:
            raise Full(size, f"the cache has reached its max_bytes of {self.max_bytes}")
        if free < self.min_free:
            raise Full(size, f"the disk has reached the min_free of {self.min_free} bytes")
        before = self.index.variants.get(key)
        variant = self.objects.publish(temp, key, rendered)
        try:
            surplus = self.index.variants.put(variant, self.variants_per_source)
        except StorageError:
            if before is None or before.body != variant.body:
                self._remove_orphan(key, variant.body)
            raise
        if before is not None and before.body != variant.body:
            self._remove_orphan(key, before.body)
        self._remove_orphans(surplus)
        capacity = self._capacity(total, free + size)
        self.is_tight = total + size > capacity - self._reserve(capacity) // 2
        return variant

    def _remove_orphan(self, key: Key, body: str) -> None:
        """Remove an object that has no row any more."""
        if not self.objects.remove(key, body):
            self.has_orphans = True

    def _remove_orphans(self, rows: Iterable[VariantRow]) -> None:
        """Remove the objects of *rows* that are gone."""
        for row in rows:
            if not self.remove_object(row):
                self.has_orphans = True

    def remove_object(self, row: VariantRow) -> bool:
        """Remove the object of *row*, also where the row does not say any more which one that is; whether it
        is gone."""
        key = row.key
        return key is None or all(self.objects.remove(key, body) for body in self.bodies(row))

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
        total = self.index.variants.total_bytes()
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
        self.index.variants.remove(variant.key)
        self._remove_orphan(variant.key, variant.body)

    def follow(self) -> None:
        self.index.database.follow()

    def start(self) -> None:
        self.temps.sweep()
        with suppress(StorageError, OSError):
            if self.processes.begin():  # somebody died: between an object and its row, perhaps
                self.index.completeness.set_whole(False)
            if not self.notices.epoch():
                self.notices.renew()
        with suppress(StorageError, OSError, TimedOut):
            self.journal.finish(_FINISH_S)

    def adopt(self, key: Key) -> Variant | None:
        """While the index is not whole an object may lie there without its row: then it gets one.

        None where there is no such object. Raises StorageError.
        """
        if self.index.completeness.is_whole():
            return None
        for body in self.objects.bodies(key):
            found = self.objects.inspect(key, body)
            if found is not None:
                variant = Variant(key, *found, *parse(key.recipe).size())
                self._remove_orphans(self.index.variants.put(variant, self.variants_per_source))
                return variant
        return None

    def probe(self, size: int) -> None:
        """Try what a miss does, on a small scale: write and sync a file, begin to write the index."""
        with self.temps.create() as temp:
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
        self.index.database.probe()
