"""A clock that a test sets."""

from __future__ import annotations

import time

__all__ = ["Clock"]


class Clock:
    """Gives unix seconds: the machine's and *ahead_s* more, or *now_s* where that is set."""

    def __init__(self, ahead_s: float = 0.0, now_s: float | None = None) -> None:
        self.ahead_s = ahead_s
        self.now_s = now_s

    def __call__(self) -> float:
        return time.time() + self.ahead_s if self.now_s is None else self.now_s
