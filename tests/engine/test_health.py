"""Storage trouble never reaches the visitor: right pictures all the time, and the cache back by itself.

Real file systems, real damage, a real server. The first half makes the cache impossible to write, the second
half damages what is in it.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, nullcontext
from itertools import count
from pathlib import Path
from statistics import median

import pytest
from PIL import Image
from support.asking import problems
from support.clock import Clock
from support.serving import Reply, Server, eventually, is_right, serving, write_config

from imagefactory.engine.health import Health
from imagefactory.storage.disk import DiskStore

_RECOVERY_S = 5.0
_numbers = count()


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """One picture with so much noise that its variants have some ten kilobytes."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    Image.effect_noise((400, 300), 90).convert("RGB").save(folder / "noise.jpg", quality=90)
    return folder


def ask(server: Server, width: int | None = None) -> Reply:
    """The answer, a right one, for *width* (200 or more), else for a variant that nobody asked before."""
    number = next(_numbers)
    query = f"scalex={width}" if width else f"scalex={20 + number % 180}&quality={30 + number // 180}"
    reply = server.get(f"/picture/noise.jpg?{query}")
    assert is_right(reply), reply
    assert reply.seconds < 20, reply.seconds
    return reply


def recovers(server: Server) -> bool:
    """Whether new variants are stored again soon, and the server says that all is well."""
    is_storing = eventually(lambda: ask(server).cache == "miss", _RECOVERY_S, 0.2)
    return is_storing and eventually(lambda: server.health() == "ok", _RECOVERY_S, 0.2)


def bypasses(server: Server) -> None:
    """Assert that new variants are answered without the cache, and that the server says so."""
    assert [ask(server).cache for _ in range(5)] == ["bypass"] * 5
    assert server.health() == "degraded"
    time.sleep(2.1)  # the pause after a failure is over: it is tried again, and fails again
    assert [ask(server).cache for _ in range(10)] == ["bypass"] * 10
    assert server.health() == "degraded"


def is_brief(server: Server) -> bool:
    """Whether the log has a line for each part that fails (index, objects, claims), not for each request."""
    lines = [line for line in server.said().splitlines() if " serves " not in line]
    return 1 <= len(lines) <= 3 and all("the cache is in trouble" in line for line in lines)


# --- the cache can't be written ---------------------------------------------------------------------------


def _mount(*arguments: str) -> bool:
    return subprocess.run(["mount", *arguments], capture_output=True, check=False).returncode == 0


