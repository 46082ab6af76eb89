"""What one kind of torture got for answers, and what is wrong with them."""

from __future__ import annotations

import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from http.client import HTTPException

from support.serving import Client, Reply, is_right

__all__ = ["COLUMNS", "FAULTS", "Tally", "table"]

_RESULTS = ("hit", "miss", "coalesced", "bypass")
# What must not be. "short" is an answer that broke off though nothing was killed; "error" all other trouble.
FAULTS = ("wrong", "empty", "stale", "short", "error")
COLUMNS = ("asked", *_RESULTS, "refused", "cut", *FAULTS)
_MAX_FOUND = 20
_RECORD = re.compile(r"^(?=[0-9]{4}-[0-9]{2}-[0-9]{2} )", re.MULTILINE)  # a log line begins with its date


class Tally:
    """The answers of one *kind*. All methods may be called in threads.

    *counts* are by ``COLUMNS``, where cut is an answer that broke off for a good reason; *notes* what else
    there was, as kills; *found* a text for each fault.
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.counts: Counter[str] = Counter()
        self.refusals: Counter[int] = Counter()
        self.notes: Counter[str] = Counter()
        self.found: list[str] = []
        self.began = time.monotonic()
        self.took_s = 0.0
        self._lock = threading.Lock()

    def ask(
        self, client: Client, target: str, problem: Callable[[bytes], str], may_be_cut: Callable[[], bool]
    ) -> Reply | None:
        """The answer to *target*, judged and counted; None where none came.

        *problem* says what is wrong with a body, empty if nothing is. A broken connection is a fault unless
        then it *may_be_cut*.
        """
        try:
            reply = client.get(target)
        except (OSError, HTTPException) as error:
            if may_be_cut():
                self.count("cut")
            else:
                self.fault("short", f"{target}: {error!r}")
            return None
        self.check(target, reply, problem)
        return reply

    def check(self, target: str, reply: Reply, problem: Callable[[bytes], str]) -> None:
        """Count the complete *reply* to *target*, and judge it."""
        self.count("asked")
        text = f"{target}: {reply.status} {dict(reply.headers)} {reply.body[:200]!r}"
        if reply.status == 503 and "retry-after" in reply.headers:
            self.refuse(reply.status)
        elif reply.status == 200 and not reply.body:
            self.fault("empty", text)
        elif not is_right(reply):
            self.fault("wrong", text)
        elif kind := problem(reply.body):
            self.fault(kind, text)
        else:
            self.count(reply.cache)

    def count(self, what: str, number: int = 1) -> None:
        """Add to a column."""
        with self._lock:
            self.counts[what] += number

    def refuse(self, status: int, number: int = 1) -> None:
        """Count answers that are refused for a good reason."""
        with self._lock:
            self.counts["refused"] += number
            self.refusals[status] += number

    def note(self, what: str, number: int = 1) -> None:
        """Add to what else there was."""
        with self._lock:
            self.notes[what] += number

    def fault(self, what: str, text: str) -> None:
        """Count and keep what should not be."""
        with self._lock:
            self.counts[what] += 1
            if len(self.found) < _MAX_FOUND:
                self.found.append(f"{self.kind}, {what}: {text}")

    def listen(self, said: str) -> None:
        """Look for trouble in what a server *said*. That it could not go on with a body, which it reads while
        it sends it, is none."""
        for record in _RECORD.split(said):
            is_trouble = "Traceback" in record or " ERROR " in record
            if is_trouble and not (self.counts["cut"] and "_flush_some" in record):
                self.fault("error", f"the server complains: {record[-3000:]}")

    def end(self) -> None:
        """The kind is over."""
        self.took_s = time.monotonic() - self.began

    @property
    def is_good(self) -> bool:
        """Whether something was asked, and nothing was wrong."""
        return self.counts["asked"] > 0 and not any(self.counts[name] for name in FAULTS)


def table(tallies: Sequence[Tally]) -> str:
    """The answers of all kinds, a row each in Markdown."""
    rows = [["kind", *COLUMNS, "seconds", "notes"], ["---"] * (len(COLUMNS) + 3)]
    for tally in tallies:
        cells = [f"{tally.counts[name]:,}" for name in COLUMNS]
        if tally.refusals:
            said = ", ".join(f"{status}: {number:,}" for status, number in sorted(tally.refusals.items()))
            cells[COLUMNS.index("refused")] = said
        notes = ", ".join(f"{number:,} {name}" for name, number in sorted(tally.notes.items()))
        rows.append([tally.kind, *cells, f"{tally.took_s:.0f}", notes])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
