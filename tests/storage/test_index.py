"""The index believes no row that it did not write: what is wrong in the database is a miss."""

from __future__ import annotations

import itertools
import os
import pickle
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from hashlib import blake2b
from pathlib import Path

import pytest

from imagefactory.errors import ConfigError, StorageError
from imagefactory.model.source import Header, Source, Stamp
from imagefactory.model.variant import Key, Variant
from imagefactory.storage.database import seal, unseal
from imagefactory.storage.index import DiskIndex

KEY = Key("ab" * 32, "v1-100x75-q80", "jpeg")
VARIANT = Variant(KEY, "cd" * 32, 12_345, 100, 75)
SOURCE = Source("cats/tom.jpg", Stamp(1, 2, 3, 4), "ab" * 32, Header(400, 300, "JPEG"))


def open_index(root: Path) -> DiskIndex:
    return DiskIndex(root / "index", root / "locks" / "index", root / "tmp" / "damaged-index")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def index(root: Path) -> DiskIndex:
    return open_index(root)


def sql(root: Path, statement: str, *values: object) -> list[tuple[object, ...]]:
    """Do something to the database behind the index's back."""
    with closing(sqlite3.connect(root / "index" / "cache.db", isolation_level=None)) as connection:
        return connection.execute(statement, values).fetchall()


def with_size(key: Key, size: int) -> Variant:
    return Variant(key, "cd" * 32, size, 1, 1)


# --- rows --------------------------------------------------------------------------------------------------


def test_a_row_of_no_bytes_is_no_variant(index: DiskIndex) -> None:
    """One that an older version wrote, when the cache was deleted while it rendered."""
    index.variants.put(with_size(KEY, 0))
    assert index.variants.get(KEY) is None
    assert list(index.variants.good()) == []
    index.variants.put(VARIANT)
    assert index.variants.get(KEY) == VARIANT
    assert index.variants.count() == 1


@pytest.mark.parametrize(
    "source",
    [
        SOURCE,
        Source("a.jpg", Stamp(2**63, 2**40, -1, 2**62), "00" * 32, Header(1, 1, "PNG", 12, 6, True), True),
        Source("ü ö/日本 \N{CAT FACE}.jpg", Stamp(1, 2, 3, 4), "ab" * 32, Header(1, 1, "GIF")),
        Source("source x", Stamp(1, 2, 3, 4), "ab" * 32, None),
        Source("'; DROP TABLE Cache; --%s", Stamp(1, 2, 3, 4), "ab" * 32, Header(1, 1, "GIF")),
    ],
    ids=lambda source: source.path,
)
def test_a_source_comes_back_as_it_went(index: DiskIndex, root: Path, source: Source) -> None:
    index.sources.put(source)
    assert index.sources.get(source.path) == source
    assert open_index(root).sources.get(source.path) == source
    assert index.sources.get(source.path + " ") is None


def test_a_variant_comes_back_as_it_went(index: DiskIndex, root: Path) -> None:
    index.variants.put(VARIANT)
    assert index.variants.get(KEY) == VARIANT
    assert open_index(root).variants.get(KEY) == VARIANT
    assert list(index.variants.good()) == [VARIANT]
    for other in (
        Key("ab" * 32, "v1-100x75-q81", "jpeg"),
        Key("ac" * 32, "v1-100x75-q80", "jpeg"),
        Key("ab" * 32, "v1-100x75-q80", "webp"),
    ):
        assert index.variants.get(other) is None


def test_a_removed_variant_is_forgotten(index: DiskIndex) -> None:
    index.variants.put(VARIANT)
    index.variants.remove(KEY)
    index.variants.remove(KEY)
    assert index.variants.get(KEY) is None
    assert list(index.variants.good()) == []


