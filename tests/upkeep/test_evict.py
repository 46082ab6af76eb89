"""The cache stays within its budget, and what was used least recently goes first."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time
import weakref
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient
from PIL import Image
from support.asking import problems
from support.attack import Attack
from support.clock import Clock
from support.serving import eventually, serving, write_config

from imagefactory.engine.counters import Counters
from imagefactory.engine.health import Health
from imagefactory.errors import Full, StorageError
from imagefactory.model.job import Rendered
from imagefactory.model.variant import Key, Variant
from imagefactory.storage.disk import DiskStore
from imagefactory.storage.variant_rows import VariantRow
from imagefactory.upkeep import keeper
from imagefactory.upkeep.evict import Evicted, evict
from imagefactory.upkeep.keeper import Keeper

DIGEST = "ab" * 32
IS_LONG = "IMAGEFACTORY_LONG" in os.environ


@pytest.fixture
def disk(tmp_path: Path) -> DiskStore:
    return DiskStore(tmp_path / "cache", 10**9)


def keep(disk: DiskStore, number: int, size: int = 1000, digest: str = "") -> Variant:
    """Store a variant of *size* bytes; sources of its own where no *digest* is given."""
    key = Key(digest or f"{number:064x}", f"v1-{number + 1}x1-q80", "jpeg")
    with disk.temp() as temp:
        assert temp is not None
        temp.path.write_bytes(random.Random(number).randbytes(size))
        return disk.keep(key, Rendered(number + 1, 1), temp)


def fill(disk: DiskStore, count: int, **options: int | str) -> list[Variant]:
    """Store *count* variants; the first was used at 1000 s, the next one second later, and so on."""
    variants = [keep(disk, number, **options) for number in range(count)]  # type: ignore[arg-type]
    for number, variant in enumerate(variants):
        change(disk, "UPDATE Cache SET access_time = ? WHERE key = ?", 1000 + number, name(variant))
    return variants


def name(variant: Variant) -> str:
    return f"variant {variant.key.text()}"


def change(disk: DiskStore, statement: str, *values: object) -> None:
    """Do something to the database behind the index's back."""
    path = disk.root / "index" / "cache.db"
    with closing(sqlite3.connect(path, isolation_level=None, timeout=10)) as connection:
        connection.execute(statement, values)


def left(disk: DiskStore) -> list[int]:
    """The numbers of the variants that are still there, by object and by row."""
    rows = sorted(variant.width - 1 for variant in disk.index.variants.good())
    objects = sorted(int(path.name.split("-")[1].split("x")[0]) - 1 for path in disk.objects.walk())
    assert rows == objects
    return rows


# --- which ones go, and how many ---------------------------------------------------------------------------


def test_what_was_used_least_recently_goes_first(disk: DiskStore, sound: None) -> None:
    fill(disk, 10)
    assert evict(disk, 6000) == Evicted(4, 4000)
    assert left(disk) == [4, 5, 6, 7, 8, 9]


def test_a_use_saves_a_variant(disk: DiskStore, sound: None) -> None:
    variants = fill(disk, 10)
    disk.index.counts.add({variants[0].key.text(): 1, variants[2].key.text(): 7}, {}, 2000.0)
    evict(disk, 7000)
    assert left(disk) == [0, 2, 5, 6, 7, 8, 9]


def test_a_use_that_is_told_late_does_not_turn_the_time_back(disk: DiskStore) -> None:
    (variant,) = fill(disk, 1)
    disk.index.counts.add({variant.key.text(): 1}, {}, 2000.0)
    disk.index.counts.add({variant.key.text(): 1}, {}, 1500.0)
    (row,) = disk.index.variants.oldest(10)
    assert (row.used_s, row.uses) == (2000.0, 2)


def test_what_was_used_while_the_clock_was_ahead_goes_in_its_turn(disk: DiskStore, sound: None) -> None:
    variants = fill(disk, 8)
    ahead_s = 90_000.0
    for number in (1, 3, 5):
        disk.index.counts.add({variants[number].key.text(): 1}, {}, ahead_s + number)
    assert disk.index.variants.end_future_uses(1006.5) == 4  # and the last one that was filled in
    assert disk.index.variants.end_future_uses(1006.5) == 0
    disk.index.counts.add({variants[0].key.text(): 1}, {}, 1008.0)
    evict(disk, 1000)
    assert left(disk) == [0]


