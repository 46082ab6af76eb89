"""The rows of the pictures: written in bulk, read by path, by digest, and in pages.

Uploads and ``upkeep.syncing`` write them; the lists of the dashboard and of ``imagefactory catalog`` read
them. No hit does. SQLAlchemy is imported inside of the methods: a server without the extra imports this file.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cache
from itertools import groupby
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from ..model.source import Stamp
from .database import Database

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement, Connection, Select

__all__ = ["PATH_LENGTH", "READY", "OnNew", "Picture", "PictureRows", "is_stamp", "stamp_text"]

READY = "ready"
# In characters, as the column of the paths has it.
PATH_LENGTH = 1024
_AT_ONCE = 1000
_MOST_OF_A_PAGE = 1000
_WORDS = 4
_RACY = " racy"
_SYNCED = "synced"


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture of the catalog, at *path* below the pictures.

    *digest* is the sha256 in hex of the file, *received* that of the body that was sent: it is another one
    where a position was removed. *stamp* is that of the file when it was hashed (``stamp_text``). *bytes* is
    the size of the file; *width* and *height* are those of the upright picture, in pixels, and 0 where an
    external program makes no pixels of it. *added_s* is the unix time when the row or its digest was new.
    """

    path: str
    digest: str
    received: str
    stamp: str
    bytes: int
    width: int
    height: int
    format: str
    state: str = READY
    added_s: float = 0.0


# Called with rows that are new, or whose digest is, in the transaction that writes them.
OnNew = Callable[[list[Picture], "Connection"], object]

_NAMES = tuple(Picture.__dataclass_fields__)
_values = attrgetter(*_NAMES)


def stamp_text(stamp: Stamp, is_racy: bool = False) -> str:
    """*stamp* as a row has it. With *is_racy* (see ``model.source.Source``) no file has it for sure, so that
    the next sync hashes the file once more."""
    return f"{stamp.identity} {stamp.size} {stamp.modified_ns} {stamp.version}{_RACY if is_racy else ''}"


def is_stamp(text: str, stamp: Stamp, may_be_racy: bool = False) -> bool:
    """Whether *text* of a row is the text of *stamp*; one that was racy is not unless it *may_be_racy*."""
    return (text.removesuffix(_RACY) if may_be_racy else text) == stamp_text(stamp)


