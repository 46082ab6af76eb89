"""Workers: each job is done, failed or tried again later; a worker never dies, nor speaks for another."""

from __future__ import annotations

import gc
import os
import sqlite3
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping
from itertools import pairwise
from pathlib import Path

import pytest
from support.clock import Clock
from support.serving import eventually

from imagefactory.catalog import database as databases
from imagefactory.catalog.database import Database
from imagefactory.catalog.jobs import JobRow, JobRows
from imagefactory.config import Config
from imagefactory.config.intake import Tasks
from imagefactory.engine.counters import Counters
from imagefactory.errors import Busy, ImageFactoryError, NotFound, RequestError, Undecodable
from imagefactory.tasks.worker import Kind, Worked, Workers

Report = Callable[[int, int], None]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "catalog.db"


@pytest.fixture
def database(configure: Callable[..., Config], file: Path) -> Iterator[Database]:
    found = Database(configure(catalog={"url": f"sqlite:///{file}"}))
    yield found
    found.close()


@pytest.fixture
def rows(database: Database, clock: Clock) -> JobRows:
    return JobRows(database, clock)


@pytest.fixture
def counters() -> Counters:
    return Counters()


@pytest.fixture
def hire(rows: JobRows, counters: Counters) -> Iterator[Callable[..., Workers]]:
    """Makes workers that do each job by *kind*, and are stopped at the end."""
    hired: list[Workers] = []

    def make(kind: Kind, workers: int = 1, lease_s: int = 120, attempts: int = 5) -> Workers:
        hired.append(Workers(rows, {"toy": kind}, Tasks(workers, lease_s, attempts), counters))
        return hired[-1]

    yield make
    for each in hired:
        each.stop(20)


def nothing(job: JobRow, report: Report) -> Mapping[str, object]:
    return {"subject": job.subject}


def raising(error: Exception) -> Kind:
    def kind(job: JobRow, report: Report) -> Mapping[str, object]:
        raise error

    return kind


def toys(rows: JobRows, *names: str) -> list[str]:
    return rows.enqueue([("toy", name) for name in names])


def one(rows: JobRows, token: str) -> JobRow:
    found = rows.get(token)
    assert found is not None
    return found


# --- what becomes of a job --------------------------------------------------------------------------------


def test_all_that_is_due_is_done_and_counted(
    rows: JobRows, hire: Callable[..., Workers], counters: Counters
) -> None:
    tokens = toys(rows, "a", "b", "c")
    assert hire(nothing).run_until_empty() == Worked(done=3)
    assert [one(rows, token).result for token in tokens] == [{"subject": name} for name in "abc"]
    _, counts = counters.take()
    assert counts["jobs_finished toy done"] == 3
    assert sum(count for name, count in counts.items() if name.startswith("job_seconds toy - ")) >= 3


@pytest.mark.parametrize("error", [NotFound(), Undecodable("cut off")])
def test_what_will_never_work_fails_at_once(
    rows: JobRows, hire: Callable[..., Workers], counters: Counters, error: RequestError
) -> None:
    (token,) = toys(rows, "a")
    assert hire(raising(error)).run_until_empty() == Worked(failed=1)
    assert (one(rows, token).state, one(rows, token).error) == ("failed", str(error))
    assert counters.take()[1]["jobs_finished toy failed"] == 1


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (Busy("too many pictures"), "too many pictures"),
        (ImageFactoryError("a mistake"), "a mistake"),
        (ZeroDivisionError("by zero"), "ZeroDivisionError: by zero"),
    ],
)
def test_what_may_work_later_is_tried_again_later_each_time(
    rows: JobRows, hire: Callable[..., Workers], clock: Clock, counters: Counters, error: Exception, text: str
) -> None:
    clock.now_s = 1000.0
    (token,) = toys(rows, "a")
    workers = hire(raising(error), attempts=10)
    for attempt, seconds in enumerate((2, 4, 8, 16, 32, 64, 128, 256, 300), start=1):
        assert workers.run_until_empty() == Worked(retried=1)
        job = one(rows, token)
        assert (job.state, job.attempts, job.error) == ("queued", attempt, text)
        assert 0.75 * seconds <= job.due_s - clock.now_s <= seconds
        clock.now_s = job.due_s
    assert workers.run_until_empty() == Worked(failed=1)
    assert (one(rows, token).state, one(rows, token).error) == ("failed", text)
    _, counts = counters.take()
    assert (counts["jobs_finished toy retried"], counts["jobs_finished toy failed"]) == (9, 1)


