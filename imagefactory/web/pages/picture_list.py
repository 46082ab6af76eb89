"""All pictures of the cache, as the dashboard lists them: read once a minute at most."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace

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
    """The list of the pictures in the cache *disk*, None where it is in memory; *clock* gives unix
    seconds."""

    def __init__(self, disk: DiskStore | None, clock: Callable[[], float]) -> None:
        self._disk = disk
        self._clock = clock
        self._lock = threading.Lock()
        self._listing = _NOTHING

    def read(self) -> Listing:
        """All pictures, a minute old at most."""
        if self._disk is None:
            return Listing([], self._clock(), "in memory mode there is no list of pictures")
        with self._lock:  # one thread reads, the others wait and find the list read
            if self._clock() - self._listing.time_s > _FRESH_S:
                try:
                    self._listing = Listing(list_pictures(self._disk), self._clock())
                except StorageError as error:
                    return replace(self._listing, problem=f"the list can't be read at the moment: {error}")
            return self._listing

    def forget(self) -> None:
        """Have the next ``read`` read the index."""
        self._listing = _NOTHING

    def forget_if_unused(self) -> None:
        """Free the memory of a list that was read ten minutes ago."""
        if self._clock() - self._listing.time_s > _KEPT_S:
            self.forget()