class PictureRows:
    """The rows of the pictures in *database*. Paths are compared byte by byte, and so is their order.

    All methods raise as ``Database``. Those with a *connection* work in the transaction of the caller, else
    in one of their own.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def transaction(self) -> AbstractContextManager[Connection]:
        """A transaction for several of the methods: all is done at its end, or nothing."""
        return self._database.write()

    def put(self, pictures: Sequence[Picture], connection: Connection | None = None) -> None:
        """Write the rows of *pictures*, also over those of the same paths, a thousand in a statement; and in
        a transaction, where there is no *connection*. A row that had the same digest keeps its state and
        ``added_s``."""
        for start in range(0, len(pictures), _AT_ONCE):
            values = [
                dict(zip(_NAMES, _values(each), strict=True)) for each in pictures[start : start + _AT_ONCE]
            ]
            with self._writing(connection) as writing:
                writing.execute(_upsert(writing.dialect.name), values)

    def get(self, path: str) -> Picture | None:
        """The picture at *path*."""
        with self._database.read() as connection:
            row = connection.execute(_at_path(), {"path": path}).first()
        return None if row is None else Picture(*row)

    def known(self, paths: Collection[str]) -> dict[str, Picture]:
        """The pictures at those of the *paths* that have a row."""
        found: dict[str, Picture] = {}
        for some in _some(paths):
            with self._database.read() as connection:
                found |= {row.path: Picture(*row) for row in connection.execute(_at_paths(), {"paths": some})}
        return found

    def present(self, digests: Collection[str]) -> dict[str, str]:
        """For those of the *digests* that a picture has, as stored or as received, the path of one. Only
        pictures that are ready count."""
        found: dict[str, str] = {}
        for some in _some(digests):
            with self._database.read() as connection:
                from sqlalchemy import func, select

                from .schema import pictures

                asked = select(pictures.c.received, func.min(pictures.c.path)).group_by(pictures.c.received)
                asked = asked.where(pictures.c.received.in_(some), pictures.c.received != pictures.c.digest)
                found |= _pairs(connection, asked.where(pictures.c.state == READY))
                asked = select(pictures.c.digest, func.min(pictures.c.path)).group_by(pictures.c.digest)
                asked = asked.where(pictures.c.digest.in_(some))
                found |= _pairs(connection, asked.where(pictures.c.state == READY))
        return found

    def twin(self, path: str, digests: tuple[str, str], connection: Connection) -> str:
        """Another path than *path* that has a picture with one of the *digests*, stored or received; empty
        where there is none."""
        values = {"path": path, "first": digests[0], "second": digests[1]}
        return str(connection.execute(_twin(), values).scalar_one())

    def received(self, digests: Collection[str], connection: Connection | None = None) -> dict[str, str]:
        """For those of the *digests* of stored files that came as other bytes, the digest of these."""
        found: dict[str, str] = {}
        for some in _some(digests):
            with self._database.read() if connection is None else nullcontext(connection) as reading:
                from sqlalchemy import func, select

                from .schema import pictures

                asked = select(pictures.c.digest, func.min(pictures.c.received)).group_by(pictures.c.digest)
                asked = asked.where(pictures.c.digest.in_(some), pictures.c.received != pictures.c.digest)
                found |= _pairs(reading, asked)
        return found

    def page(
        self, after: str = "", limit: int = 100, q: str = "", state: str = "", digest: str = ""
    ) -> tuple[list[Picture], str]:
        """At most *limit* pictures (1 to 1000) in the order of their paths, from behind the path *after*; and
        what *after* is for the next page, empty at the end.

        Only those whose path has all words of *q*, in any case (letters beyond ASCII: as they are, or the
        whole word in one case; of many words the four longest count), which have this *state*, and this
        *digest*, stored or received.
        """
        limit = max(1, min(limit, _MOST_OF_A_PAGE))
        words = sorted(set(q.split()), key=len, reverse=True)[:_WORDS]
        with self._database.read() as connection:
            from .schema import pictures

            asked = (
                _all().where(*_conditions(words, state, digest)).order_by(pictures.c.path).limit(limit + 1)
            )
            found = _read(connection, asked.where(pictures.c.path > after) if after else asked)
        return found[:limit], found[limit - 1].path if len(found) > limit else ""

    def newest(self, limit: int) -> list[Picture]:
        """At most *limit* pictures that are ready, the latest first."""
        with self._database.read() as connection:
            from .schema import pictures

            latest = pictures.c.added_s.desc(), pictures.c.number.desc()
            return _read(connection, _all().where(pictures.c.state == READY).order_by(*latest).limit(limit))

    def duplicates(self) -> Iterator[tuple[str, list[str]]]:
        """Each digest that several pictures which are ready have, with their paths, in order. The paths of a
        thousand pictures are in memory, or those of one digest where they are more."""
        after = ""
        while counted := self._repeated(after):
            some: list[str] = []
            total = 0
            for digest, count in counted:
                total += count
                if some and total > _AT_ONCE:
                    break
                some.append(digest)
            with self._database.read() as connection:
                from sqlalchemy import select

                from .schema import pictures

                asked = select(pictures.c.digest, pictures.c.path).order_by(
                    pictures.c.digest, pictures.c.path
                )
                asked = asked.where(pictures.c.digest.in_(some), pictures.c.state == READY)
                rows = connection.execute(asked).all()
            for digest, group in groupby(rows, key=lambda row: row[0]):
                paths = [path for _, path in group]
                if len(paths) > 1:  # else the other one went a moment ago
                    yield digest, paths
            after = some[-1]

    def _repeated(self, after: str) -> list[tuple[str, int]]:
        """The next digests behind *after* that several pictures have, and how many."""
        with self._database.read() as connection:
            from sqlalchemy import func, select

            from .schema import pictures

            asked = select(pictures.c.digest, func.count()).group_by(pictures.c.digest)
            asked = asked.where(pictures.c.digest > after, pictures.c.state == READY)
            asked = asked.having(func.count() > 1).order_by(pictures.c.digest).limit(_AT_ONCE // 2)
            return [(digest, count) for digest, count in connection.execute(asked)]

    def mark(self, paths: Collection[str], state: str, connection: Connection | None = None) -> int:
        """Give the pictures at *paths* this *state*; how many there were."""
        count = 0
        for some in _some(paths):
            with self._writing(connection) as writing:
                from sqlalchemy import update

                from .schema import pictures

                done = writing.execute(update(pictures).where(pictures.c.path.in_(some)).values(state=state))
                count += done.rowcount
        return count

    def remove(self, paths: Collection[str], connection: Connection | None = None) -> int:
        """Remove the rows of *paths*; how many there were."""
        count = 0
        for some in _some(paths):
            with self._writing(connection) as writing:
                from sqlalchemy import delete

                from .schema import pictures

                count += writing.execute(delete(pictures).where(pictures.c.path.in_(some))).rowcount
        return count

    def was_synced(self) -> bool:
        """Whether these rows were ever those of all files in the folder."""
        with self._database.read() as connection:
            from sqlalchemy import select

            from .schema import events

            return (
                connection.execute(select(events.c.name).where(events.c.name == _SYNCED)).first() is not None
            )

    def note_synced(self, now_s: float) -> None:
        """Remember that at unix time *now_s* they are."""
        with self._database.write() as connection:
            from sqlalchemy import delete, insert

            from .schema import events

            connection.execute(delete(events).where(events.c.name == _SYNCED))
            connection.execute(insert(events).values(name=_SYNCED, time_s=now_s))

    def count(self) -> int:
        """How many pictures there are."""
        with self._database.read() as connection:
            from sqlalchemy import func, select

            from .schema import pictures

            return int(connection.execute(select(func.count()).select_from(pictures)).scalar_one())

    def walk(self, after: str = "") -> Iterator[Picture]:
        """All pictures in the order of their paths, from behind the path *after*, read a thousand at a time:
        what changes behind the place that was reached is seen."""
        while True:
            some, after = self.page(after, _MOST_OF_A_PAGE)
            yield from some
            if not after:
                return

    def _writing(self, connection: Connection | None) -> AbstractContextManager[Connection]:
        return self._database.write() if connection is None else nullcontext(connection)


def _some(items: Iterable[str]) -> Iterator[list[str]]:
    """*items*, without repetitions, in lists that fit into one statement."""
    unique = list(dict.fromkeys(items))
    return (unique[start : start + _AT_ONCE] for start in range(0, len(unique), _AT_ONCE))


def _all() -> Select[Any]:
    from sqlalchemy import select

    from .schema import pictures

    return select(*(pictures.c[name] for name in _NAMES))


# Built once: for a picture that comes in, building them took longer than all that the database does.


@cache
def _at_path() -> Any:
    from sqlalchemy import bindparam

    from .schema import pictures

    return _all().where(pictures.c.path == bindparam("path"))


@cache
def _at_paths() -> Any:
    from sqlalchemy import bindparam

    from .schema import pictures

    return _all().where(pictures.c.path.in_(bindparam("paths", expanding=True)))


@cache
def _twin() -> Any:
    from sqlalchemy import bindparam, func, select

    from .schema import pictures

    wanted: list[Any] = [bindparam("first"), bindparam("second")]
    asked = select(pictures.c.path).where(pictures.c.path != bindparam("path"), pictures.c.state == READY)
    stored = asked.where(pictures.c.digest.in_(wanted))
    came = asked.where(pictures.c.received.in_(wanted), pictures.c.received != pictures.c.digest)
    return select(func.coalesce(*(each.limit(1).scalar_subquery() for each in (stored, came)), ""))


def _pairs(connection: Connection, asked: Select[Any]) -> dict[str, str]:
    return {row[0]: row[1] for row in connection.execute(asked)}


def _read(connection: Connection, asked: Select[Any]) -> list[Picture]:
    return [Picture(*row) for row in connection.execute(asked)]


def _conditions(words: Sequence[str], state: str, digest: str) -> list[ColumnElement[bool]]:
    """What a row has to be for ``page``."""
    from sqlalchemy import Boolean, literal_column, or_, select, union

    from .schema import NOT_READY, pictures

    found = [
        or_(*(pictures.c.path.icontains(each, autoescape=True) for each in _cases(word))) for word in words
    ]
    if state:
        found.append(pictures.c.state == state)
    if state and state != READY:
        found.append(literal_column(NOT_READY, Boolean))
    if digest:  # by two indexes: with an "or" SQLite reads all rows in the order of the paths
        stored = select(pictures.c.number).where(pictures.c.digest == digest)
        came = select(pictures.c.number).where(
            pictures.c.received == digest, pictures.c.received != pictures.c.digest
        )
        found.append(pictures.c.number.in_(union(stored, came)))
    return found


def _cases(word: str) -> set[str]:
    """*word* as it may be written: a database knows the case of ASCII alone."""
    return {word} if word.isascii() else {word, word.lower(), word.upper(), word.title()}


@cache
def _upsert(dialect: str) -> Any:
    """The statement that writes a row, in the words of *dialect*; untyped, as each has a class of its own."""
    from sqlalchemy import case

    from .schema import pictures

    statement: Any
    if dialect == "postgresql":
        from sqlalchemy.dialects import postgresql

        statement = postgresql.insert(pictures)
    else:
        from sqlalchemy.dialects import sqlite

        statement = sqlite.insert(pictures)
    new = statement.excluded
    is_same = pictures.c.digest == new.digest
    values = {name: new[name] for name in _NAMES if name != "path"}
    values |= {name: case((is_same, pictures.c[name]), else_=new[name]) for name in ("state", "added_s")}
    return statement.on_conflict_do_update(index_elements=["path"], set_=values)