def test_many_future_uses_end(disk: DiskStore) -> None:
    key = Key(DIGEST, "v1-1x1-q80", "jpeg")
    keys = [replace(key, recipe=f"v1-{width}x1-q80") for width in range(1, 1302)]
    disk.index.variants.put_many((Variant(each, DIGEST, 1, 1, 1), 5000.0) for each in keys)
    assert disk.index.variants.end_future_uses(2000.0) == 1301
    assert {row.used_s for row in disk.index.variants.scan()} == {2000.0}


def test_the_keeper_sees_that_the_clock_was_set_back(
    app: Flask, client: FlaskClient, clock: Clock, sound: None
) -> None:
    parts = app.extensions["imagefactory"].parts
    clock.now_s = time.time() + 86_400
    for width in (50, 60):
        client.get(query(width)).close()
        client.get(query(width)).close()
    parts.keeper.look()
    assert min(used for used, _ in used_s(parts.store).values()) == clock.now_s
    clock.now_s = time.time()
    parts.keeper.look()
    assert {used for used, _ in used_s(parts.store).values()} == {clock.now_s}
    client.get(query(70)).close()
    evict(parts.store, parts.store.index.variants.total_bytes() - 1)
    assert 70 in used_s(parts.store)


def test_future_uses_from_before_the_start_end_too(disk: DiskStore) -> None:
    fill(disk, 3)
    Keeper(disk, disk, Counters(), Health(disk, time.time), lambda: 1001.5).look()
    assert sorted(used for used, _ in used_s(disk).values()) == [1000.0, 1001.0, 1001.5]


@pytest.mark.parametrize(
    ("goal", "gone"), [(10_000, 0), (20_000, 0), (9_999, 1), (9_000, 1), (8_999, 2), (0, 10)]
)
def test_no_more_goes_than_has_to(disk: DiskStore, goal: int, gone: int) -> None:
    fill(disk, 10)
    assert evict(disk, goal) == Evicted(gone, gone * 1000)


def test_the_goal_is_the_budget_unless_told_otherwise(disk: DiskStore) -> None:
    fill(disk, 10)
    disk.max_bytes = 3500
    assert evict(disk).variants == 7
    assert evict(disk) == Evicted(0, 0)


def test_a_disk_that_is_short_is_a_smaller_budget(disk: DiskStore, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(disk, 10)
    disk.min_free = 1_000_000
    monkeypatch.setattr(disk, "free_bytes", lambda: 1_000_000 - 2500)
    assert disk.capacity() == 7500
    assert evict(disk).variants == 3


def test_what_was_used_since_may_be_spared(disk: DiskStore) -> None:
    fill(disk, 10)
    assert evict(disk, 0, unused_since_s=1004.0).variants == 4
    assert left(disk) == [4, 5, 6, 7, 8, 9]


def test_an_empty_cache_has_nothing_to_give(disk: DiskStore) -> None:
    assert evict(disk, 0) == Evicted(0, 0)


@pytest.mark.slow
def test_many_more_than_go_at_once(disk: DiskStore, sound: None) -> None:
    fill(disk, 450, size=10)
    assert evict(disk, 100).variants == 440
    assert left(disk) == list(range(440, 450))


def test_the_folder_of_a_source_goes_with_its_last_object(disk: DiskStore) -> None:
    fill(disk, 3)
    evict(disk, 0)
    assert list((disk.root / "objects").glob("*/*")) == []


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE Cache SET value = 'garbage' WHERE key = ?",
        "UPDATE Cache SET access_time = NULL WHERE key = ?",
        "UPDATE Cache SET store_time = 'never' WHERE key = ?",
    ],
)
def test_a_damaged_row_goes_with_its_object(disk: DiskStore, damage: str, sound: None) -> None:
    variants = fill(disk, 3)
    change(disk, damage, name(variants[0]))
    assert evict(disk, 0).variants == 3
    assert left(disk) == []


