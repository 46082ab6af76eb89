"""The queue: the same work is one job, a job has one worker at a time, none is leased for ever."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event
from sqlalchemy.dialects import postgresql
from support.clock import Clock

from imagefactory.catalog.database import Database
from imagefactory.catalog.job_statements import LEASED
from imagefactory.catalog.jobs import JobRow, JobRows, new_owner
from imagefactory.config import Config

KINDS = ("presets", "poster")
LEASE_S, ATTEMPTS = 60.0, 3


@pytest.fixture
def clock() -> Clock:
    return Clock(now_s=1000.0)


@pytest.fixture
def database(configure: Callable[..., Config], tmp_path: Path) -> Iterator[Database]:
    found = Database(configure(catalog={"url": f"sqlite:///{tmp_path / 'catalog.db'}"}))
    yield found
    found.close()


@pytest.fixture
def rows(database: Database, clock: Clock) -> JobRows:
    return JobRows(database, clock)


def lease(rows: JobRows, owner: str = "me", limit: int = 1) -> list[JobRow]:
    return rows.lease(KINDS, limit, owner, LEASE_S, ATTEMPTS)


def one(rows: JobRows, token: str) -> JobRow:
    found = rows.get(token)
    assert found is not None
    return found


# --- what is wanted ---------------------------------------------------------------------------------------


def test_a_job_is_queued_and_due_at_once(rows: JobRows) -> None:
    (token,) = rows.enqueue([("presets", "a tom.jpg")])
    assert rows.get(token) == JobRow(
        token, "presets", "a tom.jpg", "queued", 0, 0, 0, "", {}, 1000.0, 1000.0, 1000.0
    )
    assert len(token) >= 20


def test_tokens_come_in_the_order_of_the_items(rows: JobRows) -> None:
    items = [("presets", f"{number % 700}") for number in range(1500)] + [("poster", "0")]
    tokens = rows.enqueue(items)
    assert [(one(rows, token).kind, one(rows, token).subject) for token in tokens[690:710]] == items[690:710]
    assert len(set(tokens)) == 701
    assert rows.counts() == {"queued": 701, "running": 0, "done": 0, "failed": 0}
    assert rows.enqueue([]) == []


def test_the_same_work_is_one_job_while_it_waits_or_runs(rows: JobRows, clock: Clock) -> None:
    (token,) = rows.enqueue([("presets", "a")])
    clock.now_s = 1001.0
    assert rows.enqueue([("presets", "a")]) == [token]
    assert one(rows, token).changed_s == 1000.0
    lease(rows)
    assert rows.enqueue([("presets", "a")]) == [token]
    assert (one(rows, token).state, one(rows, token).attempts) == ("running", 1)


@pytest.mark.parametrize("is_done", [True, False])
def test_work_that_ended_begins_again_when_it_is_wanted_again(
    rows: JobRows, clock: Clock, is_done: bool
) -> None:
    (token,) = rows.enqueue([("presets", "a")])
    lease(rows)
    rows.progress(token, "me", 2, 3)
    assert rows.finish(token, "me", {"variants": 3}) if is_done else rows.fail(token, "me", "broken", None)
    clock.now_s = 2000.0
    assert rows.enqueue([("presets", "a")]) == [token]
    assert rows.get(token) == JobRow(token, "presets", "a", "queued", 0, 0, 0, "", {}, 2000.0, 1000.0, 2000.0)


def test_a_job_is_there_only_if_the_transaction_of_its_caller_is(rows: JobRows, database: Database) -> None:
    with pytest.raises(RuntimeError), database.write() as connection:
        rows.enqueue([("presets", "a")], connection)
        raise RuntimeError
    assert rows.counts()["queued"] == 0
    with database.write() as connection:
        tokens = rows.enqueue([("presets", "a")], connection)
    assert one(rows, tokens[0]).subject == "a"


# --- leases -----------------------------------------------------------------------------------------------


def test_who_came_first_goes_first_and_within_the_limit(rows: JobRows, clock: Clock) -> None:
    for name in "zab":
        rows.enqueue([("presets", name)])
        clock.now_s = (clock.now_s or 0) + 1
    assert [job.subject for job in lease(rows, limit=2)] == ["z", "a"]
    assert [job.subject for job in lease(rows, limit=2)] == ["b"]
    assert lease(rows) == []


def test_a_lease_says_what_the_job_is_and_until_when(rows: JobRows) -> None:
    (token,) = rows.enqueue([("presets", "a")])
    (job,) = lease(rows)
    assert job == one(rows, token)
    assert (job.state, job.attempts, job.due_s) == ("running", 1, 1060.0)


def test_kinds_that_a_worker_does_not_know_are_left_to_others(rows: JobRows) -> None:
    rows.enqueue([("sync", "a"), ("poster", "b")])
    assert [job.subject for job in lease(rows, limit=5)] == ["b"]
    assert rows.counts()["queued"] == 1


def test_a_job_whose_lease_ended_is_given_to_another(rows: JobRows, clock: Clock) -> None:
    (token,) = rows.enqueue([("presets", "a")])
    lease(rows, "dead")
    clock.now_s = 1059.9
    assert lease(rows, "alive") == []
    clock.now_s = 1060.0
    (job,) = lease(rows, "alive")
    assert (job.token, job.attempts) == (token, 2)


def test_a_renewed_lease_lasts(rows: JobRows, clock: Clock) -> None:
    tokens = rows.enqueue([("presets", name) for name in "ab"])
    lease(rows, "me", 2)
    clock.now_s = 1050.0
    assert sorted(rows.renew(tokens, "me", LEASE_S)) == sorted(tokens)
    clock.now_s = 1109.0
    assert lease(rows, "other") == []
    clock.now_s = 1110.0
    assert len(lease(rows, "other", 2)) == 2
    assert rows.renew(tokens, "me", LEASE_S) == []


def test_a_job_that_ends_its_workers_fails_after_its_last_attempt(
    rows: JobRows, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    (token,) = rows.enqueue([("presets", "bomb.png")])
    for attempt in range(1, ATTEMPTS + 1):
        assert [job.attempts for job in lease(rows)] == [attempt]
        clock.now_s = (clock.now_s or 0) + LEASE_S
    assert lease(rows) == []
    job = one(rows, token)
    text = "given up after 3 attempts: in the last one its worker ended or hung"
    assert (job.state, job.attempts, job.error) == ("failed", 3, text)
    assert f"'bomb.png' has failed: {text}" in caplog.text


def test_one_that_failed_for_good_takes_no_place_of_the_limit(rows: JobRows, clock: Clock) -> None:
    rows.enqueue([("presets", "bomb")])
    for _ in range(ATTEMPTS):
        lease(rows)
        clock.now_s = (clock.now_s or 0) + LEASE_S
    rows.enqueue([("presets", "good")])
    assert [job.subject for job in lease(rows)] == ["good"]


def test_a_job_given_back_is_as_it_was_before(rows: JobRows) -> None:
    (token,) = rows.enqueue([("presets", "a")])
    lease(rows)
    assert rows.release(token, "me")
    assert (one(rows, token).state, one(rows, token).attempts) == ("queued", 0)
    assert [job.attempts for job in lease(rows, "other")] == [1]


# --- what comes of it -------------------------------------------------------------------------------------


def test_a_job_that_is_done_has_its_result_and_all_its_steps(rows: JobRows, clock: Clock) -> None:
    (token,) = rows.enqueue([("presets", "a")])
    lease(rows)
    assert rows.progress(token, "me", 1, 4)
    assert (one(rows, token).done, one(rows, token).total) == (1, 4)
    clock.now_s = 1005.0
    assert rows.finish(token, "me", {"markup": "<picture>\0\ud800", "failed": []})
    job = one(rows, token)
    assert (job.state, job.done, job.total, job.error, job.due_s) == ("done", 4, 4, "", 1005.0)
    assert job.result == {"markup": "<picture>\0\ud800", "failed": []}


def test_a_result_that_is_no_json_leaves_the_job_running(rows: JobRows) -> None:
    (token,) = rows.enqueue([("presets", "a")])
    lease(rows)
    with pytest.raises(TypeError):
        rows.finish(token, "me", {"path": Path()})
    assert one(rows, token).state == "running"


def test_a_job_to_be_tried_again_waits_and_keeps_its_error(rows: JobRows, clock: Clock) -> None:
    (token,) = rows.enqueue([("presets", "a")])
    lease(rows)
    assert rows.fail(token, "me", "busy \0\ud800" + "!" * 5000, 8.0)
    job = one(rows, token)
    assert (job.state, job.due_s, job.error[:10], len(job.error)) == ("queued", 1008.0, "busy ?!!!!", 1999)
    assert lease(rows) == []
    clock.now_s = 1008.0
    assert [job.attempts for job in lease(rows)] == [2]


@pytest.mark.parametrize("was", ["another's", "ended", "given back"])
def test_a_worker_changes_only_what_it_has(rows: JobRows, clock: Clock, was: str) -> None:
    (token,) = rows.enqueue([("presets", "a")])
    lease(rows, "me")
    if was == "another's":
        clock.now_s = 1060.0
        lease(rows, "other")
    elif was == "ended":
        rows.fail(token, "me", "broken", None)
    else:
        rows.release(token, "me")
    before = one(rows, token)
    assert not rows.progress(token, "me", 1, 1)
    assert not rows.finish(token, "me", {})
    assert not rows.fail(token, "me", "no", 1.0)
    assert not rows.fail(token, "me", "no", None)
    assert not rows.release(token, "me")
    assert rows.renew([token], "me", LEASE_S) == []
    assert one(rows, token) == before


def test_each_owner_is_another_one() -> None:
    names = {new_owner() for _ in range(100)}
    assert len(names) == 100
    assert max(map(len, names)) <= 64


# --- a look, and order ------------------------------------------------------------------------------------


@pytest.mark.parametrize("token", ["", "unknown", "a" * 33, "\ud800", "a\0", "' OR 1=1 --"])
def test_no_job_has_such_a_token(rows: JobRows, token: str) -> None:
    rows.enqueue([("presets", "a")])
    assert rows.get(token) is None


@pytest.fixture
def various(rows: JobRows) -> JobRows:
    """One queued, one running, one done, two failed."""
    for name in ("done", "bad", "worse", "running"):
        tokens = rows.enqueue([("presets", name)])
        lease(rows)
        if name == "done":
            rows.finish(tokens[0], "me", {})
        elif name != "running":
            rows.fail(tokens[0], "me", f"it is {name}", None)
    rows.enqueue([("presets", "queued")])
    return rows


def test_counts_and_pages_say_what_there_is(various: JobRows) -> None:
    assert various.counts() == {"queued": 1, "running": 1, "done": 1, "failed": 2}
    assert [job.subject for job in various.page()] == ["queued", "running", "worse", "bad", "done"]
    assert [job.error for job in various.page("failed", 1)] == ["it is worse"]
    assert various.page("lost") == []


def test_failed_jobs_begin_again_on_command(various: JobRows) -> None:
    assert various.retry() == 2
    assert various.counts() == {"queued": 3, "running": 1, "done": 1, "failed": 0}
    assert {job.attempts for job in various.page("queued")} == {0}
    assert various.retry(("done", "running", "queued")) == 1


def test_old_jobs_that_are_done_go(various: JobRows, clock: Clock) -> None:
    clock.now_s = 1000.0 + 3600
    assert various.prune(3601.0) == 0
    assert various.prune(3600.0) == 1
    assert various.counts() == {"queued": 1, "running": 1, "done": 0, "failed": 2}


def test_a_look_at_an_idle_queue_waits_for_no_writer(rows: JobRows, database: Database) -> None:
    assert lease(rows) == []
    with database.write():
        assert lease(rows) == []


def test_a_lease_uses_the_index(rows: JobRows, database: Database) -> None:
    rows.enqueue([("presets", "a")])
    executed: list[tuple[str, Any]] = []
    event.listen(
        database._opened(), "before_cursor_execute", lambda *said: executed.append((said[2], said[3]))
    )
    assert lease(rows)
    ((text, values),) = [each for each in executed if each[0].startswith("WITH")]
    with database.read() as connection:
        steps = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {text}", values)
        plan = "\n".join(row[3] for row in steps)
    assert "USING INDEX imagefactory_jobs_due (state=? AND due_s<?)" in plan
    assert "TEMP B-TREE" not in plan


def test_postgresql_passes_over_what_another_one_takes() -> None:
    text = str(LEASED.compile(dialect=postgresql.dialect()))
    assert "FOR UPDATE SKIP LOCKED" in text
    assert text.startswith("WITH due AS")


# --- several at once --------------------------------------------------------------------------------------

DRAIN = """
import sys, time
from pathlib import Path
from imagefactory.catalog.database import Database
from imagefactory.catalog.jobs import JobRows, new_owner
from imagefactory.config import from_mapping
rows = JobRows(Database(from_mapping({"catalog": {"url": sys.argv[1]}}, Path(sys.argv[2]), {})), time.time)
owner = new_owner()
while leased := rows.lease(("presets",), 3, owner, 600.0, 5):
    for job in leased:
        assert rows.finish(job.token, owner, {})
        print(job.subject)
"""


def test_each_job_is_leased_once_by_threads_and_processes(
    configure: Callable[..., Config], tmp_path: Path
) -> None:
    url = f"sqlite:///{tmp_path / 'catalog.db'}"
    rows = JobRows(Database(configure(catalog={"url": url})), Clock())
    rows.enqueue([("presets", f"{number}") for number in range(500)])
    command = [sys.executable, "-c", DRAIN, url, str(tmp_path)]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    done: list[str] = []

    def drain() -> None:
        owner = new_owner()
        while leased := rows.lease(("presets",), 3, owner, 600.0, 5):
            for job in leased:
                assert rows.finish(job.token, owner, {})
                done.append(job.subject)

    threads = [threading.Thread(target=drain) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for process in processes:
        said, _ = process.communicate(timeout=60)
        assert process.returncode == 0
        done += said.split()
    assert Counter(done) == Counter(str(number) for number in range(500))
    assert rows.counts() == {"queued": 0, "running": 0, "done": 500, "failed": 0}
    with sqlite3.connect(tmp_path / "catalog.db") as connection:
        assert connection.execute("SELECT max(attempts) FROM imagefactory_jobs").fetchone() == (1,)
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()
