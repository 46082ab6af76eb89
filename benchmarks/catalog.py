"""The processor time of the catalog: rows in bulk, pages, digests, duplicates, and a sync with a folder.

    make catalog            # about a minute

100,000 rows in SQLite, one in twenty a duplicate, are written and asked for; then the catalog is brought to
a folder of 10,000 small pictures, and again when nothing has changed. SEED chooses the digests, and what is
asked for. What can be repeated is the best of several runs.
"""

from __future__ import annotations

import argparse
import io
import os
import random
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from imagefactory.catalog.database import Database
from imagefactory.catalog.pictures import Picture, PictureRows
from imagefactory.config import from_mapping
from imagefactory.factory import assemble
from imagefactory.upkeep.syncing import sync
from imagefactory.workers.rendering import InThread

__all__ = ["main"]

_RUNS = 20
_STAMP = "1234567 20000 1700000000000000000 1700000000000000000"


def cpu_s(work: Callable[[], object], runs: int = 1) -> float:
    """The processor time of *work*, the least of so many runs."""
    taken = []
    for _ in range(runs):
        began = time.process_time()
        work()
        taken.append(time.process_time() - began)
    return min(taken)


def pictures(count: int, chance: random.Random) -> list[Picture]:
    """Rows in a hundred folders, in the order of a walk."""
    digests = [chance.randbytes(32).hex() for _ in range(count - count // 20)]
    found = []
    for number in range(count):
        digest = digests[number % len(digests)]
        path = f"folder {number * 100 // count:02}/IMG_{number:06}.jpg"
        found.append(
            Picture(path, digest, digest, _STAMP, 20_000, 4000, 3000, "JPEG", "ready", float(number))
        )
    return found


def time_rows(rows: PictureRows, count: int, chance: random.Random) -> None:
    """Print what rows cost."""

    def tell(what: str, seconds: float, unit: str = "ms", scale: float = 1e3, limit: float = 0) -> None:
        text = f"  {what:44} {seconds * scale:9.2f} {unit}"
        print(f"{text}  (at most {limit:g})" if limit else text, flush=True)

    rows.count()
    made = pictures(count, chance)
    tell("insert, in the order of paths", cpu_s(lambda: rows.put(made)) / count, "us a row", 1e6, 30)
    tell("the same rows once more", cpu_s(lambda: rows.put(made)) / count, "us a row", 1e6)
    rows.remove([each.path for each in made])
    chance.shuffle(made)
    tell("insert, in no order", cpu_s(lambda: rows.put(made)) / count, "us a row", 1e6, 30)
    paths = sorted(each.path for each in made)
    for where, after in (("start", ""), ("middle", paths[count // 2]), ("end", paths[-101])):
        tell(f"page of 100 at the {where}", cpu_s(lambda after=after: rows.page(after), _RUNS), limit=1)
    words = {
        "a word that all have": "img",
        "a word that none has": "zebra",
        "a word that is not ASCII": "été",
    }
    for what, q in words.items():
        tell(f"page of 100 with {what}", cpu_s(lambda q=q: rows.page(q=q), _RUNS))
    tell("page of a digest", cpu_s(lambda: rows.page(digest=made[0].digest), _RUNS))
    asked = [each.digest for each in made[:500]] + [chance.randbytes(32).hex() for _ in range(500)]
    tell("which of 1,000 digests are here", cpu_s(lambda: rows.present(asked), _RUNS))
    tell("rows of 500 paths", cpu_s(lambda: rows.known(paths[:500]), _RUNS))
    tell(f"{count // 20:,} duplicates", cpu_s(lambda: list(rows.duplicates()), 5))
    tell("the newest 100", cpu_s(lambda: rows.newest(100), _RUNS))
    tell("all rows", cpu_s(lambda: sum(1 for _ in rows.walk()), 3) / count, "us a row", 1e6)


def draw(folder: Path, count: int) -> None:
    """So many different small pictures, an hour old."""
    then_s = time.time() - 3600
    for number in range(count):
        image = Image.new("RGB", (64, 48), (number % 256, number // 256, 80))
        buffer = io.BytesIO()
        image.save(buffer, "JPEG")
        body = buffer.getvalue() + number.to_bytes(4, "big")
        file = folder / f"folder {number // 500:02}" / f"{number:05}.jpg"
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(body)
        os.utime(file, (then_s, then_s))


def time_sync(folder: Path, count: int) -> None:
    """Print what a sync costs."""
    (folder / "pictures").mkdir()
    draw(folder / "pictures", count)
    config = from_mapping({"catalog": {"url": f"sqlite:///{folder}/sync.db"}}, folder, {})
    parts, rows = assemble(config, InThread()), PictureRows(Database(config))

    def run() -> Sequence[int]:
        done = sync(parts.sources, parts.identifier, rows, time.time)
        return done.added, done.unchanged

    rows.count()
    time.sleep(2.1)  # stamps of now are racy: their files would be hashed twice
    for what, expected in (("first", (count, 0)), ("again", (0, count)), ("again", (0, count))):
        began = time.perf_counter()
        found: list[Any] = []
        seconds = cpu_s(lambda found=found: found.append(run()))
        if found != [expected]:
            raise SystemExit(f"a sync brought {found}, not {expected}")
        wall = time.perf_counter() - began
        print(f"  sync of {count:,} files, {what:22} {seconds / count * 1e6:9.2f} us a file, {wall:.1f} s")


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="make catalog", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--files", type=int, default=10_000)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="imagefactory-catalog-") as name:
        folder = Path(name)
        config = from_mapping({"catalog": {"url": f"sqlite:///{folder}/rows.db"}}, folder, {})
        print(f"{asked.rows:,} rows, processor time", flush=True)
        time_rows(PictureRows(Database(config)), asked.rows, random.Random(asked.seed))
        print(f"  {(folder / 'rows.db').stat().st_size / asked.rows:.0f} bytes a row", flush=True)
        time_sync(folder, asked.files)


if __name__ == "__main__":
    main()
