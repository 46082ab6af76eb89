"""The last warnings and errors of this package in this process, for the dashboard."""

from __future__ import annotations

import logging
from collections import deque
from dataclasses import dataclass

__all__ = ["Logged", "watch_log"]

_LENGTH = 50
_LONGEST = 500


@dataclass(frozen=True, slots=True)
class Logged:
    """A warning or an error of the log: its *level* as a word, unix time."""

    level: str
    text: str
    time_s: float


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
