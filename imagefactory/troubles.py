"""What is wrong with the cache at the moment: kept by the generator, told to the log and to ``/healthz``."""

from __future__ import annotations

import logging
import time

from .errors import StorageError

__all__ = ["Troubles"]

_log = logging.getLogger(__name__)
_PAUSE_S = 2.0


class Troubles:
    """What is wrong with the cache, by part: logged when it begins and when it ends, not per request."""

    def __init__(self) -> None:
        self.current: dict[str, str] = {}
        self._paused_until = 0.0

    def note(self, error: StorageError) -> None:
        """Something failed just now: for two seconds nothing is stored."""
        self._paused_until = time.monotonic() + _PAUSE_S
        if error.part not in self.current:
            reason = (
                f" ({error.__cause__})" if error.__cause__ else ""
            )  # may name a path, so not for visitors
            _log.warning("the cache is in trouble, pictures are made without it: %s%s", error, reason)
        self.current[error.part] = str(error)

    def is_paused(self) -> bool:
        """Whether something failed in the last two seconds."""
        return time.monotonic() < self._paused_until

    def clear(self, but: str = "") -> None:
        """Everything works, except perhaps the part *but*."""
        if self.current.keys() - {but}:
            self.current = {part: problem for part, problem in self.current.items() if part == but}
            _log.warning("the cache works again")