def test_reading_writes_nothing(index: DiskIndex, root: Path) -> None:
    index.variants.put(VARIANT)
    index.sources.put(SOURCE)
    before = sql(root, "SELECT access_time, access_count FROM Cache ORDER BY key")
    (version,) = sql(root, "PRAGMA data_version")
    with closing(sqlite3.connect(root / "index" / "cache.db")) as watcher:
        (version,) = watcher.execute("PRAGMA data_version").fetchall()
        for _ in range(50):
            assert index.variants.get(KEY)
            assert index.sources.get(SOURCE.path)
            assert index.variants.total_bytes()
        assert watcher.execute("PRAGMA data_version").fetchall() == [version]
    assert sql(root, "SELECT access_time, access_count FROM Cache ORDER BY key") == before


def test_nothing_is_dropped_silently(index: DiskIndex) -> None:
    """diskcache's own limit of a gigabyte, and its culling, are off."""
    keys = [Key(f"{number:064x}", "v1-1x1", "png") for number in range(40)]
    for key in keys:
        index.variants.put(with_size(key, 2**30))
    assert all(index.variants.get(key) for key in keys)
    assert index.variants.total_bytes() == 40 * 2**30


@pytest.mark.parametrize("bad", [b"bytes", 5, ("a", 1), None, 1.5], ids=repr)
def test_the_disk_takes_text_alone(index: DiskIndex, bad: object) -> None:
    index.variants.put(VARIANT)
    with pytest.raises(TypeError, match="a key of the index is text"):
        index.database._cache.set(bad, "x", retry=False)
    with pytest.raises(TypeError, match="a value of the index is a row"):
        index.database._cache.set("key", bad, retry=False)


# --- checksums ---------------------------------------------------------------------------------------------


def test_every_single_flipped_bit_of_a_value_is_a_miss(index: DiskIndex, root: Path) -> None:
    index.variants.put(VARIANT)
    ((value,),) = sql(root, "SELECT value FROM Cache")
    assert isinstance(value, str)
    data = value.encode()
    with closing(sqlite3.connect(root / "index" / "cache.db", isolation_level=None)) as connection:
        for position, bit in itertools.product(range(len(data)), (1, 0x10, 0x80)):
            harmed = bytearray(data)
            harmed[position] ^= bit
            # A flip leaves the type of a cell alone: TEXT stays TEXT, also when it is no UTF-8 any more.
            connection.execute("UPDATE Cache SET value = CAST(? AS TEXT)", (bytes(harmed),))
            assert index.variants.get(KEY) is None, (position, bit)
        connection.execute("UPDATE Cache SET value = ?", (value,))
    assert index.variants.get(KEY) == VARIANT


@pytest.mark.parametrize(
    "value",
    [
        "", " ", "{}", "null", "[]", "{} ", "\0", "1", 5, 1.5, None, b"", b"\x80\x04N.", "x" * 100_000,
        seal("variant other", {}),
    ],
    ids=lambda value: repr(value)[:20],
)  # fmt: skip
def test_a_value_of_somebody_else_is_a_miss(index: DiskIndex, root: Path, value: object) -> None:
    index.variants.put(VARIANT)
    sql(root, "UPDATE Cache SET value = ?", value)
    assert index.variants.get(KEY) is None
    assert list(index.variants.good()) == []
    index.variants.put(VARIANT)
    assert index.variants.get(KEY) == VARIANT


def test_a_value_that_is_no_utf8_is_a_miss_and_no_damage(index: DiskIndex, root: Path) -> None:
    """Python's sqlite3 raises OperationalError for it; the database is whole and stays where it is."""
    index.variants.put(VARIANT)
    index.sources.put(SOURCE)
    sql(root, "UPDATE Cache SET value = CAST(X'ff' || value AS TEXT) WHERE key LIKE 'variant%'")
    assert index.variants.get(KEY) is None
    assert index.sources.get(SOURCE.path) == SOURCE
    assert not index.database.aside.exists()


def test_a_row_does_not_pass_for_another(index: DiskIndex, root: Path) -> None:
    """The checksum is over the key too."""
    other = Key("ab" * 32, "v1-50x38-q80", "jpeg")
    index.variants.put(VARIANT)
    sql(root, "UPDATE Cache SET key = ?", f"variant {other.text()}")
    assert index.variants.get(other) is None
    assert list(index.variants.good()) == []