@pytest.fixture
def disk(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    """A file system of two megabytes, or of what the test's parameter says."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if not (sys.platform == "linux" and os.geteuid() == 0):
        pytest.skip("only root mounts file systems")
    if not _mount(
        "-t", "tmpfs", "-o", f"size={getattr(request, 'param', '2m')}", "imagefactory-test", str(folder)
    ):
        pytest.skip("nothing may be mounted here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(disk: Path) -> Path:
    """The file that takes all the space that was left."""
    path = disk / "filler"
    with path.open("wb", buffering=0) as file:
        for size in (4096, 1):
            try:
                while True:
                    file.write(bytes(size))
            except OSError:
                continue
    return path


def on_small_disk(tmp_path: Path, pictures: Path, disk: Path) -> Path:
    return write_config(tmp_path, pictures, disk / "cache", cache={"min_free": 0})


def test_a_clock_that_is_set_back_stops_no_look(tmp_path: Path) -> None:
    store, clock = DiskStore(tmp_path / "cache", 10**9), Clock(86_400)
    health = Health(store, clock)
    assert health.check() == {}
    shutil.rmtree(store.root)
    store.root.write_text("a file where the folder should be")
    clock.ahead_s = 0
    assert health.check() != {}


def test_a_disk_that_is_full_from_the_beginning(tmp_path: Path, pictures: Path, disk: Path) -> None:
    filler = fill(disk)
    with serving(on_small_disk(tmp_path, pictures, disk)) as server:
        bypasses(server)
        filler.unlink()
        assert recovers(server)
    assert problems(DiskStore(disk / "cache", 2**40)) == []


def test_a_disk_that_is_full_from_the_beginning_is_told_once(
    tmp_path: Path, pictures: Path, disk: Path
) -> None:
    fill(disk)
    with serving(on_small_disk(tmp_path, pictures, disk)) as server:
        bypasses(server)
        assert is_brief(server), server.said()


def test_a_disk_that_fills_up_and_is_freed(tmp_path: Path, pictures: Path, disk: Path) -> None:
    with serving(on_small_disk(tmp_path, pictures, disk)) as server:
        assert ask(server, 200).cache == "miss"
        filler = fill(disk)
        bypasses(server)
        assert is_brief(server), server.said()
        assert ask(server, 200).cache == "hit"
        filler.unlink()
        assert recovers(server)
        assert ask(server, 200).cache == "hit"
    assert problems(DiskStore(disk / "cache", 2**40)) == []


# Four megabytes of it are for SQLite's write-ahead log.
@pytest.mark.parametrize("disk", ["8m"], indirect=True)
@pytest.mark.parametrize("min_free", [0, 500_000])
def test_a_cache_that_may_be_larger_than_its_disk(
    tmp_path: Path, pictures: Path, disk: Path, min_free: int
) -> None:
    """Variants used long ago give way: every answer is right, most are stored, and so much stays free."""
    config = write_config(tmp_path, pictures, disk / "cache", cache={"min_free": min_free})
    with serving(config) as server:
        results = {width: ask(server, width).cache for width in range(300, 400)}
        stored = [width for width, result in results.items() if result == "miss"]
        assert len(stored) > 80
        assert set(results.values()) <= {"miss", "bypass"}
        assert eventually(lambda: shutil.disk_usage(disk).free >= min_free)
        assert server.health() == "ok"
        assert ask(server, stored[-1]).cache == "hit"
        assert ask(server, 300).cache != "hit"
    assert problems(DiskStore(disk / "cache", 2**40)) == []


def test_a_disk_that_others_have_filled_is_told(tmp_path: Path, pictures: Path, disk: Path) -> None:
    """There is room on the disk, but it is to stay free, and the cache has nothing to give."""
    config = write_config(tmp_path, pictures, disk / "cache", cache={"min_free": "1 GB"})
    with serving(config) as server:
        assert ask(server).cache == "bypass"
        assert eventually(lambda: server.health() == "degraded")
        assert "min_free" in server.said()
        assert is_brief(server), server.said()


def test_a_cache_on_a_disk_that_is_read_only(tmp_path: Path, pictures: Path, disk: Path) -> None:
    config = on_small_disk(tmp_path, pictures, disk)
    with serving(config) as server:
        ask(server)
    assert _mount("-o", "remount,ro", str(disk))
    with serving(config) as server:
        bypasses(server)
        assert is_brief(server), server.said()
        assert _mount("-o", "remount,rw", str(disk))
        assert recovers(server)
    assert problems(DiskStore(disk / "cache", 2**40)) == []


def test_a_cache_folder_that_cannot_be_made(tmp_path: Path, pictures: Path) -> None:
    (tmp_path / "place").write_text("a file where a folder should be")
    with serving(write_config(tmp_path, pictures, tmp_path / "place/cache")) as server:
        bypasses(server)
        assert is_brief(server), server.said()
        (tmp_path / "place").unlink()
        assert recovers(server)
    assert problems(DiskStore(tmp_path / "place/cache", 2**40)) == []


@contextmanager
def locked(database: Path) -> Iterator[None]:
    """Another process has the write lock of *database* while the block runs."""
    code = f"""
import sqlite3, sys
connection = sqlite3.connect({str(database)!r}, isolation_level=None)
connection.execute("BEGIN EXCLUSIVE")
print("locked", flush=True)
sys.stdin.read()
"""
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "locked\n"
        yield


def test_an_index_that_another_process_locks(tmp_path: Path, pictures: Path) -> None:
    cache = tmp_path / "cache"
    with serving(write_config(tmp_path, pictures, cache)) as server:
        ask(server, 200)
        with locked(cache / "index/cache.db"):
            bypasses(server)
            assert is_brief(server), server.said()
            hits = [ask(server, 200) for _ in range(20)]
            assert {reply.cache for reply in hits} == {"hit"}
            assert median(reply.seconds for reply in hits) < 1
        assert recovers(server)
    assert problems(DiskStore(cache, 2**40)) == []


def test_a_server_that_starts_while_another_process_locks_the_index(tmp_path: Path, pictures: Path) -> None:
    cache = tmp_path / "cache"
    config = write_config(tmp_path, pictures, cache)
    with serving(config) as server:
        ask(server, 200)
    with locked(cache / "index/cache.db"), serving(config) as server:
        assert [ask(server, width).cache for width in (200, 201)] == ["bypass"] * 2
        assert server.health() == "degraded"
    with serving(config) as server:
        assert ask(server, 200).cache == "hit"


# --- the cache is damaged ---------------------------------------------------------------------------------


@contextmanager
def visitors(server: Server, number: int = 4) -> Iterator[list[Reply]]:
    """Visitors who ask, all the time, for variants that are there and for some that are not. The list of
    their replies is complete, and not short, after the block."""
    replies: list[Reply] = []
    broken: list[Exception] = []
    is_over = threading.Event()

    def visit(offset: int) -> None:
        with server.client() as client:
            for turn in count():
                if is_over.is_set():
                    return
                width = 100 + turn % 20 if turn % 4 else 1000 * offset + turn % 1000
                try:
                    replies.append(
                        client.get(f"/picture/noise.jpg?scalex={width}&enlarge=1&quality=50&scaley=20")
                    )
                except Exception as error:  # the test asserts that there is none
                    broken.append(error)
                    return

    threads = [threading.Thread(target=visit, args=(offset,)) for offset in range(1, number + 1)]
    for thread in threads:
        thread.start()
    try:
        yield replies
    finally:
        is_over.set()
        for thread in threads:
            thread.join()
    assert broken == []
    assert len(replies) > 50


def _truncate(index: Path) -> None:
    os.truncate(index / "cache.db", 0)


def _cut(index: Path) -> None:
    os.truncate(index / "cache.db", (index / "cache.db").stat().st_size // 2)


def _scribble(index: Path) -> None:
    with (index / "cache.db").open("r+b") as file:
        file.write(b"garbage " * (os.fstat(file.fileno()).st_size // 8))


def _delete(index: Path) -> None:
    (index / "cache.db").unlink()


def _scribble_wal(index: Path) -> None:
    with (index / "cache.db-wal").open("r+b") as file:
        file.write(b"garbage " * max(1000, os.fstat(file.fileno()).st_size // 8))


def _wipe(index: Path) -> None:
    # As rm -rf does while others make files: what comes late makes it try again.
    while index.parent.exists():
        shutil.rmtree(index.parent, ignore_errors=True)
        if not any(path.is_file() for path in index.parent.rglob("*")):
            break


@pytest.mark.parametrize(
    "damage",
    [_truncate, _cut, _scribble, _delete, _scribble_wal, _wipe],
    ids=lambda way: way.__name__,
)
def test_damage_under_a_running_server_is_never_seen(
    tmp_path: Path, pictures: Path, damage: Callable[[Path], None]
) -> None:
    cache = tmp_path / "cache"
    with serving(write_config(tmp_path, pictures, cache)) as server:
        ask(server, 200)
        with visitors(server) as replies:
            time.sleep(0.3)
            damage(cache / "index")
            time.sleep(1)
        assert {reply.status for reply in replies} == {200}, [r for r in replies if r.status != 200][:3]
        assert all(is_right(reply) for reply in replies)
        assert max(reply.seconds for reply in replies) < 5
        assert recovers(server)
        assert server.is_running
        assert "Traceback" not in server.said()
        ask(server, 200)
        assert ask(server, 200).cache == "hit"
    # What had a row before may be left without one.
    assert [text for text in problems(DiskStore(cache, 2**40)) if not text.startswith("no row for")] == []


def _change_row(cache: Path, kind: str) -> None:
    """Change one character in the middle of the value of a row."""
    with closing(sqlite3.connect(cache / "index/cache.db")) as connection:
        query = "SELECT rowid, value FROM Cache WHERE key LIKE ?"
        (row,) = connection.execute(query, (f"{kind} %",)).fetchall()
        number, value = row
        middle = value.index('"', len(value) // 2) - 1
        changed = value[:middle] + chr(ord(value[middle]) ^ 1) + value[middle + 1 :]
        connection.execute("UPDATE Cache SET value = ? WHERE rowid = ?", (changed, number))
        connection.commit()


@pytest.mark.parametrize(("kind", "expected"), [("variant", "miss"), ("source", "hit")])
def test_a_row_with_a_flipped_bit_is_as_if_it_were_not_there(
    tmp_path: Path, pictures: Path, kind: str, expected: str
) -> None:
    cache = tmp_path / "cache"
    with serving(write_config(tmp_path, pictures, cache)) as server:
        first = ask(server, 200)
        _change_row(cache, kind)
        second = ask(server, 200)
        assert (second.cache, second.body) == (expected, first.body)
        assert ask(server, 200).cache == "hit"
        assert server.health() == "ok"
    assert problems(DiskStore(cache, 2**40)) == []


def _alter(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(os.fstat(file.fileno()).st_size // 2)
        byte = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte[0] ^ 1]))


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(Path.unlink, id="removed"),
        pytest.param(lambda path: os.truncate(path, path.stat().st_size - 1), id="cut short"),
        pytest.param(lambda path: os.truncate(path, 0), id="emptied"),
        pytest.param(_alter, id="altered"),
        pytest.param(lambda path: shutil.rmtree(path.parent), id="folder removed"),
    ],
)
def test_a_damaged_object_is_made_again(
    tmp_path: Path, pictures: Path, damage: Callable[[Path], object]
) -> None:
    """By the process that knew it as sound, and by one that never saw it."""
    cache = tmp_path / "cache"
    config = write_config(tmp_path, pictures, cache)
    with serving(config) as server:
        first = ask(server, 200)
        for now in (server, None):
            (path,) = DiskStore(cache, 2**40).objects.walk()
            damage(path)
            with nullcontext(now) if now else serving(config) as asked:
                second = ask(asked, 200)
                assert (second.cache, second.body) == ("miss", first.body)
                assert ask(asked, 200).cache == "hit"
                assert asked.health() == "ok"
    assert problems(DiskStore(cache, 2**40)) == []
