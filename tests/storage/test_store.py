"""The cache as the generator sees it: one suite for the store on disk and the store in memory."""

from __future__ import annotations

import hashlib
import os
import signal
import sqlite3
import stat
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path

import pytest
from support.asking import problems

from imagefactory.errors import StorageError, TimedOut
from imagefactory.model.job import Rendered
from imagefactory.model.source import Header, Source, Stamp
from imagefactory.model.variant import Key, Variant
from imagefactory.storage.disk import DiskStore
from imagefactory.storage.memory import _ENTRY_BYTES as ENTRY_BYTES
from imagefactory.storage.memory import MemoryStore
from imagefactory.storage.protocols import Store

KEY = Key("ab" * 32, "v1-100x75-q80", "jpeg")
BODY = b"the bytes of a picture" * 10
SOURCE = Source("cats/tom.jpg", Stamp(1, 2, 3, 4), "ab" * 32, Header(400, 300, "JPEG"))


@pytest.fixture(params=["disk", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return DiskStore(tmp_path / "cache", 10_000) if request.param == "disk" else MemoryStore(10_000)


@pytest.fixture
def disk(tmp_path: Path) -> DiskStore:
    return DiskStore(tmp_path / "cache", 10_000)


def keep(store: Store, key: Key = KEY, body: bytes = BODY) -> Variant:
    """Store *body* as a renderer does it: into the file that the store gave, or into memory."""
    with store.temp() as temp:
        if temp is None:
            return store.keep(key, Rendered(100, 75, body), None)
        temp.path.write_bytes(body)
        return store.keep(key, Rendered(100, 75), temp)


def read(store: Store, variant: Variant) -> bytes | None:
    body = store.objects.body(variant)
    if body is None:
        return None
    return body.read()


def key(number: int) -> Key:
    return Key(f"{number:064x}", "v1-1x1", "png")


# --- one suite for both ------------------------------------------------------------------------------------


def test_an_empty_store_knows_nothing(store: Store) -> None:
    store.start()
    assert store.index.variants.get(KEY) is None
    assert store.index.sources.get(SOURCE.path) is None
    assert store.objects.body(Variant(KEY, "cd" * 32, 1, 1, 1)) is None
    store.probe(4096)


def test_what_was_kept_is_found_with_its_bytes(store: Store) -> None:
    variant = keep(store)
    assert variant == Variant(KEY, hashlib.sha256(BODY).hexdigest(), len(BODY), 100, 75)
    assert store.index.variants.get(KEY) == variant
    assert read(store, variant) == BODY


@pytest.mark.parametrize(
    ("body", "digest"), [(b"", ""), (b"", hashlib.sha256(b"").hexdigest()), (BODY, "ab" * 32)]
)
def test_what_is_empty_or_not_as_rendered_is_not_kept(store: Store, body: bytes, digest: str) -> None:
    with store.temp() as temp:
        if temp is not None:
            temp.path.write_bytes(body)
        with pytest.raises(StorageError):
            store.keep(KEY, Rendered(100, 75, None if temp else body, digest=digest), temp)
    assert store.index.variants.get(KEY) is None
    assert store.index.variants.count() == 0


def test_what_is_as_rendered_is_kept(store: Store) -> None:
    with store.temp() as temp:
        if temp is not None:
            temp.path.write_bytes(BODY)
        rendered = Rendered(100, 75, None if temp else BODY, digest=hashlib.sha256(BODY).hexdigest())
        variant = store.keep(KEY, rendered, temp)
    assert variant is not None
    assert read(store, variant) == BODY


def test_a_source_is_remembered_and_replaced(store: Store) -> None:
    store.index.sources.put(SOURCE)
    assert store.index.sources.get(SOURCE.path) == SOURCE
    newer = Source(SOURCE.path, Stamp(1, 2, 3, 5), "cd" * 32, SOURCE.header, is_racy=True)
    store.index.sources.put(newer)
    assert store.index.sources.get(SOURCE.path) == newer


def test_what_is_kept_again_replaces_what_was_there(store: Store) -> None:
    old = keep(store)
    new = keep(store, body=b"another encoder's bytes")
    assert store.index.variants.get(KEY) == new
    assert read(store, new) == b"another encoder's bytes"
    assert read(store, old) is None


def test_the_same_bytes_may_be_kept_again(store: Store) -> None:
    assert keep(store) == keep(store)
    assert read(store, keep(store)) == BODY


def test_a_removed_variant_is_gone_with_its_bytes(store: Store) -> None:
    variant, other = keep(store), keep(store, key(1))
    store.remove(variant)
    store.remove(variant)
    assert store.index.variants.get(KEY) is None
    assert read(store, variant) is None
    assert read(store, other) == BODY


def test_encodings_of_one_recipe_do_not_mix(store: Store) -> None:
    keys = [Key(KEY.digest, KEY.recipe, name) for name in ("jpeg", "webp", "avif", "png", "gif")]
    variants = [keep(store, one, one.encoding.encode()) for one in keys]
    assert [read(store, variant) for variant in variants] == [one.encoding.encode() for one in keys]


def test_a_body_above_the_bound_is_not_kept(store: Store) -> None:
    with suppress(StorageError):
        keep(store, body=bytes(10_001))
    assert store.index.variants.get(KEY) is None
    assert read(store, keep(store)) == BODY  # a small one fits still


def test_the_bound_holds(store: Store) -> None:
    kept = 0
    for number in range(30):
        try:
            keep(store, key(number), bytes([number]) * 1000)
            kept += 1
        except StorageError as error:
            assert error.part == "budget"
    alive = [number for number in range(30) if store.index.variants.get(key(number))]
    assert len(alive) == (10_000 // (1000 + ENTRY_BYTES) if isinstance(store, MemoryStore) else 10)
    for number in alive:
        variant = store.index.variants.get(key(number))
        assert variant
        assert read(store, variant) == bytes([number]) * 1000


def test_a_claim_is_given_and_given_back(store: Store) -> None:
    for _ in range(2):
        with store.claims.take(KEY.text(), 1) as has_waited:
            assert not has_waited


def test_threads_may_use_a_store_side_by_side(store: Store) -> None:
    def work(number: int) -> bytes | None:
        one = key(number % 10)
        return read(store, keep(store, one, str(number % 10).encode()))

    with ThreadPoolExecutor(8) as pool:
        bodies = list(pool.map(work, range(80)))
    assert bodies == [str(number % 10).encode() for number in range(80)]
    if isinstance(store, DiskStore):
        assert problems(store) == []


# --- on disk: order, count, crash --------------------------------------------------------------------------


def test_the_count_of_bytes_is_exact_through_replace_and_remove(disk: DiskStore) -> None:
    for number in range(5):
        keep(disk, key(number), bytes(100 + number))
    assert disk.index.variants.total_bytes() == 510
    keep(disk, key(0), bytes(7))
    keep(disk, key(0), bytes(7))
    assert disk.index.variants.total_bytes() == 417
    disk.remove(Variant(key(1), hashlib.sha256(bytes(101)).hexdigest(), 101, 100, 75))
    assert disk.index.variants.total_bytes() == 316
    assert problems(disk) == []


def test_a_replaced_body_leaves_no_file(disk: DiskStore) -> None:
    keep(disk)
    keep(disk, body=b"another encoder's bytes")
    assert len(list(disk.objects.walk())) == 1
    assert problems(disk) == []


def test_another_store_of_the_same_folder_sees_what_was_kept(disk: DiskStore) -> None:
    variant = keep(disk)
    other = DiskStore(disk.root, 10_000)
    other.start()
    assert other.index.variants.get(KEY) == variant
    assert read(other, variant) == BODY


def test_the_folders_have_their_modes_whatever_the_umask(disk: DiskStore) -> None:
    before = os.umask(0o000)
    try:
        disk.start()
        with disk.claims.take(KEY.text(), 1):
            keep(disk)
    finally:
        os.umask(before)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in disk.root.iterdir() if path.is_dir()}
    assert modes == {"index": 0o700, "tmp": 0o700, "locks": 0o700, "objects": 0o750}
    assert stat.S_IMODE((disk.root / "epoch").stat().st_mode) == 0o600


def test_nothing_else_lies_in_the_cache_folder(disk: DiskStore) -> None:
    disk.start()
    with disk.claims.take(KEY.text(), 1):
        keep(disk)
    assert {path.name for path in disk.root.iterdir()} == {"index", "objects", "tmp", "locks", "epoch"}
    assert {path.name for path in (disk.root / "locks").iterdir() if path.suffix != ".session"} == {
        "claims",
        "index",
    }
    assert list((disk.root / "tmp").iterdir()) == []


def lock(store: DiskStore) -> closing[sqlite3.Connection]:
    """The index cannot be written for the time of the block."""
    connection = sqlite3.connect(store.root / "index" / "cache.db", isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    return closing(connection)


@pytest.mark.slow
def test_an_object_whose_row_can_not_be_written_is_removed(disk: DiskStore) -> None:
    keep(disk, key(1))
    with lock(disk), pytest.raises(StorageError, match="the index is locked"):
        keep(disk)
    assert problems(disk) == []


@pytest.mark.slow
def test_a_row_keeps_its_object_when_the_same_bytes_can_not_be_kept_again(disk: DiskStore) -> None:
    """Two makers of one variant, the second row fails: the first one is there and needs its object."""
    variant = keep(disk)
    with lock(disk), pytest.raises(StorageError, match="the index is locked"):
        keep(disk)
    assert read(disk, variant) == BODY


def test_no_temp_file_is_left_when_keeping_fails(disk: DiskStore) -> None:
    with pytest.raises(StorageError):
        keep(disk, body=bytes(10_001))
    with pytest.raises(RuntimeError), disk.temp():
        raise RuntimeError
    assert list(disk.temps.folder.iterdir()) == []


CHURN = """
import random, sys
from pathlib import Path
from imagefactory.model.job import Rendered
from imagefactory.storage.disk import DiskStore
from imagefactory.model.variant import Key
store = DiskStore(Path(sys.argv[1]), 10**9)
store.start()
print("begun", flush=True)
while True:
    key = Key(f"{random.randrange(8):064x}", "v1-1x1", "png")
    if random.random() < 0.7:
        with store.temp() as temp:
            temp.path.write_bytes(random.randbytes(random.randrange(1, 50_000)))
            store.keep(key, Rendered(1, 1), temp)
    else:
        found = store.index.variants.get(key)
        if found:
            store.remove(found)
"""


def test_after_a_kill_no_row_lacks_its_object_and_the_count_is_right(tmp_path: Path) -> None:
    """At worst an object has no row, and a file lies in tmp for the next start to sweep."""
    for pause_s in (0.1, 0.15, 0.2, 0.25):
        command = [sys.executable, "-c", CHURN, str(tmp_path / "cache")]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            assert process.stdout
            assert process.stdout.readline() == b"begun\n"
            time.sleep(pause_s)
            process.send_signal(signal.SIGKILL)
        store = DiskStore(tmp_path / "cache", 10**9)
        store.start()
        found = [problem for problem in problems(store) if not problem.startswith("no row for")]
        assert found == []


def test_a_start_sweeps_what_a_killed_writer_left(disk: DiskStore) -> None:
    disk.temps.folder.mkdir(parents=True)
    (disk.temps.folder / "half").write_bytes(b"half a picture")
    disk.start()
    assert list(disk.temps.folder.iterdir()) == []


def test_processes_wait_for_a_claim(disk: DiskStore) -> None:
    code = (
        "import sys; from pathlib import Path; from imagefactory.storage.disk import DiskStore\n"
        f"with DiskStore(Path(sys.argv[1]), 1).claims.take({KEY.text()!r}, 1):\n"
        "    print('held', flush=True); sys.stdin.read()\n"
    )
    command = [sys.executable, "-c", code, str(disk.root)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin
        assert process.stdout
        assert process.stdout.readline() == b"held\n"
        with pytest.raises(TimedOut), disk.claims.take(KEY.text(), 0.1):
            pass
        with disk.claims.take(key(1).text(), 0):
            pass
        process.stdin.close()
        with disk.claims.take(KEY.text(), 5) as has_waited:
            assert has_waited in (True, False)


# --- epochs ------------------------------------------------------------------------------------------------


def test_a_thousand_quick_epochs_are_a_thousand_numbers(disk: DiskStore) -> None:
    seen = []
    for _ in range(1000):
        disk.notices.renew()
        seen.append(disk.notices.epoch())
    assert len(set(seen)) == 1000
    assert 0 not in seen
    assert list(disk.temps.folder.iterdir()) == []


def test_an_epoch_is_a_time_that_every_file_system_holds(disk: DiskStore) -> None:
    for _ in range(100):
        disk.notices.renew()
        assert 0 < disk.notices.epoch() < 2**31 * 1_000_000_000


def test_an_epoch_is_one_number_until_it_is_renewed_and_for_all(disk: DiskStore) -> None:
    assert disk.notices.epoch() == 0
    disk.start()
    first = disk.notices.epoch()
    assert first != 0
    disk.start()
    other = DiskStore(disk.root, 1)
    other.start()
    assert disk.notices.epoch() == other.notices.epoch() == first
    other.notices.renew()
    assert disk.notices.epoch() == other.notices.epoch() != first


def test_an_index_that_was_replaced_is_used_after_following(disk: DiskStore) -> None:
    keep(disk)
    (disk.root / "index").rename(disk.root.parent / "old")
    other = DiskStore(disk.root, 10_000)
    keep(other, key(1))
    other.notices.renew()
    disk.follow()
    assert disk.index.variants.get(KEY) is None
    assert disk.index.variants.get(key(1))


# --- trouble -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("blocked", ["", "index", "locks", "tmp", "objects"])
def test_a_file_where_a_folder_should_be_is_a_storage_error(disk: DiskStore, blocked: str) -> None:
    path = disk.root / blocked
    path.parent.mkdir(exist_ok=True)
    path.write_text("in the way")
    disk.start()  # never fails
    with pytest.raises(StorageError), disk.claims.take(KEY.text(), 0):
        keep(disk)
    if blocked != "objects":
        with pytest.raises(StorageError):
            disk.probe(4096)
    assert path.read_text() == "in the way"


def test_a_full_cache_says_so(disk: DiskStore) -> None:
    keep(disk, body=bytes(10_000))
    with pytest.raises(StorageError, match="reached its max_bytes of 10000") as caught:
        keep(disk, key(1), b"1")
    assert caught.value.part == "budget"
    assert disk.index.variants.get(KEY)
    assert problems(disk) == []


# --- in memory ---------------------------------------------------------------------------------------------


def test_memory_forgets_the_oldest_that_nobody_used() -> None:
    store = MemoryStore(3 * (1000 + ENTRY_BYTES))
    for number in range(3):
        keep(store, key(number), bytes(1000))
    assert store.index.variants.get(key(0))
    keep(store, key(3), bytes(1000))
    assert [number for number in range(4) if store.index.variants.get(key(number))] == [0, 2, 3]


def test_memory_bounds_its_sources(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("imagefactory.storage.memory._MAX_SOURCES", 10)
    store = MemoryStore(1000)
    for number in range(100):
        store.index.sources.put(Source(str(number), Stamp(1, 2, 3, 4), "ab" * 32, None))
        assert len(list(store.index.sources.walk())) <= 10
    assert store.index.sources.get("99")


def test_a_stamp_may_be_of_any_kind(store: Store) -> None:
    """That of an object in S3 is an ETag, with its quotes."""
    stamp = Stamp("s3", 2, 3, '"d41d8cd9-2"')
    source = replace(SOURCE, stamp=stamp, placeholder="data:image/webp;base64,UklGRg==")
    store.index.sources.put(source)
    found = store.index.sources.get(source.path)
    assert found == source
    if isinstance(store, DiskStore):
        keep(store)
        [(path, digest, _, names)] = store.index.sources.unchanged({source.path: stamp})
        assert (path, digest, len(names)) == (source.path, source.digest, 1)
        assert list(store.index.sources.unchanged({source.path: stamp._replace(version='"other"')})) == []
