"""Many small pictures, and hits beside them."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from support.drawing import encoded, quarters
from support.serving import Server, eventually

from .client import Connection, in_threads, put_all
from .drawn import jpeg
from .report import Report
from .site import Site, Usage

__all__ = ["hits", "rate"]

_SERVERS = ("granian", "gunicorn")
_CONNECTIONS = 16
_BYTES = 20_000
_HIT = "/picture/hit.jpg?scalex=40"


def rate(folder: Path, number: int, seed: int, report: Report) -> None:
    """5,000 pictures of 20 kB over 16 connections, at *number* 100: what one costs."""
    count = 50 * number
    pictures = {f"{each % 50}/{each}.jpg": jpeg(f"{seed} {each}", _BYTES) for each in range(count)}
    alone = _syncs(folder, min(count, 500), 1)
    report.figure(f"fsyncs a second, one after the other, on {_file_system(folder)}", alone)
    report.figure("the same by 16 threads, in times of that", _syncs(folder, count, _CONNECTIONS) / alone)
    for kind in _SERVERS:
        _rate(kind, Site(folder / kind, tasks={"workers": 0}, render={"queue": 64}), pictures, alone, report)


def _rate(kind: str, site: Site, pictures: dict[str, bytes], alone: float, report: Report) -> None:
    statuses: list[int] = []
    with site.serving(kind, workers=1) as server:
        address = (server.host, server.port)
        warm = [(f"warm-{each}.jpg", jpeg(f"warm {each}")) for each in range(64)]
        put_all(address, warm, _CONNECTIONS)
        usage, began = Usage(server), time.monotonic()
        put_all(address, pictures.items(), _CONNECTIONS, lambda path, digest, status: statuses.append(status))
        took_s, cpu_s = time.monotonic() - began, usage.cpu_s()
        report.same(f"{kind}: statuses", set(statuses), {201})
        report.same(f"{kind}: rows", len(site.rows(server)), len(warm) + len(pictures))
    count = len(pictures)
    report.figure(f"{kind}: processor time of the server, ms a file", cpu_s / count * 1000, most=1.5)
    report.figure(f"{kind}: files a second", count / took_s)
    # Two for each file: its bytes, and its folder.
    report.figure(f"{kind}: fsyncs a second, in times of one by one", 2 * count / took_s / alone, least=10)


def _syncs(folder: Path, count: int, threads: int) -> float:
    """How many new files of 20 kB these *threads* can sync in a second."""
    data, began = os.urandom(_BYTES), time.monotonic()

    def sync(thread: int) -> None:
        for each in range(count // threads):
            number = os.open(folder / f"sync-{threads}-{thread}-{each}", os.O_WRONLY | os.O_CREAT)
            os.write(number, data)
            os.fsync(number)
            os.close(number)

    in_threads(threads, sync)
    return count / (time.monotonic() - began)


def _file_system(folder: Path) -> str:
    listing = subprocess.run(["df", "-PT", str(folder)], capture_output=True, text=True, check=True)
    return listing.stdout.split("\n")[1].split()[1]


def hits(folder: Path, number: int, seed: int, report: Report) -> None:
    """The hits of one client: alone, beside 16 that upload without end, beside 16 that have pictures
    rendered."""
    seconds = max(2.0, 0.2 * number)
    for kind in _SERVERS:
        site = Site(folder / kind)
        with site.serving(kind) as server:
            pictures = {"hit.jpg": jpeg("hit"), "large.jpg": encoded(quarters(1600, 1200), "JPEG")}
            put_all((server.host, server.port), pictures.items(), 1)
            report.expect(eventually(lambda: server.get(_HIT).cache == "hit"), f"{kind}: no hit")
            found = {"alone": measured(server, seconds)}
            for load in ("uploads", "renders"):
                with loaded(server, load):
                    time.sleep(1)
                    found[f"beside {load}"] = measured(server, seconds)
        for name, times in found.items():
            p50_ms, p99_ms = _ms(times, 50), _ms(times, 99)
            report.say(f"{kind}: {len(times)} hits {name}: p50 {p50_ms:.2f} ms, p99 {p99_ms:.2f} ms")
        ratio = _ms(found["beside uploads"], 99) / _ms(found["beside renders"], 99)
        report.figure(f"{kind}: p99 beside uploads in times of that beside renders", ratio)


@contextmanager
def loaded(server: Server, load: str) -> Iterator[None]:
    """16 clients in a process of their own put a load on *server* while the block runs."""
    program = [
        sys.executable,
        "-m",
        "support.intake.client",
        f"{server.host}:{server.port}",
        "--endless",
        load,
    ]
    environ = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    process = subprocess.Popen(program, env=environ)
    try:
        yield
        assert process.poll() is None, "the load has ended"
    finally:
        process.kill()
        process.wait()


def measured(server: Server, seconds: float) -> list[float]:
    """The seconds of each hit that one client gets in so many *seconds*."""
    connection, times = Connection((server.host, server.port)), []
    until = time.monotonic() + seconds
    while (began := time.monotonic()) < until:
        status, cache = connection.get(_HIT)
        times.append(time.monotonic() - began)
        assert (status, cache) == (200, "hit"), (status, cache)
        time.sleep(0.002)
    connection.close()
    return times


def _ms(seconds: list[float], percent: int) -> float:
    return sorted(seconds)[len(seconds) * percent // 100] * 1000
