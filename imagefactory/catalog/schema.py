"""The tables of the catalog, and the steps from one version of them to the next.

A step is only ever added: a database of any earlier version is brought to this one when it is opened.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

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
    text,
)

__all__ = ["NOT_READY", "STEPS", "events", "jobs", "pictures", "versions"]

_metadata = MetaData()
# SQLite numbers rows by itself only where the key is INTEGER.
_Number = BigInteger().with_variant(Integer, "sqlite")
# Compared byte by byte: SQLite does it by itself, PostgreSQL with the collation C.
_Path = String(1024).with_variant(String(1024, collation="C"), "postgresql")
_Digest = String(64).with_variant(String(64, collation="C"), "postgresql")

# Nearly all rows are ready, and have one digest: these are in no index of the others. So a row costs 29 us,
# not 50, and SQLite does not take such an index where another one is right (duplicates of 100,000 rows:
# 90 ms, not 2 s). A query has the same words, literally.
NOT_READY = "state <> 'ready'"


def _where(condition: str) -> Any:  # the dialects' keywords have no types
    return {f"{dialect}_where": text(condition) for dialect in ("sqlite", "postgresql")}


versions = Table("imagefactory_version", MetaData(), Column("version", Integer, nullable=False))

# *stamp* is that of the file when it was hashed, as text; *received* the sha256 of the body as it came, which
# is another one than *digest* where a position was removed.
pictures = Table(
    "imagefactory_pictures",
    _metadata,
    Column("number", _Number, primary_key=True),
    Column("path", _Path, nullable=False, unique=True),
    Column("digest", _Digest, nullable=False),
    Column("received", _Digest, nullable=False),
    Column("stamp", String(120), nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("width", Integer, nullable=False),
    Column("height", Integer, nullable=False),
    Column("format", String(16), nullable=False),
    Column("state", String(16), nullable=False),
    Column("added_s", Float, nullable=False),
    Index("imagefactory_pictures_digest", "digest", "state"),
    Index("imagefactory_pictures_received", "received", **_where("received <> digest")),
    Index("imagefactory_pictures_state", "state", "path", **_where(NOT_READY)),
    Index("imagefactory_pictures_added", "added_s"),
)

# What happened once, and when, in unix seconds.
events = Table(
    "imagefactory_events",
    _metadata,
    Column("name", String(64), primary_key=True),
    Column("time_s", Float, nullable=False),
)

# *token* is what others know a job by: it can't be guessed. *subject* makes the same work one job. *due_s* is
# when a job may begin, when its lease ends, or when it ended, so one index serves workers and prune.
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
