"""What is known of each source: a row by its path, true for the stamp that it holds.

source <path>       tag "source"
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from ..model.formats import FOREIGN_FORMATS, SOURCE_FORMATS, decoders
from ..model.source import Header, Source, Stamp, placeholder_in
from ..model.variant import is_digest
from .database import Database, Execute, text_of, to_json, unseal

__all__ = ["DiskSourceRows"]

_PAGE = 1000  # rows read at once: a long read would keep the write-ahead log from being emptied
_SOURCES = (
    "SELECT CAST(key AS BLOB), CAST(value AS BLOB) FROM Cache WHERE raw = 1 AND {} ORDER BY key LIMIT ?"
)
_PLACEHOLDER = b',"placeholder":"'
# Of each source the names of its variants: they stand together in the index of keys.
_UNCHANGED = """
    SELECT CAST(s.key AS BLOB), CAST(s.value AS BLOB), (
        SELECT CAST(group_concat(substr(v.key, 74), '|') AS BLOB) FROM Cache v
        WHERE v.key > 'variant ' || substr(s.value, instr(s.value, '"digest":"') + 10, 64) || ' '
        AND v.key < 'variant ' || substr(s.value, instr(s.value, '"digest":"') + 10, 64) || '!'
    ) FROM Cache s WHERE s.key IN ({}) AND +s.raw = 1
"""
_MAX_HEADERS = 10_000
_HEADER = ("width", "height", "format", "frames", "orientation", "has_alpha")


class DiskSourceRows:
    """The rows of sources in *database*."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._headers: dict[bytes, Header] = {}  # by what stands behind the digest of a row

    def get(self, path: str) -> Source | None:
        """The row of the source at *path*, if there is a good one. One SQL statement."""
        return _source(path, self._database.get(f"source {path}"))

    def put(self, source: Source) -> None:
        """Remember *source* under its path."""
        header = source.header and _header_row(source.header)
        row = {"stamp": source.stamp, "digest": source.digest, "is_racy": source.is_racy, "header": header}
        if source.header is None:
            row |= {"problem": source.problem, "decoders": decoders()}
        if source.tables:
            row["tables"] = source.tables
        if source.placeholder:  # the last one: see ``unchanged``
            row["placeholder"] = source.placeholder
        self._database.put(f"source {source.path}", row, "source")

    def known(self, paths: Sequence[str]) -> dict[str, Source]:
        """The sources at *paths* that have a good row, by path; a fraction of the time of one by one."""
        found = {}
        for key, value in self._database.among("key", [f"source {path}" for path in paths], "raw = 1"):
            path = key.removeprefix("source ")
            source = _source(path, unseal(key, value))
            if source is not None:
                found[path] = source
        return found

    def walk(self, folder: str = "") -> Iterator[Source]:
        """The sources at and below the path *folder* that have a good row, in the order of their bytes;
        without a folder all of them."""
        # "0" is the character after "/": what lies between "cats/" and "cats0" lies in that folder.
        low, high = (f"source {folder}/", f"source {folder}0") if folder else ("source ", "source!")
        rows = self._database.read(_SOURCES.format("key = ?"), f"source {folder}", 1) if folder else []
        after = low.encode()
        while True:
            for key, value in rows:
                path = text_of(key).removeprefix("source ")
                source = _source(path, unseal(text_of(key), text_of(value)))
                if source is not None:
                    yield source
            after = max(after, rows[-1][0]) if rows else after
            rows = self._database.read(
                _SOURCES.format("key > CAST(? AS TEXT) AND key < ?"), after, high, _PAGE
            )
            if not rows:
                return

    def remove(self, paths: Iterable[str]) -> None:
        """Forget the sources at *paths*; their variants stay."""
        keys = [(f"source {path}",) for path in paths]

        def work(cache: Any, sql: Execute) -> None:
            for key in keys:
                sql("DELETE FROM Cache WHERE key = ? AND raw = 1", key)

        if keys:
            self._database.write(work)

    def unchanged(self, stamps: Mapping[str, Stamp]) -> Iterator[tuple[str, str, Header, Sequence[str]]]:
        """Path, digest, header, and names of the variants that have a row (their keys without the digest),
        of those paths whose row has exactly this stamp, has a placeholder and is not racy.

        A quarter of the time of ``known`` and ``keys_of``. Rows are compared as text, without their checksum:
        so this is good for one thing, to tell that nothing is to be done. A damaged row is not equal, or has
        no variants.
        """
        for key, value, names in self._database.read(
            _UNCHANGED.format(",".join("?" * len(stamps))), *(f"source {path}" for path in stamps)
        ):
            path = text_of(key).removeprefix("source ")
            begin = _begin_of(stamps[path]).encode()
            if not value.startswith(begin):
                continue
            end = len(begin) + 64
            rest, has_placeholder, _ = value[end:-17].partition(_PLACEHOLDER)  # the same for many sources
            if not has_placeholder:
                continue
            header = self._headers.get(rest)
            if header is None:
                source = _source(path, unseal(text_of(key), text_of(value)))
                if source is None or source.header is None or source.is_racy:
                    continue
                if len(self._headers) >= _MAX_HEADERS:
                    self._headers.clear()
                header = self._headers[rest] = source.header
            yield path, value[len(begin) : end].decode("ascii", "replace"), header, text_of(names).split("|")


def _header_row(header: Header) -> dict[str, Any]:
    """*header* as it stands in a row: without what only programs say, where they say nothing."""
    row = asdict(header)
    return row if header.programs else {name: row[name] for name in _HEADER}


def _source(path: str, row: Any) -> Source | None:
    """What the value of a row says of the source at *path*; None where it makes no sense."""
    try:
        header = row["header"] and Header(**row["header"])
        if header is None and row["decoders"] != decoders():  # these may read what those could not
            return None
        placeholder, problem = placeholder_in(row.get("placeholder")), str(row.get("problem", ""))
        stamp = Stamp(*row["stamp"])
        tables = str(row.get("tables", ""))
        source = Source(path, stamp, row["digest"], header, row["is_racy"], problem, placeholder, tables)
    except (KeyError, TypeError):
        return None
    is_known = header is None or header.format in SOURCE_FORMATS or header.format in FOREIGN_FORMATS
    return source if is_known and is_digest(source.digest) else None


def _begin_of(stamp: Stamp) -> str:
    """How the value of a row begins whose source has *stamp*, up to its digest; see ``put``."""
    return f'{{"stamp":{to_json(stamp)},"digest":"'
