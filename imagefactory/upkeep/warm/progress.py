"""How far a warming has come: the counts, and whether anything more is to be begun. All threads share it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection

from ...errors import RequestError
from .orders import FailedVariant, Warmed, Wish

__all__ = ["Progress"]

_MAX_PLANNED = 1_000_000  # variants


class Progress:
    """The counts of one warming. It is over when *stop* is set, or after ``end``. *clock* gives seconds."""

    def __init__(self, stop: threading.Event, clock: Callable[[], float]) -> None:
        self.stop = stop
        self.bytes = 0
        self._clock = clock
        self._began_s = clock()
        self._lock = threading.Lock()
        self._pictures = self._rendered = self._present = 0
        self._failed: list[FailedVariant] = []
        self._planned: set[int] = set()
        self._stopped = ""
        self._error: BaseException | None = None

    @property
    def seconds(self) -> float:
        """Since the beginning."""
        return self._clock() - self._began_s

    @property
    def reached(self) -> int:
        """How many variants were reached so far."""
        return self._rendered + self._present + len(self._failed)

    # --- the end

    @property
    def is_over(self) -> bool:
        """Whether nothing more is to be begun."""
        if self.stop.is_set():
            self.end("interrupted")
        return bool(self._stopped)

    def end(self, reason: str) -> None:
        """Have nothing more begun; the first *reason* counts."""
        with self._lock:
            self._stopped = self._stopped or reason

    def abort(self, error: BaseException) -> None:
        """End for *error*, which ``result`` raises."""
        self._error = self._error or error
        self.end("failed")

    def result(self) -> Warmed:
        """The sums. Raises the error of ``abort``."""
        if self._error is not None:
            raise self._error
        return Warmed(
            self._pictures,
            self._rendered,
            self._present,
            self._failed,
            self.bytes,
            self.seconds,
            self._stopped,
        )

    # --- counting

    def add(self, *, pictures: int = 0, present: int = 0) -> None:
        """Count so many *pictures*, and variants that were *present*."""
        with self._lock:
            self._pictures += pictures
            self._present += present

    def add_rendered(self, size: int) -> None:
        """Count a variant of *size* bytes."""
        with self._lock:
            self._rendered += 1
            self.bytes += size

    def add_failed(self, path: str, wish: Wish, error: RequestError) -> None:
        """Count *wish*, which can't be made of the source at *path*."""
        with self._lock:
            self._failed.append(FailedVariant(path, error.code, str(error), wish.query))

    def add_planned(self, keys: Collection[str]) -> None:
        """Count as rendered, in a dry run, what has one of these *keys*; as present what was counted before:
        copies of a picture are rendered once."""
        with self._lock:
            new = {hash(key) for key in keys} - self._planned
            if len(self._planned) < _MAX_PLANNED:
                self._planned |= new
            self._rendered += len(new)
            self._present += len(keys) - len(new)
