"""The catalog's database: made, brought up, told apart where it can't be used, and safe in forks."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import Connection, text

from imagefactory.catalog import database as databases
from imagefactory.catalog import schema
from imagefactory.catalog.database import Database
from imagefactory.catalog.pictures import Picture, PictureRows
from imagefactory.config import from_mapping
from imagefactory.errors import CatalogUnavailable, ConfigError, NoSpace

OPEN = """
import sys
from pathlib import Path
from imagefactory.catalog.database import Database
from imagefactory.catalog.pictures import PictureRows
from imagefactory.config import from_mapping
from imagefactory.errors import CatalogUnavailable
rows = PictureRows(Database(from_mapping({"catalog": {"url": "sqlite:///" + sys.argv[1]}}, Path("."), {})))
"""


def open_database(file: Path, **settings: object) -> Database:
    return Database(from_mapping({"catalog": {"url": f"sqlite:///{file}", **settings}}, file.parent, {}))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "c.db"


def picture(path: str) -> Picture:
    return Picture(path, "a" * 64, "a" * 64, "1 2 3 4", 1, 1, 1, "JPEG")


def put(database: Database, *paths: str) -> None:
    PictureRows(database).put([picture(path) for path in paths])


def count(database: Database) -> int:
    return PictureRows(database).count()


# --- opening ----------------------------------------------------------------------------------------------


def test_by_default_it_lies_beside_the_pictures(tmp_path: Path) -> None:
    """In a folder that visitors can't see, and other users of the machine neither."""
    (tmp_path / "p").mkdir()
    database = Database(
        from_mapping({"paths": {"pictures": "p"}, "uploads": {"token": "x" * 16}}, tmp_path, {})
    )
    put(database, "a")
    assert (tmp_path / "p/.uploads/catalog.db").is_file()
    assert (tmp_path / "p/.uploads").stat().st_mode & 0o777 == 0o700


def test_the_folder_may_have_any_name(tmp_path: Path) -> None:
    pictures = tmp_path / "what? 100%25 #1"
    pictures.mkdir()
    put(Database(from_mapping({"paths": {"pictures": str(pictures)}}, tmp_path, {})), "a.jpg")
    assert (pictures / ".uploads" / "catalog.db").is_file()
    assert [each.name for each in tmp_path.iterdir()] == [pictures.name]


def test_nothing_is_touched_before_the_first_use(file: Path) -> None:
    open_database(file).close()
    assert not file.exists()


def test_who_reads_waits_for_no_writer(file: Path) -> None:
    """WAL: rows are read while a transaction is open, as they were before it."""
    database = open_database(file)
    put(database, "a")
    with closing(sqlite3.connect(file)) as other:
        assert other.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    with database.write() as connection:
        PictureRows(database).put([picture("b")], connection)
        assert count(database) == count(open_database(file)) == 1
    assert count(database) == 2


def test_two_writers_wait_for_each_other(file: Path) -> None:
    databases = [open_database(file) for _ in range(2)]

    def work(number: int) -> None:
        for step in range(50):
            put(databases[number % 2], f"{number}-{step}")

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert count(databases[0]) == 200


def test_many_that_open_it_at_once_make_it_once(file: Path) -> None:
    code = f"{OPEN}sys.stdin.read(1); print(rows.count())"
    started = [
        subprocess.Popen([sys.executable, "-c", code, str(file)], stdin=-1, stdout=-1, stderr=-1, text=True)
        for _ in range(4)
    ]
    for process in started:
        assert process.stdin is not None
        process.stdin.write("x")
        process.stdin.flush()
    assert [process.communicate() for process in started] == [("0\n", "")] * 4


# --- versions ---------------------------------------------------------------------------------------------


def add_column(connection: Connection) -> None:
    connection.execute(text("ALTER TABLE imagefactory_pictures ADD COLUMN note TEXT DEFAULT 'none'"))