def test_a_row_without_a_name_goes(disk: DiskStore) -> None:
    variants = fill(disk, 3)
    change(disk, "UPDATE Cache SET key = CAST(x'ff00ff' AS TEXT) WHERE key = ?", name(variants[0]))
    assert evict(disk, 0).bytes == 3000
    assert disk.index.variants.total_bytes() == 0


def test_a_row_whose_object_is_gone_already_goes(disk: DiskStore, sound: None) -> None:
    variants = fill(disk, 3)
    disk.objects.remove(variants[0].key, variants[0].body)
    assert evict(disk, 2000) == Evicted(1, 1000)


def test_an_object_that_cannot_be_removed_keeps_its_row_and_others_go(disk: DiskStore) -> None:
    """Without its row nobody would count it: each time that a disk refuses, the cache would grow."""
    stuck, *others = fill(disk, 4)
    path = disk.objects.root / disk.objects.name(stuck.key, stuck.body)
    path.unlink()
    (path / "in the way").mkdir(parents=True)  # no unlink removes a folder
    assert evict(disk, 2000) == Evicted(2, 2000)
    assert disk.index.variants.get(stuck.key) == stuck
    assert disk.index.variants.get(others[2].key) == others[2]
    with pytest.raises(StorageError, match="1 objects can't be removed"):
        evict(disk, 0)
    (path / "in the way").rmdir()
    path.rmdir()
    assert evict(disk, 0) == Evicted(1, 1000)


def test_an_object_that_stayed_without_its_row_is_looked_for(disk: DiskStore) -> None:
    (variant,) = fill(disk, 1)
    disk.index.completeness.set_whole(True)
    path = disk.objects.root / disk.objects.name(variant.key, variant.body)
    data = path.read_bytes()
    path.unlink()
    path.mkdir()
    disk.remove(variant)
    path.rmdir()
    path.write_bytes(data)
    kept = Keeper(disk, disk, Counters(), Health(disk, time.time), time.time)
    kept.look()
    assert not disk.index.completeness.is_whole()
    assert disk.adopt(variant.key) is not None
    assert problems(disk) == []