@pytest.mark.parametrize(
    "row",
    [
        {}, [], None, 5, "text", {"body": "cd" * 32}, {"unknown": 1},
        {"body": "cd" * 32, "bytes": 1, "width": 1, "height": 1, "more": 1},
    ],
    ids=repr,
)  # fmt: skip
def test_a_sealed_row_of_another_shape_is_a_miss(index: DiskIndex, root: Path, row: object) -> None:
    """As another version may have written it, with a checksum that is right."""
    index.variants.put(VARIANT)
    index.sources.put(SOURCE)
    for key in (f"variant {KEY.text()}", f"source {SOURCE.path}"):
        sql(root, "UPDATE Cache SET value = ? WHERE key = ?", seal(key, row), key)
    assert index.variants.get(KEY) is None
    assert index.sources.get(SOURCE.path) is None


@pytest.mark.parametrize(
    "body",
    [5, None, "", "../" * 20, "\0" * 64, "CD" * 32, "cd" * 31, "\ud800" * 64, ["cd" * 32]],
    ids=lambda body: repr(body)[:8],
)
def test_a_sealed_row_whose_body_is_no_digest_is_a_miss(index: DiskIndex, root: Path, body: object) -> None:
    """The digest becomes a part of an object's path: only 64 lower-case hex digits may."""
    index.variants.put(VARIANT)
    key = f"variant {KEY.text()}"
    sql(root, "UPDATE Cache SET value = ?", seal(key, {"body": body, "bytes": 1, "width": 1, "height": 1}))
    assert index.variants.get(KEY) is None


def test_a_source_row_with_an_unknown_format_is_a_miss(index: DiskIndex, root: Path) -> None:
    """As a later version, or one with an extra, may have written it."""
    index.sources.put(Source("a.jxl", Stamp(1, 2, 3, 4), "ab" * 32, Header(1, 1, "JXL")))
    assert index.sources.get("a.jxl") is None


@pytest.mark.parametrize(
    "text", ["", "x", "{} 0000", " " + blake2b(b"k\n", digest_size=8).hexdigest(), "nonsense " + "0" * 16]
)
def test_what_is_not_sealed_is_nothing(text: str) -> None:
    if text.startswith(" "):
        with pytest.raises(ValueError, match="Expecting value"):  # only a writer of ours could: seals no ""
            unseal("k", text)
    else:
        assert unseal("k", text) is None


# --- no pickle ---------------------------------------------------------------------------------------------


