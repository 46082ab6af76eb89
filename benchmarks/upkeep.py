"""``python -m benchmarks.upkeep [N]``: what upkeep costs with N variants (200,000) of 200 sources.

Time and peak memory of the commands, each as a process of its own, and how long a server takes from its
start to its first answer, against one with a small cache. Bodies are tiny, so this is the cost of the
numbers, not of the bytes. The cache lies in the system's folder for temporary files.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from . import servers
from .client import Job, ask
from .many import Library, draw_sources, fill
from .servers import Stage

__all__ = ["main"]

_STARTS = 9


def main(count: int = 200_000) -> None:
    """Fill a cache and print a table."""
    with tempfile.TemporaryDirectory(prefix="imagefactory-upkeep-") as name, Stage() as stage:
        folder = Path(name)
        sources = draw_sources(folder / "pictures")
        print(f"filling a cache with {count:,} variants", flush=True)
        large = fill(folder / "large", folder / "pictures", sources, count)
        small = fill(folder / "small", folder / "pictures", sources, 200)
        _starts(stage, large, small)
        total = int(_bytes(large))
        for part in (100, 10):
            _run(large, f"evict, 1/{part} of it", "evict", max_bytes=total - total // part)
            total = int(_bytes(large))
        _run(large, "evict, nothing to do", "evict")
        _run(large, "stats", "stats", "--json")
        _run(large, "verify", "verify", "--json")
        _run(large, "purge of one source of 200", "purge", sources[-1])
        _run(large, "rebuild", "rebuild", "--json")
        _run(large, "purge of all", "purge", "--all", "--yes")


def _starts(stage: Stage, large: Library, small: Library) -> None:
    """From the start of a process to its first answer, a hit, by turns."""
    seconds: dict[str, list[float]] = {"large": [], "small": []}
    for _ in range(_STARTS):
        for name, library in (("large", large), ("small", small)):
            began = time.monotonic()
            server = servers.ours(stage, "waitress", library.config)
            answers = ask(Job(server.ports, library.targets[-1:], connections=1, seconds=60))
            seconds[name].append(time.monotonic() - began)
            if set(answers.caches) != {"hit"}:
                raise RuntimeError(f"no hit: {dict(answers.caches)}")
            stage.stop(server)
    ratio = median(seconds["large"]) / median(seconds["small"])
    print(f"start to first answer: {median(seconds['large']):.2f} s, {ratio:.2f} of that with 200 variants")


def _bytes(library: Library) -> int:
    return servers.parts(library.config).store.index.variants.total_bytes()


def _run(library: Library, what: str, *arguments: str, max_bytes: int = 0) -> None:
    """Run a command, and print its time and the peak of its memory."""
    environ = {**os.environ, "IMAGEFACTORY_CACHE__MIN_FREE": "0"}
    if max_bytes:
        environ["IMAGEFACTORY_CACHE__MAX_BYTES"] = str(max_bytes)
    command = [sys.executable, "-m", "imagefactory", "--config", str(library.config), *arguments]
    began = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, env=environ, text=True)
    assert process.stdout is not None
    said = " ".join(process.stdout.read().split())
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.monotonic() - began
    cost = f"{seconds:.1f} s, {usage.ru_maxrss / 1000:.0f} MB"
    print(f"{what}: {cost}, exit {process.returncode}: {said[:150]}", flush=True)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:2]))
