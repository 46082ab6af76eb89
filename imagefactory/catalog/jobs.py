"""The queue of background work: a row a job, leased by one worker at a time.

queued -> running -> done or failed. A worker has a job until its lease ends; it renews the lease while it
works. A job whose worker was killed is given to another one after that. What came of it is written by the
worker that has it, and by no other.
"""

from __future__ import annotations

import json
import logging
import os
import re
import secrets
import socket
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .database import Database

if TYPE_CHECKING:
    from sqlalchemy import Connection, Row

__all__ = ["STATES", "JobRow", "JobRows", "new_owner"]

_log = logging.getLogger(__name__)

STATES = ("queued", "running", "done", "failed")
_AT_ONCE = 500  # rows a statement: SQLite before 3.32 takes 999 values
_MAX_TEXT = 2000  # characters of an error
_PRUNED = 1000  # rows a transaction: others wait for its end
_TOKEN = re.compile("[A-Za-z0-9_-]{1,32}")


@dataclass(frozen=True, slots=True)
class JobRow:
    """A job, known to others by its *token*, which can't be guessed: *kind* says what is done, *subject* to
    what.

    *state* is one of ``STATES``; *done* of *total* steps are done, 0 of 0 before it is known. *attempts*
    counts how often it was begun. *error* says what went wrong the last time, and is empty when it is done;
    *result* is empty until then. *due_s* is when it may begin; the end of its lease while it runs; and when
    it ended. All times are unix seconds.
    """

    token: str
    kind: str
    subject: str
    state: str
    done: int
    total: int
    attempts: int
    error: str
    result: Mapping[str, Any]
    due_s: float
    created_s: float
    changed_s: float


def new_owner() -> str:
    """A name for the calling thread that no other worker has, on any machine."""
    thread = threading.get_native_id()
    return f"{socket.gethostname()[:24]} {os.getpid()} {thread} {secrets.token_hex(6)}"[:64]


