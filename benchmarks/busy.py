"""Hits and health checks while renders take every core, against a raw app beside as many busy processes.

The raw app says how long any answer must wait on such a machine; what ours takes on top is our doing.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from itertools import islice

from . import hits, servers
from .bench import Bench
from .client import Job, ask, ask_in_background
from .cold import fresh_targets
from .rounds import compare, interleave
from .servers import Server

__all__ = ["run"]

_SERVERS = ("waitress", "granian")
_RENDERING = 8  # connections that ask for cold renders
_MOST_RENDERS = 400  # a second: more than two cores can do, so that they never end
_LEAD_S = 0.4


def run(bench: Bench) -> None:
    """p50 and p99 of hits, and p99 of /healthz, under both servers."""
    made = hits.variants(bench)
    details = bench.details["busy"] = {}
    fresh = fresh_targets(bench)
    for name in _SERVERS:
        ours = bench.maybe(lambda n=name: servers.ours(bench.stage, n, made.config))
        if ours is None:
            continue
        raw = servers.raw(bench.stage, name, made.bodies)
        hits.warm(ours, made.paths)
        found = interleave(_contenders(bench, ours, raw, made.paths, fresh), bench.pick(1, 5))
        _tell(bench, name, found)
        details[name] = found
        bench.stage.stop(ours, raw)


def _contenders(
    bench: Bench, ours: Server, raw: Server, paths: list[str], fresh: Iterator[str]
) -> dict[str, Callable[[], tuple[float, float]]]:
    seconds = bench.pick(1.0, 5.0)

    def rendering(targets: list[str]) -> tuple[float, float]:
        asked = list(islice(fresh, int(_MOST_RENDERS * (seconds + 1))))
        wait = ask_in_background(Job(ours.ports, asked, _RENDERING, _LEAD_S + seconds + 0.5))
        time.sleep(_LEAD_S)
        try:
            return _latencies(ours, targets, seconds)
        finally:
            rendered = wait()
            if set(rendered.statuses) - {200} or set(rendered.caches) != {"miss"}:
                raise RuntimeError(f"not only misses: {dict(rendered.statuses)}, {dict(rendered.caches)}")

    def beside(nice: int, targets: list[str]) -> tuple[float, float]:
        with _busy_processes(os.cpu_count() or 1, nice):
            time.sleep(_LEAD_S)
            return _latencies(raw, targets, seconds)

    return {
        "hits": lambda: rendering(paths),
        "healthz": lambda: rendering(["/healthz"]),
        "raw, nice 0": lambda: beside(0, paths),
        "raw, nice 10": lambda: beside(10, paths),
    }


def _latencies(server: Server, targets: list[str], seconds: float) -> tuple[float, float]:
    """p50 and p99 in ms of four connections that ask every 10 ms or so."""
    answers = ask(Job(server.ports, targets, 4, seconds, pause_s=0.01, is_rotating=True))
    if set(answers.statuses) != {200}:
        raise RuntimeError(f"{server.name}: {dict(answers.statuses)}")
    return answers.latency(0.5) * 1000, answers.latency(0.99) * 1000


@contextlib.contextmanager
def _busy_processes(count: int, nice: int) -> Iterator[None]:
    """So many processes that compute without end, at this niceness."""
    code = f"import os; os.nice({nice})\nwhile True: sum(range(10000))"
    processes = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(count)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def _tell(bench: Bench, server: str, found: dict[str, list[tuple[float, float]]]) -> None:
    def p(name: str, number: int) -> list[float]:
        return [values[number] for values in found[name]]

    ours = f"imagefactory, {server}"
    for nice in (0, 10):
        raw = f"raw, nice {nice}"
        other = f"raw app, {server}, busy processes at nice {nice}"
        bench.add(compare("busy, hit p50", (ours, p("hits", 0)), (other, p(raw, 0)), "ms"))
        bench.add(compare("busy, hit p99", (ours, p("hits", 1)), (other, p(raw, 1)), "ms", at_most=2.0))
        bench.add(
            compare("busy, /healthz p99", (ours, p("healthz", 1)), (other, p(raw, 1)), "ms", at_most=2.0)
        )
