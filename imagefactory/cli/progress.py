"""How far a command has come: a bar on a terminal, else a line every ten seconds. Imports tqdm."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

__all__ = ["Progress", "progress"]

_PAUSE_S = 10.0


class Progress:
    """How much is done of a *total* (None while nobody knows it); *bar* is None off a terminal."""

    def __init__(self, total: int | None, unit: str, what: str, bar: Any) -> None:
        self._total = total
        self._unit = unit
        self._what = what
        self._bar = bar
        self._done = 0
        self._note = ""
        self._began_s = self._said_s = time.monotonic()

    def expect(self, total: int | None) -> None:
        """There are so many in all."""
        if total != self._total:
            self._total = total
            if self._bar is not None:
                self._bar.total = total
                self._bar.refresh()

    def update(self, n: int, note: str = "") -> None:
        """*n* more are done; *note* is shown at the end of the line."""
        self._done += n
        self._note = note or self._note
        if self._bar is not None:
            if note:
                self._bar.set_postfix_str(note, refresh=False)
            self._bar.update(n)
        elif time.monotonic() - self._said_s >= _PAUSE_S:
            self._said_s = time.monotonic()
            click.echo(self._line(self._said_s - self._began_s), err=True)

    def tell(self, text: str) -> None:
        """Print a line above the bar."""
        if self._bar is not None:
            self._bar.write(text, file=sys.stderr)
        else:
            click.echo(text, err=True)

    def _line(self, seconds: float) -> str:
        rate = self._done / seconds
        parts = [f"{self._what}: {self._done}", f"{rate:.1f}/s", self._note]
        if self._total is not None:
            parts[0] += f" of {self._total}"
            if rate and self._done <= self._total:
                left_s = round((self._total - self._done) / rate)
                parts.insert(2, f"{left_s // 3600}:{left_s // 60 % 60:02}:{left_s % 60:02} left")
        parts[0] += f" {self._unit}"
        return ", ".join(filter(None, parts))


@contextmanager
def progress(total: int | None, unit: str, what: str) -> Iterator[Progress]:
    """Show on stderr how far *what* has come; *total* is how many *unit* there are, None if not known yet."""
    if not sys.stderr.isatty():
        yield Progress(total, unit, what, None)
        return
    from tqdm import tqdm  # type: ignore[import-untyped]  # it has no types

    tqdm.monitor_interval = 0  # no thread of its own
    with tqdm(total=total, unit=f" {unit}", desc=what, file=sys.stderr, dynamic_ncols=True) as bar:
        yield Progress(total, unit, what, bar)
