"""The catalog's database: opened in each process at its first use, brought to the version of this package.

SQLAlchemy Core, no ORM: 20 us of processor time a row in bulk. SQLite is in WAL mode: who reads waits for
nobody, and one writes at a time. After a loss of power the last transactions of SQLite may be missing:
``imagefactory catalog sync`` brings them back from the folder, which is the truth.
"""

from __future__ import annotations

import errno
import logging
import os
import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

from ..config import Config
from ..errors import CatalogUnavailable, ConfigError, MissingExtra, NoSpace

if TYPE_CHECKING:
    from sqlalchemy import Connection as Connection
    from sqlalchemy import Engine

__all__ = ["UPLOADS_FOLDER", "Database"]

_log = logging.getLogger(__name__)

# Below the pictures: a name that begins with a dot is in no walk, and 404.
UPLOADS_FOLDER = ".uploads"
_BUSY_S = 5.0
# Where nobody can write, a read succeeds: it is no sign that all is well before so many seconds have passed.
_TROUBLE_S = 60.0
# What SQLite says of a full disk, also where the memory that its processes share has no room; and PostgreSQL.
_FULL = frozenset({"SQLITE_FULL", "SQLITE_IOERR_SHMSIZE", "53100"})
# Engines of the parent, which a forked child neither uses nor closes.
_inherited: list[Engine] = []
_databases: weakref.WeakSet[Database] = weakref.WeakSet()


class Database:
    """The database of *config*. Raises CatalogUnavailable where it can't be reached, is locked or damaged,
    NoSpace where its disk is full, MissingExtra without SQLAlchemy."""

    def __init__(self, config: Config) -> None:
        self._settings = config.catalog
        self._default = config.paths.pictures / UPLOADS_FOLDER / "catalog.db"
        self._inode = 0  # of the file of SQLite
        self._in_use: tuple[int, Engine] | None = None  # and the process that opened it
        self._lock = os.getpid(), threading.Lock()
        self.problem = ""  # why it can't be used now
        self._until_s = 0.0  # it can't be written, a read does not end the problem before
        _databases.add(self)

    @property
    def is_sqlite(self) -> bool:
        """Whether it is a file of SQLite."""
        return not self._settings.url or self._settings.url.startswith("sqlite")

    def open(self) -> None:
        """Find out whether it can be used, for who starts something. Raises also ConfigError, for a URL of no
        database and for a database of a later version; to others that is CatalogUnavailable."""
        try:
            with self.read():
                pass
        except CatalogUnavailable as error:
            if isinstance(error.__cause__, ConfigError):
                raise error.__cause__ from None
            raise

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction that may write: committed at the end of the block, or nothing of it is done."""
        with self._guarded(writes=True), self._opened().begin() as connection:
            yield connection

    def commit(self, connection: Connection) -> None:
        """Commit what *connection*, of ``write``, has done; nothing more is to be done in its block."""
        transaction = connection.get_transaction()
        if transaction is not None:
            transaction.commit()

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A connection that reads, and waits for no writer."""
        with self._guarded(), self._opened().connect() as connection:
            yield connection.execution_options(imagefactory_reads=True)

    @contextmanager
    def _guarded(self, *, writes: bool = False) -> Iterator[None]:
        """Turn what the database says into our errors; say once in the log that it can't be used, and once
        that it can again."""
        try:
            with _ours():
                yield
        except _FromDatabase as error:
            if not self.problem:
                _log.warning("the catalog can't be used, uploads and background work wait: %s", error)
            self.problem = str(error)
            if writes:
                self._until_s = time.monotonic() + _TROUBLE_S
            raise error.ours from error.__cause__
        if self.problem and (writes or time.monotonic() > self._until_s):
            self.problem, self._until_s = "", 0.0
            _log.warning("the catalog works again")

    def close(self) -> None:
        """Close the connections of this process that nobody uses. The next use is as the first one."""
        if self._is_ours(self._in_use):
            self.let_go()
            self._in_use = None

    def let_go(self) -> None:
        """Close the connections of this process that nobody uses; the next use opens others."""
        opened = self._in_use
        if self._is_ours(opened):
            opened[1].dispose()

    def _opened(self) -> Engine:
        """The engine of this process, and no other: a fork copies the one of its parent. Where its file was
        removed, it is one for the new file: what is written into the old one would be lost."""
        opened = self._in_use
        if self._is_ours(opened) and self._inode == self._inode_now():
            return opened[1]
        with self._lock_of_process():
            opened = self._in_use
            if self._is_ours(opened) and self._inode != self._inode_now():
                _log.warning("the file of the catalog was removed: run imagefactory catalog sync")
                opened[1].dispose()
                opened = self._in_use = None
            if not self._is_ours(opened):
                if opened is not None:
                    _inherited.append(opened[1])
                opened = self._in_use = os.getpid(), self._open()
                self._inode = self._inode_now()
        return opened[1]

    def _name(self) -> str:
        """The path of the file of SQLite. That of the default is no URL: it may have a question mark."""
        url = self._settings.url
        return url.partition(":///")[2].partition("?")[0] if url else str(self._default)

    def _inode_now(self) -> int:
        try:
            return Path(self._name()).stat().st_ino if self.is_sqlite else 0
        except OSError:
            return 0

    @staticmethod
    def _is_ours(opened: tuple[int, Engine] | None) -> TypeGuard[tuple[int, Engine]]:
        return opened is not None and opened[0] == os.getpid()

    def _lock_of_process(self) -> threading.Lock:
        process, lock = self._lock
        if process != os.getpid():  # one that was held at the fork would never be released
            lock = threading.Lock()
            self._lock = os.getpid(), lock
        return lock

    def _open(self) -> Engine:
        try:
            from sqlalchemy import URL, create_engine, event
            from sqlalchemy.exc import ArgumentError, NoSuchModuleError
        except ImportError as error:
            raise MissingExtra("uploads") from error
        settings = self._settings
        options: dict[str, Any] = {}
        if self.is_sqlite:
            self._make_folder()
            options["connect_args"] = {"timeout": _BUSY_S}
        try:
            engine = create_engine(
                self._settings.url or URL.create("sqlite", database=str(self._default)),
                pool_size=settings.pool_size,
                max_overflow=settings.max_overflow,
                pool_recycle=settings.pool_recycle_s,
                pool_pre_ping=settings.pool_pre_ping and not self.is_sqlite,
                pool_timeout=settings.pool_timeout_s,
                **options,
            )
        except (ArgumentError, NoSuchModuleError, ImportError) as error:
            raise ConfigError("catalog.url", f"no database can be opened by it: {error}") from error
        if self.is_sqlite:
            event.listen(engine, "connect", _set_up)
            event.listen(engine, "begin", _begin)
        try:
            _bring_up(engine)
        except BaseException:
            engine.dispose()
            raise
        return engine

    def _make_folder(self) -> None:
        name = self._name()
        if not name or name == ":memory:":
            raise ConfigError(
                "catalog.url", "names no file; write sqlite:////var/lib/imagefactory/catalog.db"
            )
        try:
            Path(name).parent.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise _FromDatabase(_from_disk(error), error.strerror or str(error)) from error


