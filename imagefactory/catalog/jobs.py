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
    from sqlalchemy import Connection, Row, Update

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
        with self._writing(connection) as connection:
            # In one order everywhere: two that write the same rows would wait for each other for ever.
            for some in _batches(sorted(set(items))):
                self._put(some, connection)
            found = dict(self._tokens(items, connection))
        return [found[item] for item in items]

    def _put(self, items: Sequence[tuple[str, str]], connection: Connection) -> None:
        from sqlalchemy.dialects import postgresql, sqlite

        from .schema import jobs

        insert = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
        now_s = self._clock()
        begun = {**_BEGUN, "due_s": now_s, "changed_s": now_s}
        statement = insert(jobs).on_conflict_do_update(
            index_elements=["kind", "subject"],
            set_=begun,
            where=(jobs.c.state == "done") | (jobs.c.state == "failed"),
        )
        rows = [
            {
                **begun,
                "token": secrets.token_urlsafe(16),
                "kind": kind,
                "subject": subject,
                "created_s": now_s,
            }
            for kind, subject in items
        ]
        connection.execute(statement, rows)

    def _tokens(
        self, items: Iterable[tuple[str, str]], connection: Connection
    ) -> Iterator[tuple[tuple[str, str], str]]:
        from sqlalchemy import select

        from .schema import jobs

        by_kind: dict[str, list[str]] = {}
        for kind, subject in dict.fromkeys(items):
            by_kind.setdefault(kind, []).append(subject)
        for kind, subjects in by_kind.items():
            for some in _batches(subjects):
                wanted = select(jobs.c.subject, jobs.c.token).where(
                    jobs.c.kind == kind, jobs.c.subject.in_(some)
                )
                for subject, token in connection.execute(wanted):
                    yield (kind, subject), token

    # --- for workers

    def lease(
        self, kinds: Sequence[str], limit: int, owner: str, lease_s: float, attempts: int
    ) -> list[JobRow]:
        """At most *limit* jobs of *kinds* that are due, which *owner* has from now on, for *lease_s* seconds.

        A job whose lease ended is due again, but not after its last attempt of *attempts*: it may be what
        ends its workers, so then it has failed. Where nothing is due, that is one query, which waits for no
        writer.
        """
        from sqlalchemy import case, select, update

        from .schema import jobs

        now_s = self._clock()
        is_due = jobs.c.kind.in_(kinds), jobs.c.due_s <= now_s
        with self._database.read() as connection:
            any_due = select(jobs.c.number).where(jobs.c.state.in_(["queued", "running"]), *is_due).limit(1)
            if connection.execute(any_due).first() is None:
                return []
        is_last = jobs.c.attempts >= attempts
        ended = (
            update(jobs)
            .where(jobs.c.state == "running", *is_due)
            .values(
                state=case((is_last, "failed"), else_="queued"),
                error=case((is_last, _given_up(attempts)), else_=jobs.c.error),
                due_s=case((is_last, now_s), else_=jobs.c.due_s),
                owner="",
                changed_s=now_s,
            )
            .returning(jobs.c.state, jobs.c.kind, jobs.c.subject)
        )
        with self._database.write() as connection:
            given_up = [row for row in connection.execute(ended) if row.state == "failed"]
            taken = connection.execute(_leased(kinds, limit, owner, now_s, lease_s)).all()
        for row in given_up:
            _log.warning("the job %s of %r has failed: %s", row.kind, row.subject, _given_up(attempts))
        return [_job(row) for row in sorted(taken, key=lambda row: row.number)]

    def renew(self, tokens: Sequence[str], owner: str, lease_s: float) -> list[str]:
        """Those of *tokens* that *owner* still has; for *lease_s* seconds from now on."""
        from .schema import jobs

        now_s = self._clock()
        kept: list[str] = []
        with self._database.write() as connection:
            for some in _batches(tokens):
                renewed = _owned(some, owner).values(due_s=now_s + lease_s).returning(jobs.c.token)
                kept += connection.execute(renewed).scalars()
        return kept

    def progress(self, token: str, owner: str, done: int, total: int) -> bool:
        """Write down that *done* of *total* steps are done; whether *owner* still has the job."""
        return self._change(token, owner, {"done": done, "total": total})

    def finish(self, token: str, owner: str, result: Mapping[str, object]) -> bool:
        """The job is done, with a *result* for JSON; whether *owner* still had it. Raises TypeError for what
        is no JSON."""
        from .schema import jobs

        values = {"state": "done", "done": jobs.c.total, "error": "", "result": json.dumps(result)}
        return self._change(token, owner, {**values, "due_s": self._clock(), "owner": ""})

    def fail(self, token: str, owner: str, error: str, retry_in_s: float | None) -> bool:
        """The job is to be tried again in *retry_in_s* seconds, or has failed for good with None; whether
        *owner* still had it."""
        values = {"state": "failed" if retry_in_s is None else "queued", "error": _stored(error)}
        due_s = self._clock() + (retry_in_s or 0.0)
        return self._change(token, owner, {**values, "due_s": due_s, "owner": ""})

    def release(self, token: str, owner: str) -> bool:
        """Give the job back, as if *owner* had not begun it; whether *owner* still had it."""
        from .schema import jobs

        values = {"state": "queued", "attempts": jobs.c.attempts - 1}
        return self._change(token, owner, {**values, "due_s": self._clock(), "owner": ""})

    def _change(self, token: str, owner: str, values: Mapping[str, object]) -> bool:
        changed = _owned([token], owner).values(**values, changed_s=self._clock())
        with self._database.write() as connection:
            return connection.execute(changed).rowcount == 1

    # --- for those who look

    def get(self, token: str) -> JobRow | None:
        """The job with this *token*, which may be any text."""
        from sqlalchemy import select

        from .schema import jobs

        if not _TOKEN.fullmatch(token):
            return None
        with self._database.read() as connection:
            row = connection.execute(select(jobs).where(jobs.c.token == token)).first()
        return None if row is None else _job(row)

    def counts(self) -> dict[str, int]:
        """How many jobs are in each state."""
        from sqlalchemy import func, select

        from .schema import jobs

        with self._database.read() as connection:
            counted = connection.execute(select(jobs.c.state, func.count()).group_by(jobs.c.state))
            found = {row[0]: row[1] for row in counted}
        return {state: found.get(state, 0) for state in STATES}

    def page(self, state: str = "", limit: int = 100) -> list[JobRow]:
        """The newest jobs in *state*, or in any, at most *limit*."""
        from sqlalchemy import select

        from .schema import jobs

        wanted = select(jobs).order_by(jobs.c.number.desc()).limit(limit)
        with self._database.read() as connection:
            rows = connection.execute(wanted.where(jobs.c.state == state) if state else wanted)
            return [_job(row) for row in rows]

    # --- for those who keep the queue in order

    def retry(self, states: Sequence[str] = ("failed",)) -> int:
        """Have the jobs in *states*, of ``failed`` and ``done``, begin again; how many."""
        from sqlalchemy import update

        from .schema import jobs

        now_s = self._clock()
        ended = [state for state in states if state in ("failed", "done")]
        again = update(jobs).where(jobs.c.state.in_(ended)).values(**_BEGUN, due_s=now_s, changed_s=now_s)
        with self._database.write() as connection:
            return connection.execute(again).rowcount

    def prune(self, older_than_s: float) -> int:
        """Remove some of the jobs that have been done for so many seconds, a thousand at most; how many."""
        from sqlalchemy import delete, select

        from .schema import jobs

        is_old = jobs.c.state == "done", jobs.c.due_s <= self._clock() - older_than_s
        old = select(jobs.c.number).where(*is_old).order_by(jobs.c.due_s).limit(_PRUNED)
        with self._database.write() as connection:
            return connection.execute(delete(jobs).where(jobs.c.number.in_(old), *is_old)).rowcount

    def _writing(self, connection: Connection | None) -> AbstractContextManager[Connection]:
        return nullcontext(connection) if connection is not None else self._database.write()


