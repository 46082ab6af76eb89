"""All pictures of the cache, as the dashboard lists them: read once a minute at most."""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass, replace

from ...engine.generator import Generator
from ...errors import StorageError
from ...storage.disk import DiskStore
from ...upkeep.listing import Cached, list_pictures

__all__ = ["Listing", "PictureList"]

_FRESH_S = 60.0
_KEPT_S = 600.0


@dataclass(frozen=True, slots=True)
class Listing:
    """All pictures as they were at unix time *time_s*; *problem* says why there are none."""

    pictures: list[Cached]
    time_s: float
    problem: str = ""


_NOTHING = Listing([], -math.inf)  # was read so long ago that it is read again


class PictureList:
    """The list of the pictures in the cache of *generator*."""

    def __init__(self, generator: Generator) -> None:
        self._generator = generator
        self._lock = threading.Lock()
        self._listing = _NOTHING

    def read(self) -> Listing:
        """All pictures, a minute old at most."""
        store, now_s = self._generator.store, self._generator.now_s
        if not isinstance(store, DiskStore):
            return Listing([], now_s(), "in memory mode there is no list of pictures")
        with self._lock:  # one thread reads, the others wait and find the list read
            if now_s() - self._listing.time_s > _FRESH_S:
                try:
                    self._listing = Listing(list_pictures(store), now_s())
                except StorageError as error:
                    return replace(self._listing, problem=f"the list can't be read at the moment: {error}")
            return self._listing

    def forget(self) -> None:
        """Have the next ``read`` read the index."""
        self._listing = _NOTHING

    def forget_if_unused(self) -> None:
        """Free the memory of a list that was read ten minutes ago."""
        if self._generator.now_s() - self._listing.time_s > _KEPT_S:
            self.forget()