def test_a_result_that_is_no_json_is_a_mistake_of_the_kind(
    rows: JobRows, hire: Callable[..., Workers], caplog: pytest.LogCaptureFixture
) -> None:
    (token,) = toys(rows, "a")
    assert hire(lambda job, report: {"path": Path()}).run_until_empty() == Worked(retried=1)
    assert one(rows, token).error.startswith("TypeError: ")
    assert "the job toy of 'a' made a mistake" in caplog.text


def test_progress_is_seen_while_a_job_runs(rows: JobRows, hire: Callable[..., Workers]) -> None:
    (token,) = toys(rows, "a")
    seen = []

    def kind(job: JobRow, report: Report) -> Mapping[str, object]:
        report(0, 40)
        for number in range(1, 40):
            report(number, 40)
        seen.append(one(rows, token))
        return {}

    hire(kind).run_until_empty()
    assert [(job.state, job.done, job.total) for job in seen] == [("running", 0, 40)]
    assert (one(rows, token).done, one(rows, token).total) == (40, 40)


def test_one_attempt_more_than_allowed_is_none(
    rows: JobRows, hire: Callable[..., Workers], clock: Clock
) -> None:
    """A job that ended its worker each time is not begun again."""
    clock.now_s = 1000.0
    (token,) = toys(rows, "bomb")
    for _ in range(2):
        assert rows.lease(["toy"], 1, "dead", 10, 2)
        clock.now_s += 10
    assert hire(nothing, attempts=2).run_until_empty() == Worked()
    assert one(rows, token).state == "failed"


# --- leases -----------------------------------------------------------------------------------------------


def test_a_job_may_take_longer_than_a_lease(rows: JobRows, hire: Callable[..., Workers]) -> None:
    (token,) = toys(rows, "long")

    def kind(job: JobRow, report: Report) -> Mapping[str, object]:
        until_s = time.time() + 10
        while one(rows, token).due_s < job.due_s + 0.5 and time.time() < until_s:  # renewed, at least twice
            time.sleep(0.05)
        return {"was_renewed": time.time() < until_s}

    assert hire(kind, lease_s=1).run_until_empty() == Worked(done=1)
    assert one(rows, token).result == {"was_renewed": True}
    assert one(rows, token).attempts == 1


def taken_by_another(rows: JobRows, clock: Clock) -> None:
    """The lease of the job ends, as its worker was held up, and another worker gets it."""
    clock.ahead_s += 1000
    assert rows.lease(["toy"], 1, "another", 500.0, 5)


def test_a_job_whose_lease_was_lost_is_not_reported(
    rows: JobRows, hire: Callable[..., Workers], clock: Clock, counters: Counters
) -> None:
    (token,) = toys(rows, "a")

    def kind(job: JobRow, report: Report) -> Mapping[str, object]:
        taken_by_another(rows, clock)
        return {"by": "me"}

    assert hire(kind).run_until_empty() == Worked()
    assert (one(rows, token).state, one(rows, token).result) == ("running", {})
    assert counters.take()[1] == {}
    assert rows.finish(token, "another", {"by": "another"})


def test_the_work_ends_where_the_lease_is_known_to_be_lost(
    rows: JobRows, hire: Callable[..., Workers], clock: Clock
) -> None:
    toys(rows, "a")
    reached = []

    def kind(job: JobRow, report: Report) -> Mapping[str, object]:
        taken_by_another(rows, clock)
        report(1, 2)
        reached.append(job)
        return {}

    assert hire(kind).run_until_empty() == Worked()
    assert reached == []


# --- threads ----------------------------------------------------------------------------------------------


def test_a_started_worker_does_what_comes_at_once(rows: JobRows, hire: Callable[..., Workers]) -> None:
    done = threading.Event()
    workers = hire(lambda job, report: done.set() or {})
    workers.start()
    workers.start()
    (token,) = toys(rows, "a")
    workers.wake()
    assert done.wait(20)
    assert eventually(lambda: one(rows, token).state == "done")
    assert [each.name for each in threading.enumerate()].count("imagefactory-worker") == 1


def test_it_finds_by_itself_what_others_have_put_in(rows: JobRows, hire: Callable[..., Workers]) -> None:
    workers = hire(nothing)
    workers.start()
    time.sleep(0.2)
    (token,) = toys(rows, "a")
    assert eventually(lambda: one(rows, token).state == "done")


def test_all_threads_work_at_a_time(rows: JobRows, hire: Callable[..., Workers]) -> None:
    together = threading.Barrier(3)

    def kind(job: JobRow, report: Report) -> Mapping[str, object]:
        together.wait(20)
        return {}

    workers = hire(kind, workers=3)
    workers.start()
    toys(rows, "a", "b", "c")
    workers.wake()
    assert eventually(lambda: rows.counts()["done"] == 3)


