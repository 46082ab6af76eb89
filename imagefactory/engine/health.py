"""What is wrong: with the cache at the moment, told to the log and to ``/healthz``; and what failed of late
in this process, for the dashboard. Kept by the generator."""

from __future__ import annotations

import logging
import time
from collections import deque
from dataclasses import dataclass

from ..errors import RequestError, StorageError

__all__ = ["Failure", "Logged", "Troubles", "watch_log"]

_log = logging.getLogger(__name__)
_PAUSE_S = 2.0
_LENGTH = 50
_LONGEST = 500


@dataclass(frozen=True, slots=True)
class Failure:
    """A picture that could not be made: its *path*, code and text of the error, unix time."""

    path: str
    code: str
    detail: str
    time_s: float


@dataclass(frozen=True, slots=True)
class Logged:
    """A warning or an error of the log: its *level* as a word, unix time."""

    level: str
    text: str
    time_s: float


class Troubles:
    """What is wrong with the cache, by part: logged when it begins and when it ends, not per request; and the
    last *failures* of renders."""

    def __init__(self) -> None:
        self.failures: deque[Failure] = deque(maxlen=_LENGTH)
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

    def note_failure(self, path: str, error: RequestError, now_s: float) -> None:
        """A render of the picture at *path* failed."""
        self.failures.append(Failure(path, error.code, str(error)[:_LONGEST], now_s))


class _Ring(logging.Handler):
    """Keeps the last warnings and errors."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.kept: deque[Logged] = deque(maxlen=_LENGTH)

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = record.getMessage()
        except Exception:  # a message whose values do not fit it: not ours to fail for
            text = str(record.msg)
        if record.exc_info and record.exc_info[1]:
            text = f"{text}: {record.exc_info[1]!r}"
        self.kept.append(Logged(record.levelname.lower(), text[:_LONGEST], record.created))


def watch_log() -> deque[Logged]:
    """The last warnings and errors that this package has logged in this process since the first call."""
    logger = logging.getLogger("imagefactory")
    for handler in logger.handlers:
        if isinstance(handler, _Ring):
            return handler.kept
    ring = _Ring()
    logger.addHandler(ring)
    return ring.kept
