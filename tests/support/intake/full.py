"""A full disk and a database that is locked: 507 and 503, nothing half done, and hits go on."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from imagefactory import create_app
from imagefactory.config import load
from support.serving import Server, eventually

from .client import exchange, form, form_head, head
from .drawn import MB, jpeg
from .report import Report
from .site import TOKEN, Site

__all__ = ["full"]

_HIT = "/picture/hit.jpg?scalex=40"
_DISK = 20 * MB
_LOCKED_S = 8.0  # the catalog waits for 5


def full(folder: Path, number: int, seed: int, report: Report) -> None:
    """A disk of 20 MB and a lock of some seconds, whatever *number* is."""
    _locked(folder / "locked", report)
    _queries(folder / "queries", report)
    if os.geteuid() == 0:
        (folder / "disk" / "pictures").mkdir(parents=True)
        try:
            with _tmpfs(folder / "disk" / "pictures"):
                _full(folder / "disk", report)
        except subprocess.CalledProcessError as error:
            report.say(f"no file system can be mounted here: {error}")
    else:
        report.say("only root can mount a disk of 20 MB")


@contextmanager
def _tmpfs(folder: Path) -> Iterator[None]:
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={_DISK}", "none", str(folder)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def _put(server: Server, path: str, data: bytes) -> tuple[int, bool]:
    """The status, and whether there is a Retry-After."""
    start = head("PUT", f"/upload/{path}", Content_Length=len(data))
    status, headers, _ = exchange((server.host, server.port), [start, data])
    return status, "retry-after" in headers


def _has_hit(server: Server) -> bool:
    return server.get(_HIT).cache == "hit"


def _full(folder: Path, report: Report) -> None:
    site = Site(folder, tasks={"workers": 0}, cache={"max_bytes": 100 * MB})
    with site.serving("granian") as server:
        assert _put(server, "hit.jpg", jpeg("hit")) == (201, False)
        assert eventually(lambda: _has_hit(server))
        answers: Counter[tuple[int, bool]] = Counter()
        for each in range(500):  # 60 kB each: 500 are more than there is room for
            found = _put(server, f"{each}.jpg", jpeg(f"{each}", 60_000))
            answers[found] += 1
            report.expect(found in ((201, False), (507, True)), f"{each}.jpg: {found}")
            report.expect(_has_hit(server), "no hit on a full disk")
        body = form(*((f"form-{each}.jpg", jpeg(f"form {each}", 60_000)) for each in range(5)))
        status, *_ = exchange((server.host, server.port), [form_head(len(body)), body])
        report.say(f"disk of 20 MB: answers {dict(answers)}; of a form {status}")
        report.expect(answers[507, True] > 0, "the disk was never full")
        report.expect(status in (200, 507), f"a form on a full disk: {status}")
        report.same("left on the full disk", site.left(), set())
        report.same("rows on the full disk", site.rows(server), site.digests())
        for path in sorted(site.stored())[:50]:
            if path != "hit.jpg":
                (site.pictures / path).unlink()
        report.same("when there is room again", _put(server, "again.jpg", jpeg("again")), (201, False))
        said = server.said()
    report.expect("Traceback" not in said, said[-3000:])
    code, said = site.command("catalog", "sync")
    report.same(f"sync after a full disk: {said}", code, 0)
    code, said = site.command("catalog", "check", "--hash")
    report.expect(code == 0, f"check after a full disk: {code} {said}")


def _locked(folder: Path, report: Report) -> None:
    site = Site(folder, tasks={"workers": 0})
    with site.serving("granian") as server:
        assert _put(server, "hit.jpg", jpeg("hit")) == (201, False)
        assert eventually(lambda: _has_hit(server))
        alone = _hits(server, lambda: time.sleep(_LOCKED_S))
        found: list[tuple[int, bool]] = []

        def lock() -> None:
            database = sqlite3.connect(site.pictures / ".uploads" / "catalog.db", isolation_level=None)
            with closing(database):
                database.execute("BEGIN IMMEDIATE")
                threads = [
                    threading.Thread(target=lambda n=n: found.append(_put(server, f"{n}.jpg", jpeg(f"{n}"))))
                    for n in range(8)
                ]
                for thread in threads:
                    thread.start()
                time.sleep(_LOCKED_S)
                for thread in threads:
                    thread.join()
                database.execute("ROLLBACK")

        locked = _hits(server, lock)
        report.same("answers while the database is locked", set(found), {(503, True)})
        report.same("pictures then", sorted(site.stored()), ["hit.jpg"])
        report.same("left then", site.left(), set())
        report.figure(
            f"p99 of {len(locked)} hits beside the lock, in times of alone", _p99(locked) / _p99(alone)
        )
        report.same(
            "afterwards", [_put(server, f"{n}.jpg", jpeg(f"{n}")) for n in range(8)], [(201, False)] * 8
        )
        report.same("rows afterwards", site.rows(server), site.digests())
        said = server.said()
    report.expect("Traceback" not in said, said[-3000:])


def _hits(server: Server, work: Callable[[], object]) -> list[float]:
    """The seconds of each hit that one client got while *work* was done."""
    thread = threading.Thread(target=work)
    thread.start()
    seconds = []
    with server.client() as client:
        while thread.is_alive():
            reply = client.get(_HIT)
            assert (reply.status, reply.cache) == (200, "hit"), reply
            seconds.append(reply.seconds)
            time.sleep(0.002)
    return seconds


def _p99(seconds: list[float]) -> float:
    return sorted(seconds)[len(seconds) * 99 // 100]


def _queries(folder: Path, report: Report) -> None:
    """What an app asks its database for a hundred hits: nothing."""
    from sqlalchemy import event
    from sqlalchemy.engine import Engine

    site = Site(folder, tasks={"workers": 0}, render={"processes": -1})
    client = create_app(load(site.config, {})).test_client()
    bearer = {"Authorization": f"Bearer {TOKEN}"}
    statements: list[str] = []

    def note(connection: object, cursor: object, statement: str, *rest: object) -> None:
        statements.append(statement)

    event.listen(Engine, "before_cursor_execute", note)
    try:
        assert client.put("/upload/hit.jpg", data=jpeg("hit"), headers=bearer).status_code == 201
        report.expect(bool(statements), "an upload asked nothing: what listens is deaf")
        client.get(_HIT).get_data()
        statements.clear()
        for _ in range(100):
            reply = client.get(_HIT)
            reply.get_data()
            report.same("X-Cache", reply.headers["X-Cache"], "hit")
        report.same("queries of hits", statements, [])
    finally:
        event.remove(Engine, "before_cursor_execute", note)
