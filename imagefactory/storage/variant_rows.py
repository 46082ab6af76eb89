# ruff: noqa: S608 -- statements are put together from constants of this file, never from values
"""Which variants there are, and when each was used last.

    variant <source digest> <recipe> <encoding>    tag: the source digest; size: the bytes of the object

The last use is diskcache's own column ``access_time``, which ``counts`` writes in batches.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from ..model.formats import KNOWN_ENCODINGS
from ..model.variant import Key, Variant, is_digest
from .database import Database, Execute, Row, seal, text_of, unseal

__all__ = ["DiskVariantRows", "VariantRow"]

_OTHER_TAGS = ("source", "state")  # of rows that are no variants
_PAGE = 1000  # rows read at once: a long read would keep the write-ahead log from being emptied
_FEW = 500  # values in one statement
_INSERT = """
    INSERT INTO Cache (key, raw, store_time, access_time, access_count, tag, size, mode, value)
    SELECT json_extract(value, '$[0]'), 1, json_extract(value, '$[4]'), json_extract(value, '$[4]'), 0,
        json_extract(value, '$[1]'), json_extract(value, '$[2]'), 1, json_extract(value, '$[3]')
    FROM json_each(?)"""
_RECIPE = re.compile("[a-z0-9,._-]+")
_COLUMNS = "rowid, CAST(key AS BLOB), size, store_time, access_time, access_count, CAST(value AS BLOB)"


@dataclass(frozen=True, slots=True)
class VariantRow:
    """The row of a variant, for upkeep: its *number* in the database, the *bytes* it counts for, when it was
    made and used last (unix seconds), how often it was used.

    *key* is None where the row's own name is damaged, *variant* where its value is.
    """

    number: int
    key: Key | None
    variant: Variant | None
    bytes: int
    made_s: float
    used_s: float
    uses: int


class DiskVariantRows:
    """The rows of variants in *database*."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def get(self, key: Key) -> Variant | None:
        """The row of the variant with *key*, if there is a good one. One SQL statement."""
        return _variant(key, self._database.get(f"variant {key.text()}"))

    def put(self, variant: Variant, limit: int = 0) -> list[VariantRow]:
        """Remember *variant*; its bytes count in ``total_bytes``.

        With a *limit* the source has at most so many variants: beyond it those used least recently are
        forgotten in the same transaction. Returns their rows; the objects are left to the caller.
        """
        key, value, tag = _row_of(variant)

        def work(cache: Any, sql: Execute) -> list[VariantRow]:
            cache.set(key, value, tag=tag, retry=False)
            if not limit:
                return []
            ((count,),) = sql("SELECT COUNT(*) FROM Cache WHERE tag = ?", (tag,))
            if count <= limit:
                return []
            # A use that is later than now was noted while the clock was ahead.
            ((now_s,),) = sql("SELECT access_time FROM Cache WHERE key = ? AND raw = 1", (key,))
            sql("UPDATE Cache SET access_time = ? WHERE tag = ? AND access_time > ?", (now_s, tag, now_s))
            # +: by the index of tags, whose rows are few, and not by that of uses. What was made first goes
            # first of those that were set to one time.
            found = sql(
                f"SELECT {_COLUMNS} FROM Cache WHERE tag = ? AND key != ? "
                "ORDER BY +access_time, rowid LIMIT ?",
                (tag, key, count - limit),
            )
            for row in found:
                sql("DELETE FROM Cache WHERE rowid = ?", row[:1])
            return [_variant_row(row) for row in found]

        return self._database.write(work)

    def put_many(self, variants: Iterable[tuple[Variant, float]]) -> int:
        """Remember variants, each with the unix time of its last use, in one transaction; those that have a
        good row already keep it. How many were new.

        One statement for all: row by row each costs twice the time, and other threads wait meanwhile.
        """
        rows, keys = {}, {}
        for variant, used_s in variants:
            key, value, tag = _row_of(variant)
            keys[key], rows[key] = variant.key, (key, tag, value.size, value, used_s)

        def work(cache: Any, sql: Execute) -> int:
            fresh = dict(rows)
            for key, value in self._database.among("key", list(rows), "raw = 1"):
                if _variant(keys[key], unseal(key, value)) is not None:
                    del fresh[key]
                else:
                    sql("DELETE FROM Cache WHERE key = ? AND raw = 1", (key,))
            sql(_INSERT, (json.dumps(list(fresh.values())),))
            return len(fresh)

        return self._database.write(work)

    def remove(self, key: Key) -> None:
        """Forget the variant with *key*."""
        self._database.use("write", lambda cache: cache.delete(f"variant {key.text()}", retry=False))

    def remove_rows(self, rows: Iterable[VariantRow], *, but_remade: bool = False) -> list[VariantRow]:
        """Forget *rows*, in one transaction; those that were forgotten now, and not by somebody else.

        With *but_remade* those stay that were made anew since they were read: they have a new object.
        """
        rows = list(rows)
        # A time that is no number, in a damaged row, is no reason to keep it.
        since = "AND (typeof(store_time) != 'real' OR store_time <= ?)" if but_remade else ""

        def work(cache: Any, sql: Execute) -> list[VariantRow]:
            gone = []
            for row in rows:
                # A number is used again when the last row was deleted: so the name is compared too.
                name = f"variant {row.key.text()}" if row.key else None
                values: list[object] = [row.number, name, name]
                if but_remade:
                    values.append(row.made_s)
                if sql(f"SELECT 1 FROM Cache WHERE rowid = ? AND (key = ? OR ? IS NULL) {since}", values):
                    sql("DELETE FROM Cache WHERE rowid = ?", (row.number,))
                    gone.append(row)
            return gone

        return self._database.write(work) if rows else []

    def end_future_uses(self, now_s: float) -> int:
        """Have the last uses that are later than *now_s* (unix time) be then: they were noted while the clock
        was ahead, and would be the last to go until it is that late again. How many there were."""
        ended = 0
        later = "SELECT rowid FROM Cache WHERE size > 0 AND access_time > ? LIMIT ?"
        while rows := self._database.read(later, now_s, _FEW):
            self._database.write(partial(_use_at, now_s, [number for (number,) in rows]))
            ended += len(rows)
        return ended

    def good(self) -> Iterator[Variant]:
        """All variants with a good row."""
        for row in self.scan():
            if row.variant is not None:
                yield row.variant

    def scan(self) -> Iterator[VariantRow]:
        """All rows of variants, also damaged ones, a thousand at a time."""
        number = -1
        while True:
            rows = self._database.read(
                f"SELECT {_COLUMNS} FROM Cache NOT INDEXED WHERE rowid > ? ORDER BY rowid LIMIT ?",
                number,
                _PAGE,
            )
            for row in rows:
                if row[2] or bytes(row[1] or b"").startswith(b"variant "):
                    yield _variant_row(row)
            if len(rows) < _PAGE:
                return
            number = rows[-1][0]

    def oldest(self, limit: int) -> list[VariantRow]:
        """The *limit* rows of variants that were used least recently, in that order."""
        statement = f"SELECT {_COLUMNS} FROM Cache WHERE size > 0 ORDER BY access_time LIMIT ?"
        return [_variant_row(row) for row in self._database.read(statement, limit)]

    def of(self, digest: str) -> list[VariantRow]:
        """The rows of the variants of one source, by its digest; used least recently first."""
        statement = f"SELECT {_COLUMNS} FROM Cache WHERE tag = ? ORDER BY +access_time"
        return [_variant_row(row) for row in self._database.read(statement, digest)]

    def of_all(self, digests: Sequence[str]) -> Iterator[VariantRow]:
        """The rows of the variants of several sources, by their digests."""
        for start in range(0, len(digests), _FEW):
            some = digests[start : start + _FEW]
            marks = ",".join("?" * len(some))
            for row in self._database.read(f"SELECT {_COLUMNS} FROM Cache WHERE tag IN ({marks})", *some):
                yield _variant_row(row)

    def digests(self) -> Iterator[str]:
        """The digests of all sources that have variants, as the rows are tagged, in order."""
        after = ""
        statement = "SELECT DISTINCT tag FROM Cache WHERE tag > ? ORDER BY tag LIMIT ?"
        while rows := self._database.read(statement, after, _PAGE):
            for (tag,) in rows:
                if tag not in _OTHER_TAGS:
                    yield str(tag)
            after = rows[-1][0]

    def keys_of(self, digests: Sequence[str]) -> dict[str, set[str]]:
        """The texts of the keys that have a row, for each of *digests*; the rows are not looked into."""
        found: dict[str, set[str]] = {digest: set() for digest in digests}
        for key, _ in self._database.among("tag", list(digests), "size > 0", "NULL"):
            text = key.removeprefix("variant ")
            if text[:64] in found:
                found[text[:64]].add(text)
        return found

    def total_bytes(self) -> int:
        """The bytes of all variants together."""
        return self._database.total_bytes()

    def groups(self) -> list[tuple[str, int, int, float, int]]:
        """For each source that has variants: its digest, how many, their bytes together, the unix time of
        the last use of one of them, and their uses. 0.7 s for 200,000 rows of 20,000 sources."""
        rows = self._database.read(
            "SELECT CAST(tag AS BLOB), COUNT(*), SUM(size), MAX(access_time), SUM(access_count) "
            "FROM Cache NOT INDEXED WHERE size > 0 GROUP BY tag"
        )
        return [
            (text_of(tag), int(count), int(size or 0), float(used_s or 0), int(uses or 0))
            for tag, count, size, used_s, uses in rows
            if is_digest(text_of(tag)) and not isinstance(used_s, str | bytes)
        ]

    def count(self) -> int:
        """The number of variants: by an index alone, 3 ms for 200,000 rows."""
        ((count,),) = self._database.read("SELECT COUNT(*) FROM Cache WHERE size > 0")
        return int(count)


