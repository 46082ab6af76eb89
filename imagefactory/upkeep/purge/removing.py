"""Remove variants on command, while servers run: by picture, content, folder, pattern, last use, or all.

The order is new epoch, rows, new epoch, objects. The first epoch comes before anything is looked for: a
render in progress sees it and discards its result, so purged variants cannot reappear. What shall go is
written down before the rows go (``purge_journal``), ten thousand objects at a time.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from ...errors import BadParameter
from ...storage.disk import DiskStore, MemoryStore, Store
from ...storage.index import VariantRow
from ...storage.originals import Sources
from ..stats import Sum
from .selection import Catalog, Chosen, Selection, check, choose, is_gone

__all__ = ["Purged", "purge"]

_AT_ONCE = 10_000  # objects in one list of what shall go
_FEW = 500  # sources in one statement
_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class Purged:
    """How many *variants* with how many *bytes* went, and of how many *pictures*: of the paths that were
    selected, or of the contents where no path was.

    For those who keep copies: *paths* and *digests* are all that was meant, also where nothing was cached.
    *unread* are pictures that could not be read, so that only what the index knew of them went.
    """

    pictures: int = 0
    variants: int = 0
    bytes: int = 0
    paths: tuple[str, ...] = ()
    digests: tuple[str, ...] = ()
    unread: tuple[str, ...] = ()


def purge(
    store: Store,
    sources: Sources,
    selection: Selection,
    now_s: float,
    *,
    is_dry_run: bool = False,
    report: Callable[[int], object] = lambda count: None,
) -> Purged:
    """Remove the variants of *selection*, or with *is_dry_run* count them; *now_s* is the unix time.

    *report* is called with the number of pictures looked at. Rows of sources that are gone from the disk go,
    too. Raises BadParameter for a selection that says nothing or too much, and for the start of a digest that
    several have; Unavailable when all would seem stale as the pictures can't be read; StorageError when the
    cache can't be changed; TimedOut when one variant is rendered all the time.
    """
    check(selection, sources)
    if isinstance(store, MemoryStore):
        catalog: Catalog = store
        if selection.older_than_s is not None:
            raise BadParameter("older_than", "a memo in memory does not know when its variants were used")
    else:
        catalog = cast(DiskStore, store).index
    if selection.older_than_s is not None and isinstance(store, DiskStore):
        found = _purge_unused(store, now_s - selection.older_than_s, is_dry_run)
        chosen = Chosen(digests=set(found) - {""})
    else:
        if selection.is_all and not is_dry_run:
            # What is rendered for the first time at this moment shall go, too.
            cast(DiskStore | MemoryStore, store).renew_epoch()
        chosen = choose(store, catalog, sources, selection, report)
        digests = chosen.all_digests
        if isinstance(store, DiskStore):
            found = _purge_contents(store, digests, is_dry_run)
            if selection.is_all and not is_dry_run:
                _purge_strays(store)
        else:
            found = _purge_memo(cast(MemoryStore, store), set(digests), is_dry_run)
    if not chosen.contents and not selection.is_all:
        _add_paths(chosen, catalog, sources)
    if not is_dry_run:
        for start in range(0, len(chosen.gone), _FEW):
            catalog.remove_sources(chosen.gone[start : start + _FEW])
    return _purged(selection, chosen, found)


def _add_paths(chosen: Chosen, catalog: Catalog, sources: Sources) -> None:
    """Add to *chosen* the paths that have its digests, for a selection that names none."""
    for source in catalog.sources():
        if source.digest in chosen.digests:
            chosen.paths.append(source.path)
            if is_gone(sources, source.path):
                chosen.gone.append(source.path)


def _purged(selection: Selection, chosen: Chosen, found: Mapping[str, Sum]) -> Purged:
    """The result for *chosen*, when the sums of *found*, by digest, went."""
    pictures = len(found)
    if chosen.contents:
        pictures = sum(not digests.isdisjoint(found) for digests in chosen.contents.values())
    return Purged(
        pictures,
        sum(each.variants for each in found.values()),
        sum(each.bytes for each in found.values()),
        tuple(chosen.contents or chosen.paths),
        () if selection.is_all else tuple(chosen.all_digests),
        tuple(chosen.unread),
    )


def _purge_contents(store: DiskStore, digests: Sequence[str], is_dry_run: bool) -> dict[str, Sum]:
    """Remove all variants of the sources with these digests; what went, by digest."""
    sums: dict[str, Sum] = {}
    start = 0
    while start < len(digests):
        if not is_dry_run:
            store.renew_epoch()
        rows: list[VariantRow] = []
        names: dict[str, int] = {}
        while start < len(digests) and len(names) < _AT_ONCE:
            some = digests[start : start + _FEW]
            start += _FEW
            found = list(store.index.of_all(some))
            rows += found
            _add_objects(store, some, found, names, sums)
        gone = rows if is_dry_run else _remove(store, rows, names)
        for row in gone:
            _count(sums, row)
    return sums


def _add_objects(
    store: DiskStore,
    digests: Iterable[str],
    rows: Iterable[VariantRow],
    names: dict[str, int],
    sums: dict[str, Sum],
) -> None:
    """Add to *names* the objects of these *digests*, all that lie in their folders; and to *sums* those that
    no row of *rows* counts."""
    has_row = {store.objects.name(row.key, row.variant.body) for row in rows if row.key and row.variant}
    names.update(dict.fromkeys(has_row, 0))
    for digest in digests:
        folder = f"{digest[:2]}/{digest}"
        try:
            entries = list(os.scandir(store.objects.root / folder))
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
            if name not in has_row and store.objects.named(name):
                _add(sums, digest, 1, size)


def _remove(store: DiskStore, rows: Sequence[VariantRow], names: Mapping[str, int]) -> list[VariantRow]:
    return store.removals.remove(rows, names, _TIMEOUT_S) if rows or names else []


def _purge_unused(store: DiskStore, since_s: float, is_dry_run: bool) -> dict[str, Sum]:
    """Remove the variants that were used before *since_s* (unix time) for the last time."""
    sums: dict[str, Sum] = {}
    if is_dry_run:
        for row in store.index.scan():
            if row.used_s < since_s:
                _count(sums, row)
        return sums
    while rows := [row for row in store.index.oldest(_AT_ONCE) if row.used_s < since_s]:
        store.renew_epoch()
        names: dict[str, int] = {}
        for row in rows:
            if row.key:
                for body in store.bodies(row):
                    name = store.objects.name(row.key, body)
                    names[name] = store.objects.inode(name)
        gone = _remove(store, rows, names)
        for row in gone:
            _count(sums, row)
        if not gone:
            break
    return sums


def _purge_strays(store: DiskStore) -> None:
    """Remove rows whose name is damaged, and files that are no objects."""
    names = {}
    for path in store.objects.walk():
        name = path.relative_to(store.objects.root).as_posix()
        if store.objects.named(name) is None:
            names[name] = store.objects.inode(name)
    _remove(store, [row for row in store.index.scan() if row.key is None], names)


def _purge_memo(store: MemoryStore, digests: Collection[str], is_dry_run: bool) -> dict[str, Sum]:
    sums: dict[str, Sum] = {}
    if not is_dry_run and digests:
        store.renew_epoch()
    for variant in store.variants():
        if variant.key.digest in digests:
            _add(sums, variant.key.digest, 1, variant.bytes)
            if not is_dry_run:
                store.remove(variant)
    if not is_dry_run and sums:
        store.renew_epoch()
    return sums


def _count(sums: dict[str, Sum], row: VariantRow) -> None:
    """Count *row*; its object was counted already where the row does not say which one that is."""
    if row.key is None or row.variant is not None:
        _add(sums, row.key.digest if row.key else "", 1, row.bytes)


def _add(sums: dict[str, Sum], digest: str, variants: int, bytes_: int) -> None:
    sums[digest] = sums.get(digest, Sum()) + Sum(variants, bytes_)