# A job that begins, for the first time or again.
_BEGUN: Mapping[str, Any] = {
    "state": "queued",
    "done": 0,
    "total": 0,
    "attempts": 0,
    "error": "",
    "result": "",
    "owner": "",
}


def _leased(kinds: Sequence[str], limit: int, owner: str, now_s: float, lease_s: float) -> Any:
    """The statement that gives *owner* what is due. PostgreSQL passes over rows that another one is taking;
    SQLite has one writer at a time, and no words for it."""
    from sqlalchemy import select, update

    from .schema import jobs

    due = (
        select(jobs.c.number)
        .where(jobs.c.state == "queued", jobs.c.due_s <= now_s, jobs.c.kind.in_(kinds))
        .order_by(jobs.c.due_s, jobs.c.number)
        .limit(limit)
        .with_for_update(skip_locked=True)
        .cte("due")  # in a subquery PostgreSQL may look twice, and take more than the limit
    )
    return (
        update(jobs)
        .where(jobs.c.number.in_(select(due.c.number)))
        .values(
            state="running",
            owner=owner,
            attempts=jobs.c.attempts + 1,
            due_s=now_s + lease_s,
            changed_s=now_s,
        )
        .returning(jobs)
    )


def _owned(tokens: Sequence[str], owner: str) -> Update:
    """A change of those of *tokens* that *owner* has."""
    from sqlalchemy import update

    from .schema import jobs

    return update(jobs).where(jobs.c.token.in_(tokens), jobs.c.owner == owner, jobs.c.state == "running")


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
