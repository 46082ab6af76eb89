"""``python -m benchmarks.rebuild [few|many|large]...``: verify and rebuild against a loop that hashes.

    few     10,000 objects of 3 kB
    many    200,000 objects of 3 kB
    large   300 objects of 5 MB

The loop is what one would write: ``hashlib.sha256(path.read_bytes())`` for each path, in one thread, the
paths known. The commands run as processes of their own; the seconds are those that they say, without the
start of Python (half a second). All of it by turns, the files in the page cache; the median of the rounds'
ratios, the lowest and the highest. The cache lies in the system's folder for temporary files.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from imagefactory.model.variant import Key, Variant
from imagefactory.storage.disk import DiskStore

from .rounds import compare, interleave

__all__ = ["main"]

_CASES = {"few": (10_000, 3_000), "many": (200_000, 3_000), "large": (300, 5_000_000)}
_PER_SOURCE = 50
_ROUNDS = 5
_LOOP = """
import hashlib, sys, time
from pathlib import Path
paths = [Path(name) for name in sys.stdin.read().split()]
began = time.monotonic()
for path in paths:
    hashlib.sha256(path.read_bytes()).hexdigest()
print('{"seconds": %f}' % (time.monotonic() - began))
"""


def main(names: list[str]) -> None:
    """Fill a cache for each case, and print what came out."""
    for name in names or list(_CASES):
        with tempfile.TemporaryDirectory(prefix="imagefactory-rebuild-") as folder:
            _measure(Path(folder), name, *_CASES[name])


def _measure(folder: Path, name: str, count: int, size: int) -> None:
    config = _fill(folder, count, size)
    paths = "\n".join(map(str, DiskStore(folder / "cache", 2**50).objects.walk()))
    peaks: dict[str, int] = {}

    def loop() -> float:
        return count / _timed([sys.executable, "-c", _LOOP], peaks, "loop", paths)

    def command(verb: str) -> float:
        argv = [sys.executable, "-m", "imagefactory", "--config", str(config), verb, "--json"]
        return count / _timed(argv, peaks, verb)

    found = interleave(
        {"loop": loop, "verify": lambda: command("verify"), "rebuild": lambda: command("rebuild")}, _ROUNDS
    )
    for verb in ("verify", "rebuild"):
        row = compare(name, (verb, found[verb]), ("loop", found["loop"]), "objects/s")
        print(
            f"{count:,} x {size:,} bytes, {verb} / loop: {row.ratio:.2f} ({row.low:.2f}-{row.high:.2f}); "
            f"{row.our_value:,.0f} objects/s, {row.our_value * size / 1e6:,.0f} MB/s, "
            f"peak of memory {peaks[verb] / 1e6:.0f} MB",
            flush=True,
        )


def _timed(argv: list[str], peaks: dict[str, int], name: str, text: str = "") -> float:
    """The seconds that *argv* says it took; its peak of memory goes to *peaks*."""
    with tempfile.TemporaryFile("w+") as said, tempfile.TemporaryFile("w+") as given:
        given.write(text)
        given.seek(0)
        process = subprocess.Popen(argv, stdin=given, stdout=said)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise RuntimeError(f"{name} ended with {process.returncode}")
        said.seek(0)
        seconds = float(json.load(said)["seconds"])
    peaks[name] = max(peaks.get(name, 0), usage.ru_maxrss * (1024 if sys.platform == "linux" else 1))
    return seconds


def _fill(folder: Path, count: int, size: int) -> Path:
    """A cache with *count* objects of *size* bytes, 50 of each source; its config."""
    (folder / "pictures").mkdir()
    config = folder / "config.toml"
    config.write_text('[paths]\npictures = "pictures"\ncache = "cache"\n')
    store = DiskStore(folder / "cache", 2**50)
    store.start()
    noise = random.Random(1).randbytes(size)
    batch = []
    for number in range(count):
        head = f"{number} ".encode()
        data = head + noise[len(head) :]
        digest = hashlib.sha256(str(number // _PER_SOURCE).encode()).hexdigest()
        key = Key(digest, f"v1-{100 + number % _PER_SOURCE}x75-q80", "jpeg")
        variant = Variant(key, hashlib.sha256(data).hexdigest(), size, 100 + number % _PER_SOURCE, 75)
        path = store.objects.root / store.objects.name(key, variant.body)
        if number % _PER_SOURCE == 0:
            path.parent.mkdir(parents=True)
        path.write_bytes(data)
        batch.append((variant, time.time()))
        if len(batch) == 1000 or number == count - 1:
            store.index.variants.put_many(batch)
            batch = []
    store.index.completeness.set_whole(True)
    store.processes.end()
    return config


if __name__ == "__main__":
    main(sys.argv[1:])
