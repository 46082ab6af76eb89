# ruff: noqa: S608 -- statements are put together from constants of this package, never from values
"""The database below the index: opened, used, given up, replaced. The only importer of diskcache.

The tables of the index (``source_rows``, ``variant_rows``, ``counts``, ``completeness``) use it. It can be
thrown away at any time: what is lost is work, never a picture.

diskcache is opened without its own eviction, statistics and memory map (they write on every read, or kill
the process when the file is cut short), and with a ``Disk`` that never unpickles (CVE-2025-69872).
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import shutil
import sqlite3
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import Any, TypeVar, cast

import diskcache

from ..errors import ConfigError, StorageError
from .folders import PRIVATE, make_folder

__all__ = ["CorruptError", "Database", "Execute", "Row", "seal", "text_of", "to_json", "unseal"]

_log = logging.getLogger(__name__)
_T = TypeVar("_T")
# A statement of SQL and its values, to all rows of the answer.
Execute = Callable[[str, Sequence[object]], list[tuple[Any, ...]]]

_SETTINGS = {
    "eviction_policy": "none",  # its policies make a write of every read
    "cull_limit": 0,  # or rows vanish silently
    "size_limit": 2**62,
    "statistics": 0,
    "tag_index": 1,
    "sqlite_mmap_size": 0,  # a memory map of a file that is cut short is SIGBUS
    "sqlite_cache_size": 512,  # pages a thread; reads are no slower than with the default of 32 MiB
    "disk_min_file_size": 2**31,
}
# diskcache's column of the last use, kept by us; and the bytes, so that both sums need no row itself.
_BY_USE = "CREATE INDEX IF NOT EXISTS imagefactory_use ON Cache (access_time, size) WHERE size > 0"
_LOCK_TIMEOUT_S = 1.0
# After a failure the index is left alone for so long: a broken disk must not cost each visitor a time-out.
_PAUSE_S = 2.0
_FEW = 500  # values in one statement
to_json = json.JSONEncoder(separators=(",", ":")).encode  # json.dumps makes one anew each time: 3 us
_SHORT_READ = 522  # SQLITE_IOERR_SHORT_READ: the file was cut
# A forked child must not close its parent's connections: they are kept here, and never used.
_inherited: list[object] = []


class CorruptError(sqlite3.DatabaseError):
    """What diskcache stumbled over, where SQLite itself saw nothing wrong."""


class Row(str):
    """A row's value, with the *size* that it adds to the total which diskcache's triggers keep."""

    size = 0


class _Disk(diskcache.Disk):  # type: ignore[misc]  # diskcache has no types
    """Text in, text out. Refuses pickles, and files beside the database, however they came into a row."""

    def __init__(self, directory: str, **settings: object) -> None:
        super().__init__(directory)  # settings come from a table in the database, whoever wrote them there

    def put(self, key: object) -> tuple[str, bool]:
        if not isinstance(key, str):
            raise TypeError(f"a key of the index is text, not {type(key).__name__}")
        return key, True

    def get(self, key: object, raw: bool) -> str:
        return key if raw and isinstance(key, str) else ""

    def store(self, value: object, read: bool, key: object = None) -> tuple[int, int, None, str]:
        if not isinstance(value, Row):
            raise TypeError(f"a value of the index is a row, not {type(value).__name__}")
        return value.size, 1, None, str(value)  # mode 1 is diskcache's MODE_RAW

    def fetch(self, mode: int, filename: object, value: object, read: bool) -> str:
        return value if mode == 1 and filename is None and isinstance(value, str) else ""

    def remove(self, file_path: str) -> None:
        """Nothing: rows have no files, and a planted name could lead anywhere."""


class Database:
    """The diskcache in the folder *path*; *lock_path* is locked while it is opened or replaced.

    Opened at the first use in each process, since a connection does not survive a fork. Every method
    raises StorageError when the database can't be used; after that it is left alone for two seconds. A
    corrupt database is moved to the folder *aside* (which keeps one of them) and begun anew.
    """

    def __init__(self, path: Path, lock_path: Path, aside: Path) -> None:
        if os.path.expandvars(path) != str(path):
            raise ConfigError(
                "paths.cache", f"{str(path)!r} has a $NAME in it, which diskcache would replace"
            )
        self.path = path
        self.lock_path = lock_path
        self.aside = aside
        self._lock = threading.RLock()
        self._cache: Any = None
        self._inode = 0
        self._process = 0
        self._pause_until = {"read": 0.0, "write": 0.0}
        self._opening_pause_until = 0.0
        # Whether a corrupt database may be replaced; false for who only looks.
        self.may_replace = True
        # Whether that is what the last failure was about.
        self.is_corrupt = False

    def probe(self) -> None:
        """Raise StorageError if no row could be written now; writes none."""

        def begin(cache: Any) -> None:
            with cache.transact(retry=False):
                pass

        self.use("write", begin)

    def follow(self) -> None:
        """Use the database that lies in the folder now, if it is another than the one in use."""
        with self._lock:
            if self._cache is not None and self._is_gone():
                self._forget()

    def begin_anew(self) -> None:
        """Move the database to *aside*, whatever it is like; an empty one is begun at the next use. Other
        processes see it when they write, or follow. Raises StorageError."""
        with self._lock:
            try:
                with self._alone():
                    self._move_aside()
            except OSError as error:
                raise StorageError("index", f"the index can't be replaced: {error.strerror}") from error
            self._forget()
            self._pause_until = {"read": 0.0, "write": 0.0}

    # --- using it

    def read(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        """All rows that a SELECT gives. Text comes as it is in the file: cast it to BLOB and decode it."""
        return self.use("read", lambda cache: cache._sql(statement, values).fetchall())

    def write(self, work: Callable[[Any, Execute], _T]) -> _T:
        """What *work* gives for the open cache and a function for SQL, all of it in one transaction."""

        def run(cache: Any) -> _T:
            with cache.transact(retry=False):
                return work(cache, lambda statement, values: cache._sql(statement, values).fetchall())

        if self._is_gone():  # removed or replaced under us: rows would go nowhere
            self.follow()
        return self.use("write", run)

    def use(self, way: str, work: Callable[[Any], _T]) -> _T:
        """What *work* gives for the open cache, with its errors turned into StorageError."""
        if time.monotonic() < self._pause_until[way]:
            raise StorageError("index", "the index failed a moment ago")
        for is_last in (False, True):
            cache = None
            try:
                cache = self._open()
                return work(cache)
            except UnicodeEncodeError:
                raise  # of a value of ours
            except (sqlite3.Error, ArithmeticError, AssertionError, AttributeError, LookupError, TypeError,
                    ValueError) as found:  # fmt: skip
                # What diskcache stumbles over: two rows of one key, a setting without a name (each thread's
                # connection reads the settings), a message of SQLite that quotes a schema that is no text.
                is_theirs = isinstance(found, sqlite3.Error | UnicodeDecodeError)
                if not is_theirs and not _is_of_diskcache(found):
                    raise
                error = found if isinstance(found, sqlite3.Error) else CorruptError(str(found))
                if isinstance(found, AssertionError):  # two threads of one cache in two databases
                    error = sqlite3.OperationalError("it was replaced in the middle of a transaction")
                self.is_corrupt = _is_corrupt(error)
                if self.is_corrupt and not is_last and self.may_replace:
                    try:
                        self._replace(error, cache)
                        continue
                    except OSError as reason:
                        error = sqlite3.DatabaseError(f"{error}; can't be replaced: {reason.strerror}")
                elif not is_last and self._cache is not None and self._is_gone():
                    self.follow()  # removed or replaced under us: a thread that comes late can't open it
                    continue
                problem = f"the index can't be used: {error}"
            except diskcache.Timeout:
                problem = "the index is locked or can't be written"
            except OSError as error:
                problem = f"the index can't be opened: {error.strerror}"
            except StorageError as error:
                problem = str(error)
            break
        self._pause_until[way] = time.monotonic() + _PAUSE_S
        if self._cache is not None:
            # A COMMIT that failed leaves its transaction open, and diskcache would never begin another.
            with suppress(sqlite3.Error):
                self._cache.close()
        raise StorageError("index", problem)

    # --- is it sound?

    def complaint(self) -> str:
        """What SQLite finds wrong with the file, or empty. Reads all of it: 0.5 s for 200,000 rows."""
        ((text, *_), *_) = self.read("PRAGMA integrity_check(1)")
        return "" if text == "ok" else str(text)

    def total_bytes(self) -> int:
        """The sizes of all rows together, as kept by the database's own triggers."""

        def read(cache: Any) -> int:
            try:
                return int(cache.reset("size", update=False))
            except (TypeError, ValueError) as error:
                raise CorruptError(f"its byte count is damaged: {error}") from error

        return self.use("read", read)

    def drift(self) -> int:
        """By how many bytes ``total_bytes`` is more than the rows together."""
        ((drift,),) = self.read(
            "SELECT (SELECT value FROM Settings WHERE key = 'size') - ifnull(sum(size), 0) FROM Cache"
        )
        return int(drift or 0)

    def recount(self) -> None:
        """Make ``total_bytes`` what the rows have together."""
        self.write(
            lambda cache, sql: sql(
                "UPDATE Settings SET value = (SELECT ifnull(sum(size), 0) FROM Cache) WHERE key = 'size'", ()
            )
        )

    # --- rows by their keys

    def get(self, key: str) -> Any:
        """The values of the row of *key*; None where there is none, or one whose checksum is wrong."""

        def read(cache: Any) -> str | None:
            try:
                return cast("str | None", cache.get(key, retry=False))
            except sqlite3.OperationalError as error:
                if hasattr(error, "sqlite_errorcode"):
                    raise
                return None  # Python's own error: this row's text is no UTF-8

        text = self.use("read", read)
        return unseal(key, text) if text else None

    def put(self, key: str, values: object, tag: str) -> None:
        """Write the row of *key*, which counts for no bytes."""
        self.write(lambda cache, sql: cache.set(key, Row(seal(key, values)), tag=tag, retry=False))

    def among(
        self, column: str, values: Sequence[str], condition: str, value: str = "CAST(value AS BLOB)"
    ) -> Iterator[tuple[str, str]]:
        """Keys and values, as text, of the rows whose *column* is one of *values*."""
        for start in range(0, len(values), _FEW):
            some = values[start : start + _FEW]
            marks = ",".join("?" * len(some))
            statement = (
                f"SELECT CAST(key AS BLOB), {value} FROM Cache WHERE {column} IN ({marks}) AND +{condition}"
            )
            yield from self.use("read", partial(_pairs, statement, some, column == "key"))

    # --- opening, and beginning anew

    def _open(self) -> Any:
        if self._cache is not None and self._process == os.getpid():
            return self._cache
        with self._lock:
            if time.monotonic() < self._opening_pause_until:
                raise StorageError("index", "the index could not be opened a moment ago")
            # Until it is open: threads that wait for this lock must not try one after another.
            self._opening_pause_until = time.monotonic() + _PAUSE_S
            if self._cache is None or self._process != os.getpid():
                if self._cache is not None:
                    _inherited.append(self._cache)
                # Two processes that open at once run into "database is locked".
                with self._alone():
                    make_folder(self.path, PRIVATE)
                    if self.path.stat().st_mode & 0o077:
                        self.path.chmod(PRIVATE)
                    if self._is_emptied():
                        self._move_aside()
                    self._inode = self.inode_on_disk()  # which one it is that may prove to be damaged
                    self._check_unlocked()
                    cache = self._open_cache()
                self._cache, self._inode, self._process = cache, self.inode_on_disk(), os.getpid()
            self._opening_pause_until = 0.0
            return self._cache

    def _open_cache(self) -> Any:
        try:
            cache = diskcache.Cache(str(self.path), timeout=_LOCK_TIMEOUT_S, disk=_Disk, **_SETTINGS)
            cache._sql(_BY_USE)
            cache.close()  # so that the schema lies in the file itself; opened again at the first use
            return cache
        except (TypeError, ValueError, LookupError, AttributeError) as error:
            # diskcache believes its table of settings, and makes attributes of what stands there.
            raise CorruptError(f"its settings are damaged: {error}") from error

    def _check_unlocked(self) -> None:
        """Raise sqlite3.OperationalError within a second if the database can't be written: opening would
        try for a minute."""
        connection = sqlite3.connect(self.path / "cache.db", timeout=_LOCK_TIMEOUT_S, isolation_level=None)
        try:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("ROLLBACK")
        finally:
            connection.close()

    def _replace(self, reason: Exception, cache: Any) -> None:
        """Move the corrupt database away, unless another process was quicker; or another thread, which has
        opened a new one since *cache*, where the failure was (None: it could not be opened)."""
        with self._lock, self._alone():
            if cache is not None and cache is not self._cache:
                return
            if self.inode_on_disk() == self._inode:
                _log.warning("the index is damaged and begun anew: %s", reason)
                self._move_aside()
            self._forget()

    def _move_aside(self) -> None:
        shutil.rmtree(self.aside, ignore_errors=True)
        make_folder(self.aside.parent, PRIVATE)
        if self.path.exists():
            self.path.rename(self.aside)
        make_folder(self.path, PRIVATE)

    def _is_emptied(self) -> bool:
        # Cut to nothing, or never begun because the disk was full. diskcache would fill it again, but for a
        # minute fights connections that know the old content.
        try:
            return (self.path / "cache.db").stat().st_size == 0
        except OSError:
            return False

    def _forget(self) -> None:
        self._opening_pause_until = 0.0
        # Connections of other threads are closed when their last user lets go of them.
        self._cache, self._inode = None, 0

    def _is_gone(self) -> bool:
        """Whether the database in use does not lie in its place any more, or did not when it was opened."""
        return self._inode == 0 or self.inode_on_disk() != self._inode

    def inode_on_disk(self) -> int:
        """The inode of the file that lies there now, 0 where there is none."""
        try:
            return (self.path / "cache.db").stat().st_ino
        except OSError:
            return 0

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Keep other processes from opening or replacing the index; waits for a second at most."""
        make_folder(self.lock_path.parent, PRIVATE)
        number = os.open(self.lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            deadline = time.monotonic() + _LOCK_TIMEOUT_S
            while True:
                try:
                    fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > deadline:
                        raise StorageError(
                            "index", "another process has been opening the index for a second"
                        ) from None
                    time.sleep(0.01)
            yield
        finally:
            os.close(number)


def seal(key: str, values: object) -> str:
    """*values* as the text of the row of *key*: JSON, and a checksum over both.

    SQLite does not checksum its pages: a row is believed only when its checksum is right.
    """
    text = to_json(values)
    return f"{text} {_checksum(key, text)}"


def unseal(key: str, sealed: str) -> Any:
    """The values of the row of *key*; None where the checksum is wrong."""
    text, _, checksum = sealed.rpartition(" ")
    return json.loads(text) if checksum == _checksum(key, text) else None


def _checksum(key: str, text: str) -> str:
    return blake2b(f"{key}\n{text}".encode(), digest_size=8).hexdigest()


def text_of(found: object) -> str:
    """The text of a column that was cast to BLOB; empty for what is none."""
    return found.decode("utf-8", "replace") if isinstance(found, bytes) else ""


def _pairs(statement: str, values: Sequence[str], are_keys: bool, cache: Any) -> list[tuple[str, str]]:
    """Both columns of *statement* as text.

    Where the *values* *are_keys*, raises CorruptError for a row with another one: SQLite gives it where a
    flipped bit has brought its index into disorder.
    """
    rows = [(text_of(key), text_of(found)) for key, found in cache._sql(statement, values).fetchall()]
    if are_keys and not {key for key, _ in rows} <= set(values):
        raise CorruptError("a row has another key than its index says")
    return rows


def _is_of_diskcache(error: Exception) -> bool:
    """Whether *error* was raised in diskcache's code: it is not a mistake of ours."""
    frames = list(traceback.walk_tb(error.__traceback__))
    return frames[-1][0].f_code.co_filename.startswith(str(Path(diskcache.__file__).parent))


def _is_corrupt(error: sqlite3.Error) -> bool:
    if isinstance(error, CorruptError):
        return True
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_OK)
    if code & 0xFF == sqlite3.SQLITE_ERROR:
        # An emptied file is a new database to SQLite, without our table; and statements of ours have no
        # mistakes, but diskcache makes some of what its table of settings says.
        return any(
            text in str(error) for text in ("no such", "has no column", "syntax error", "incomplete input")
        )
    return code == _SHORT_READ or code & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