def _let_go() -> None:
    """Before a fork, close what is not in use. SQLite counts the locks of a process in memory: a child with a
    copy of open files believes that it has their locks, and who closes last removes the log that it uses."""
    for database in list(_databases):
        database.let_go()


os.register_at_fork(before=_let_go)


def _set_up(connection: Any, _: object) -> None:
    connection.isolation_level = None  # SQLAlchemy begins transactions, not the sqlite3 module
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=NORMAL")
    cursor.close()


def _begin(connection: Connection) -> None:
    # A transaction that reads first and writes then fails where another one has written in between.
    reads = connection.get_execution_options().get("imagefactory_reads")
    connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")


def _bring_up(engine: Engine) -> None:
    """Make the tables, or bring them to this version."""
    from sqlalchemy import insert, inspect, select, update

    from .schema import STEPS, versions

    with engine.connect() as connection:
        connection = connection.execution_options(imagefactory_reads=True)
        has_table = inspect(connection).has_table(versions.name)
        if has_table and connection.execute(select(versions.c.version)).scalar() == len(STEPS):
            return
    with engine.begin() as connection:
        versions.create(connection, checkfirst=True)
        found = connection.execute(select(versions.c.version)).scalar()
        if found is None:
            connection.execute(insert(versions).values(version=0))
        if (found or 0) > len(STEPS):
            problem = f"the catalog is of a later version ({found}) than this program knows ({len(STEPS)})"
            raise ConfigError("catalog.url", problem)
        for step in STEPS[found or 0 :]:
            step(connection)
        connection.execute(update(versions).values(version=len(STEPS)))


class _FromDatabase(Exception):
    """What the database said, and the error of *ours* that it is."""

    def __init__(self, ours: CatalogUnavailable | NoSpace, reason: str) -> None:
        self.ours = ours
        super().__init__(reason)


@contextmanager
def _ours() -> Iterator[None]:
    try:
        from sqlalchemy.exc import DBAPIError, SQLAlchemyError
    except ImportError as error:
        raise MissingExtra("uploads") from error
    try:
        yield
    except DBAPIError as error:
        reason = str(error.orig)
        names = getattr(error.orig, "sqlite_errorname", ""), getattr(error.orig, "sqlstate", "")
        ours = NoSpace() if _FULL.intersection(names) else CatalogUnavailable(reason)
        raise _FromDatabase(ours, reason) from error
    except (SQLAlchemyError, ConfigError) as error:
        raise _FromDatabase(CatalogUnavailable(str(error)), str(error)) from error


def _from_disk(error: OSError) -> CatalogUnavailable | NoSpace:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return NoSpace()
    return CatalogUnavailable(error.strerror or str(error))
