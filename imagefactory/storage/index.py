# ruff: noqa: S608 -- statements are put together from constants of this file, never from values
"""The index: which sources are known, which variants exist, when they were used last, and what was counted.

Called by the store. Keys are text, values are JSON text with a checksum over key and value; SQLite does not
checksum its pages, so a row is believed only when its checksum is right, and anything else is a miss.

    source <path>                              tag "source"
    variant <source digest> <recipe> <encoding>    tag: the source digest; size: the bytes of the object
    state <name>                               tag "state"

The last use of a variant is diskcache's own column ``access_time``, written in batches by ``add_up``.
"""

from __future__ import annotations

import json
import re
import secrets
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any, cast

from ..model.formats import KNOWN_ENCODINGS, SOURCE_FORMATS, Header
from ..model.job import Stamp
from ..model.variant import Key, Source, Variant, placeholder_in
from .database import CorruptError, Database, Execute, Row

__all__ = ["Index", "VariantRow"]

_TAGS = ("source", "state")  # of rows that are no variants
_PAGE = 1000  # rows read at once: a long read would keep the write-ahead log from being emptied
_FEW = 500  # values in one statement
_SOURCES = (
    "SELECT CAST(key AS BLOB), CAST(value AS BLOB) FROM Cache WHERE raw = 1 AND {} ORDER BY key LIMIT ?"
)
_INSERT = """
    INSERT INTO Cache (key, raw, store_time, access_time, access_count, tag, size, mode, value)
    SELECT json_extract(value, '$[0]'), 1, json_extract(value, '$[4]'), json_extract(value, '$[4]'), 0,
        json_extract(value, '$[1]'), json_extract(value, '$[2]'), 1, json_extract(value, '$[3]')
    FROM json_each(?)"""
_WHOLE = "state whole"
_DIGEST = re.compile("[0-9a-f]{64}")
_PLACEHOLDER = b',"placeholder":"'
_RECIPE = re.compile("[a-z0-9,._-]+")
_written = json.JSONEncoder(separators=(",", ":")).encode  # json.dumps makes one anew each time: 3 us
# Of each source the names of its variants: they stand together in the index of keys.
_UNCHANGED = """
    SELECT CAST(s.key AS BLOB), CAST(s.value AS BLOB), (
        SELECT CAST(group_concat(substr(v.key, 74), '|') AS BLOB) FROM Cache v
        WHERE v.key > 'variant ' || substr(s.value, instr(s.value, '"digest":"') + 10, 64) || ' '
        AND v.key < 'variant ' || substr(s.value, instr(s.value, '"digest":"') + 10, 64) || '!'
    ) FROM Cache s WHERE s.key IN ({}) AND +s.raw = 1
"""
_MAX_HEADERS = 10_000
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