def test_what_is_made_anew_meanwhile_stays(disk: DiskStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its old object goes, a new one comes before the old row is forgotten: the new row stays."""
    variants = fill(disk, 2)
    remove = disk.remove_object

    def remake(row: VariantRow) -> bool:
        monkeypatch.setattr(disk, "remove_object", remove)
        is_gone = remove(row)
        keep(disk, 0)
        return is_gone

    monkeypatch.setattr(disk, "remove_object", remake)
    evict(disk, 1000)
    assert disk.index.variants.get(variants[0].key) is not None
    assert problems(disk) == []


def test_what_is_used_meanwhile_goes_with_its_row(
    disk: DiskStore, monkeypatch: pytest.MonkeyPatch, sound: None
) -> None:
    variants = fill(disk, 2)
    remove = disk.remove_object

    def use(row: VariantRow) -> bool:
        disk.index.counts.add({variants[0].key.text(): 1}, {}, 3000.0)
        return remove(row)

    monkeypatch.setattr(disk, "remove_object", use)
    assert evict(disk, 1000).variants == 1


def test_the_cost_is_that_of_what_goes(disk: DiskStore) -> None:
    """However many variants there are, SQLite looks at as few rows."""
    keep(disk, 0)
    steps = []
    for count in (100, 3000):
        variants = [(Variant(Key(f"{n:064x}", "v1-1x1", "png"), "cd" * 32, 5, 1, 1), n) for n in range(count)]
        disk.index.variants.put_many(variants)
        connection = disk.index.database.use("read", lambda cache: cache._con)
        done = [0]

        def count_steps(done: list[int] = done) -> int:
            done[0] += 1
            return 0

        connection.set_progress_handler(count_steps, 1)
        disk.index.variants.oldest(10)
        connection.set_progress_handler(None, 0)
        steps.append(done[0])
    assert steps[1] < steps[0] * 1.5, steps


# --- killed, or several at once ----------------------------------------------------------------------------


EVICT = """
import sys
from pathlib import Path
from imagefactory.storage.disk import DiskStore
from imagefactory.upkeep.evict import evict
disk = DiskStore(Path(sys.argv[1]), 10**9)
print("begins", flush=True)
print(evict(disk, int(sys.argv[2])).variants)
"""


def start_evicting(disk: DiskStore, goal: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", EVICT, str(disk.root), str(goal)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "begins\n"
    return process


def test_killed_and_run_again_is_as_if_run_once(disk: DiskStore, sound: None) -> None:
    dice = random.Random(1)
    count = 600
    variants = fill(disk, count, size=50)
    killed = 0
    for number in range(20 if IS_LONG else 4):
        goal = 50 * (count - 20 * (number + 1))
        with start_evicting(disk, goal) as process:
            time.sleep(dice.random() * 0.03)
            process.send_signal(signal.SIGKILL)
        killed += process.returncode == -signal.SIGKILL
        evict(disk, goal)
        assert left(disk) == list(range(20 * (number + 1), count))
        assert problems(disk) == []
        disk.index.variants.put_many([])
    assert killed, variants


def test_two_at_once_remove_no_more_than_one(disk: DiskStore, sound: None) -> None:
    fill(disk, 400, size=50)
    with start_evicting(disk, 5000) as one, start_evicting(disk, 5000) as two:
        assert one.stdout is not None
        assert two.stdout is not None
        assert int(one.stdout.read()) + int(two.stdout.read()) == 300
    assert left(disk) == list(range(300, 400))


# --- a store that is full ----------------------------------------------------------------------------------


def test_what_has_no_room_is_refused(disk: DiskStore) -> None:
    disk.max_bytes = 2500
    keep(disk, 0)
    keep(disk, 1)
    with pytest.raises(Full, match="reached its max_bytes of 2500") as caught:
        keep(disk, 2)
    assert caught.value.wanted == 1000
    assert left(disk) == [0, 1]


def test_a_disk_below_min_free_takes_nothing(disk: DiskStore) -> None:
    keep(disk, 0)
    disk.min_free = 2**62
    with pytest.raises(Full, match="min_free"):
        keep(disk, 1)
    assert left(disk) == [0]


def test_a_source_has_no_more_variants_than_it_may(disk: DiskStore, sound: None) -> None:
    disk.variants_per_source = 5
    keep(disk, 100)  # of another source, used longest ago
    fill(disk, 5, digest=DIGEST)
    disk.index.counts.add({f"{DIGEST} v1-1x1-q80 jpeg": 1}, {}, 5000.0)
    keep(disk, 5, digest=DIGEST)
    assert left(disk) == [0, 2, 3, 4, 5, 100]
    keep(disk, 6, digest=DIGEST)
    assert left(disk) == [0, 3, 4, 5, 6, 100]


def test_a_source_at_its_limit_loses_none_of_its_new_variants_to_those_of_the_future(
    disk: DiskStore, sound: None
) -> None:
    disk.variants_per_source = 5
    for variant in fill(disk, 5, digest=DIGEST):
        change(disk, "UPDATE Cache SET access_time = ? WHERE key = ?", time.time() + 86_400, name(variant))
    for number in range(10, 14):
        keep(disk, number, digest=DIGEST)
    assert left(disk) == [4, 10, 11, 12, 13]


def test_a_source_over_a_limit_that_was_lowered_comes_down(disk: DiskStore, sound: None) -> None:
    fill(disk, 9, digest=DIGEST)
    disk.variants_per_source = 3
    keep(disk, 9, digest=DIGEST)
    assert left(disk) == [7, 8, 9]


def test_a_variant_that_is_made_again_takes_no_other_place(disk: DiskStore, sound: None) -> None:
    disk.variants_per_source = 3
    fill(disk, 3, digest=DIGEST)
    keep(disk, 0, digest=DIGEST)
    assert left(disk) == [0, 1, 2]


def test_a_disk_that_can_not_be_asked_is_a_storage_error(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="the disk can't be asked"):
        DiskStore(tmp_path / "nothing", 10).free_bytes()


# --- the keeper of an app ----------------------------------------------------------------------------------


def query(number: int) -> str:
    return f"/picture/cats/tom.jpg?scalex={number}&encoding=png"


def used_s(disk: DiskStore) -> dict[int, tuple[float, int]]:
    """Last use and number of uses of the variants, by width."""
    return {row.variant.width: (row.used_s, row.uses) for row in disk.index.variants.scan() if row.variant}


def test_hits_are_noted_for_the_next_flush(app: Flask, client: FlaskClient) -> None:
    parts = app.extensions["imagefactory"].parts
    for _ in range(5):
        client.get(query(50)).close()
    client.get(query(50), headers={"If-None-Match": "*"}).close()
    client.get(query(60)).close()
    parts.keeper.flush()
    found = {width: uses for width, (_, uses) in used_s(parts.store).items()}
    assert found == {50: 6, 60: 1}
    assert not parts.keeper.flush()


@pytest.mark.slow
def test_the_keeper_flushes_by_itself(app: Flask, client: FlaskClient) -> None:
    parts = app.extensions["imagefactory"].parts
    client.get(query(50)).close()
    client.get(query(50)).close()
    assert eventually(lambda: used_s(parts.store)[50][1] == 2)


def test_the_end_of_the_process_waits_for_an_eviction(
    disk: DiskStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which has removed some objects, and not yet their rows."""
    fill(disk, 50)
    store, has_begun = DiskStore(disk.root, 10_000), threading.Event()
    remove = store.remove_object

    def slowly(row: VariantRow) -> bool:
        is_gone = remove(row)
        has_begun.set()
        time.sleep(0.01)
        return is_gone

    monkeypatch.setattr(store, "remove_object", slowly)
    kept = Keeper(store, store, Counters(), Health(store, time.time), time.time)
    kept.start()
    assert has_begun.wait(20)
    keeper._finish(weakref.ref(kept))
    assert problems(store) == []
    assert 0 < store.index.variants.total_bytes() <= 10_000
    assert not kept.is_running


@pytest.mark.slow
def test_what_can_not_be_flushed_is_kept(app: Flask, client: FlaskClient) -> None:
    parts = app.extensions["imagefactory"].parts
    client.get(query(50)).close()
    parts.keeper.flush()
    before = counted(parts)
    path = parts.store.root / "index" / "cache.db"
    with closing(sqlite3.connect(path, isolation_level=None, timeout=10)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        client.get(query(50)).close()
        parts.keeper.flush()
        assert counted(parts) == before
    assert eventually(lambda: parts.keeper.flush() or counted(parts) == before + 1)


def counted(parts: object) -> float:
    return parts.store.index.counts.all().get("requests hit png 200", 0)  # type: ignore[attr-defined]


def noise(pictures: Path) -> None:
    """A picture whose variants have some ten kilobytes."""
    Image.effect_noise((900, 700), 90).convert("RGB").save(pictures / "noise.jpg", quality=90)


def test_a_full_cache_makes_room_beside_the_requests(tmp_path: Path, pictures: Path) -> None:
    """Three times the budget is rendered: within it at every moment, and what is used stays."""
    budget = 400_000
    noise(pictures)
    config = write_config(tmp_path, pictures, tmp_path / "cache", cache={"max_bytes": budget, "min_free": 0})
    disk = DiskStore(tmp_path / "cache", budget)
    sizes = []
    written = 0
    with serving(config) as server, server.client() as client:
        first = client.get("/picture/cats/tom.jpg?scalex=20&encoding=png")
        number = 0
        while written < 3 * budget:
            number += 1
            reply = client.get(f"/picture/noise.jpg?scalex={100 + number}")
            assert reply.cache in ("miss", "bypass")
            written += len(reply.body)
            time.sleep(0.02)
            assert client.get("/picture/cats/tom.jpg?scalex=20&encoding=png").body == first.body
            sizes.append(sum(path.stat().st_size for path in disk.objects.walk() if path.exists()))
    assert max(sizes) <= budget
    assert max(sizes) > budget / 2
    kept = [row.variant.width for row in disk.index.variants.scan() if row.variant]
    assert 20 in kept
    # Of all others the last ones are there, and none before them.
    others = sorted(width for width in kept if width != 20)
    assert others == sorted(range(101, 101 + number))[-len(others) :]
    assert problems(disk) == []


def test_a_cache_over_its_budget_is_brought_down_at_the_start(tmp_path: Path, pictures: Path) -> None:
    disk = DiskStore(tmp_path / "cache", 10**9)
    fill(disk, 100)
    config = write_config(tmp_path, pictures, disk.root, cache={"max_bytes": 50_000, "min_free": 0})
    with serving(config) as server:
        assert server.is_running
        assert eventually(lambda: disk.index.variants.total_bytes() <= 50_000)
    assert len(left(disk)) > 30
    assert problems(disk) == []


def test_a_picture_larger_than_the_whole_budget_drives_nothing_out(tmp_path: Path, pictures: Path) -> None:
    noise(pictures)
    config = write_config(tmp_path, pictures, tmp_path / "cache", cache={"max_bytes": 1500, "min_free": 0})
    with serving(config) as server:
        assert server.get("/picture/flag.png?scalex=20").cache == "miss"
        for _ in range(3):
            assert server.get("/picture/noise.jpg?scalex=300").cache == "bypass"
        time.sleep(0.3)
        assert server.get("/picture/flag.png?scalex=20").cache == "hit"
        assert server.health() == "ok"


@pytest.mark.parametrize(("server", "budget"), [("waitress", 4_000_000), ("granian", 8_000_000)])
def test_a_stranger_can_not_fill_the_disk(tmp_path: Path, server: str, budget: int) -> None:
    """`python -m support.attack` is the same with 100,000 results.

    With two processes the one that evicts hears of the other's hits a second later, so the budget has to
    hold what is made in a few seconds.
    """
    if server != "waitress":
        pytest.importorskip(server)
    attack = Attack(tmp_path, 700, budget, 500, ("--server", server), good=2)
    attack.run()
    assert attack.faults == []
    assert attack.looks > 5
    assert sum(attack.counts.values()) == 700


# --- the command -------------------------------------------------------------------------------------------


def run(config: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "imagefactory", "--config", str(config), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_command(tmp_path: Path, pictures: Path) -> None:
    disk = DiskStore(tmp_path / "cache", 10**9)
    fill(disk, 10)
    config = write_config(tmp_path, pictures, disk.root, cache={"max_bytes": 3500, "min_free": 0})
    done = run(config, "evict", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == '{\n  "variants": 7,\n  "bytes": 7000\n}\n'
    assert run(config, "evict").stdout == "0 variants of 0 B evicted; 3.00 kB left\n"
    assert disk.index.counts.all() == {"evicted variants": 7, "evicted bytes": 7000}
    assert left(disk) == [7, 8, 9]


def test_the_command_says_what_it_does(tmp_path: Path, pictures: Path) -> None:
    config = write_config(tmp_path, pictures, tmp_path / "cache")
    assert "max_bytes" in run(config, "evict", "--help").stdout


def test_the_command_has_nothing_to_do_in_memory(tmp_path: Path, pictures: Path) -> None:
    config = write_config(tmp_path, pictures, tmp_path / "cache", cache={"mode": "memory"})
    done = run(config, "evict")
    assert (done.returncode, done.stdout) == (2, "")
    assert "there is nothing on disk" in done.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes files of other users")
def test_the_command_is_for_the_owner_of_the_cache(tmp_path: Path, pictures: Path) -> None:
    cache = tmp_path / "cache"
    cache.mkdir()
    os.chown(cache, 12345, -1)
    config = write_config(tmp_path, pictures, cache)
    done = run(config, "evict")
    assert done.returncode == 2
    assert "belongs to 12345" in done.stderr
    assert list(cache.iterdir()) == []
