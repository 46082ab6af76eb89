"""Caches filled without a renderer, for the tests that need many objects or damaged ones."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from imagefactory.model.variant import Key, Variant
from imagefactory.storage.disk import DiskStore

IS_LONG = bool(os.environ.get("IMAGEFACTORY_LONG"))
KINDS = ("flipped", "cut", "emptied")


def path_of(store: DiskStore, variant: Variant) -> Path:
    return store.objects.root / store.objects.name(variant.key, variant.body)


def put_object(store: DiskStore, key: Key, body: bytes, *, digest: str = "") -> Variant:
    """An object without a row; named as if its bytes had *digest*."""
    variant = Variant(key, digest or hashlib.sha256(body).hexdigest(), len(body), 100, 75)
    path = path_of(store, variant)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(body)
    return variant


def fill_cache(store: DiskStore, count: int, per_source: int = 20) -> list[Variant]:
    """*count* tiny objects with their rows, in an index that is whole."""
    store.start()
    variants = [
        put_object(
            store,
            Key(f"{number // per_source + 1:064x}", f"v1-{number % per_source + 1}x75-q80", "jpeg"),
            b"the bytes of object %d" % number,
        )
        for number in range(count)
    ]
    for start in range(0, count, 1000):
        store.index.variants.put_many([(variant, 1000.0) for variant in variants[start : start + 1000]])
    store.index.completeness.set_whole(True)
    return variants


def close_index(store: DiskStore) -> None:
    """Have this thread let go of the database, as at the end of a process."""
    store.index.database.use("read", lambda cache: cache.close())


def damage(path: Path, kind: str, dice: random.Random) -> None:
    """Flip a bit of the object at *path*, cut it, or empty it."""
    data = bytearray(path.read_bytes())
    if kind == "flipped":
        data[dice.randrange(len(data))] ^= 1 << dice.randrange(8)
    else:
        del data[dice.randrange(1, len(data)) if kind == "cut" else 0 :]
    path.write_bytes(data)


def state(root: Path) -> tuple[dict[str, bytes], set[tuple[str, str, int]], int]:
    """The objects of a cache with their bytes, its rows, and the sum of bytes."""
    store = DiskStore(root, 2**40)
    objects = {str(path.relative_to(root)): path.read_bytes() for path in store.objects.walk()}
    rows = {
        (row.key.text(), row.variant.body, row.bytes) if row.key and row.variant else ("damaged", "", 0)
        for row in store.index.variants.scan()
    }
    return objects, rows, store.index.variants.total_bytes()


def command(config: Path, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "imagefactory", "--config", str(config), *arguments]


def run(config: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """``imagefactory`` as a process, to its end."""
    return subprocess.run(command(config, *arguments), capture_output=True, text=True, check=False)


def same_after_kills(
    config: Path, cache: Path, arguments: Sequence[str], kills: int, spoil: Callable[[], object]
) -> None:
    """Assert that the command, killed at a random moment and run again, ends as one whole run does."""
    dice = random.Random(4)
    original = cache.with_name("original")
    spoil()
    shutil.copytree(cache, original)
    began = time.monotonic()
    assert run(config, *arguments).returncode == 0
    lasts_s = time.monotonic() - began
    expected = state(cache)
    was_killed = 0
    for _ in range(kills):
        shutil.rmtree(cache)
        shutil.copytree(original, cache)
        with subprocess.Popen(
            command(config, *arguments), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as process:
            time.sleep(dice.uniform(0.3, 1) * lasts_s)
            process.kill()
        was_killed += process.returncode < 0
        again = run(config, *arguments)
        assert again.returncode == 0, again.stderr
        assert state(cache) == expected
    assert was_killed or kills < 3