def test_an_older_database_is_brought_up_with_its_rows(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(open_database(file), "a")
    monkeypatch.setattr(schema, "STEPS", (*schema.STEPS, add_column))
    for _ in range(2):
        with open_database(file).read() as connection:
            assert connection.execute(text("SELECT path, note FROM imagefactory_pictures")).all() == [
                ("a", "none")
            ]
            assert connection.execute(text("SELECT * FROM imagefactory_version")).all() == [(2,)]


def test_a_step_that_fails_leaves_the_version_before(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(open_database(file), "a")

    def fail(connection: Connection) -> None:
        connection.execute(text("SELECT nonsense FROM nowhere"))

    with monkeypatch.context() as patch:
        patch.setattr(schema, "STEPS", (*schema.STEPS, add_column, fail))
        with pytest.raises(CatalogUnavailable) as failed:
            count(open_database(file))
        assert "no such table: nowhere" in failed.value.reason
    with closing(sqlite3.connect(file)) as other:
        assert other.execute("SELECT version FROM imagefactory_version").fetchall() == [(1,)]
        assert "note" not in [row[1] for row in other.execute("PRAGMA table_info(imagefactory_pictures)")]
    assert count(open_database(file)) == 1


def test_a_later_version_is_refused_and_left_alone(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(schema, "STEPS", (*schema.STEPS, add_column))
        put(open_database(file), "a")
    with pytest.raises(
        ConfigError, match=r"catalog.url: .* later version \(2\) than this program knows \(1\)"
    ):
        open_database(file).open()
    with pytest.raises(CatalogUnavailable):  # a server goes on without it
        count(open_database(file))
    with closing(sqlite3.connect(file)) as other:
        assert other.execute("SELECT version FROM imagefactory_version").fetchall() == [(2,)]


# --- what can't be used -----------------------------------------------------------------------------------


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:"])
def test_a_database_in_memory_is_refused(tmp_path: Path, url: str) -> None:
    with pytest.raises(ConfigError, match="names no file; write sqlite:////var"):
        Database(from_mapping({"catalog": {"url": url}}, tmp_path, {})).open()


@pytest.mark.parametrize("url", ["nonsense://x/y", "sqlite+nonsense:///x"])
def test_a_url_of_no_database_is_a_mistake_of_the_config(tmp_path: Path, url: str) -> None:
    with pytest.raises(ConfigError, match=r"catalog.url: no database can be opened by it"):
        Database(from_mapping({"catalog": {"url": url}}, tmp_path, {})).open()


def test_a_locked_database_is_told_in_time(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Writers give up, readers do not notice; afterwards all is well."""
    monkeypatch.setattr(databases, "_BUSY_S", 0.2)
    database = open_database(file)
    put(database, "a")
    with closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(CatalogUnavailable) as failed:
            put(database, "b")
        assert (failed.value.status, failed.value.reason) == (503, "database is locked")
        assert "can't be used at the moment" in str(failed.value)
        assert count(database) == 1
        other.execute("COMMIT")
    put(database, "b")
    assert count(database) == 2


def test_reads_that_succeed_do_not_end_the_trouble_of_writes(
    file: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The log would say twice for each upload that it works, and that it does not."""
    monkeypatch.setattr(databases, "_BUSY_S", 0.02)
    database = open_database(file)
    put(database, "a.jpg")
    with closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        for _ in range(3):
            with pytest.raises(CatalogUnavailable):
                put(database, "b.jpg")
            assert count(database) == 1
            assert database.problem == "database is locked"
    put(database, "b.jpg")
    assert database.problem == ""
    said = [each.getMessage().partition(",")[0] for each in caplog.records]
    assert said == ["the catalog can't be used", "the catalog works again"]


def test_a_database_that_is_locked_from_the_beginning(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(databases, "_BUSY_S", 0.2)
    with closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        database = open_database(file)
        with pytest.raises(CatalogUnavailable):
            put(database, "a")
        other.execute("COMMIT")
    put(database, "a")


def test_no_connection_is_free(file: Path) -> None:
    database = open_database(file, pool_size=1, max_overflow=0, pool_timeout_s=1)
    with database.read(), pytest.raises(CatalogUnavailable), database.read():
        pass
    assert count(database) == 0


def test_a_file_that_was_removed_is_not_written_any_more(
    file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """What is in the file without a name is lost at the end of the process, and no other one sees it."""
    database = open_database(file)
    put(database, "a.jpg")
    for each in file.parent.glob("c.db*"):
        each.unlink()
    put(database, "b.jpg")
    assert count(database) == count(open_database(file)) == 1
    assert [each.getMessage() for each in caplog.records] == [
        "the file of the catalog was removed: run imagefactory catalog sync"
    ]


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(CatalogUnavailable) as failed:
        count(open_database(tmp_path / "no" / "such" / "c.db"))
    assert failed.value.reason == "No such file or directory"


@pytest.mark.parametrize("kind", ["folder", "text", "file in the way"])
def test_what_is_no_database(tmp_path: Path, file: Path, kind: str) -> None:
    if kind == "folder":
        file.mkdir()
    elif kind == "text":
        file.write_text("this is no database, and longer than its header" * 100)
    else:
        (tmp_path / "x").write_text("")
        file = tmp_path / "x" / "c.db"
    with pytest.raises(CatalogUnavailable) as failed:
        count(open_database(file))
    assert failed.value.reason


def test_a_folder_that_can_not_be_written(tmp_path: Path) -> None:
    """As another user than root, whom nothing stops; what it imports was imported before."""
    code = f"""{OPEN}
import os
rows.count()
if os.geteuid() == 0:
    os.seteuid(65534)
url = "sqlite:///" + sys.argv[2]
try:
    PictureRows(Database(from_mapping({{"catalog": {{"url": url}}}}, Path("/"), {{}}))).count()
except CatalogUnavailable as error:
    print(error.reason)
"""
    with tempfile.TemporaryDirectory() as folder:  # pytest's own are for their owner alone
        Path(folder).chmod(0o555)
        command = [sys.executable, "-c", code, str(tmp_path / "c.db"), f"{folder}/c.db"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.stdout == "unable to open database file\n"
        assert done.stderr.splitlines()[1:] == []
        assert "the catalog can't be used" in done.stderr


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A file system of one megabyte."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "imagefactory-test", str(folder)]
    if not (sys.platform == "linux" and os.geteuid() == 0) or not shutil.which("mount"):
        pytest.skip("only root mounts file systems")
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("nothing may be mounted here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_takes_nothing_half(small: Path) -> None:
    """507, the rows of before are there, and it goes on when there is room again."""
    database = open_database(small / "c.db")
    put(database, "a")
    filler = small / "filler"
    with filler.open("wb", buffering=0) as file:
        for size in (4096, 1):
            try:
                while True:
                    file.write(bytes(size))
            except OSError:
                continue
    with pytest.raises(NoSpace) as failed:
        put(database, *(f"{'x' * 200}-{number}" for number in range(1000)))
    assert failed.value.status == 507
    assert count(database) == 1
    filler.unlink()
    put(database, "b")
    assert count(open_database(small / "c.db")) == 2


@pytest.mark.parametrize("pages", [0, 1, 4, 8, 12, 20])
def test_a_disk_that_is_nearly_full_from_the_beginning(small: Path, pages: int) -> None:
    """Whichever file of SQLite has no room any more."""
    filler = small / "filler"
    with filler.open("wb", buffering=0) as file:
        with pytest.raises(OSError, match="No space"):
            while True:
                file.write(bytes(4096))
        file.truncate(filler.stat().st_size - 4096 * pages)
    database = open_database(small / "c.db")
    with pytest.raises(NoSpace):
        put(database, "a")
    filler.unlink()
    put(database, "a")
    assert count(database) == 1


# --- forks ------------------------------------------------------------------------------------------------


def in_child(work: object) -> int:
    """The exit code of a forked child that calls *work*."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    return child


def test_a_child_keeps_its_rows_when_its_parent_closes(file: Path) -> None:
    """Both used it. SQLite in the parent would take itself for the last one, and remove the log."""
    database = open_database(file)
    put(database, "parent")
    (told, tell), (heard, hear) = os.pipe(), os.pipe()

    def work() -> None:
        put(database, "first")
        os.write(tell, b"x")
        os.read(heard, 1)
        put(database, *(f"child-{number}" for number in range(100)))

    child = in_child(work)
    assert os.read(told, 1) == b"x"
    assert count(database) == 2
    database.close()
    os.write(hear, b"x")
    assert os.waitpid(child, 0)[1] == 0
    for each in (told, tell, heard, hear):
        os.close(each)
    assert count(database) == count(open_database(file)) == 102
    with closing(sqlite3.connect(file)) as other:
        assert other.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_a_fork_amid_the_work_of_another_thread(file: Path) -> None:
    """The child opens connections of its own, and the parent's transaction is the parent's."""
    database = open_database(file)
    put(database, "a")
    begun, ended = threading.Event(), threading.Event()

    def work() -> None:
        with database.write() as connection:
            PictureRows(database).put([picture("thread")], connection)
            begun.set()
            ended.wait()

    thread = threading.Thread(target=work)
    thread.start()
    begun.wait()

    def look() -> None:
        assert count(database) == 1

    child = in_child(look)
    assert os.waitpid(child, 0)[1] == 0
    ended.set()
    thread.join()
    assert count(database) == 2


def test_children_write_at_once(file: Path) -> None:
    database = open_database(file)
    put(database, "a")

    def work(number: int) -> None:
        for step in range(30):
            put(database, f"{number}-{step}")

    children = [in_child(lambda number=number: work(number)) for number in range(3)]
    work(9)
    assert [os.waitpid(child, 0)[1] for child in children] == [0, 0, 0]
    assert count(database) == 121
