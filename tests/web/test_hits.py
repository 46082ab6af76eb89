"""What a hit costs, counted from within: two stats, no lock, no row, no Pillow.

Two SQL statements in the view, none on the fast path.
"""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from support.clock import Clock
from support.doors import environ_of

import imagefactory
from imagefactory.engine import flights, gate
from imagefactory.factory import Parts
from imagefactory.storage import claims
from imagefactory.web.fastpath import FastPath

TARGET = "/picture/cats/tom.jpg?scalex=100"


def ask(client: FlaskClient, target: str = TARGET) -> str:
    """The X-Cache of the answer to *target*, read to its end."""
    return client.get(target, buffered=True).headers["X-Cache"]


@pytest.fixture
def parts(app: Flask, clock: Clock) -> Parts:
    """The app's parts, with a clock by which the pictures are old: their stamps are trusted."""
    clock.ahead_s = 10
    parts = app.extensions["imagefactory"].parts
    assert isinstance(parts, Parts)
    return parts


@pytest.fixture(params=["view", "fast path"])
def door(request: pytest.FixtureRequest, app: Flask) -> str:
    """The door that answers hits: the view alone, or the fast path before it."""
    assert isinstance(app.wsgi_app, FastPath)
    if request.param == "view":
        app.wsgi_app = app.wsgi_app.app  # type: ignore[method-assign]
    return str(request.param)


@pytest.fixture
def warm(parts: Parts, client: FlaskClient, door: str) -> FlaskClient:
    """A client of an app that has answered TARGET and the original before."""
    assert [ask(client) for _ in range(4)] == ["miss", "hit", "hit", "hit"]
    assert [ask(client, "/picture/cats/tom.jpg") for _ in range(3)] == ["hit", "hit", "hit"]
    return client


@pytest.fixture
def statements(parts: Parts, warm: FlaskClient) -> Iterator[list[str]]:
    """The SQL that this thread's connection to the index runs."""
    found: list[str] = []
    connection: sqlite3.Connection = parts.store.index.database._open()._con  # type: ignore[attr-defined]
    connection.set_trace_callback(found.append)
    yield found
    connection.set_trace_callback(None)


def _caller() -> str:
    """The file of the code that called os.stat, pathlib left out."""
    frame = sys._getframe(2)
    while frame.f_back is not None and Path(frame.f_code.co_filename).name == "pathlib.py":
        frame = frame.f_back
    return frame.f_code.co_filename


@pytest.fixture
def stats(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The paths that the package itself asks a stat of, in this thread."""
    found: list[str] = []
    stat, package, thread = os.stat, str(Path(imagefactory.__file__).parent), threading.get_ident()

    def counting(path: Any, *args: Any, **options: Any) -> os.stat_result:
        if threading.get_ident() == thread and _caller().startswith(package):
            found.append(os.fspath(path))
        return stat(path, *args, **options)

    monkeypatch.setattr(os, "stat", counting)
    return found


def test_a_hit_runs_two_selects_and_nothing_else(warm: FlaskClient, statements: list[str], door: str) -> None:
    assert ask(warm) == "hit"
    assert len(statements) == (2 if door == "view" else 0), statements
    assert all(statement.startswith("SELECT ") for statement in statements)


def test_an_original_runs_one_select(warm: FlaskClient, statements: list[str], door: str) -> None:
    assert ask(warm, "/picture/cats/tom.jpg") == "hit"
    assert len(statements) == (1 if door == "view" else 0), statements


@pytest.fixture
def no_keeper(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside the requests it claims and writes."""
    monkeypatch.setattr(parts.keeper, "start", lambda: None)


def test_a_hit_leaves_the_database_as_it_was(no_keeper: None, warm: FlaskClient, parts: Parts) -> None:
    connection: sqlite3.Connection = parts.store.index.database._open()._con  # type: ignore[attr-defined]
    changes, version = connection.total_changes, connection.execute("PRAGMA data_version").fetchone()
    rows = connection.execute("SELECT * FROM Cache ORDER BY rowid").fetchall()
    for _ in range(5):
        assert ask(warm) == "hit"
    assert connection.execute("SELECT * FROM Cache ORDER BY rowid").fetchall() == rows
    assert connection.total_changes == changes
    assert connection.execute("PRAGMA data_version").fetchone() == version


def test_a_hit_asks_one_stat_of_the_source_and_one_of_the_epoch(
    warm: FlaskClient, stats: list[str], tmp_path: Path
) -> None:
    assert ask(warm) == "hit"
    assert stats == [str(tmp_path / "pictures/cats/tom.jpg"), str(tmp_path / "cache/epoch")]


@pytest.mark.parametrize("door", ["fast path"], indirect=True)
def test_a_hit_takes_three_calls_in_three_files(app: Flask, no_keeper: None, warm: FlaskClient) -> None:
    """Calls are what makes a hit slow."""
    package, found = str(Path(imagefactory.__file__).parent), []
    environ = environ_of(TARGET)

    def note(frame: FrameType, event: str, argument: object) -> None:
        if event == "call" and frame.f_code.co_filename.startswith(package):
            found.append(f"{Path(frame.f_code.co_filename).stem}.{frame.f_code.co_name}")

    sys.setprofile(note)
    try:
        app.wsgi_app(environ, lambda status, headers, error=None: lambda data: None)
    finally:
        sys.setprofile(None)
    assert found == ["fastpath.__call__", "originals.is_current", "notices.epoch"]


def test_a_304_opens_no_object(warm: FlaskClient, parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    etag = warm.get(TARGET, buffered=True).headers["ETag"]
    monkeypatch.setattr(parts.generator, "open", lambda answer: pytest.fail("an object was opened"))
    assert warm.get(TARGET, headers={"If-None-Match": etag}).status_code == 304


def test_a_hit_claims_nothing_and_waits_in_no_queue(
    no_keeper: None, warm: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: Any, **options: Any) -> None:
        pytest.fail("a hit came to where misses wait")

    for place, name in (
        (claims.FileClaims, "take"),
        (gate.Gate, "enter"),
        (gate.Gate, "render"),
        (flights.Flights, "run"),
    ):
        monkeypatch.setattr(place, name, refuse)
    assert ask(warm) == "hit"


def test_a_process_that_answers_hits_alone_never_imports_pillow(warm: FlaskClient, tmp_path: Path) -> None:
    code = f"""
import sys
import threading
from imagefactory import create_app
client = create_app({{"paths": {{"pictures": {str(tmp_path / "pictures")!r},
                                 "cache": {str(tmp_path / "cache")!r}}}}}).test_client()
results = [client.get({TARGET!r}, buffered=True).headers["X-Cache"] for _ in range(2)]
results += [client.get("/picture/cats/tom.jpg", buffered=True).headers["X-Cache"]]
results += [name for name in sys.modules if name.partition(".")[0] in ("PIL", "pillow_heif", "numpy")]
client.get("/picture/cats/tom.jpg?scalex=101", buffered=True)
print(*results, "PIL" in sys.modules)
"""
    # A miss does not import it either: it is rendered in another process.
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=True
    )
    assert done.stdout.split() == ["hit", "hit", "hit", "False"]
