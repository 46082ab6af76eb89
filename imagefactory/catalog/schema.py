"""The tables of the catalog, and the steps from one version of them to the next.

A step is only ever added: a database of any earlier version is brought to this one when it is opened.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Float,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)

__all__ = ["STEPS", "jobs", "pictures", "versions"]

_metadata = MetaData()
# SQLite numbers rows by itself only where the key is INTEGER.
_Number = BigInteger().with_variant(Integer, "sqlite")

versions = Table("imagefactory_version", MetaData(), Column("version", Integer, nullable=False))

# *stamp* is that of the file when it was hashed, as text; *received* the sha256 of the body as it came, which
# is another one than *digest* where a position was removed.
pictures = Table(
    "imagefactory_pictures",
    _metadata,
    Column("number", _Number, primary_key=True),
    Column("path", String(1024), nullable=False, unique=True),
    Column("digest", String(64), nullable=False),
    Column("received", String(64), nullable=False),
    Column("stamp", String(120), nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("width", Integer, nullable=False),
    Column("height", Integer, nullable=False),
    Column("format", String(16), nullable=False),
    Column("state", String(16), nullable=False),
    Column("added_s", Float, nullable=False),
    Index("imagefactory_pictures_digest", "digest"),
    Index("imagefactory_pictures_received", "received"),
    Index("imagefactory_pictures_state", "state", "path"),
)

# *token* is what others know a job by: it can't be guessed. *subject* makes the same work one job.
jobs = Table(
    "imagefactory_jobs",
    _metadata,
    Column("number", _Number, primary_key=True),
    Column("token", String(32), nullable=False, unique=True),
    Column("kind", String(32), nullable=False),
    Column("subject", String(1200), nullable=False),
    Column("state", String(16), nullable=False),
    Column("done", Integer, nullable=False),
    Column("total", Integer, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("error", Text, nullable=False),
    Column("result", Text, nullable=False),
    Column("due_s", Float, nullable=False),
    Column("owner", String(64), nullable=False),
    Column("created_s", Float, nullable=False),
    Column("changed_s", Float, nullable=False),
    UniqueConstraint("kind", "subject"),
    Index("imagefactory_jobs_due", "state", "due_s"),
)


def _begin(connection: Connection) -> None:
    _metadata.create_all(connection)


# The first one makes the tables as they are now; a later change adds a step that alters them.
STEPS: Sequence[Callable[[Connection], None]] = (_begin,)
