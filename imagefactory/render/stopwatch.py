"""How long each phase of a render takes, for ``Server-Timing`` and the numbers."""

from __future__ import annotations

import time

__all__ = ["Stopwatch"]


class Stopwatch:
    """The seconds spent in each phase, of which one runs at a time."""

    def __init__(self, phase: str) -> None:
        self._seconds = {"decode": 0.0, "resize": 0.0, "encode": 0.0}
        self._phase, self._since = phase, time.perf_counter()

    def turn_to(self, phase: str) -> None:
        """Count from now on for *phase*."""
        now = time.perf_counter()
        self._seconds[self._phase] += now - self._since
        self._phase, self._since = phase, now

    def stop(self) -> dict[str, float]:
        """The seconds by phase."""
        self.turn_to(self._phase)
        return self._seconds