class Index(Database):
    """The rows of one cache; see ``Database`` for how it is opened, and what is raised."""

    def __init__(self, path: Path, lock_path: Path, grave: Path) -> None:
        super().__init__(path, lock_path, grave)
        self._headers: dict[bytes, Header] = {}  # by what stands behind the digest of a source's row

    # --- sources

    def source(self, path: str) -> Source | None:
        """The row of the source at *path*, if there is a good one. One SQL statement."""
        return _source(path, self._get(f"source {path}"))

    def put_source(self, source: Source) -> None:
        """Remember *source* under its path."""
        header = source.header and asdict(source.header)
        row = {"stamp": source.stamp, "digest": source.digest, "is_racy": source.is_racy, "header": header}
        if source.placeholder:  # the last one: see ``unchanged``
            row["placeholder"] = source.placeholder
        self._put(f"source {source.path}", row, "source", 0)

    def known(self, paths: Sequence[str]) -> dict[str, Source]:
        """The sources at *paths* that have a good row, by path; a fraction of the time of one by one."""
        found = {}
        for key, value in self._among("key", [f"source {path}" for path in paths], "raw = 1"):
            path = key.removeprefix("source ")
            source = _source(path, _unseal(key, value))
            if source is not None:
                found[path] = source
        return found

    def sources(self, folder: str = "") -> Iterator[Source]:
        """The sources at and below the path *folder* that have a good row, in the order of their bytes;
        without a folder all of them."""
        # "0" is the character after "/": what lies between "cats/" and "cats0" lies in that folder.
        low, high = (f"source {folder}/", f"source {folder}0") if folder else ("source ", "source!")
        rows = self._read(_SOURCES.format("key = ?"), f"source {folder}", 1) if folder else []
        after = low.encode()
        while True:
            for key, value in rows:
                path = _text(key).removeprefix("source ")
                source = _source(path, _unseal(_text(key), _text(value)))
                if source is not None:
                    yield source
            after = max(after, rows[-1][0]) if rows else after
            rows = self._read(_SOURCES.format("key > CAST(? AS TEXT) AND key < ?"), after, high, _PAGE)
            if not rows:
                return

    def remove_sources(self, paths: Iterable[str]) -> None:
        """Forget the sources at *paths*; their variants stay."""
        keys = [(f"source {path}",) for path in paths]

        def work(cache: Any, sql: Execute) -> None:
            for key in keys:
                sql("DELETE FROM Cache WHERE key = ? AND raw = 1", key)

        if keys:
            self._write(work)

    # --- variants

    def variant(self, key: Key) -> Variant | None:
        """The row of the variant with *key*, if there is a good one. One SQL statement."""
        return _variant(key, self._get(f"variant {key.text()}"))

    def put_variant(self, variant: Variant, limit: int = 0) -> list[VariantRow]:
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
            # +: by the index of tags, whose rows are few, and not by that of uses.
            found = sql(
                f"SELECT {_COLUMNS} FROM Cache WHERE tag = ? AND key != ? ORDER BY +access_time LIMIT ?",
                (tag, key, count - limit),
            )
            for row in found:
                sql("DELETE FROM Cache WHERE rowid = ?", row[:1])
            return [_variant_row(row) for row in found]

        return self._write(work)

    def put_variants(self, variants: Iterable[tuple[Variant, float]]) -> int:
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
            for key, value in self._among("key", list(rows), "raw = 1"):
                if _variant(keys[key], _unseal(key, value)) is not None:
                    del fresh[key]
                else:
                    sql("DELETE FROM Cache WHERE key = ? AND raw = 1", (key,))
            sql(_INSERT, (json.dumps(list(fresh.values())),))
            return len(fresh)

        return self._write(work)

    def remove_variant(self, key: Key) -> None:
        """Forget the variant with *key*."""
        self._use("write", lambda cache: cache.delete(f"variant {key.text()}", retry=False))

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

        return self._write(work) if rows else []

    def variants(self) -> Iterator[Variant]:
        """All variants with a good row."""
        for row in self.scan():
            if row.variant is not None:
                yield row.variant

    def scan(self) -> Iterator[VariantRow]:
        """All rows of variants, also damaged ones, a thousand at a time."""
        number = -1
        while True:
            rows = self._read(
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
        return [_variant_row(row) for row in self._read(statement, limit)]

    def of(self, digest: str) -> list[VariantRow]:
        """The rows of the variants of one source, by its digest; used least recently first."""
        statement = f"SELECT {_COLUMNS} FROM Cache WHERE tag = ? ORDER BY +access_time"
        return [_variant_row(row) for row in self._read(statement, digest)]

    def of_all(self, digests: Sequence[str]) -> Iterator[VariantRow]:
        """The rows of the variants of several sources, by their digests."""
        for start in range(0, len(digests), _FEW):
            some = digests[start : start + _FEW]
            marks = ",".join("?" * len(some))
            for row in self._read(f"SELECT {_COLUMNS} FROM Cache WHERE tag IN ({marks})", *some):
                yield _variant_row(row)

    def digests(self) -> Iterator[str]:
        """The digests of all sources that have variants, as the rows are tagged, in order."""
        after = ""
        statement = "SELECT DISTINCT tag FROM Cache WHERE tag > ? ORDER BY tag LIMIT ?"
        while rows := self._read(statement, after, _PAGE):
            for (tag,) in rows:
                if tag not in _TAGS:
                    yield str(tag)
            after = rows[-1][0]

    def keys_of(self, digests: Sequence[str]) -> dict[str, set[str]]:
        """The texts of the keys that have a row, for each of *digests*; the rows are not looked into."""
        found: dict[str, set[str]] = {digest: set() for digest in digests}
        for key, _ in self._among("tag", list(digests), "size > 0", "NULL"):
            text = key.removeprefix("variant ")
            if text[:64] in found:
                found[text[:64]].add(text)
        return found

    def unchanged(self, stamps: Mapping[str, Stamp]) -> Iterator[tuple[str, str, Header, Sequence[str]]]:
        """Path, digest, header, and names of the variants that have a row (their keys without the digest),
        of those paths whose row has exactly this stamp, has a placeholder and is not racy.

        A quarter of the time of ``known`` and ``keys_of``. Rows are compared as text, without their checksum:
        so this is good for one thing, to tell that nothing is to be done. A damaged row is not equal, or has
        no variants.
        """
        for key, value, names in self._read(
            _UNCHANGED.format(",".join("?" * len(stamps))), *(f"source {path}" for path in stamps)
        ):
            path = _text(key).removeprefix("source ")
            begin = _begin_of(stamps[path]).encode()
            if not value.startswith(begin):
                continue
            end = len(begin) + 64
            rest, has_placeholder, _ = value[end:-17].partition(_PLACEHOLDER)  # the same for many sources
            if not has_placeholder:
                continue
            header = self._headers.get(rest)
            if header is None:
                source = _source(path, _unseal(_text(key), _text(value)))
                if source is None or source.header is None or source.is_racy:
                    continue
                if len(self._headers) >= _MAX_HEADERS:
                    self._headers.clear()
                header = self._headers[rest] = source.header
            yield path, value[len(begin) : end].decode("ascii", "replace"), header, _text(names).split("|")

    def groups(self) -> list[tuple[str, int, int, float, int]]:
        """For each source that has variants: its digest, how many, their bytes together, the unix time of
        the last use of one of them, and their uses. 0.7 s for 200,000 rows of 20,000 sources."""
        rows = self._read(
            "SELECT CAST(tag AS BLOB), COUNT(*), SUM(size), MAX(access_time), SUM(access_count) "
            "FROM Cache NOT INDEXED WHERE size > 0 GROUP BY tag"
        )
        return [
            (_text(tag), int(count), int(size or 0), float(used_s or 0), int(uses or 0))
            for tag, count, size, used_s, uses in rows
            if _is_digest(_text(tag)) and not isinstance(used_s, str | bytes)
        ]

    # --- sums

    def total_bytes(self) -> int:
        """The bytes of all variants together, as kept by the database's own triggers."""

        def read(cache: Any) -> int:
            try:
                return int(cache.reset("size", update=False))
            except (TypeError, ValueError) as error:
                raise CorruptError(f"its byte count is damaged: {error}") from error

        return self._use("read", read)

    def count(self) -> int:
        """The number of variants: by an index alone, 3 ms for 200,000 rows."""
        ((count,),) = self._read("SELECT COUNT(*) FROM Cache WHERE size > 0")
        return int(count)

    def add_up(self, uses: Mapping[str, int], counts: Mapping[str, float], now_s: float) -> None:
        """Note that the variants with the key texts of *uses* were used so often, the last time at unix time
        *now_s*; and add *counts* to the counters. One transaction."""

        def work(cache: Any, sql: Execute) -> None:
            for text, times in uses.items():
                sql(
                    "UPDATE Cache SET access_time = max(access_time, ?), access_count = access_count + ? "
                    "WHERE key = ? AND raw = 1",
                    (now_s, times, f"variant {text}"),
                )
            if counts:
                sums = self.counters()
                for name, amount in counts.items():
                    sums[name] = sums.get(name, 0) + amount
                cache.set("state counters", Row(_seal("state counters", sums)), tag="state", retry=False)

        self._write(work)

    def counters(self) -> dict[str, float]:
        """All that was counted since the index was begun, by name."""
        found = self._get("state counters")
        return cast("dict[str, float]", found) if isinstance(found, dict) else {}

    def is_whole(self) -> bool:
        """Whether every object has its row, as far as is known: false for an index that was begun anew beside
        objects, or that came from somewhere else, and after a process died that may have been about to write
        a row."""
        return bool(self._get(_WHOLE) == self._inode_on_disk())

    def set_whole(self, is_whole: bool) -> None:
        """Note whether every object has its row."""

        def work(cache: Any, sql: Execute) -> None:
            value = Row(_seal(_WHOLE, self._inode_on_disk() if is_whole else None))
            cache.set(_WHOLE, value, tag="state", retry=False)

        self._write(work)

    def begin_filling(self) -> str:
        """Note that the objects are looked through from now on; a token for ``end_filling``."""
        token = secrets.token_hex(8)
        self._put(_WHOLE, token, "state", 0)
        return token

    def is_filling(self, token: str) -> bool:
        """Whether nothing came between since ``begin_filling`` gave *token*."""
        return bool(self._get(_WHOLE) == token)

    def end_filling(self, token: str) -> bool:
        """The index is whole now, unless something came between: it was replaced, somebody died, or began
        to fill it after us. Whether it is."""

        def work(cache: Any, sql: Execute) -> bool:
            if not self.is_filling(token):
                return False
            cache.set(_WHOLE, Row(_seal(_WHOLE, self._inode_on_disk())), tag="state", retry=False)
            return True

        return self._write(work)

    # --- is the database sound?

    def complaint(self) -> str:
        """What SQLite finds wrong with the file, or empty. Reads all of it: 0.5 s for 200,000 rows."""
        ((text, *_), *_) = self._read("PRAGMA integrity_check(1)")
        return "" if text == "ok" else str(text)

    def drift(self) -> int:
        """By how many bytes ``total_bytes`` is more than the rows together."""
        ((drift,),) = self._read(
            "SELECT (SELECT value FROM Settings WHERE key = 'size') - ifnull(sum(size), 0) FROM Cache"
        )
        return int(drift or 0)

    def recount(self) -> None:
        """Make ``total_bytes`` what the rows have together."""
        self._write(
            lambda cache, sql: sql(
                "UPDATE Settings SET value = (SELECT ifnull(sum(size), 0) FROM Cache) WHERE key = 'size'", ()
            )
        )

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
        value = Row(_seal(key, row))
        value.size = size
        self._write(lambda cache, sql: cache.set(key, value, tag=tag, retry=False))

    def _among(
        self, column: str, values: Sequence[str], condition: str, value: str = "CAST(value AS BLOB)"
    ) -> Iterator[tuple[str, str]]:
        """Keys and values of the rows whose *column* is one of *values*."""
        for start in range(0, len(values), _FEW):
            some = values[start : start + _FEW]
            marks = ",".join("?" * len(some))
            for key, found in self._read(
                f"SELECT CAST(key AS BLOB), {value} FROM Cache WHERE {column} IN ({marks}) AND +{condition}",
                *some,
            ):
                yield _text(key), _text(found)


def _row_of(variant: Variant) -> tuple[str, Row, str]:
    """Key, value and tag of the row of *variant*."""
    key = f"variant {variant.key.text()}"
    value = Row(_seal(key, {name: getattr(variant, name) for name in ("body", "bytes", "width", "height")}))
    value.size = variant.bytes
    return key, value, variant.key.digest


def _variant_row(row: Sequence[Any]) -> VariantRow:
    number, key_bytes, size, made_s, used_s, uses, value = row
    text = _text(key_bytes)
    kind, *parts = text.split(" ")
    is_named = kind == "variant" and len(parts) == 3 and _is_digest(parts[0]) and parts[2] in KNOWN_ENCODINGS
    key = Key(*parts) if is_named and _RECIPE.fullmatch(parts[1]) else None
    variant = _variant(key, _unseal(text, _text(value))) if key else None
    return VariantRow(
        number, key, variant, int(_number(size)), _number(made_s), _number(used_s), int(_number(uses))
    )


def _source(path: str, row: Any) -> Source | None:
    """What the value of a row says of the source at *path*; None where it makes no sense."""
    try:
        header = row["header"] and Header(**row["header"])
        placeholder = placeholder_in(row.get("placeholder"))
        source = Source(
            path, Stamp(*row["stamp"]), row["digest"], header, row["is_racy"], placeholder=placeholder
        )
    except (KeyError, TypeError):
        return None
    is_known = header is None or header.format in SOURCE_FORMATS
    return source if is_known and _is_digest(source.digest) else None


def _variant(key: Key, row: Any) -> Variant | None:
    try:
        variant = Variant(key, **row)
    except TypeError:
        return None
    return variant if _is_digest(variant.body) else None


def _text(found: object) -> str:
    return found.decode("utf-8", "replace") if isinstance(found, bytes) else ""


def _number(found: object) -> float:
    return found if isinstance(found, int | float) else 0.0


def _begin_of(stamp: Stamp) -> str:
    """How the value of a row begins whose source has *stamp*, up to its digest; see ``put_source``."""
    return f'{{"stamp":[{stamp[0]},{stamp[1]},{stamp[2]},{stamp[3]}],"digest":"'


def _is_digest(text: object) -> bool:
    return isinstance(text, str) and _DIGEST.fullmatch(text) is not None


def _seal(key: str, row: object) -> str:
    text = _written(row)
    return f"{text} {_checksum(key, text)}"


def _unseal(key: str, sealed: str) -> Any:
    text, _, checksum = sealed.rpartition(" ")
    return json.loads(text) if checksum == _checksum(key, text) else None


def _checksum(key: str, text: str) -> str:
    return blake2b(f"{key}\n{text}".encode(), digest_size=8).hexdigest()
