"""The server is killed at random moments while pictures come in."""

from __future__ import annotations

import hashlib
import os
import random
import threading
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

from .client import Connection
from .drawn import jpeg
from .exactness import PRESETS, TASKS, agree, jobs_done, kill
from .report import Report
from .site import Site, processes, workers

__all__ = ["kills"]

_LOADS = 4
_LONGEST_LIFE_S = 1.0
_KINDS = ("granian", "gunicorn", "waitress", "gevent")


def kills(folder: Path, number: int, seed: int, report: Report) -> None:
    """200 kills at *number* 100, a share of them of render workers alone."""
    _Kills(folder, seed, report).run(2 * number)


class _Kills:
    def __init__(self, folder: Path, seed: int, report: Report) -> None:
        self.site = Site(folder, tasks=TASKS, **PRESETS)
        self.dice = random.Random(seed)
        self.report = report
        self.digests: dict[str, str] = {}  # of all that was ever sent, by path
        self.stored: set[str] = set()  # whose answer arrived
        self.answers: Counter[int] = Counter()
        self.seen: set[str] = set()
        self.is_over = threading.Event()

    def run(self, number: int) -> None:
        watcher = threading.Thread(target=self.watch)
        watcher.start()
        try:
            self.live(number)
        finally:
            self.is_over.set()
            watcher.join()
        self.report.say(f"{number} kills, answers {dict(self.answers)}, {len(self.seen)} pictures were seen")
        found = self.site.digests()
        self.report.same("pictures that are lost", sorted(self.stored - set(found)), [])
        wrong = [path for path, digest in found.items() if self.digests.get(path) != digest]
        self.report.same("pictures that are wrong", wrong, [])
        agree(self.site, self.report)
        server = self.site.start("granian")
        try:
            self.report.same("left in the end", self.site.left(), set())
            jobs_done(self.site, server, sorted(found), self.report)
            self.report.same("rows", self.site.rows(server), found)
        finally:
            kill(server)
        self.report.same("folder in the end", self.site.digests(), found)

    def live(self, number: int) -> None:
        """Start, load, kill; the last life ends by a kill, too."""
        for count in range(1, number + 1):
            before = self.site.left()
            kind = _KINDS[count % len(_KINDS)]
            server = self.site.start(kind)
            connection = Connection((server.host, server.port))
            connection.put("none", b"")  # apps of wsgi.py begin with their first request
            connection.close()
            self.report.same(f"{kind}: left after the start", sorted(before & self.site.left()), [])
            is_killed = threading.Event()
            loads = [
                threading.Thread(
                    target=self.load, args=((server.host, server.port), f"{count}-{each}", is_killed)
                )
                for each in range(_LOADS)
            ]
            for load in loads:
                load.start()
            end = time.monotonic() + self.dice.uniform(0, _LONGEST_LIFE_S)
            while (left_s := end - time.monotonic()) > 0:
                time.sleep(min(left_s, 0.2))
                if self.dice.random() < 0.2:  # a render worker alone
                    self.kill_one(workers(server))
            if self.dice.random() < 0.3:  # first one server process of several
                self.kill_one([pid for pid in processes(server) if pid != server.process.pid])
                time.sleep(self.dice.uniform(0, 0.1))
            is_killed.set()
            kill(server)
            for load in loads:
                load.join()
            if count % 20 == 0:
                self.report.say(f"{count} kills")

    def kill_one(self, pids: list[int]) -> None:
        if pids:
            with suppress(ProcessLookupError):
                os.kill(self.dice.choice(pids), 9)

    def load(self, address: tuple[str, int], name: str, is_killed: threading.Event) -> None:
        """Puts and forms, until the kill."""
        dice, connection, count = random.Random(name), Connection(address), 0
        while not is_killed.is_set():
            paths = [f"{name}-{count + each}.jpg" for each in range(dice.choice((1, 1, 3)))]
            count += len(paths)
            files = [(path, jpeg(path, dice.randrange(1_000, 60_000))) for path in paths]
            self.digests |= {path: hashlib.sha256(data).hexdigest() for path, data in files}
            if len(files) == 1:
                status, digest = connection.put(*files[0])
                if status in (200, 201):
                    self.report.same(paths[0], digest, self.digests[paths[0]])
                    self.stored.add(paths[0])
            else:
                status, results = connection.post(*files)
                self.stored |= {str(each["path"]) for each in results if each["status"] in (200, 201)}
            self.answers[status] += 1
        connection.close()

    def watch(self) -> None:
        """Look at each picture as soon as it is there."""
        while not self.is_over.is_set():
            with suppress(OSError), os.scandir(self.site.pictures) as entries:
                for entry in entries:
                    if entry.name not in self.seen and not entry.name.startswith("."):
                        self.look(entry.path, entry.name)
            time.sleep(0.001)

    def look(self, file: str, path: str) -> None:
        data = Path(file).read_bytes()
        self.seen.add(path)
        digest = hashlib.sha256(data).hexdigest()
        self.report.expect(
            digest == self.digests.get(path), f"{path} was seen with {len(data)} bytes that are others"
        )