class Bomb:
    """A pickle that touches *path* when somebody reads it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return open, (str(self.path), "w")


@pytest.fixture
def bomb(tmp_path: Path) -> Iterator[bytes]:
    """A pickle; at the end of the test nobody has read it."""
    fired = tmp_path / "fired"
    data = pickle.dumps(Bomb(fired))
    pickle.loads(data).close()
    assert fired.exists()  # it works
    fired.unlink()
    yield data
    assert not fired.exists()


def use_everything(index: DiskIndex) -> None:
    """Whatever a process does with an index, in its order."""
    assert index.variants.get(KEY) is None
    assert index.sources.get(SOURCE.path) is None
    index.variants.total_bytes()
    index.database.probe()
    index.variants.put(VARIANT)
    index.sources.put(SOURCE)
    assert index.variants.get(KEY) == VARIANT
    assert index.sources.get(SOURCE.path) == SOURCE
    index.variants.remove(KEY)
    assert index.variants.get(KEY) is None


@pytest.mark.parametrize("mode", [0, 2, 3, 4, 5, -1, "4", None])
def test_a_planted_pickle_in_a_value_is_a_miss(
    index: DiskIndex, root: Path, bomb: bytes, mode: object
) -> None:
    index.variants.put(VARIANT)
    index.sources.put(SOURCE)
    sql(root, "UPDATE Cache SET mode = ?, value = ?", mode, bomb)
    use_everything(index)
    sql(root, "UPDATE Cache SET mode = ?, value = ?", mode, bomb)
    use_everything(open_index(root))


@pytest.mark.parametrize("mode", [1, 2, 3, 4])
@pytest.mark.parametrize("place", ["relative", "absolute", "upwards"])
def test_a_planted_file_name_is_neither_read_nor_deleted(
    index: DiskIndex, root: Path, tmp_path: Path, bomb: bytes, mode: int, place: str
) -> None:
    """diskcache reads and deletes the file that a row names; a name may lead anywhere."""
    victim = root / "index" / "victim" if place == "relative" else tmp_path / "victim"
    index.variants.put(VARIANT)
    index.sources.put(SOURCE)
    victim.write_bytes(bomb)
    name = {"relative": "victim", "absolute": str(victim), "upwards": "../../victim"}[place]
    plant = "UPDATE Cache SET mode = ?, filename = ?, value = NULL"
    sql(root, plant, mode, name)
    use_everything(index)
    sql(root, plant, mode, name)
    index.variants.put(VARIANT)  # replaces the row and cleans up after it
    index.variants.remove(KEY)
    sql(root, plant, mode, name)
    use_everything(open_index(root))
    assert victim.read_bytes() == bomb


def test_a_planted_pickle_in_a_key_is_never_read(index: DiskIndex, root: Path, bomb: bytes) -> None:
    index.variants.put(VARIANT)
    sql(root, "INSERT INTO Cache (key, raw, mode, value) VALUES (?, 0, 4, ?)", bomb, bomb)
    assert index.variants.get(KEY) == VARIANT
    assert index.sources.get(SOURCE.path) is None
    with suppress(StorageError):
        list(index.variants.good())


@pytest.mark.parametrize(
    "key, raw", [(b"\x80\x04N.", 0), (b"bytes", 1), (5, 1), (1.5, 1), (None, 1), ("text", 0)]
)
def test_a_foreign_key_hides_no_other_row(index: DiskIndex, root: Path, key: object, raw: int) -> None:
    index.variants.put(VARIANT)
    sql(root, "INSERT INTO Cache (key, raw, mode, value) VALUES (?, ?, 1, 'x')", key, raw)
    assert list(index.variants.good()) == [VARIANT]
    assert index.variants.get(KEY) == VARIANT


@pytest.mark.parametrize(
    "key", ["", "variant", "variant a b", "variant a b c d", "source", "\0", "variant   "]
)
def test_a_key_of_another_form_hides_no_other_row(index: DiskIndex, root: Path, key: str) -> None:
    index.variants.put(VARIANT)
    sql(root, "INSERT INTO Cache (key, raw, mode, value) VALUES (?, 1, 1, 'x')", key)
    assert list(index.variants.good()) == [VARIANT]


@pytest.mark.parametrize(
    "name, value",
    [
        ("statistics", 1), ("eviction_policy", "least-recently-used"), ("cull_limit", 10), ("size_limit", 1),
        ("sqlite_mmap_size", 2**26), ("disk_min_file_size", 0), ("disk_pickle_protocol", 99),
        ("unknown", "x"), ("sqlite_unknown", 1),
    ],
)  # fmt: skip
def test_settings_in_the_database_change_nothing(
    index: DiskIndex, root: Path, name: str, value: object
) -> None:
    index.variants.put(VARIANT)
    sql(root, "INSERT OR REPLACE INTO Settings VALUES (?, ?)", name, value)
    again = open_index(root)
    assert again.variants.get(KEY) == VARIANT
    again.sources.put(SOURCE)
    assert again.variants.get(KEY) == VARIANT


def test_an_unknown_disk_setting_does_not_break_the_index(index: DiskIndex, root: Path) -> None:
    """One flipped bit in the name of a setting is enough."""
    index.variants.put(VARIANT)
    sql(root, "UPDATE Settings SET key = 'disk_min_file_sizf' WHERE key = 'disk_min_file_size'")
    open_index(root).sources.put(SOURCE)


# --- a damaged database ------------------------------------------------------------------------------------


def in_new_process(root: Path, statement: str) -> str:
    """What *statement* prints with an ``index`` that another process opens."""
    code = (
        "import sys; from pathlib import Path; from imagefactory.storage.index import DiskIndex\n"
        "from imagefactory.model.variant import Key, Variant\n"
        "root = Path(sys.argv[1])\n"
        "index = DiskIndex(root / 'index', root / 'locks' / 'index', root / 'tmp' / 'damaged-index')\n"
        f"key = Key({KEY.digest!r}, {KEY.recipe!r}, {KEY.encoding!r})\n{statement}\n"
    )
    command = [sys.executable, "-W", "error", "-c", code, str(root)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.strip()


@pytest.mark.parametrize("is_open", [False, True], ids=["before it is opened", "while it is open"])
@pytest.mark.parametrize("harm", ["garbage", "emptied", "cut", "zeroed header"])
def test_a_damaged_database_is_begun_anew(root: Path, harm: str, is_open: bool) -> None:
    index = open_index(root)
    for number in range(200):
        index.variants.put(with_size(Key(f"{number:064x}", "v1-1x1", "png"), 1))
    sql(root, "PRAGMA wal_checkpoint(TRUNCATE)")
    database = root / "index" / "cache.db"
    data = database.read_bytes()
    if not is_open:
        index.database._cache.close()
        index = open_index(root)
    harmed = {
        "garbage": os.urandom(len(data)),
        "emptied": b"",
        "cut": data[: len(data) // 2],
        "zeroed header": bytes(100) + data[100:],
    }[harm]
    database.write_bytes(harmed)
    for _ in range(3):
        try:
            index.variants.put(VARIANT)
            break
        except StorageError:
            index.database._pause_until = {"read": 0.0, "write": 0.0}
    assert index.variants.get(KEY) == VARIANT
    assert in_new_process(root, "print(index.variants.get(key).bytes)") == "12345"
    assert index.variants.total_bytes() >= 12_345


@pytest.mark.slow
def test_no_flipped_bit_of_the_whole_database_makes_a_wrong_row(index: DiskIndex, root: Path) -> None:
    """Somewhere in the file: the right row, a miss, or a StorageError; no other row and no other error."""
    index.variants.put(VARIANT)
    index.sources.put(SOURCE)
    sql(root, "PRAGMA wal_checkpoint(TRUNCATE)")
    data = (root / "index" / "cache.db").read_bytes()
    used = [position for position, byte in enumerate(data) if byte]
    wrong = []
    for position in used[:: len(used) // 150]:
        harmed = bytearray(data)
        harmed[position] ^= 4
        copy = root.parent / f"copy-{position}"
        (copy / "index").mkdir(parents=True)
        (copy / "index" / "cache.db").write_bytes(harmed)
        other = open_index(copy)
        try:
            if other.variants.get(KEY) not in (VARIANT, None) or other.sources.get(SOURCE.path) not in (
                SOURCE,
                None,
            ):
                wrong.append(f"byte {position}: another row")
        except StorageError:
            pass
        except Exception as error:
            wrong.append(f"byte {position}: {error!r}")
    assert wrong == []


@pytest.mark.parametrize("place", [0, 1], ids=["row", "index"])
@pytest.mark.parametrize("bit", [1, 8])
def test_a_flipped_bit_of_a_key_is_no_mistake_of_ours(root: Path, place: int, bit: int) -> None:
    """It stands in the row and in SQLite's index, which then gives that row for the key of another."""
    keys = [Key(f"{number * 7919:064x}", KEY.recipe, KEY.encoding) for number in range(300)]
    variants = [(Variant(key, "cd" * 32, 123, 100, 75), 1000.0) for key in keys]
    index = open_index(root)
    index.variants.put_many(variants)
    sql(root, "PRAGMA wal_checkpoint(TRUNCATE)")
    index.database.use("read", lambda cache: cache.close())
    path = root / "index/cache.db"
    data, name = bytearray(path.read_bytes()), f"variant {keys[150].text()}".encode()
    found = data.find(name)
    data[(data.find(name, found + 1) if place else found) + 64] ^= bit
    path.write_bytes(data)
    with suppress(StorageError):  # it may be begun anew on the way
        open_index(root).variants.put_many(variants)
    index = open_index(root)
    index.variants.put_many(variants)
    assert [index.variants.get(key) for key in keys] == [variant for variant, _ in variants]