def test_no_thread_is_begun_where_workers_is_0(rows: JobRows, hire: Callable[..., Workers]) -> None:
    workers = hire(nothing, workers=0)
    workers.start()
    workers.wake()
    workers.stop(0)
    assert not workers.is_running
    toys(rows, "a")
    assert workers.run_until_empty() == Worked(done=1)


def test_stop_finishes_the_job_under_way_and_takes_no_other(
    rows: JobRows, hire: Callable[..., Workers]
) -> None:
    began, may_end = threading.Event(), threading.Event()

    def kind(job: JobRow, report: Report) -> Mapping[str, object]:
        began.set()
        assert may_end.wait(20)
        return {}

    tokens = toys(rows, "a", "b")
    workers = hire(kind)
    workers.start()
    assert began.wait(20)
    threading.Timer(0.1, may_end.set).start()
    workers.stop(20)
    assert [one(rows, token).state for token in tokens] == ["done", "queued"]
    assert not workers.is_running
    workers.start()
    assert eventually(lambda: one(rows, tokens[1]).state == "done")


def test_stop_gives_back_what_takes_too_long(rows: JobRows, hire: Callable[..., Workers]) -> None:
    began, may_end, ended = threading.Event(), threading.Event(), threading.Event()

    def kind(job: JobRow, report: Report) -> Mapping[str, object]:
        began.set()
        may_end.wait(20)
        ended.set()
        return {}

    (token,) = toys(rows, "a")
    workers = hire(kind)
    workers.start()
    assert began.wait(20)
    workers.stop(0)
    assert (one(rows, token).state, one(rows, token).attempts) == ("queued", 0)
    assert rows.lease(["toy"], 1, "another", 60.0, 5)
    may_end.set()
    assert ended.wait(20)
    assert eventually(lambda: "imagefactory-worker" not in [each.name for each in threading.enumerate()])
    assert one(rows, token).state == "running"  # by the other one


def test_workers_that_nobody_uses_end(rows: JobRows, counters: Counters) -> None:
    workers = Workers(rows, {"toy": nothing}, Tasks(2, 120, 5), counters)
    workers.start()
    reference = weakref.ref(workers)
    del workers
    names = ("imagefactory-worker", "imagefactory-leases")
    assert eventually(lambda: gc.collect() >= 0 and reference() is None)
    assert eventually(lambda: not [each for each in threading.enumerate() if each.name in names])


def test_a_forked_process_has_workers_of_its_own(rows: JobRows, hire: Callable[..., Workers]) -> None:
    def kind(job: JobRow, report: Report) -> Mapping[str, object]:
        return {"process": os.getpid()}

    workers = hire(kind)
    workers.start()
    (first,) = toys(rows, "a")
    workers.wake()
    assert eventually(lambda: one(rows, first).state == "done")
    workers.stop(20)
    names = ("imagefactory-worker", "imagefactory-leases")
    assert eventually(lambda: not [each for each in threading.enumerate() if each.name in names])
    workers._process = os.getpid()  # as in a server that forks while its threads run
    child = os.fork()
    if not child:
        code = 1
        try:
            workers.start()
            (second,) = toys(rows, "b")
            workers.wake()
            eventually(lambda: one(rows, second).state == "done")
            workers.stop(20)
            code = 0
        finally:
            os._exit(code)
    workers._process = 0
    assert os.waitpid(child, 0)[1] == 0
    (job,) = [job for job in rows.page("done") if job.subject == "b"]
    assert job.result == {"process": child}


