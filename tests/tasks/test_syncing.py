"""The job that brings the catalog to the folder, and what it has done with what it finds."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from imagefactory.factory import Parts, Taking

TOKEN = "a token of sixteen characters"


def taking_of(parts: Parts) -> Taking:
    assert parts.taking is not None
    return parts.taking


def queued(taking: Taking) -> list[str]:
    return sorted(job.subject.partition(" ")[2] for job in taking.jobs.page("queued"))


def test_the_first_sync_only_writes_rows_and_later_ones_have_work_done(
    assemble: Callable[..., Parts], pictures: Path
) -> None:
    taking = taking_of(assemble(uploads={"token": TOKEN, "min_free": 0}))
    assert taking.sync.sync(lambda count: None).added == 2
    assert queued(taking) == []
    shutil.copy(pictures / "flag.png", pictures / "cats" / "flag.png")
    assert taking.sync.sync(lambda count: None).added == 1
    assert queued(taking) == ["cats/flag.png"]


def test_the_job_says_what_was_found(assemble: Callable[..., Parts], pictures: Path) -> None:
    taking = taking_of(assemble(uploads={"token": TOKEN, "min_free": 0}))
    (pictures / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 and no more")
    token = taking.jobs.enqueue([("sync", "")])[0]
    taking.workers.run_until_empty()
    job = taking.jobs.get(token)
    assert job is not None
    assert (job.state, job.result["added"]) == ("done", 2)
    assert [each["path"] for each in job.result["failed"]] == ["broken.jpg"]