def _row_of(variant: Variant) -> tuple[str, Row, str]:
    """Key, value and tag of the row of *variant*."""
    key = f"variant {variant.key.text()}"
    value = Row(seal(key, {name: getattr(variant, name) for name in ("body", "bytes", "width", "height")}))
    value.size = variant.bytes
    return key, value, variant.key.digest


def _use_at(now_s: float, numbers: Sequence[int], cache: Any, sql: Execute) -> None:
    marks = ",".join("?" * len(numbers))
    sql(
        f"UPDATE Cache SET access_time = ? WHERE rowid IN ({marks}) AND access_time > ?",
        (now_s, *numbers, now_s),
    )


def _variant_row(row: Sequence[Any]) -> VariantRow:
    number, key_bytes, size, made_s, used_s, uses, value = row
    text = text_of(key_bytes)
    kind, *parts = text.split(" ")
    is_named = kind == "variant" and len(parts) == 3 and is_digest(parts[0]) and parts[2] in KNOWN_ENCODINGS
    key = Key(*parts) if is_named and _RECIPE.fullmatch(parts[1]) else None
    variant = _variant(key, unseal(text, text_of(value))) if key else None
    return VariantRow(
        number, key, variant, int(_number(size)), _number(made_s), _number(used_s), int(_number(uses))
    )


def _variant(key: Key, row: Any) -> Variant | None:
    try:
        variant = Variant(key, **row)
    except TypeError:
        return None
    # An empty picture is none: older versions could store one when the cache was deleted under them.
    return variant if is_digest(variant.body) and variant.bytes else None


def _number(found: object) -> float:
    return found if isinstance(found, int | float) else 0.0
