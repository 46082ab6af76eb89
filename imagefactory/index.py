"""The index: which sources are known, and which variants exist. The only importer of diskcache.

Called by the store. Keys are text, values are JSON text with a checksum over key and value; SQLite does not
checksum its pages, so a row is believed only when its checksum is right, and anything else is a miss. The
database can be thrown away at any time: what is lost is work, never a picture.

diskcache is opened without its own eviction, statistics and memory map (they write on every read, or kill
the process when the file is cut short), and with a ``Disk`` that never unpickles (CVE-2025-69872).
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import re
import shutil
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from hashlib import blake2b
from pathlib import Path
from typing import Any, TypeVar, cast

import diskcache

from .errors import ConfigError, StorageError
from .folders import PRIVATE, make_folder
from .formats import SOURCE_FORMATS, Header
from .jobs import Stamp
from .variants import Key, Source, Variant

__all__ = ["Index"]

_log = logging.getLogger(__name__)
_T = TypeVar("_T")

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
_LOCK_TIMEOUT_S = 1.0
# After a failure the index is left alone for so long: a broken disk must not cost each visitor a time-out.
_PAUSE_S = 2.0
_SHORT_READ = 522  # SQLITE_IOERR_SHORT_READ: the file was cut
# A forked child must not close its parent's connections: they are kept here, and never used.
_inherited: list[object] = []


class _CorruptError(sqlite3.DatabaseError):
    """What diskcache stumbled over, where SQLite itself saw nothing wrong."""


class _Row(str):
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
        if not isinstance(value, _Row):
            raise TypeError(f"a value of the index is a row, not {type(value).__name__}")
        return value.size, 1, None, str(value)  # mode 1 is diskcache's MODE_RAW

    def fetch(self, mode: int, filename: object, value: object, read: bool) -> str:
        return value if mode == 1 and filename is None and isinstance(value, str) else ""

    def remove(self, file_path: str) -> None:
        """Nothing: rows have no files, and a planted name could lead anywhere."""


class Index:
    """The diskcache in the folder *path*; *lock_path* is locked while it is opened or replaced.

    Opened at the first use in each process, since a connection does not survive a fork. Every method
    raises StorageError when the database can't be used; after that it is left alone for two seconds. A
    corrupt database is moved to *grave* (where one of them is kept) and begun anew.
    """

    def __init__(self, path: Path, lock_path: Path, grave: Path) -> None:
        if os.path.expandvars(path) != str(path):
            raise ConfigError(
                "paths.cache", f"{str(path)!r} has a $NAME in it, which diskcache would replace"
            )
        self.path = path
        self.lock_path = lock_path
        self.grave = grave
        self._lock = threading.RLock()
        self._cache: Any = None
        self._inode = 0
        self._process = 0
        self._pause_until = {"read": 0.0, "write": 0.0}
        self._opening_pause_until = 0.0

    # --- rows

    def source(self, path: str) -> Source | None:
        """The row of the source at *path*, if there is a good one. One SQL statement."""
        row = self._get(f"source {path}")
        if row is None:
            return None
        try:
            header = row["header"] and Header(**row["header"])
            source = Source(path, Stamp(*row["stamp"]), row["digest"], header, row["is_racy"])
        except (KeyError, TypeError):
            return None
        is_known = header is None or header.format in SOURCE_FORMATS
        return source if is_known and _is_digest(source.digest) else None

    def put_source(self, source: Source) -> None:
        """Remember *source* under its path."""
        header = source.header and asdict(source.header)
        row = {"stamp": source.stamp, "digest": source.digest, "is_racy": source.is_racy, "header": header}
        self._put(f"source {source.path}", row, "source", 0)

    def variant(self, key: Key) -> Variant | None:
        """The row of the variant with *key*, if there is a good one. One SQL statement."""
        row = self._get(f"variant {key.text()}")
        if row is None:
            return None
        try:
            variant = Variant(key, **row)
        except TypeError:
            return None
        return variant if _is_digest(variant.body) else None

    def put_variant(self, variant: Variant) -> None:
        """Remember *variant*; its bytes count in ``total_bytes``."""
        row = {name: getattr(variant, name) for name in ("body", "bytes", "width", "height")}
        self._put(f"variant {variant.key.text()}", row, variant.key.digest, variant.bytes)

    def remove_variant(self, key: Key) -> None:
        """Forget the variant with *key*."""
        self._use("write", lambda cache: cache.delete(f"variant {key.text()}", retry=False))

    def variants(self) -> Iterator[Variant]:
        """All variants with a good row."""
        for text in self._use("read", list):
            kind, _, rest = text.partition(" ")
            parts = rest.split(" ")
            if kind == "variant" and len(parts) == 3:
                variant = self.variant(Key(*parts))
                if variant is not None:
                    yield variant

    def total_bytes(self) -> int:
        """The bytes of all variants together, as kept by the database's own triggers."""

        def read(cache: Any) -> int:
            try:
                return int(cache.reset("size", update=False))
            except (TypeError, ValueError) as error:
                raise _CorruptError(f"its byte count is damaged: {error}") from error

        return self._use("read", read)

    def probe(self) -> None:
        """Raise StorageError if no row could be written now; writes none."""

        def begin(cache: Any) -> None:
            with cache.transact(retry=False):
                pass

        self._use("write", begin)

    def follow(self) -> None:
        """Use the database that lies in the folder now, if it is another than the one in use."""
        with self._lock:
            if self._cache is not None and self._inode_on_disk() != self._inode:
                self._forget()

    # --- reading and writing

    def _get(self, key: str) -> Any:
        def read(cache: Any) -> str | None:
            try:
                return cast("str | None", cache.get(key, retry=False))
            except sqlite3.OperationalError as error:
                if hasattr(error, "sqlite_errorcode"):
                    raise
                return None  # Python's own error: this row's text is no UTF-8

        text = self._use("read", read)
        return _unseal(key, text) if text else None

    def _put(self, key: str, row: object, tag: str, size: int) -> None:
        value = _Row(_seal(key, row))
        value.size = size
        if self._inode_on_disk() != self._inode:  # removed or replaced under us: rows would go nowhere
            self.follow()
        self._use("write", lambda cache: cache.set(key, value, tag=tag, retry=False))

    def _use(self, way: str, work: Callable[[Any], _T]) -> _T:
        """What *work* gives for the open cache, with its errors turned into StorageError."""
        if time.monotonic() < self._pause_until[way]:
            raise StorageError("index", "the index failed a moment ago")
        for is_last in (False, True):
            try:
                return work(self._open())
            except sqlite3.DatabaseError as error:
                if _is_corrupt(error) and not is_last:
                    try:
                        self._replace(error)
                        continue
                    except OSError as reason:
                        error = sqlite3.DatabaseError(f"{error}; can't be replaced: {reason.strerror}")
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
                        self._bury()
                    self._inode = self._inode_on_disk()  # which one it is that may prove to be damaged
                    self._check_unlocked()
                    cache = self._open_cache()
                self._cache, self._inode, self._process = cache, self._inode_on_disk(), os.getpid()
            self._opening_pause_until = 0.0
            return self._cache

    def _open_cache(self) -> Any:
        try:
            return diskcache.Cache(str(self.path), timeout=_LOCK_TIMEOUT_S, disk=_Disk, **_SETTINGS)
        except (TypeError, ValueError, LookupError, AttributeError) as error:
            # diskcache believes its table of settings, and makes attributes of what stands there.
            raise _CorruptError(f"its settings are damaged: {error}") from error

    def _check_unlocked(self) -> None:
        """Raise sqlite3.OperationalError within a second if the database can't be written: opening would
        try for a minute."""
        connection = sqlite3.connect(self.path / "cache.db", timeout=_LOCK_TIMEOUT_S, isolation_level=None)
        try:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("ROLLBACK")
        finally:
            connection.close()

    def _replace(self, reason: Exception) -> None:
        """Move the corrupt database away, unless another process was quicker."""
        with self._lock, self._alone():
            if self._inode_on_disk() == self._inode:
                _log.warning("the index is damaged and begun anew, variants are made again: %s", reason)
                self._bury()
            self._forget()

    def _bury(self) -> None:
        shutil.rmtree(self.grave, ignore_errors=True)
        make_folder(self.grave.parent, PRIVATE)
        if self.path.exists():
            self.path.rename(self.grave)
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

    def _inode_on_disk(self) -> int:
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


def _is_corrupt(error: sqlite3.DatabaseError) -> bool:
    if isinstance(error, _CorruptError):
        return True
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_OK)
    if code & 0xFF == sqlite3.SQLITE_ERROR:  # an emptied file is a new database to SQLite, without our table
        return "no such" in str(error) or "has no column" in str(error)
    return code == _SHORT_READ or code & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def _is_digest(text: object) -> bool:
    return isinstance(text, str) and re.fullmatch("[0-9a-f]{64}", text) is not None


def _seal(key: str, row: object) -> str:
    text = json.dumps(row, separators=(",", ":"))
    return f"{text} {_checksum(key, text)}"


def _unseal(key: str, sealed: str) -> Any:
    text, _, checksum = sealed.rpartition(" ")
    return json.loads(text) if checksum == _checksum(key, text) else None


def _checksum(key: str, text: str) -> str:
    return blake2b(f"{key}\n{text}".encode(), digest_size=8).hexdigest()
