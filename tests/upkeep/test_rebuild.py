"""A lost index costs no picture and no render: it is made anew from the objects."""

from __future__ import annotations

import fcntl
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from http.client import HTTPException
from pathlib import Path

import pytest
from support.asking import Counting, ask, body_of, problems
from support.filling import (
    IS_LONG,
    close_index,
    command,
    damage,
    fill_cache,
    path_of,
    put_object,
    run,
    same_after_kills,
)
from support.serving import Server, eventually, is_right, serving, write_config

from imagefactory.factory import Parts
from imagefactory.model.variant import Key, Variant
from imagefactory.storage.disk import DiskStore
from imagefactory.upkeep.rebuild import Filled, fill, rebuild

KEY = Key("ab" * 32, "v1-100x75-q80", "jpeg")
# One of each kind of recipe; after trim the size in pixels stands nowhere but in the picture.
ASKED: list[dict[str, object]] = [
    {"scalex": 100},
    {"scalex": 80, "encoding": "webp"},
    {"encoding": "avif"},
    {"trim": 10},
    {"trim": 10, "scalex": 60, "encoding": "png"},
    {"size": "90x90", "fit": "pad", "background": "red", "rotate": 90},
]


@pytest.fixture
def store(tmp_path: Path) -> DiskStore:
    return DiskStore(tmp_path / "cache", 2**40)


@pytest.fixture
def config(tmp_path: Path, pictures: Path) -> Path:
    return write_config(tmp_path, pictures, tmp_path / "cache")


def fresh(store: DiskStore) -> DiskStore:
    return DiskStore(store.root, 2**40)


def rows(store: DiskStore) -> set[tuple[Key, str, int]]:
    return {(each.key, each.body, each.bytes) for each in store.index.variants.good()}


def lose(store: DiskStore) -> None:
    shutil.rmtree(store.root / "index")
    store.index.database.follow()


# --- what comes back ---------------------------------------------------------------------------------------


def test_a_rebuilt_cache_serves_hits_without_a_render(
    assemble: Callable[..., Parts], renderer: Counting, config: Path
) -> None:
    parts = assemble()
    answers = [ask(parts, **asked) for asked in ASKED]
    before = {answer.etag: body_of(parts, answer) for answer in answers}
    assert renderer.renders == len(ASKED)
    result = run(config, "rebuild", "--json")
    assert (result.returncode, result.stderr) == (0, "")
    values = json.loads(result.stdout)
    assert (values["variants"], values["bytes"]) == (len(ASKED), sum(map(len, before.values())))
    assert values["seconds"] > 0
    again = assemble()
    answers = [ask(again, **asked) for asked in ASKED]
    assert {answer.result for answer in answers} == {"hit"}
    assert {answer.etag: body_of(again, answer) for answer in answers} == before
    assert renderer.renders == len(ASKED)
    assert isinstance(again.store, DiskStore)
    assert again.store.index.completeness.is_whole()
    assert problems(again.store) == []


def test_a_rebuild_gives_the_rows_that_were_there(store: DiskStore) -> None:
    """Key, body and bytes; the last use is the file's, and the sum of bytes is exact."""
    variants = fill_cache(store, 1500)
    os.utime(path_of(store, variants[3]), (5000, 4000))
    os.utime(path_of(store, variants[4]), (2000, 3000))
    before = rows(store)
    seen: list[int] = []
    filled = rebuild(store, 2, seen.append)
    total = sum(variant.bytes for variant in variants)
    assert filled == Filled(1500, total, 1500, 0, True)
    assert sum(seen) == 1500
    assert rows(store) == before
    used = {row.variant.body: row.used_s for row in store.index.variants.scan() if row.variant}
    assert [used[variants[number].body] for number in (3, 4)] == [5000, 3000]
    assert problems(store)[1:] == []  # the old index lies in tmp, and is no file
    assert rebuild(store, 0) == filled


