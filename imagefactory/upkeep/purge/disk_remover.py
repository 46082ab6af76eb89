"""Removes variants from a cache on the disk.

The order is new epoch, rows, new epoch, objects. The first epoch comes before anything is looked for: a
render in progress sees it and discards its result, so purged variants cannot reappear. What shall go is
written down before the rows go (``storage.purge_journal``), ten thousand objects at a time.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from ...model.variant import is_digest
from ...storage.disk import DiskStore
from ...storage.variant_rows import VariantRow
from ..stats import Sum

__all__ = ["DiskRemover"]

_AT_ONCE = 10_000  # objects in one list of what shall go
_FEW = 500  # sources in one statement
_TIMEOUT_S = 60.0


class DiskRemover:
    """Removes variants from *store*; see ``Remover``."""

    def __init__(self, store: DiskStore) -> None:
        self._store = store

    def digests(self) -> set[str]:
        root = self._store.objects.root
        folders = {name for outer in _names(root) for name in _names(root / outer) if name[:2] == outer}
        return set(filter(is_digest, [*self._store.index.variants.digests(), *folders]))

    def remove(self, digests: Sequence[str], *, is_dry_run: bool) -> dict[str, Sum]:
        sums: dict[str, Sum] = {}
        start = 0
        while start < len(digests):
            if not is_dry_run:
                self._store.notices.renew()
            rows: list[VariantRow] = []
            names: dict[str, int] = {}
            while start < len(digests) and len(names) < _AT_ONCE:
                some = digests[start : start + _FEW]
                start += _FEW
                found = list(self._store.index.variants.of_all(some))
                rows += found
                self._add_objects(some, found, names, sums)
            gone = rows if is_dry_run else self._remove(rows, names)
            for row in gone:
                _count(sums, row)
        return sums

    def _add_objects(
        self,
        digests: Iterable[str],
        rows: Iterable[VariantRow],
        names: dict[str, int],
        sums: dict[str, Sum],
    ) -> None:
        """Add to *names* the objects of these *digests*, all that lie in their folders; and to *sums* those
        that no row of *rows* counts."""
        has_row = {
            self._store.objects.name(row.key, row.variant.body) for row in rows if row.key and row.variant
        }
        names.update(dict.fromkeys(has_row, 0))
        for digest in digests:
            folder = f"{digest[:2]}/{digest}"
            try:
                entries = list(os.scandir(self._store.objects.root / folder))
            except OSError:
                continue
            for entry in entries:
                name = f"{folder}/{entry.name}"
                try:
                    if not entry.is_file(follow_symlinks=False):
                        continue
                    size = 0 if name in has_row else entry.stat(follow_symlinks=False).st_size
                except OSError:
                    continue  # gone by now
                names[name] = entry.inode()
                if name not in has_row and self._store.objects.named(name):
                    _add(sums, digest, 1, size)

    def _remove(self, rows: Sequence[VariantRow], names: Mapping[str, int]) -> list[VariantRow]:
        return self._store.journal.remove(rows, names, _TIMEOUT_S) if rows or names else []

    def remove_unused(self, since_s: float, *, is_dry_run: bool) -> dict[str, Sum]:
        sums: dict[str, Sum] = {}
        if is_dry_run:
            for row in self._store.index.variants.scan():
                if row.used_s < since_s:
                    _count(sums, row)
            return sums
        while rows := [row for row in self._store.index.variants.oldest(_AT_ONCE) if row.used_s < since_s]:
            self._store.notices.renew()
            names: dict[str, int] = {}
            for row in rows:
                if row.key:
                    for body in self._store.bodies(row):
                        name = self._store.objects.name(row.key, body)
                        names[name] = self._store.objects.inode(name)
            gone = self._remove(rows, names)
            for row in gone:
                _count(sums, row)
            if not gone:
                break
        return sums

    def remove_strays(self) -> None:
        names = {}
        for path in self._store.objects.walk():
            name = path.relative_to(self._store.objects.root).as_posix()
            if self._store.objects.named(name) is None:
                names[name] = self._store.objects.inode(name)
        self._remove([row for row in self._store.index.variants.scan() if row.key is None], names)


def _names(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)  # noqa: PTH208  # names are all that is wanted
    except OSError:
        return []


def _count(sums: dict[str, Sum], row: VariantRow) -> None:
    """Count *row*; its object was counted already where the row does not say which one that is."""
    if row.key is None or row.variant is not None:
        _add(sums, row.key.digest if row.key else "", 1, row.bytes)


def _add(sums: dict[str, Sum], digest: str, variants: int, bytes_: int) -> None:
    sums[digest] = sums.get(digest, Sum()) + Sum(variants, bytes_)