class JobRows:
    """The jobs in *database*; *clock* gives unix seconds. All methods raise CatalogUnavailable, and NoSpace
    where they write."""

    def __init__(self, database: Database, clock: Callable[[], float]) -> None:
        self._database = database
        self._clock = clock

    # --- for those who want work done

    def enqueue(self, items: Sequence[tuple[str, str]], connection: Connection | None = None) -> list[str]:
        """The tokens of the jobs for *items*, (kind, subject) each, in this order.

        The same kind and subject is one job: one that waits or runs is left as it is, one that is done or
        failed begins again. It is done in the transaction of *connection* where there is one: a row and its
        job are there together or not at all.
        """
        if not items:
            return []
        found: dict[tuple[str, str], str] = {}
        with self._writing(connection) as connection:
            from .job_statements import TOKENS, enqueue, enqueued

            if len(items) == 1:
                one = self._begun(items[0][0], [items[0][1]])[0]
                new = connection.execute(enqueued(connection.dialect.name), one).scalar()
                if new is not None:
                    return [str(new)]

            # In one order everywhere: two that write the same rows would wait for each other for ever.
            for kind, subjects in _by_kind(items).items():
                for some in _batches(sorted(subjects)):
                    connection.execute(enqueue(connection.dialect.name), self._begun(kind, some))
                    wanted = {"of_kind": kind, "subjects": some}
                    for subject, token in connection.execute(TOKENS, wanted):
                        found[kind, subject] = token
        return [found[item] for item in items]

    def _begun(self, kind: str, subjects: Iterable[str]) -> list[dict[str, object]]:
        """The rows of new jobs."""
        now_s = self._clock()
        numbers = dict.fromkeys(("done", "total", "attempts"), 0)
        texts = dict.fromkeys(("error", "result", "owner"), "")
        times = dict.fromkeys(("due_s", "created_s", "changed_s"), now_s)
        same = {"kind": kind, "state": "queued", **numbers, **texts, **times}
        return [{**same, "subject": subject, "token": secrets.token_urlsafe(16)} for subject in subjects]

    # --- for workers

    def lease(
        self, kinds: Sequence[str], limit: int, owner: str, lease_s: float, attempts: int
    ) -> list[JobRow]:
        """At most *limit* jobs of *kinds* that are due, which *owner* has from now on, for *lease_s* seconds.

        A job whose lease ended is due again, but not after its last attempt of *attempts*: it may be what
        ends its workers, so then it has failed. Where nothing is due, that is one query, which waits for no
        writer.
        """
        now_s, given_up = self._clock(), _given_up(attempts)
        due = {"kinds": kinds, "now_s": now_s}
        with self._database.read() as connection:
            from .job_statements import ANY_DUE, ENDED, LEASED

            if connection.execute(ANY_DUE, due).first() is None:
                return []
        with self._database.write() as connection:
            ended = connection.execute(ENDED, {**due, "most": attempts, "given_up": given_up}).all()
            lease = {"by": owner, "until_s": now_s + lease_s, "most_rows": limit}
            taken = connection.execute(LEASED, {**due, **lease}).all()
        for row in ended:
            if row.state == "failed":
                _log.warning("the job %s of %r has failed: %s", row.kind, row.subject, given_up)
        return [_job(row) for row in sorted(taken, key=lambda row: row.number)]

    def renew(self, tokens: Sequence[str], owner: str, lease_s: float) -> list[str]:
        """Those of *tokens* that *owner* still has; for *lease_s* seconds from now on."""
        kept: list[str] = []
        lease = {"by": owner, "until_s": self._clock() + lease_s}
        with self._database.write() as connection:
            from .job_statements import RENEW

            for some in _batches(tokens):
                kept += connection.execute(RENEW, {**lease, "tokens": some}).scalars()
        return kept

    def progress(self, token: str, owner: str, done: int, total: int) -> bool:
        """Write down that *done* of *total* steps are done; whether *owner* still has the job."""
        return self._change("progress", token, owner, steps=done, of_steps=total)

    def finish(self, token: str, owner: str, result: Mapping[str, object]) -> bool:
        """The job is done, with a *result* for JSON; whether *owner* still had it. Raises TypeError for what
        is no JSON."""
        return self._change("finish", token, owner, text=json.dumps(result))

    def fail(self, token: str, owner: str, error: str, retry_in_s: float | None) -> bool:
        """The job is to be tried again in *retry_in_s* seconds, or has failed for good with None; whether
        *owner* still had it."""
        state = "failed" if retry_in_s is None else "queued"
        until_s = self._clock() + (retry_in_s or 0.0)
        return self._change("fail", token, owner, to=state, text=_stored(error), until_s=until_s)

    def release(self, token: str, owner: str) -> bool:
        """Give the job back, as if *owner* had not begun it; whether *owner* still had it."""
        return self._change("release", token, owner)

    def _change(self, name: str, token: str, owner: str, **values: object) -> bool:
        values |= {"of_token": token, "by": owner, "now_s": self._clock()}
        with self._database.write() as connection:
            from .job_statements import CHANGES

            return bool(connection.execute(CHANGES[name], values).rowcount)

    # --- for those who look

    def get(self, token: str) -> JobRow | None:
        """The job with this *token*, which may be any text."""
        if not _TOKEN.fullmatch(token):
            return None
        with self._database.read() as connection:
            from .job_statements import BY_TOKEN

            row = connection.execute(BY_TOKEN, {"of_token": token}).first()
        return None if row is None else _job(row)

    def counts(self) -> dict[str, int]:
        """How many jobs are in each state."""
        with self._database.read() as connection:
            from .job_statements import COUNTS

            found = {row[0]: row[1] for row in connection.execute(COUNTS)}
        return {state: found.get(state, 0) for state in STATES}

    def page(self, state: str = "", limit: int = 100) -> list[JobRow]:
        """The newest jobs in *state*, or in any, at most *limit*."""
        with self._database.read() as connection:
            from .job_statements import NEWEST, NEWEST_IN

            if state:
                rows = connection.execute(NEWEST_IN, {"of_state": state, "most_rows": limit}).all()
            else:
                rows = connection.execute(NEWEST, {"most_rows": limit}).all()
        return [_job(row) for row in rows]

    # --- for those who keep the queue in order

    def retry(self, states: Sequence[str] = ("failed",)) -> int:
        """Have the jobs in *states*, of ``failed`` and ``done``, begin again; how many."""
        ended = [state for state in states if state in ("failed", "done")]
        with self._database.write() as connection:
            from .job_statements import AGAIN

            return int(connection.execute(AGAIN, {"states": ended, "now_s": self._clock()}).rowcount)

    def prune(self, older_than_s: float) -> int:
        """Remove some of the jobs that have been done for so many seconds, a thousand at most; how many."""
        old = {"before_s": self._clock() - older_than_s, "most_rows": _PRUNED}
        with self._database.write() as connection:
            from .job_statements import PRUNE

            return int(connection.execute(PRUNE, old).rowcount)

    def _writing(self, connection: Connection | None) -> AbstractContextManager[Connection]:
        return nullcontext(connection) if connection is not None else self._database.write()


def _by_kind(items: Iterable[tuple[str, str]]) -> dict[str, set[str]]:
    """The subjects of *items*, each once, by kind, in the order of kinds."""
    found: dict[str, set[str]] = {}
    for kind, subject in items:
        found.setdefault(kind, set()).add(subject)
    return dict(sorted(found.items()))


def _given_up(attempts: int) -> str:
    return f"given up after {attempts} attempts: in the last one its worker ended or hung"


def _job(row: Row[Any]) -> JobRow:
    return JobRow(
        row.token,
        row.kind,
        row.subject,
        row.state,
        row.done,
        row.total,
        row.attempts,
        row.error,
        json.loads(row.result) if row.result else {},
        row.due_s,
        row.created_s,
        row.changed_s,
    )


def _stored(text: str) -> str:
    """*text* as every database takes it."""
    return text[:_MAX_TEXT].replace("\0", "").encode("utf-8", "replace").decode()


def _batches(items: Sequence[Any]) -> Iterator[Sequence[Any]]:
    for start in range(0, len(items), _AT_ONCE):
        yield items[start : start + _AT_ONCE]