def test_an_altered_object_gets_no_row_and_goes(store: DiskStore) -> None:
    variants = fill_cache(store, 60)
    for variant, kind in zip(variants, ("flipped", "cut", "emptied"), strict=False):
        damage(path_of(store, variant), kind, random.Random(1))
    assert rebuild(store, 2).removed == 3
    assert [path_of(store, variant).exists() for variant in variants[:4]] == [False, False, False, True]
    assert rows(store) == {(each.key, each.body, each.bytes) for each in variants[3:]}
    assert problems(store) == []


def test_of_two_objects_of_one_key_one_stays(store: DiskStore) -> None:
    """That with the row; without one the newest."""
    store.start()
    bodies = [b"the oldest", b"the newest", b"between"]
    variants = [put_object(store, KEY, body) for body in bodies]
    for variant, time_s in zip(variants, (1000, 3000, 2000), strict=True):
        os.utime(path_of(store, variant), (time_s, time_s))
    store.index.variants.put_many([(variants[0], 1.0)])
    assert fill(store, 0).removed == 2
    assert store.index.variants.get(KEY) == variants[0]
    assert problems(store) == []
    variants[1:] = [put_object(store, KEY, body) for body in bodies[1:]]
    for variant, time_s in zip(variants, (1000, 3000, 2000), strict=True):
        os.utime(path_of(store, variant), (time_s, time_s))
    assert rebuild(store, 2).removed == 2
    found = store.index.variants.get(KEY)
    assert found is not None
    assert found.body == variants[1].body
    assert problems(store) == []


@pytest.mark.parametrize("name", [
    "README",
    "ab/notes.txt",
    f"ab/{'ab' * 32}/v1-100x75-q80.jpg",
    f"cd/{'ab' * 32}/v1-100x75-q80.{'0' * 32}.jpg",
    f"ab/{'ab' * 32}/v1-q80-100x75.{'0' * 32}.jpg",
    f"ab/{'ab' * 32}/v1-100x75-q80.{'0' * 32}.exe",
    f"ab/{'ab' * 32}/v1-100x75-q80.{'0' * 31}.jpg",
    f"ab/{'AB' * 32}/v1-100x75-q80.{'0' * 32}.jpg",
])  # fmt: skip
def test_a_file_that_is_no_object_gets_no_row_and_stays(store: DiskStore, name: str) -> None:
    fill_cache(store, 5)
    path = store.objects.root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"mine")
    assert (rebuild(store, 2).variants, path.read_bytes()) == (5, b"mine")


def test_what_has_a_row_is_not_read_again(store: DiskStore) -> None:
    variants = fill_cache(store, 100)
    for variant in variants[:50]:
        store.index.variants.remove(variant.key)
    damage(path_of(store, variants[99]), "flipped", random.Random(1))
    assert fill(store, 0) == Filled(100, sum(each.bytes for each in variants), 50, 0, True)


# --- what may come between ---------------------------------------------------------------------------------


def test_a_fill_that_is_stopped_leaves_an_index_that_is_not_whole(store: DiskStore) -> None:
    fill_cache(store, 3000)
    lose(store)
    left = iter([True] * 30)
    assert not fill(store, 0, may_go_on=lambda: next(left, False)).is_whole
    assert 0 < store.index.variants.count() < 3000
    assert not store.index.completeness.is_whole()
    assert fill(store, 0).is_whole
    assert store.index.completeness.is_whole()
    assert store.index.variants.count() == 3000


def test_a_fill_does_not_vouch_for_what_came_between(store: DiskStore) -> None:
    """Somebody dies, or the index is replaced, while it is filled: it has to be filled again."""
    for come_between in (
        lambda: fresh(store).index.completeness.set_whole(False),
        lambda: fresh(store).index.database.begin_anew(),
        lambda: fresh(store).index.completeness.begin_filling(),
    ):
        shutil.rmtree(store.root, ignore_errors=True)
        store.index.database.follow()
        fill_cache(store, 600)
        told: list[int] = []

        def once(count: int, act: Callable[[], object] = come_between, told: list[int] = told) -> None:
            if not told:
                act()
            told.append(count)

        assert not fill(store, 0, once).is_whole
        store.index.database.follow()
        assert not store.index.completeness.is_whole()


