"""``imagefactory jobs``: the queue of background work."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import click

from ..catalog.database import Database
from ..catalog.jobs import STATES, JobRow, JobRows
from ..common.units import count_text
from .catalogs import catalog_errors, need_catalog
from .common import as_json, check_owner, load, print_json
from .stats import _table

__all__ = ["jobs"]


@click.command()
@click.option("--failed", "is_failed", is_flag=True, help="List those that have failed alone.")
@click.option("--retry", "is_retry", is_flag=True, help="Have all that have failed begin again.")
@click.option(
    "--limit",
    type=click.IntRange(0, 100_000),
    default=20,
    show_default=True,
    metavar="N",
    help="List so many.",
)
@as_json
@click.pass_obj
def jobs(file: Path | None, is_failed: bool, is_retry: bool, limit: int, is_json: bool) -> None:
    """List the background work, and what went wrong with it.

    The newest come first, with what went wrong the last time. A job waits, too, between two attempts. After
    [tasks] attempts, or at once where another attempt can't work, it has failed, and waits for --retry. Jobs
    that are done are listed for a week.

    \b
    Examples:
      imagefactory jobs
      imagefactory jobs --failed --limit 1000
      imagefactory jobs --retry
      imagefactory jobs --json | jq .failed

    \b
    Exit codes:
      0    done
      1    the catalog can't be used
      2    wrong usage or config, or a cache of another user
      130  stopped by Ctrl-C
    """
    config = load(file)
    need_catalog(config)
    check_owner(config)
    database = Database(config)
    rows = JobRows(database, time.time)
    with catalog_errors():
        database.open()
        retried = rows.retry() if is_retry else None
        counts = rows.counts()
        found = rows.page("failed" if is_failed else "", limit) if limit else []
    if is_json:
        values: dict[str, object] = {**counts, "jobs": [_values(job) for job in found]}
        print_json(values if retried is None else {**values, "retried": retried})
        return
    if retried is not None:
        click.echo(
            f"{count_text(retried, 'job')} that had failed {'begins' if retried == 1 else 'begin'} again"
        )
    click.echo("\n".join(_lines(counts, found)))


def _values(job: JobRow) -> Mapping[str, object]:
    """*job* for JSON."""
    return {
        "id": job.token,
        "kind": job.kind,
        "subject": job.subject,
        "state": job.state,
        "done": job.done,
        "total": job.total,
        "attempts": job.attempts,
        "error": job.error,
        "result": job.result,
        "due_s": job.due_s,
        "created_s": job.created_s,
        "changed_s": job.changed_s,
    }


def _lines(counts: Mapping[str, int], found: Sequence[JobRow]) -> Iterable[str]:
    yield from _table([(state, f"{counts[state]}") for state in STATES], "<>")
    if not found:
        return
    rows = [("", "attempts", "", "", "")]
    for job in found:
        state = f"{job.state} {job.done}/{job.total}" if job.state == "running" else job.state
        rows.append((state, f"{job.attempts}", job.kind, _subject(job), job.error))
    yield ""
    yield from _table(rows, "<><<<")


def _subject(job: JobRow) -> str:
    """What *job* is about, for people: the path, and not the digest before it."""
    digest, _, path = job.subject.partition(" ")
    return path if path and len(digest) == 64 else job.subject
