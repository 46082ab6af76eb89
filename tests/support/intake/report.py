"""What one kind has found: figures, and faults."""

from __future__ import annotations

import threading

__all__ = ["Report"]

_SHOWN = 20


class Report:
    """Prints as it goes. *faults* has the text of each fault. All methods may be called in threads."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.faults: list[str] = []
        self._lock = threading.Lock()

    def say(self, text: str) -> None:
        """Print a line."""
        with self._lock:
            print(f"{self.kind}: {text}", flush=True)

    def figure(self, what: str, value: float, most: float | None = None, least: float | None = None) -> None:
        """Print a number, and whether it is within what is wanted."""
        is_short = (most is not None and value > most) or (least is not None and value < least)
        wanted = (
            f"at most {most:g}" if most is not None else f"at least {least:g}" if least is not None else ""
        )
        mark = f" (wanted: {wanted}{'; FALLS SHORT' if is_short else ''})" if wanted else ""
        self.say(f"{what}: {value:,.2f}{mark}")

    def expect(self, is_so: bool, fault: str) -> None:
        """Note *fault* unless it *is_so*."""
        if not is_so:
            self.faults.append(fault)
            if len(self.faults) <= _SHOWN:
                self.say(f"FAULT: {fault}")

    def same(self, what: str, found: object, expected: object) -> None:
        """Note a fault where what was *found* is not what is *expected*."""
        self.expect(found == expected, f"{what}: {str(found)[:1000]} instead of {str(expected)[:1000]}")
