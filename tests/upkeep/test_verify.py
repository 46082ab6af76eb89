"""verify finds what is damaged and nothing else, none of it is served, and a repair leaves nothing."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from support.asking import Counting, ask, body_of, problems
from support.filling import (
    IS_LONG,
    KINDS,
    close_index,
    command,
    damage,
    fill_cache,
    path_of,
    put_object,
    run,
    same_after_kills,
)
from support.serving import write_config

from imagefactory.factory import Parts
from imagefactory.model.variant import Key
from imagefactory.storage.disk import DiskStore
from imagefactory.upkeep.verify import Verified, verify

KEY = Key("ab" * 32, "v1-100x75-q80", "jpeg")


@pytest.fixture
def store(tmp_path: Path) -> DiskStore:
    return DiskStore(tmp_path / "cache", 2**40)


@pytest.fixture
def config(tmp_path: Path, pictures: Path) -> Path:
    return write_config(tmp_path, pictures, tmp_path / "cache")


def look(store: DiskStore, *, may_repair: bool = False) -> Verified:
    return verify(DiskStore(store.root, 2**40), 2, may_repair=may_repair)


def found(verified: Verified) -> list[tuple[str, str]]:
    return sorted((problem.kind, problem.name) for problem in verified.problems)


def names(folder: Path) -> dict[str, tuple[int, int]]:
    """What lies below *folder*: names, sizes and mtimes."""
    return {str(path): (path.stat().st_size, path.stat().st_mtime_ns) for path in folder.rglob("*")}


# --- damaged objects ---------------------------------------------------------------------------------------


@pytest.mark.slow
def test_damaged_objects_are_found_and_none_is_served(
    assemble: Callable[..., Parts], renderer: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Flipped, cut and emptied: exactly these are found, visitors get right bytes, a repair leaves none."""
    monkeypatch.setattr(os, "fsync", lambda number: None)
    dice = random.Random(7)
    count = 10_000 if IS_LONG else 900
    parts = assemble(limits={"variants_per_source": 100_000})
    store = parts.store
    assert isinstance(store, DiskStore)
    sizes = [(number % 100 + 1, number // 100 + 1) for number in range(count + 50)]

    def bodies() -> dict[str, bytes]:
        answers = [ask(parts, size=f"{w}x{h}", fit="stretch") for w, h in sizes]
        return {answer.variant.key.text(): body_of(parts, answer) for answer in answers if answer.variant}

    right = bodies()
    assert renderer.renders == len(right) == len(sizes)
    variants = sorted(store.index.variants.good(), key=lambda variant: variant.key.text())
    for is_repaired in (False, True):
        chosen = dice.sample(variants, count)
        for number, variant in enumerate(chosen):
            damage(path_of(store, variant), KINDS[number % 3], dice)
        before = names(store.objects.root)
        verified = look(store)
        assert (verified.checked, verified.damaged, verified.missing) == (len(sizes), count, 0)
        assert verified.orphans == verified.repaired == 0
        expected = sorted(str(path_of(store, variant).relative_to(store.objects.root)) for variant in chosen)
        assert {name for kind, name in found(verified) if kind == "damaged"} <= set(expected)
        assert len(verified.problems) == min(count, 1000)
        assert names(store.objects.root) == before
        if is_repaired:
            verified = look(store, may_repair=True)
            assert (verified.damaged, verified.repaired, verified.left) == (count, count, 0)
            assert not any(path_of(store, variant).exists() for variant in chosen)
            assert found(look(store)) == []
            assert problems(store) == []
        renders = renderer.renders
        assert bodies() == right
        assert renderer.renders == renders + count
        assert found(look(store)) == []
    assert problems(store) == []


@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_object_is_named(store: DiskStore, kind: str) -> None:
    variants = fill_cache(store, 100)
    damage(path_of(store, variants[42]), kind, random.Random(1))
    verified = look(store)
    name = store.objects.name(variants[42].key, variants[42].body)
    assert (found(verified), verified.checked, verified.left) == ([("damaged", name)], 100, 1)


def test_a_large_object_is_hashed_to_its_end(store: DiskStore) -> None:
    store.start()
    variant = put_object(store, KEY, os.urandom(3_000_000))
    store.index.variants.put_many([(variant, 1.0)])
    assert found(look(store)) == []
    with path_of(store, variant).open("r+b") as file:
        file.seek(2_999_999)
        last = file.read(1)
        file.seek(2_999_999)
        file.write(bytes([last[0] ^ 1]))
    assert look(store).damaged == 1


def test_what_can_not_be_read_as_a_file_is_damaged(store: DiskStore) -> None:
    """A folder, a link, a pipe in the place of an object."""
    variants = fill_cache(store, 3)
    folder, link, pipe = (path_of(store, variant) for variant in variants)
    for path in (folder, link, pipe):
        path.unlink()
    folder.mkdir()
    link.symlink_to(__file__)
    os.mkfifo(pipe)
    assert look(store).damaged == 3


def test_looking_is_not_using(store: DiskStore) -> None:
    (variant,) = fill_cache(store, 1)
    os.utime(path_of(store, variant), (1000, 2000))
    look(store)
    assert path_of(store, variant).stat().st_atime == 1000


# --- rows --------------------------------------------------------------------------------------------------


def test_a_row_without_object_is_missing(store: DiskStore) -> None:
    """Also where the whole folder is gone; its repair removes the row."""
    variants = fill_cache(store, 60, per_source=20)
    path_of(store, variants[3]).unlink()
    shutil.rmtree(path_of(store, variants[25]).parent)
    verified = look(store)
    gone = [variants[3], *variants[20:40]]
    expected = sorted(("missing", store.objects.name(each.key, each.body)) for each in gone)
    assert (found(verified), verified.checked, verified.left) == (expected, 39, 21)
    assert look(store, may_repair=True).repaired == 21
    assert found(look(store)) == problems(store) == []
    assert store.index.variants.count() == 39


def sql(store: DiskStore, statement: str, *values: object) -> None:
    with closing(sqlite3.connect(store.root / "index" / "cache.db")) as connection, connection:
        connection.execute(statement, values)


def test_a_row_that_can_not_be_believed_is_a_problem_and_its_object_gets_another(store: DiskStore) -> None:
    variants = fill_cache(store, 50)
    key = f"variant {variants[7].key.text()}"
    sql(store, "UPDATE Cache SET value = replace(value, 'b', 'c') WHERE key = ?", key)
    verified = look(store)
    assert (verified.rows, verified.left) == (1, 1)
    assert ("row", variants[7].key.text()) in found(verified)
    assert look(store, may_repair=True).left == 0
    assert found(look(store)) == problems(store) == []
    assert store.index.variants.count() == 50


def test_a_row_with_a_damaged_key_is_removed(store: DiskStore) -> None:
    variants = fill_cache(store, 50)
    key = f"variant {variants[7].key.text()}"
    sql(store, "UPDATE Cache SET key = replace(key, 'v1', 'w1') WHERE key = ?", key)
    assert look(store).rows == 1
    verified = look(store, may_repair=True)
    assert (verified.left, verified.orphans, verified.adopted) == (0, 1, 1)
    assert found(look(store)) == problems(store) == []


@pytest.mark.parametrize("statement", [
    "UPDATE Settings SET value = value + 5 WHERE key = 'size'",
    "UPDATE Cache SET size = size + 5 WHERE rowid = (SELECT max(rowid) FROM Cache WHERE size > 0)",
])  # fmt: skip
def test_a_wrong_sum_of_bytes_is_a_problem(store: DiskStore, statement: str) -> None:
    fill_cache(store, 50)
    sql(store, statement)
    assert look(store).left == 1
    assert look(store, may_repair=True).left == 0
    assert found(look(store)) == problems(store) == []


# --- orphans -----------------------------------------------------------------------------------------------


def test_orphans_are_no_problem_and_a_repair_gives_rows_to_sound_ones(store: DiskStore) -> None:
    variants = fill_cache(store, 50)
    sound = put_object(store, KEY, b"an orphan")
    altered = put_object(store, Key("cd" * 32, KEY.recipe, "png"), b"altered", digest="ef" * 32)
    second = put_object(store, variants[0].key, b"another body, and no row")
    verified = look(store)
    assert (verified.orphans, verified.left, verified.strangers) == (3, 0, 0)
    verified = look(store, may_repair=True)
    assert (verified.orphans, verified.adopted, verified.removed, verified.repaired) == (3, 1, 2, 0)
    assert [path_of(store, each).exists() for each in (sound, altered, second)] == [True, False, False]
    assert store.index.variants.get(variants[0].key) == variants[0]
    assert store.index.variants.get(KEY)
    assert found(look(store)) == problems(store) == []


def test_an_orphan_takes_the_place_of_a_damaged_object(store: DiskStore) -> None:
    variants = fill_cache(store, 2)
    damage(path_of(store, variants[0]), "cut", random.Random(1))
    other = put_object(store, variants[0].key, b"a body that is sound")
    assert look(store, may_repair=True).left == 0
    kept = store.index.variants.get(variants[0].key)
    assert kept is not None
    assert kept.body == other.body
    assert found(look(store)) == problems(store) == []


def test_files_that_are_not_of_the_cache_are_named_and_left(store: DiskStore) -> None:
    variants = fill_cache(store, 2)
    strangers = [
        store.objects.root / "README",
        store.objects.root / "ab" / "notes.txt",
        path_of(store, variants[0]).with_name("holiday.jpg"),
        path_of(store, variants[0]).with_name("v1-100x.jpg"),
        path_of(store, variants[0]).with_name(os.fsdecode(b"caf\xe9\n.jpg")),
    ]
    (store.objects.root / "ab").mkdir()
    for path in strangers:
        path.write_bytes(b"mine")
    for may_repair in (False, True, False):
        verified = look(store, may_repair=may_repair)
        assert (verified.strangers, verified.orphans, verified.left, verified.removed) == (5, 5, 0, 0)
        assert "caf\N{REPLACEMENT CHARACTER}" in "".join(name for _, name in found(verified))
    assert all(path.read_bytes() == b"mine" for path in strangers)


# --- the index ---------------------------------------------------------------------------------------------


def test_a_damaged_index_is_told_and_left_until_a_repair(store: DiskStore, config: Path) -> None:
    variants = fill_cache(store, 200)
    close_index(store)
    database = store.root / "index" / "cache.db"
    data = bytearray(database.read_bytes())
    data[4096 * 3 : 4096 * 6] = os.urandom(4096 * 3)
    database.write_bytes(data)
    before = database.stat().st_ino, database.read_bytes()
    result = run(config, "verify", "--json")
    found = json.loads(result.stdout)
    assert (result.returncode, found["others"], found["orphans"]) == (1, 1, 200)
    assert (database.stat().st_ino, database.read_bytes()) == before
    result = run(config, "verify", "--repair", "--json")
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["repaired"] == 1
    assert run(config, "verify").returncode == 0
    fresh = DiskStore(store.root, 2**40)
    assert {each.body for each in fresh.index.variants.good()} == {each.body for each in variants}
    assert problems(fresh) == []


def test_a_lost_index_is_no_problem_and_a_repair_makes_it(store: DiskStore) -> None:
    fill_cache(store, 50)
    close_index(store)
    shutil.rmtree(store.root / "index")
    verified = look(store)
    assert (verified.checked, verified.orphans, verified.left) == (50, 50, 0)
    assert not (store.root / "index").exists()
    verified = look(store, may_repair=True)
    assert (verified.adopted, verified.left) == (50, 0)
    fresh = DiskStore(store.root, 2**40)
    assert fresh.index.completeness.is_whole()
    assert problems(fresh) == []


# --- the command -------------------------------------------------------------------------------------------


def test_verify_prints_json_and_exits_as_it_found(store: DiskStore, config: Path) -> None:
    variants = fill_cache(store, 50)
    put_object(store, KEY, b"an orphan")
    result = run(config, "verify", "--json")
    assert (result.returncode, result.stderr) == (0, "")
    assert json.loads(result.stdout)["orphans"] == 1
    damage(path_of(store, variants[0]), "cut", random.Random(1))
    result = run(config, "verify", "--json")
    assert result.returncode == 1
    values = json.loads(result.stdout)
    assert {"checked": 51, "missing": 0, "damaged": 1, "orphans": 1, "repaired": 0}.items() <= values.items()
    assert "1 problem; imagefactory verify --repair makes it right" in result.stderr
    result = run(config, "verify", "--repair", "--json")
    assert (result.returncode, json.loads(result.stdout)["repaired"]) == (0, 1)
    result = run(config, "verify")
    assert (result.returncode, result.stderr) == (0, "")
    assert "50 objects of" in result.stdout


def test_the_first_problems_are_named_and_the_rest_counted(store: DiskStore, config: Path) -> None:
    for variant in fill_cache(store, 50)[:30]:
        path_of(store, variant).unlink()
    lines = run(config, "verify").stdout.splitlines()
    assert len(lines) == 22
    assert lines[0].endswith("has a row and no object")
    assert lines[20] == "and 10 more"


def test_a_cache_that_is_not_there_is_all_zeros_and_stays_so(store: DiskStore, config: Path) -> None:
    result = run(config, "verify", "--json")
    assert result.returncode == 0
    assert not any(value for name, value in json.loads(result.stdout).items() if name != "seconds")
    assert not store.root.exists()


def test_a_look_writes_nothing(store: DiskStore, config: Path) -> None:
    """No session, no row, no object, no lock file."""
    for variant in fill_cache(store, 50)[:5]:
        path_of(store, variant).unlink()
    store.processes.end()
    close_index(store)
    with store.claims.take("evict", 1):
        pass
    before = {folder: names(store.root / folder) for folder in ("objects", "tmp", "locks")}
    assert run(config, "verify").returncode == 1
    assert {folder: names(store.root / folder) for folder in ("objects", "tmp", "locks")} == before


def test_memory_mode_has_nothing_to_verify(config: Path) -> None:
    for arguments in (["verify"], ["verify", "--repair"], ["rebuild"]):
        environ = {**os.environ, "IMAGEFACTORY_CACHE__MODE": "memory"}
        result = subprocess.run(command(config, *arguments), capture_output=True, text=True, env=environ)
        assert (result.returncode, result.stdout) == (2, "")
        assert "there is nothing on disk" in result.stderr


def test_ctrl_c_ends_it_with_130_and_one_line(store: DiskStore, config: Path) -> None:
    store.start()
    path = path_of(store, put_object(store, KEY, b"x"))
    with path.open("r+b") as file:
        file.truncate(200 * 2**30)  # a hole that takes minutes to hash
    os.sync()
    with subprocess.Popen(command(config, "verify"), stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr
        threading.Timer(1.5, process.send_signal, [signal.SIGINT]).start()
        lines = process.stderr.read().splitlines()
    assert (process.returncode, lines) == (130, ["Error: stopped before the end"])


# --- beside others, and killed -----------------------------------------------------------------------------


CHURN = """
import random, sys
from pathlib import Path
from imagefactory.model.job import Rendered
from imagefactory.storage.disk import DiskStore
from imagefactory.upkeep.evict import evict
from imagefactory.model.variant import Key
store = DiskStore(Path(sys.argv[1]), 10**9)
store.start()
print("begun", flush=True)
while True:
    key = Key(f"{random.randrange(40):064x}", "v1-1x1", "png")
    if random.random() < 0.9:
        with store.claims.take(key.text(), 10), store.temp() as temp:
            temp.path.write_bytes(random.randbytes(random.randrange(1, 50_000)))
            store.keep(key, Rendered(1, 1), temp)
    else:
        evict(store, store.index.variants.total_bytes() // 2)
"""


@pytest.mark.parametrize("may_repair", [False, True])
def test_what_changes_meanwhile_is_no_problem(store: DiskStore, may_repair: bool) -> None:
    """Objects are replaced and evicted by another process all the time."""
    argv = [sys.executable, "-c", CHURN, str(store.root)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stdout.readline() == b"begun\n"
        for _ in range(100 if IS_LONG else 20):
            verified = look(store, may_repair=may_repair)
            assert [each for each in found(verified) if each[0] != "orphan"] == []
        process.kill()


def test_killed_and_run_again_a_repair_ends_as_in_one_go(
    store: DiskStore, config: Path, tmp_path: Path
) -> None:
    def spoil() -> None:
        dice = random.Random(3)
        variants = fill_cache(store, 3000)
        for number, variant in enumerate(dice.sample(variants, 1500)):
            path = path_of(store, variant)
            if number % 5 < 3:
                damage(path, KINDS[number % 5], dice)
            elif number % 5 == 3:
                path.unlink()
            else:
                store.index.variants.remove(variant.key)
        store.processes.end()
        close_index(store)

    same_after_kills(config, store.root, ["verify", "--repair"], 20 if IS_LONG else 3, spoil)
    assert run(config, "verify").returncode == 0
