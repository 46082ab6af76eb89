"""What is wrong with the cache now, for the log and ``/healthz``; and which renders failed of late.

The cache is in trouble from the first StorageError until something is stored again. For two seconds after one
nothing is stored: a broken disk must not cost each visitor a time-out.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ..errors import RequestError, StorageError
from ..storage.protocols import Store

__all__ = ["FailedRender", "Health"]

_log = logging.getLogger(__name__)
_PAUSE_S = 2.0
_PROBE_S = 2.0
_LENGTH = 50
_LONGEST = 500


@dataclass(frozen=True, slots=True)
class FailedRender:
    """A picture that could not be made: its *path*, code and text of the error, unix time."""

    path: str
    code: str
    detail: str
    time_s: float


class Health:
    """The health of *store*: what is wrong is logged when it begins and when it ends, not per request.

    *troubles* are texts by the part that fails; *failures* the last renders that failed. *clock* gives unix
    seconds.
    """

    def __init__(self, store: Store, clock: Callable[[], float]) -> None:
        self.failures: deque[FailedRender] = deque(maxlen=_LENGTH)
        self.troubles: dict[str, str] = {}
        self._store = store
        self._clock = clock
        self._paused_until = 0.0
        self._probed_s = 0.0  # when storing was tried last, by a look at the health or by a miss

    def note(self, error: StorageError) -> None:
        """Something failed just now: for two seconds nothing is stored."""
        self._paused_until = time.monotonic() + _PAUSE_S
        if error.part not in self.troubles:
            reason = f" ({error.__cause__})" if error.__cause__ else ""  # may name a path: not for visitors
            _log.warning("the cache is in trouble, pictures are made without it: %s%s", error, reason)
        self.troubles[error.part] = str(error)

    def is_paused(self) -> bool:
        """Whether something failed in the last two seconds."""
        return time.monotonic() < self._paused_until

    def note_stored(self) -> None:
        """A variant was stored: everything works."""
        self._clear()
        self._probed_s = self._clock()

    def note_failure(self, path: str, error: RequestError) -> None:
        """A render of the picture at *path* failed."""
        self.failures.append(FailedRender(path, error.code, str(error)[:_LONGEST], self._clock()))

    def check(self) -> Mapping[str, str]:
        """What is wrong now, by part; tried every two seconds at most."""
        if not 0 <= self._clock() - self._probed_s < _PROBE_S:  # below 0: the clock was set back
            self._probed_s = self._clock()
            try:
                # A disk that is almost full has room for a little and not for a picture.
                self._store.probe(1_000_000 if self.troubles else 4096)
                self._clear(but="budget")  # whether there is room shows when a picture is stored
            except StorageError as error:
                self.note(error)
        return dict(self.troubles)

    def gauges(self) -> Mapping[str, float]:
        """1 for each part that fails, as ``trouble <part>``."""
        return {f"trouble {part}": 1 for part in self.troubles}

    def _clear(self, but: str = "") -> None:
        if self.troubles.keys() - {but}:
            self.troubles = {part: problem for part, problem in self.troubles.items() if part == but}
            _log.warning("the cache works again")
