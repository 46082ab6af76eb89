"""Pictures through faults and kills on both sides: in the end each one is there, once, byte for byte."""

from __future__ import annotations

import hashlib
import os
import random
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

from support.hostile import descendants
from support.serving import Server, eventually

from .client import Connection, Journal, in_threads
from .drawn import jpeg
from .proxy import Proxy
from .report import Report
from .site import Site

__all__ = ["PRESETS", "agree", "exactness", "jobs_done", "kill"]

# Jobs have something to do, and come back soon after a kill.
PRESETS: dict[str, dict[str, object]] = {
    "presets.small": {"scalex": 40},
    "presets.tiny": {"scalex": 20, "encoding": "webp"},
}
TASKS: dict[str, object] = {"lease_s": 3, "attempts": 20}
_KILLS = 5
_SHARE = 0.3
_SLOWEST_S = 900.0


def exactness(folder: Path, number: int, seed: int, report: Report) -> None:
    """2,000 pictures at *number* 100; the server is killed 5 times, and so is the client."""
    count, dice = 20 * number, random.Random(seed)
    own, journal = folder / "own", Journal(folder / "journal")
    digests = {}
    for each in range(count):
        path = f"{each % 20}/{each}.jpg"
        data = jpeg(f"{seed} {path}", dice.randrange(1_000, 60_000))
        (own / path).parent.mkdir(parents=True, exist_ok=True)
        (own / path).write_bytes(data)
        digests[path] = hashlib.sha256(data).hexdigest()
    site = Site(folder, tasks=TASKS, **PRESETS)
    server = site.start("granian")
    proxy = Proxy(lambda: (server.host, server.port), _SHARE, seed)
    events = ["server", "client"] * _KILLS
    dice.shuffle(events)
    moments = sorted(dice.randrange(count) for _ in events)
    client = _client(proxy, own, folder / "journal")
    try:
        for moment, event in zip(moments, events, strict=True):
            while len(journal.read()) < moment and client.poll() is None:
                time.sleep(0.02)
            if event == "server":
                kill(server)
                server = site.start("granian")
            else:
                client.kill()
                client.wait()
                client = _client(proxy, own, folder / "journal")
        report.same("exit code of the client", client.wait(_SLOWEST_S), 0)
        noted = journal.read()
        statuses = Counter(status for *_, status in noted)
        report.say(f"{count} pictures, answers that arrived {dict(statuses)}, the proxy {dict(proxy.counts)}")
        report.same("journal", {path: digest for path, digest, _ in noted}, digests)
        report.same("folder", site.digests(), digests)
        kill(server)
        server = site.start("granian")
        report.same("left after the next start", site.left(), set())
        jobs_done(site, server, sorted(digests), report)
        report.same("rows", site.rows(server), digests)
        report.same("exit code of the server", server.stop(), 0)
    finally:
        proxy.close()
        client.kill()
        client.wait()
        if server.is_running:
            kill(server)
    agree(site, report)
    report.same("folder after the sync", site.digests(), digests)


def _client(proxy: Proxy, own: Path, journal: Path) -> subprocess.Popen[bytes]:
    host, port = proxy.address
    program = [sys.executable, "-m", "support.intake.client", f"{host}:{port}", str(own), str(journal)]
    return subprocess.Popen(program, env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])})


def kill(server: Server) -> None:
    """SIGKILL of all processes of *server*; it returns when none of them is there."""
    pids = [server.process.pid, *descendants(server.process.pid)]
    for pid in pids:
        try:
            os.kill(pid, 9)
        except ProcessLookupError:
            continue
    server.kill()
    assert eventually(lambda: not any(map(_is_alive, pids)))


def _is_alive(pid: int) -> bool:
    try:
        return " Z " not in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False


def jobs_done(site: Site, server: Server, paths: list[str], report: Report) -> None:
    """Every job is done in the end, and with it all presets of *paths* are hits."""
    began = time.monotonic()
    eventually(lambda: set(site.jobs()) <= {"done", "failed"} and server.health() == "ok", _SLOWEST_S, 0.2)
    report.say(f"jobs {dict(site.jobs())}, all done {time.monotonic() - began:.1f} s after the last start")
    report.same("jobs", dict(site.jobs()), {"done": len(paths)})
    report.same("pictures without a job", sorted(set(paths) - site.subjects()), [])
    misses: list[str] = []

    def ask(thread: int) -> None:
        connection = Connection((server.host, server.port))
        for path in paths[thread::4]:
            for preset in PRESETS:
                found = connection.get(f"/picture/{path}?preset={preset.partition('.')[2]}")
                if found != (200, "hit"):
                    misses.append(f"{path} {preset}: {found}")
        connection.close()

    in_threads(4, ask)
    report.same("presets that are no hits", sorted(misses)[:20], [])


def agree(site: Site, report: Report) -> None:
    """After a sync the catalog and the folder agree."""
    code, said = site.command("catalog", "sync")
    report.say(f"sync: {said.strip().splitlines()[-1] if said.strip() else ''}")
    report.same("catalog sync", code, 0)
    code, said = site.command("catalog", "check", "--hash")
    report.expect(code == 0, f"catalog check --hash: {code} {said}")