def test_what_is_purged_meanwhile_does_not_come_back(
    store: DiskStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the look at an object and its row."""
    variants = fill_cache(store, 100)
    lose(store)
    put_many = store.index.variants.put_many

    def purge_first(some: list[tuple[Variant, float]]) -> int:
        store.notices.renew()
        for variant in variants[:10]:
            path_of(store, variant).unlink(missing_ok=True)
        return put_many(some)

    monkeypatch.setattr(store.index.variants, "put_many", purge_first)
    assert fill(store, 0).added == 90
    assert problems(store) == []


def test_what_is_about_to_be_purged_gets_no_row(store: DiskStore) -> None:
    """Its rows went already, its object goes next: it stands in a list that its writer has locked."""
    variants = fill_cache(store, 100)
    lose(store)
    path = store.temps.folder / "abc.doomed"
    name = store.objects.name(variants[0].key, variants[0].body)
    path.write_text(f"{path_of(store, variants[0]).stat().st_ino} {name}\n")
    with path.open("r+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert fill(store, 0).variants == 99
    assert store.index.variants.get(variants[0].key) is None
    fill(store, 0)  # now its writer is dead: who comes next finishes the list
    assert not path_of(store, variants[0]).exists()
    assert problems(store) == []


def test_killed_and_run_again_a_rebuild_ends_as_in_one_go(store: DiskStore, config: Path) -> None:
    def spoil() -> None:
        variants = fill_cache(store, 4000)
        dice = random.Random(5)
        for variant in variants[:100]:
            damage(path_of(store, variant), "flipped", dice)
        put_object(store, variants[200].key, b"a second body")
        store.processes.end()
        close_index(store)

    same_after_kills(config, store.root, ["rebuild"], 20 if IS_LONG else 3, spoil)


def test_two_rebuilds_at_once_end_in_one_whole_index(store: DiskStore, config: Path) -> None:
    before = {(each.key, each.body, each.bytes) for each in fill_cache(store, 2000)}
    with subprocess.Popen(command(config, "rebuild"), stdout=subprocess.DEVNULL) as other:
        run(config, "rebuild")
    assert other.returncode in (0, 1)
    again = fresh(store)
    if not again.index.completeness.is_whole():
        fill(again, 0)
    assert rows(again) == before
    assert problems(again) == []


# --- servers -----------------------------------------------------------------------------------------------

TARGETS = [
    f"/picture/{name}?scalex={width}&encoding={encoding}"
    for name in ("cats/tom.jpg", "flag.png")
    for width in range(20, 60, 4)
    for encoding in ("jpeg", "webp")
]


def known(server: Server) -> dict[str, str]:
    """The ETag of each target, asked for the first time."""
    with server.client() as client:
        return {target: client.get(target).headers["etag"] for target in TARGETS}


def ask_all(server: Server, etags: dict[str, str]) -> Counter[str]:
    """Ask for all targets, each a right one; how often X-Cache had which value."""
    counts: Counter[str] = Counter()
    with server.client() as client:
        for target, etag in etags.items():
            reply = client.get(target)
            assert is_right(reply)
            assert reply.headers["etag"] == etag
            counts[reply.cache] += 1
    return counts


def is_whole(root: Path) -> bool:
    """Whether the index there is; without opening one where there is none."""
    return (root / "index" / "cache.db").exists() and DiskStore(root, 2**40).index.completeness.is_whole()


def test_a_new_cache_is_whole_at_once(config: Path, tmp_path: Path) -> None:
    with serving(config) as server:
        server.get(TARGETS[0])
        assert eventually(lambda: is_whole(tmp_path / "cache"))


def test_a_server_whose_index_is_lost_goes_on_without_a_render_and_fills_it(
    config: Path, store: DiskStore
) -> None:
    with serving(config) as server:
        etags = known(server)
        for step in range(3):
            assert eventually(lambda: is_whole(store.root), 20)
            shutil.rmtree(store.root / "index")
            store.notices.renew()
            if step:  # also what nobody asks for gets its row
                server.get(TARGETS[0])
                assert eventually(lambda: is_whole(store.root), 20)
                assert fresh(store).index.variants.count() == len(TARGETS)
            assert ask_all(server, etags) == {"hit": len(TARGETS)}, server.said()
    assert problems(fresh(store)) == []


def test_a_running_server_follows_a_rebuild(config: Path, store: DiskStore) -> None:
    """It hits in the new index, writes to it, and its purge and renders while it is filled count."""
    with serving(config) as server:
        etags = known(server)
        assert run(config, "rebuild").returncode == 0
        assert ask_all(server, etags) == {"hit": len(TARGETS)}
        assert server.get("/picture/flag.png?scalex=99").cache == "miss"
        again = fresh(store)
        assert again.index.variants.count() == len(TARGETS) + 1
        assert eventually(again.index.completeness.is_whole)
    assert problems(fresh(store)) == []


def test_a_rebuild_beside_a_server_that_renders_and_purges(
    config: Path, store: DiskStore, tmp_path: Path
) -> None:
    """No purged variant comes back, none that was rendered meanwhile lacks its row."""
    fill_cache(store, 2000)  # so that a rebuild lasts
    is_over = threading.Event()
    faults: list[object] = []

    def render(server: Server) -> None:
        dice = random.Random(1)
        with server.client() as client:
            while not is_over.is_set():
                reply = client.get(f"/picture/flag.png?scalex={dice.randrange(20, 100)}")
                if not is_right(reply):
                    faults.append(reply)

    with serving(config) as server:
        threads = [threading.Thread(target=render, args=(server,)) for _ in range(2)]
        for thread in threads:
            thread.start()
        for _ in range(4):
            assert run(config, "rebuild").returncode == 0
            assert run(config, "purge", "flag.png").returncode == 0
        is_over.set()
        for thread in threads:
            thread.join()
        assert faults == []
        assert eventually(lambda: is_whole(store.root), 20)
        assert problems(fresh(store)) == []
        assert run(config, "purge", "flag.png").returncode == 0
        assert fresh(store).index.variants.count() == 2000


ORPHAN = """
import os, signal, sys
from pathlib import Path
from imagefactory.model.job import Rendered
from imagefactory.storage.disk import DiskStore
from imagefactory.model.variant import Key
store = DiskStore(Path(sys.argv[1]), 10**9)
store.start()
store.index.variants.put = lambda *rest: os.kill(os.getpid(), signal.SIGKILL)
with store.temp() as temp:
    temp.path.write_bytes(b"rendered, and then killed")
    store.keep(Key("ab" * 32, "v1-100x75-q80", "jpeg"), Rendered(100, 75), temp)
"""


def test_an_orphan_of_a_killed_process_gets_its_row_from_the_next_server(
    config: Path, store: DiskStore
) -> None:
    fill_cache(store, 10)
    store.processes.end()
    killed = subprocess.run([sys.executable, "-c", ORPHAN, str(store.root)], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert [text[:10] for text in problems(fresh(store)) if not text.startswith("left")] == ["no row for"]
    with serving(config) as server:
        server.get(TARGETS[0])
        assert eventually(lambda: fresh(store).index.variants.get(KEY) is not None, 20)
    assert problems(fresh(store)) == []


def test_a_schema_that_is_no_text_any_more_is_a_damaged_index(store: DiskStore) -> None:
    """SQLite's message quotes it, and Python fails to decode the message."""
    fill_cache(store, 10)
    close_index(store)
    with closing(sqlite3.connect(store.root / "index" / "cache.db")) as connection, connection:
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute(
            "UPDATE sqlite_master SET name = CAST(x'cfcf' AS TEXT), sql = CAST(x'cfcf' AS TEXT) "
            "WHERE name = 'Cache_tag_rowid'"
        )
    again = fresh(store)
    assert again.index.variants.get(KEY) is None
    assert fill(again, 0).variants == 10
    assert problems(again) == []


# --- the index is damaged under load -----------------------------------------------------------------------


def _flip(path: Path, dice: random.Random) -> None:
    with path.open("r+b") as file:
        size = path.stat().st_size
        for _ in range(dice.randrange(1, 200)):
            file.seek(dice.randrange(max(1, size)))
            file.write(dice.randbytes(1))


def _scribble(path: Path, dice: random.Random) -> None:
    with path.open("r+b") as file:
        file.seek(dice.randrange(max(1, path.stat().st_size)))
        file.write(dice.randbytes(dice.randrange(1, 20_000)))


def corrupt(cache: Path, copy: Path, dice: random.Random) -> str:
    """Damage the index in some way; which one."""
    folder = cache / "index"
    files = [folder / name for name in ("cache.db", "cache.db-wal", "cache.db-shm")]
    path = dice.choice(files)
    # SQLite maps the -shm file: whoever cuts it short kills every process that has it open, with SIGBUS.
    shrinking = dice.choice(files[:2])
    ways: dict[str, Callable[[], object]] = {
        "flip": lambda: _flip(path, dice),
        "flip the database": lambda: _flip(files[0], dice),
        "scribble": lambda: _scribble(path, dice),
        "cut": lambda: os.truncate(shrinking, dice.randrange(max(1, shrinking.stat().st_size))),
        "empty": lambda: os.truncate(shrinking, 0),
        "delete": path.unlink,
        "garbage": lambda: shrinking.write_bytes(dice.randbytes(dice.randrange(1, 100_000))),
        "remove the folder": lambda: shutil.rmtree(folder, ignore_errors=True),
        "an old copy": lambda: _put_back(copy, folder, cache.parent),
    }
    name = dice.choice(list(ways))
    try:
        ways[name]()
    except OSError:
        return "nothing"  # the server was replacing it
    return name


def _put_back(copy: Path, folder: Path, beside: Path) -> None:
    fresh_copy = beside / "copy-of-copy"
    shutil.rmtree(fresh_copy, ignore_errors=True)
    shutil.copytree(copy, fresh_copy)
    shutil.rmtree(folder, ignore_errors=True)
    fresh_copy.rename(folder)


@contextmanager
def visitors(
    server: Server, etags: dict[str, str], counts: Counter[str], faults: list[str]
) -> Iterator[None]:
    """Four clients ask at random while the block runs; what is no right 200 goes to *faults*."""
    is_over = threading.Event()
    lock = threading.Lock()

    def visit(seed: int) -> None:
        dice = random.Random(seed)
        with server.client() as client:
            while not is_over.is_set():
                target = dice.choice(TARGETS)
                try:
                    reply = client.get(target)
                except (OSError, HTTPException) as error:
                    faults.append(f"{target}: {error!r}")
                    continue
                with lock:
                    counts[reply.cache] += 1
                if not is_right(reply) or reply.headers["etag"] != etags[target]:
                    faults.append(f"{target}: {reply.status} {reply.body[:200]!r}")

    threads = [threading.Thread(target=visit, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    yield
    is_over.set()
    for thread in threads:
        thread.join()


def test_a_damaged_index_gives_no_wrong_answer(config: Path, store: DiskStore, tmp_path: Path) -> None:
    """Whatever is done to its files while visitors ask; and afterwards all that was stored is a hit."""
    dice = random.Random(11)
    counts: Counter[str] = Counter()
    ways: Counter[str] = Counter()
    faults: list[str] = []
    with serving(config) as server:
        etags = known(server)
        assert eventually(lambda: is_whole(store.root), 20)
        shutil.copytree(store.root / "index", tmp_path / "copy")
        with visitors(server, etags, counts, faults):
            while ways.total() - ways["nothing"] < (1000 if IS_LONG else 30):
                ways[corrupt(store.root, tmp_path / "copy", dice)] += 1
                store.notices.renew()  # else the servers answer from memory
                threading.Event().wait(dice.uniform(0, 0.2))
        assert faults == [], (
            f"{server.process.poll()} {len(faults)} faults, {ways}, {counts}, "
            f"{server.said().partition('Traceback')[2][:5000]}"
        )
        assert counts.total() > ways.total()
        print(dict(ways), dict(counts))
        assert server.said().partition("Traceback")[2][:3000] == ""
    assert run(config, "rebuild").returncode == 0
    with serving(config) as server:
        # A row that could not be written takes its object with it.
        assert ask_all(server, etags)["hit"] >= len(TARGETS) * 3 // 4
        assert ask_all(server, etags) == {"hit": len(TARGETS)}
    assert run(config, "verify").returncode == 0
    assert problems(fresh(store)) == []