# --- a catalog in trouble ---------------------------------------------------------------------------------


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A locked database is given up after a moment."""
    monkeypatch.setattr(databases, "_BUSY_S", 0.05)


@pytest.fixture
def lock(impatient: None, rows: JobRows, file: Path) -> Iterator[Callable[[], sqlite3.Connection]]:
    """Locks the database for writers, until the connection is closed."""
    rows.counts()
    opened: list[sqlite3.Connection] = []

    def make() -> sqlite3.Connection:
        connection = sqlite3.connect(file, isolation_level=None, check_same_thread=False)
        connection.execute("BEGIN IMMEDIATE")
        opened.append(connection)
        return connection

    yield make
    for each in opened:
        each.close()


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name.startswith("imagefactory.tasks")]


TROUBLE = [
    "background work waits: the catalog of pictures can't be used at the moment (database is locked)",
    "background work goes on",
]


def test_a_locked_catalog_is_waited_for_and_told_once(
    rows: JobRows,
    hire: Callable[..., Workers],
    lock: Callable[[], sqlite3.Connection],
    caplog: pytest.LogCaptureFixture,
) -> None:
    tokens = toys(rows, "a", "b")
    locked = lock()
    workers = hire(nothing, workers=2)
    workers.start()
    assert eventually(lambda: said(caplog) == TROUBLE[:1])
    for _ in range(5):
        workers.wake()
        time.sleep(0.1)
    assert said(caplog) == TROUBLE[:1]
    locked.close()
    workers.wake()
    assert eventually(lambda: [one(rows, token).state for token in tokens] == ["done", "done"])
    assert eventually(lambda: said(caplog) == TROUBLE)


def test_what_was_done_while_the_catalog_was_locked_is_reported_later(
    rows: JobRows,
    hire: Callable[..., Workers],
    lock: Callable[[], sqlite3.Connection],
    caplog: pytest.LogCaptureFixture,
) -> None:
    (token,) = toys(rows, "a")

    def kind(job: JobRow, report: Report) -> Mapping[str, object]:
        locked = lock()
        report(1, 2)  # which can't be written, and is no reason to stop
        is_told = lambda: said(caplog) == TROUBLE[:1]  # noqa: E731
        threading.Thread(target=lambda: eventually(is_told) and locked.close()).start()
        return {"by": "me"}

    assert hire(kind).run_until_empty() == Worked(done=1)
    assert (one(rows, token).attempts, one(rows, token).result) == (1, {"by": "me"})
    assert said(caplog) == TROUBLE


def test_an_idle_thread_that_can_read_does_not_say_that_it_goes_on(
    rows: JobRows,
    hire: Callable[..., Workers],
    lock: Callable[[], sqlite3.Connection],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Another one can't report what it did."""
    (token,) = toys(rows, "a")
    locked: list[sqlite3.Connection] = []

    def kind(job: JobRow, report: Report) -> Mapping[str, object]:
        locked.append(lock())
        return {}

    workers = hire(kind, workers=2)
    workers.start()
    assert eventually(lambda: said(caplog) == TROUBLE[:1])
    for _ in range(5):
        workers.wake()
        time.sleep(0.05)
    assert said(caplog) == TROUBLE[:1]
    locked[0].close()
    assert eventually(lambda: one(rows, token).state == "done")
    assert eventually(lambda: said(caplog) == TROUBLE)


def test_it_says_that_it_goes_on_where_others_have_done_the_work(
    rows: JobRows,
    hire: Callable[..., Workers],
    lock: Callable[[], sqlite3.Connection],
    caplog: pytest.LogCaptureFixture,
) -> None:
    toys(rows, "a")
    locked = lock()
    workers = hire(nothing)
    workers.start()
    assert eventually(lambda: said(caplog) == TROUBLE[:1])
    locked.close()
    rows.lease(["toy"], 1, "another", 600.0, 5)
    workers.wake()
    assert eventually(lambda: said(caplog) == TROUBLE)


def test_a_worker_without_a_catalog_says_so_when_it_is_to_work_once(
    rows: JobRows, hire: Callable[..., Workers], lock: Callable[[], sqlite3.Connection]
) -> None:
    toys(rows, "a")
    lock()
    with pytest.raises(RequestError, match="the catalog of pictures can't be used at the moment"):
        hire(nothing).run_until_empty()


def test_a_mistake_of_the_queue_ends_no_worker(
    rows: JobRows,
    hire: Callable[..., Workers],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def broken(*arguments: object) -> list[JobRow]:
        raise ZeroDivisionError

    monkeypatch.setattr(rows, "lease", broken)
    workers = hire(nothing)
    workers.start()
    assert eventually(lambda: "a worker made a mistake" in caplog.text)
    monkeypatch.undo()
    (token,) = toys(rows, "a")
    workers.wake()
    assert eventually(lambda: one(rows, token).state == "done")


def test_a_quiet_queue_is_asked_seldom(
    rows: JobRows, hire: Callable[..., Workers], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once a second at most, by all threads of the process."""
    asked: list[float] = []
    lease = rows.lease

    def counting(*arguments: object) -> list[JobRow]:
        asked.append(time.monotonic())
        return lease(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(rows, "lease", counting)
    workers = hire(nothing, workers=4)
    workers.start()
    assert eventually(lambda: len(asked) == 3)
    workers.stop(20)
    assert min(later - sooner for sooner, later in pairwise(asked)) > 0.9
