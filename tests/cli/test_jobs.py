"""The commands of background work: what there is in the queue, and a process that does it."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from support.drawing import quarters
from support.serving import eventually, write_config

from imagefactory import config as configs
from imagefactory.catalog.database import Database
from imagefactory.catalog.jobs import JobRows
from imagefactory.cli import main

THUMB = {"presets.thumb": {"scalex": 60}}


@pytest.fixture
def write(tmp_path: Path, pictures: Path) -> Callable[..., Path]:
    """Writes a config with a catalog, that renders in the process of the command."""

    def make(**sections: Any) -> Path:
        sections.setdefault("catalog", {"url": f"sqlite:///{tmp_path / 'catalog.db'}"})
        sections.setdefault("render", {"processes": -1})
        return write_config(tmp_path, pictures, tmp_path / "cache", **sections)

    return make


@pytest.fixture
def config(write: Callable[..., Path]) -> Path:
    return write(**THUMB)


@pytest.fixture
def rows(config: Path) -> Iterator[JobRows]:
    database = Database(configs.load(config, {}))
    yield JobRows(database, time.time)
    database.close()


@pytest.fixture
def various(rows: JobRows) -> JobRows:
    """A job that is done, one that failed, one that runs, one that waits."""
    digest = "0" * 64
    for name in ("done", "bad\x1b[31m", "running", "queued"):
        (token,) = rows.enqueue([("presets", f"{digest} {name}.jpg")])
        if name == "queued":
            break
        rows.lease(["presets"], 1, "me", 600, 5)
        rows.progress(token, "me", 1, 4)
        if name == "done":
            rows.finish(token, "me", {"variants": 4})
        elif name != "running":
            rows.fail(token, "me", "it is broken\nreally", None)
    return rows


def run(config: Path, *arguments: object) -> Result:
    return CliRunner().invoke(main, ["--config", str(config), *map(str, arguments)])


def subject(pictures: Path, path: str) -> tuple[str, str]:
    """The job to make the presets of the picture at *path*."""
    return "presets", f"{hashlib.sha256((pictures / path).read_bytes()).hexdigest()} {path}"


# --- jobs -------------------------------------------------------------------------------------------------


def test_jobs_says_what_is_in_the_queue(config: Path, various: JobRows) -> None:
    result = run(config, "jobs")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.splitlines() == [
        "queued   1",
        "running  1",
        "done     1",
        "failed   1",
        "",
        "             attempts",
        "queued              0  presets  queued.jpg",
        "running 1/4         1  presets  running.jpg",
        "failed              1  presets  bad\N{REPLACEMENT CHARACTER}[31m.jpg  it is broken"
        "\N{REPLACEMENT CHARACTER}really",
        "done                1  presets  done.jpg",
    ]


def test_jobs_prints_json(config: Path, various: JobRows) -> None:
    found = json.loads(run(config, "jobs", "--json", "--failed").stdout)
    assert {state: found[state] for state in ("queued", "running", "done", "failed")} == {
        "queued": 1,
        "running": 1,
        "done": 1,
        "failed": 1,
    }
    (job,) = found["jobs"]
    assert job["subject"] == f"{'0' * 64} bad\x1b[31m.jpg"
    assert (job["state"], job["done"], job["total"], job["attempts"]) == ("failed", 1, 4, 1)
    assert job["error"] == "it is broken\nreally"
    assert various.get(job["id"])
    assert "retried" not in found
    assert len(json.loads(run(config, "jobs", "--json", "--limit", 2).stdout)["jobs"]) == 2
    assert json.loads(run(config, "jobs", "--json", "--limit", 0).stdout)["jobs"] == []


def test_an_empty_queue_is_four_lines(config: Path) -> None:
    assert run(config, "jobs").stdout == "queued   0\nrunning  0\ndone     0\nfailed   0\n"


def test_retry_has_what_failed_begin_again(config: Path, various: JobRows) -> None:
    result = run(config, "jobs", "--retry", "--limit", 0)
    assert result.stdout.splitlines()[:2] == ["1 job that had failed begins again", "queued   2"]
    assert various.counts()["failed"] == 0
    assert json.loads(run(config, "jobs", "--retry", "--json").stdout)["retried"] == 0


@pytest.mark.parametrize("command", [["jobs"], ["jobs", "--retry"], ["worker"], ["worker", "--once"]])
def test_without_a_catalog_it_says_what_to_write(write: Callable[..., Path], command: list[str]) -> None:
    result = run(write(catalog={}), *command)
    assert result.exit_code == 2
    assert '[catalog]\nurl = "sqlite:////var/lib/imagefactory/catalog.db"' in result.stderr
    assert result.stdout == ""


@pytest.mark.parametrize("command", [["jobs"], ["worker", "--once"]])
@pytest.mark.parametrize(
    ("url", "code", "text"),
    [
        ("sqlite:////dev/null/no/catalog.db", 1, "can't be used at the moment (Not a directory)"),
        ("nosuch://host/name", 2, "catalog.url: no database can be opened by it"),
    ],
)
def test_a_catalog_that_can_not_be_used_is_one_line(
    write: Callable[..., Path], command: list[str], url: str, code: int, text: str
) -> None:
    result = run(write(catalog={"url": url}), *command)
    assert (result.exit_code, result.stdout) == (code, "")
    assert text in result.stderr


@pytest.mark.parametrize("command", [["jobs"], ["worker", "--once"]])
def test_without_the_library_it_says_what_to_install(config: Path, command: list[str]) -> None:
    code = "import sys; sys.modules['sqlalchemy'] = None; from imagefactory.cli import main; main()"
    called = [sys.executable, "-c", code, "--config", str(config), *command]
    done = subprocess.run(called, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "Error: this needs pip install 'flask-imagefactory[uploads]'\n"


@pytest.mark.parametrize("command", ["jobs", "worker"])
def test_each_help_has_examples_and_then_the_exit_codes(command: str) -> None:
    text = CliRunner().invoke(main, [command, "--help"]).stdout
    assert f" imagefactory {command}" in text[text.index("  Examples:\n") : text.index("  Exit codes:\n")]
    assert "2    wrong usage or config" in text


# --- worker -----------------------------------------------------------------------------------------------


def test_a_worker_that_works_once_does_all_that_is_due(config: Path, rows: JobRows, pictures: Path) -> None:
    tokens = rows.enqueue([subject(pictures, "cats/tom.jpg"), subject(pictures, "flag.png")])
    result = run(config, "worker", "--once", "--workers", 2)
    assert (result.exit_code, result.stdout) == (0, "2 jobs done, 0 failed\n")
    job = rows.get(tokens[0])
    assert job is not None
    assert (job.state, job.done, job.total, job.result["variants"]) == ("done", 1, 1, 1)
    assert job.result["markup"].startswith("<picture>")
    assert 'alt=""' in job.result["markup"]
    assert run(config, "worker", "--once").stdout == "0 jobs done, 0 failed\n"


def test_it_makes_the_presets_of_uploads_alone_where_there_are_such(
    write: Callable[..., Path], rows: JobRows, pictures: Path
) -> None:
    (token,) = rows.enqueue([subject(pictures, "flag.png")])
    other = {"presets.large": {"scalex": 90}, "uploads": {"presets": ["large"]}}
    assert run(write(**THUMB, **other), "worker", "--once").exit_code == 0
    job = rows.get(token)
    assert job is not None
    assert job.result["variants"] == 1


def test_a_job_that_failed_is_exit_1(config: Path, rows: JobRows, pictures: Path) -> None:
    (pictures / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 cut off")
    os.utime(pictures / "broken.jpg", (1, 1))
    rows.enqueue([subject(pictures, "broken.jpg"), subject(pictures, "flag.png")])
    result = run(config, "worker", "--once")
    assert (result.exit_code, result.stdout) == (1, "1 job done, 1 failed\n")
    assert "1 job failed; imagefactory jobs --failed says why" in result.stderr
    assert "the source can't be decoded as a picture" in run(config, "jobs", "--failed").stdout


def test_a_cache_in_memory_is_no_place_for_what_a_worker_makes(write: Callable[..., Path]) -> None:
    result = run(write(cache={"mode": "memory"}), "worker")
    assert result.exit_code == 2
    assert "cache.mode: there is nothing on disk" in result.stderr


def test_a_worker_without_pictures_is_exit_2(tmp_path: Path, config: Path, pictures: Path) -> None:
    pictures.rename(tmp_path / "elsewhere")
    result = run(config, "worker")
    assert result.exit_code == 2
    assert f"paths.pictures: there is no folder {pictures}" in result.stderr


def begun(config: Path, *options: str) -> subprocess.Popen[str]:
    """A process that works."""
    command = [sys.executable, "-m", "imagefactory", "--config", str(config), "worker", *options]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_worker_works_until_a_signal_and_exits_with_0(
    config: Path, rows: JobRows, pictures: Path, number: signal.Signals
) -> None:
    process = begun(config)
    rows.enqueue([subject(pictures, "flag.png")])
    assert eventually(lambda: rows.counts()["done"] == 1)
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 0
    assert said.splitlines()[0] == f"1 worker for {pictures}"


JOBS = 300


def test_jobs_survive_workers_that_are_killed(
    write: Callable[..., Path], rows: JobRows, pictures: Path, tmp_path: Path
) -> None:
    """Five are killed amid 300 jobs: none is lost, and only those that the dead had are begun again."""
    config = write(**THUMB, render={"processes": 1}, tasks={"lease_s": 1})
    for number in range(JOBS):
        quarters(64 + number, 48).save(pictures / f"{number}.png")
    rows.enqueue([subject(pictures, f"{number}.png") for number in range(JOBS)])
    database = sqlite3.connect(tmp_path / "catalog.db")

    def owned(pid: int) -> set[str]:
        wanted = "SELECT token FROM imagefactory_jobs WHERE state = 'running' AND owner LIKE ?"
        return {token for (token,) in database.execute(wanted, (f"% {pid} %",))}

    left_to_others: list[str] = []
    for killed in range(1, 6):
        process = begun(config)
        done = rows.counts()["done"]
        most = done + 20 + killed
        assert eventually(lambda most=most: rows.counts()["done"] >= most)
        process.kill()
        process.communicate(timeout=60)
        left_to_others += owned(process.pid)
    process = begun(config)
    assert eventually(lambda: rows.counts()["done"] == JOBS, 120)
    process.terminate()
    process.communicate(timeout=60)
    assert process.returncode == 0
    assert left_to_others
    wanted = "SELECT token FROM imagefactory_jobs WHERE attempts > 1"
    assert {token for (token,) in database.execute(wanted)} == set(left_to_others)
    jobs = rows.page("done", 1000)
    assert [job.result["variants"] for job in jobs] == [1] * JOBS
    assert sum(job.attempts for job in jobs) == JOBS + len(left_to_others)
    assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    database.close()