def test_a_database_removed_while_it_is_opened_is_opened_again(
    index: DiskIndex, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No inode of a file is no file in its place: it must not be taken for the one in use for ever."""
    database = index.database
    opening = database._open_cache

    def open_and_lose() -> object:
        monkeypatch.undo()
        cache = opening()
        shutil.rmtree(root)
        return cache

    monkeypatch.setattr(database, "_open_cache", open_and_lose)
    with suppress(StorageError):
        index.variants.get(KEY)
    monkeypatch.setattr("imagefactory.storage.database._PAUSE_S", 0.0)
    database._pause_until = {"read": 0.0, "write": 0.0}
    index.variants.put(VARIANT)
    assert index.variants.get(KEY) == VARIANT
    assert open_index(root).variants.get(KEY) == VARIANT


def test_a_damaged_database_is_kept_once_for_a_look(index: DiskIndex, root: Path) -> None:
    for _ in range(2):
        index = open_index(root)
        index.variants.put(VARIANT)
        (root / "index" / "cache.db").write_bytes(b"garbage" * 1000)
        assert open_index(root).variants.get(KEY) is None
        assert (index.database.aside / "cache.db").read_bytes() == b"garbage" * 1000


@pytest.mark.slow
def test_a_locked_database_is_a_storage_error_within_seconds_and_then_at_once(
    index: DiskIndex, root: Path
) -> None:
    index.variants.put(VARIANT)
    with closing(sqlite3.connect(root / "index" / "cache.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        began = time.monotonic()
        with pytest.raises(StorageError, match="locked or can't be written"):
            index.sources.put(SOURCE)
        assert time.monotonic() - began < 20  # not 60, as diskcache has it
        with pytest.raises(StorageError, match="failed a moment ago"):
            index.sources.put(SOURCE)
        assert index.variants.get(KEY) == VARIANT  # readers go on
        with pytest.raises(StorageError, match="can't be used: database is locked"):
            open_index(root).sources.get(SOURCE.path)
    time.sleep(2)
    index.sources.put(SOURCE)
    assert index.sources.get(SOURCE.path) == SOURCE


def test_an_index_that_can_not_be_made_is_a_storage_error(index: DiskIndex, root: Path) -> None:
    root.write_text("a file where the folder should be")
    with pytest.raises(StorageError, match="the index can't be opened"):
        index.variants.get(KEY)


def test_a_path_that_diskcache_would_change_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ELSEWHERE", "elsewhere")
    with pytest.raises(ConfigError, match="paths.cache: .* has a .NAME in it, which diskcache would replace"):
        open_index(tmp_path / "$ELSEWHERE")


# --- the count of bytes ------------------------------------------------------------------------------------


def test_the_count_of_bytes_is_that_of_the_variants(index: DiskIndex, root: Path) -> None:
    keys = [Key(f"{number:064x}", "v1-1x1", "png") for number in range(5)]
    assert index.variants.total_bytes() == 0
    for number, key in enumerate(keys):
        index.variants.put(with_size(key, 100 + number))
    assert index.variants.total_bytes() == 510
    index.variants.put(with_size(keys[0], 7))  # replaced
    assert index.variants.total_bytes() == 417
    index.variants.put(with_size(keys[0], 7))
    assert index.variants.total_bytes() == 417
    index.sources.put(SOURCE)  # sources weigh nothing
    assert index.variants.total_bytes() == 417
    index.variants.remove(keys[1])
    index.variants.remove(keys[1])
    assert index.variants.total_bytes() == 316
    assert open_index(root).variants.total_bytes() == 316
    for key in keys:
        index.variants.remove(key)
    assert index.variants.total_bytes() == 0


def test_the_count_is_of_all_processes(index: DiskIndex, root: Path) -> None:
    index.variants.put(VARIANT)
    in_new_process(root, "index.variants.put(Variant(Key('0' * 64, 'v1-1x1', 'png'), 'c' * 64, 5, 1, 1))")
    assert index.variants.total_bytes() == 12_350


CHURN = """
import random
print("begun", flush=True)
while True:
    number = random.randrange(30)
    one = Key(f"{number:064x}", "v1-1x1", "png")
    if random.random() < 0.7:
        index.variants.put(Variant(one, "c" * 64, random.randrange(1, 10**6), 1, 1))
    else:
        index.variants.remove(one)
"""


def test_the_count_is_right_after_a_kill(root: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from imagefactory.storage.index import DiskIndex\n"
        "from imagefactory.model.variant import Key, Variant\n"
        "root = Path(sys.argv[1])\n"
        "index = DiskIndex(root / 'index', root / 'locks' / 'index', root / 'tmp' / 'damaged-index')\n"
    ) + CHURN
    for pause_s in (0.15, 0.2, 0.25):
        with subprocess.Popen([sys.executable, "-c", code, str(root)], stdout=subprocess.PIPE) as process:
            assert process.stdout
            assert process.stdout.readline() == b"begun\n"
            time.sleep(pause_s)
            process.send_signal(signal.SIGKILL)
        index = open_index(root)
        variants = list(index.variants.good())
        assert variants
        assert index.variants.total_bytes() == sum(variant.bytes for variant in variants)


# --- processes and threads ---------------------------------------------------------------------------------


def test_the_folder_is_its_owners_alone_whatever_the_umask(index: DiskIndex, root: Path) -> None:
    before = os.umask(0o000)
    try:
        index.variants.put(VARIANT)
    finally:
        os.umask(before)
    for folder in (root / "index", root / "locks"):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    (root / "index").chmod(0o777)  # as somebody made it by hand
    open_index(root).variants.get(KEY)
    assert stat.S_IMODE((root / "index").stat().st_mode) == 0o700


def test_nothing_else_lies_in_the_folder(index: DiskIndex, root: Path) -> None:
    index.variants.put(VARIANT)
    index.sources.put(SOURCE)
    assert {path.name for path in (root / "index").iterdir()} <= {"cache.db", "cache.db-wal", "cache.db-shm"}


def test_eight_processes_open_a_new_index_at_once(root: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from imagefactory.storage.index import DiskIndex\n"
        "from imagefactory.model.variant import Key, Variant\n"
        "root, number = Path(sys.argv[1]), int(sys.argv[2])\n"
        "index = DiskIndex(root / 'index', root / 'locks' / 'index', root / 'tmp' / 'damaged-index')\n"
        "print('ready', flush=True); sys.stdin.readline()\n"
        "index.variants.put(Variant(Key(f'{number:064x}', 'v1-1x1', 'png'), 'c' * 64, 10, 1, 1))\n"
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(root), str(number)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(8)
    ]
    for process in processes:
        assert process.stdout
        process.stdout.readline()
    for process in processes:  # all are loaded: now
        assert process.stdin
        process.stdin.write("\n")
        process.stdin.flush()
    errors = [process.communicate(timeout=30)[1] for process in processes]
    assert errors == [""] * 8
    index = open_index(root)
    assert len(list(index.variants.good())) == 8
    assert index.variants.total_bytes() == 80


def test_threads_share_an_index(index: DiskIndex) -> None:
    def work(number: int) -> bool:
        key = Key(f"{number % 20:064x}", "v1-1x1", "png")
        index.variants.put(with_size(key, 10))
        return index.variants.get(key) is not None

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(100)))
    assert index.variants.total_bytes() == 200


FORK = """
import os
index.variants.put(Variant(key, "c" * 64, 1, 1, 1))
parents = index.database._cache
child = os.fork()
if child == 0:
    assert index.variants.get(key).bytes == 1
    assert index.database._cache is not parents
    index.variants.put(Variant(key, "c" * 64, 2, 1, 1))
    os._exit(0)
_, status = os.waitpid(child, 0)
assert os.waitstatus_to_exitcode(status) == 0
index.variants.put(Variant(Key("0" * 64, "v1-1x1", "png"), "c" * 64, 5, 1, 1))
print(index.variants.get(key).bytes, index.variants.total_bytes())
"""


def test_a_forked_child_has_a_connection_of_its_own(root: Path) -> None:
    assert in_new_process(root, FORK) == "2 7"
    assert sql(root, "PRAGMA integrity_check") == [("ok",)]


def test_an_index_that_another_process_replaced_is_followed(index: DiskIndex, root: Path) -> None:
    index.variants.put(VARIANT)
    in_new_process(
        root,
        "(root / 'index').rename(root / 'old')\n"
        "index.variants.put(Variant(Key('0' * 64, 'v1-1x1', 'png'), 'c' * 64, 5, 1, 1))",
    )
    assert index.variants.get(KEY) == VARIANT  # of the old one, true for its object
    index.database.follow()
    assert index.variants.get(KEY) is None
    assert [variant.bytes for variant in index.variants.good()] == [5]


def test_no_row_is_written_into_an_index_that_was_replaced(index: DiskIndex, root: Path) -> None:
    index.variants.put(VARIANT)
    (root / "index").rename(root / "old")
    index.sources.put(SOURCE)
    assert sql(root, "SELECT count(*) FROM Cache") == [(1,)]
    assert index.variants.get(KEY) is None


def test_following_an_index_that_is_the_same_changes_nothing(index: DiskIndex) -> None:
    index.variants.put(VARIANT)
    cache = index.database._cache
    index.database.follow()
    assert index.variants.get(KEY) == VARIANT
    assert index.database._cache is cache


@pytest.mark.parametrize("name", ["x'ff'", "'sqlite_'", "'sqlite_nothing'", "'sqlite_;'"])
def test_settings_that_are_damaged_while_it_is_open(index: DiskIndex, root: Path, name: str) -> None:
    """diskcache reads them again for the connection of each new thread, and trips over them."""
    index.variants.put(VARIANT)
    sql(root, f"INSERT INTO Settings VALUES ({name}, 'x')")
    with ThreadPoolExecutor(1) as thread:
        thread.submit(index.sources.put, SOURCE).result()
        assert thread.submit(index.sources.get, SOURCE.path).result() == SOURCE


def test_a_mistake_of_ours_is_no_damage(index: DiskIndex) -> None:
    index.variants.put(VARIANT)

    def fail(cache: object) -> None:
        raise AttributeError("a typing error")

    with pytest.raises(AttributeError, match="a typing error"):
        index.database.use("read", fail)
    assert index.variants.get(KEY) == VARIANT


def test_a_thread_that_failed_before_another_one_began_anew_does_no_harm(
    index: DiskIndex, root: Path
) -> None:
    """What it stumbled over is not the database that is in use now."""
    index.variants.put(VARIANT)
    is_first = True

    def fail(cache: object) -> None:
        nonlocal is_first
        if is_first:
            is_first = False
            index.database.begin_anew()
            index.sources.put(SOURCE)
            raise sqlite3.DatabaseError("no such table: Cache") from None

    def fail_as_sqlite_does(cache: object) -> None:
        try:
            fail(cache)
        except sqlite3.DatabaseError as error:
            error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
            raise

    index.database.use("read", fail_as_sqlite_does)
    assert not is_first
    assert index.sources.get(SOURCE.path) == SOURCE
    assert open_index(root).sources.get(SOURCE.path) == SOURCE


def test_two_databases_under_one_cache_are_no_damage(index: DiskIndex, root: Path) -> None:
    """diskcache asserts that its transaction is its own: not so when the file was replaced under a thread."""
    index.variants.put(VARIANT)

    def clash(cache: object) -> None:
        with cache.transact():  # type: ignore[attr-defined]
            cache._txn_id = -1  # type: ignore[attr-defined]

    with pytest.raises(StorageError, match="replaced in the middle"):
        index.database.use("write", clash)
    index.database._cache._txn_id = None
    index.database._pause_until["write"] = 0.0
    index.sources.put(SOURCE)
    assert open_index(root).variants.get(KEY) == VARIANT
