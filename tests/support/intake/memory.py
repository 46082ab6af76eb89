"""Large bodies at once: they are never in the memory of a server, and no more of them than ``concurrent``."""

from __future__ import annotations

import shutil
import socket
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from threading import Barrier

from .client import answer_of, exchange, head, in_threads
from .drawn import MB, jpeg, large_jpeg
from .report import Report
from .site import SERVERS, Site, Usage

__all__ = ["memory"]

_MOST_MB = 60
_CONCURRENT = 4


def memory(folder: Path, number: int, seed: int, report: Report) -> None:
    """50 bodies of 100 MB at once, at *number* 100, to each server."""
    count, size = max(8, number // 2), max(20, number) * MB
    free = shutil.disk_usage(folder).free
    if free < 3 * count * size:
        report.say(f"left out: {count} bodies of {size / MB:.0f} MB need more than the disk has")
        return
    for kind in SERVERS:
        _bodies(kind, folder / kind, count, size, report)
        shutil.rmtree(folder / kind)
    for kind in ("gunicorn", "gevent", "granian"):  # waitress has read the bodies before it asks for a place
        _places(kind, folder / kind, report)


def _bodies(kind: str, folder: Path, count: int, size: int, report: Report) -> None:
    uploads = {"concurrent": count, "max_bytes": size}
    # Uploads have half of the threads at most; and what waits for a render: all of them.
    server, render = {"threads": max(64, 2 * count)}, {"queue": count, "timeout_s": 300}
    site = Site(folder, uploads=uploads, server=server, render=render, tasks={"workers": 0})
    with site.serving(kind, workers=1) as server:
        address = (server.host, server.port)
        _put(address, "first.jpg", jpeg("first"))
        usage, barrier = Usage(server), Barrier(count)
        answers: Counter[int] = Counter()

        def put(each: int) -> None:
            path = f"{each}.jpg"
            barrier.wait()
            start = head("PUT", f"/upload/{path}", Content_Length=size)
            status, _, body = exchange(address, (start, *large_jpeg(path, size)))
            answers[status] += 1
            report.expect(status == 201, f"{kind}: {path}: {status} {body[:300]!r}")

        in_threads(count, put)
        said = f"{kind}: {count} x {size / MB:.0f} MB"
        report.figure(f"{said}: memory at most, MB more than at the start", usage.growth(), most=_MOST_MB)
        report.figure(f"{said}: processor time, s a GB", usage.cpu_s() / (count * size / 1e9))
        report.same(f"{kind}: answers", dict(answers), {201: count})
        report.same(f"{kind}: left", site.left(), set())
        sizes = {file.stat().st_size for path, file in site.stored().items() if path != "first.jpg"}
        report.same(f"{kind}: sizes", sizes, {size})


def _places(kind: str, folder: Path, report: Report) -> None:
    """As many as may are half sent; one more is refused, before its body, and then they are finished."""
    site = Site(folder, uploads={"concurrent": _CONCURRENT}, tasks={"workers": 0})
    with site.serving(kind, workers=1) as server, ExitStack() as stack:
        address = (server.host, server.port)
        held = []
        for each in range(_CONCURRENT):
            path, connection = f"{each}.jpg", stack.enter_context(socket.create_connection(address, 60))
            data = jpeg(path, 50_000)
            connection.sendall(head("PUT", f"/upload/{path}", Content_Length=len(data)) + data[:30_000])
            held.append((connection, data[30_000:]))
        while len(site.left()) < _CONCURRENT:
            pass
        data = jpeg("more")
        status, headers, _ = exchange(
            address, [head("PUT", "/upload/more.jpg", Content_Length=len(data)), data]
        )
        report.same(f"{kind}: one more than concurrent", (status, "retry-after" in headers), (503, True))
        for connection, rest in held:
            connection.sendall(rest)
            report.same(f"{kind}: one of those", answer_of(connection)[0], 201)
        report.same(f"{kind}: afterwards", _put(address, "more.jpg", data), 201)


def _put(address: tuple[str, int], path: str, data: bytes) -> int:
    return exchange(address, [head("PUT", f"/upload/{path}", Content_Length=len(data)), data])[0]
