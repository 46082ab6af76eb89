"""Remove variants on command, while servers run: by picture, content, folder, pattern, last use, or all.

The order is new epoch, rows, new epoch, objects. The first epoch comes before anything is looked for: who
renders at that moment throws away what he made, so that nothing that was meant comes back. What shall go is
written down before the rows go (``removals``), ten thousand objects at a time.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from itertools import islice
from pathlib import Path
from typing import cast

from ...common.globs import compile_glob
from ...errors import BadParameter, NotFound, SourceChanged, TooLarge, Unavailable
from ...model.variant import Source
from ...storage.index import Index, VariantRow
from ...storage.originals import Sources
from ...storage.store import DiskStore, MemoryStore, Store
from ..stats import Sum

__all__ = ["Purged", "Selection", "check", "purge"]

_AT_ONCE = 10_000  # objects in one list of what shall go
_FEW = 500
_MIN_DIGITS = 12
_TIMEOUT_S = 60.0
_WILD = re.compile(r"[*?\[]")

Catalog = Index | MemoryStore


@dataclass(frozen=True, slots=True)
class Selection:
    """What shall go; one of these and no other.

    *paths* of pictures: all variants of the content that each has now, and of the content it had when it was
    last asked for. *digests*: of sources, in hex, or their first 12 digits or more. *prefix*: a folder.
    *glob*: ``*`` stays in a folder, ``**`` crosses. *older_than_s*: not used for so many seconds. *is_stale*:
    of content that no picture has any more.
    """

    paths: tuple[str, ...] = ()
    digests: tuple[str, ...] = ()
    prefix: str = ""
    glob: str = ""
    older_than_s: float | None = None
    is_stale: bool = False
    is_all: bool = False


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


@dataclass(slots=True)
class _Chosen:
    """What a selection means: *contents* of each path, or *digests* alone; paths *gone* from the disk."""

    contents: dict[str, frozenset[str]] = field(default_factory=dict)
    digests: set[str] = field(default_factory=set)
    paths: list[str] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)


def check(selection: Selection, sources: Sources) -> None:
    """Raise BadParameter unless *selection* says one thing that can be."""
    given = [each.name.removeprefix("is_") for each in fields(selection) if _is_given(selection, each.name)]
    if len(given) != 1:
        names = ", ".join(each.name.removeprefix("is_").removesuffix("_s") for each in fields(selection))
        what = " and ".join(given).replace("_s", "") or "nothing"
        raise BadParameter("", f"selected: {what}; it has to be one kind of {names}")
    for text in (*selection.paths, selection.prefix, selection.glob):
        if not _is_text(text):
            raise BadParameter(
                "", f"{text[:200]!r} is not UTF-8, and no picture can be asked for by that name"
            )
    for path in [*selection.paths, *([selection.prefix.removesuffix("/")] if selection.prefix else [])]:
        try:
            sources.locate(path)
        except NotFound:
            what = "a folder" if selection.prefix else "a picture"
            raise BadParameter(
                "", f"{path[:200]!r} is not the path of {what}, such as cats/tom.jpg"
            ) from None
    for digest in selection.digests:
        if not re.fullmatch(rf"[0-9a-f]{{{_MIN_DIGITS},64}}", digest):
            form = f"the sha256 of a picture in hex, or {_MIN_DIGITS} or more of its first digits"
            raise BadParameter("", f"{digest[:100]!r} is not {form}")
    if selection.glob.startswith("/"):
        raise BadParameter("", f"the glob {selection.glob[:200]!r} starts with '/', and no path does")
    # Also '..', which would have the folders above listed.
    if re.search(r"(^|/)\.|[\x00-\x1f]", selection.glob):
        problem = "has a hidden folder or file, or a control character, and no path does"
        raise BadParameter("", f"the glob {selection.glob[:200]!r} {problem}")
    if selection.older_than_s is not None and selection.older_than_s < 0:
        raise BadParameter("", f"older_than={selection.older_than_s} is below the limit of 0")


def _is_text(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:  # lone surrogates, from bytes that are not UTF-8 or from JSON
        return False
    return True


def _is_given(selection: Selection, name: str) -> bool:
    value = getattr(selection, name)
    return value is not None if name == "older_than_s" else bool(value)


def purge(
    store: Store,
    sources: Sources,
    selection: Selection,
    now_s: float,
    *,
    is_dry_run: bool = False,
    tell: Callable[[int], object] = lambda count: None,
) -> Purged:
    """Remove the variants of *selection*, or with *is_dry_run* count them; *now_s* is the unix time.

    *tell* is called with the number of pictures looked at. Rows of sources that are gone from the disk go,
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
        chosen = _Chosen(digests=set(found) - {""})
    else:
        if selection.is_all and not is_dry_run:
            # Also what is rendered for the first time at this moment is meant.
            cast(DiskStore | MemoryStore, store).renew_epoch()
        chosen = _choose(store, catalog, sources, selection, tell)
        digests = sorted(chosen.digests.union(*chosen.contents.values()))
        if isinstance(store, DiskStore):
            found = _purge_contents(store, digests, is_dry_run)
            if selection.is_all and not is_dry_run:
                _purge_strays(store)
        else:
            found = _purge_memo(cast(MemoryStore, store), set(digests), is_dry_run)
    if not chosen.contents and not selection.is_all:
        for source in catalog.sources():
            if source.digest in chosen.digests:
                chosen.paths.append(source.path)
                if _is_gone(sources, source.path):
                    chosen.gone.append(source.path)
    if not is_dry_run:
        for start in range(0, len(chosen.gone), _FEW):
            catalog.remove_sources(chosen.gone[start : start + _FEW])
    pictures = len(found)
    if chosen.contents:
        pictures = sum(not digests.isdisjoint(found) for digests in chosen.contents.values())
    return Purged(
        pictures,
        sum(each.variants for each in found.values()),
        sum(each.bytes for each in found.values()),
        tuple(chosen.contents or chosen.paths),
        tuple(sorted(chosen.digests.union(*chosen.contents.values()))) if not selection.is_all else (),
        tuple(chosen.unread),
    )


# --- what a selection means


def _choose(
    store: Store, catalog: Catalog, sources: Sources, selection: Selection, tell: Callable[[int], object]
) -> _Chosen:
    chosen = _Chosen()
    if selection.digests:
        known = _digests(store) if any(len(digest) < 64 for digest in selection.digests) else []
        for start in selection.digests:
            chosen.digests.update(_complete(start, known))
    elif selection.is_all:
        chosen.digests.update(_digests(store))
        chosen.gone += [each.path for each in catalog.sources() if _is_gone(sources, each.path)]
    elif selection.is_stale:
        _choose_stale(store, catalog, sources, chosen, tell)
    else:
        paths = dict.fromkeys(selection.paths or _paths(catalog, sources, selection))
        for path, known_source, digest in _contents(catalog, sources, paths, chosen, tell):
            found = {digest} if digest else set()
            if known_source:
                found.add(known_source.digest)
            chosen.contents[path] = frozenset(found)
    return chosen


def _choose_stale(
    store: Store, catalog: Catalog, sources: Sources, chosen: _Chosen, tell: Callable[[int], object]
) -> None:
    """Choose what no picture has; all pictures are looked at, and hashed where their stamp is a new one."""
    if not sources.is_readable():
        raise Unavailable("the folder of pictures can't be read, and so all variants would seem stale")
    # Before the look at the pictures: what is rendered meanwhile is of a picture that is there.
    chosen.digests.update(_digests(store))
    seen = set()
    for path, _, digest in _contents(catalog, sources, sources.walk(), chosen, tell):
        seen.add(path)
        chosen.digests.discard(digest or "")
    # Not all that may be shown can be walked to.
    rows = (source.path for source in catalog.sources() if source.path not in seen)
    for _, _, digest in _contents(catalog, sources, rows, chosen, tell):
        chosen.digests.discard(digest or "")


def _paths(catalog: Catalog, sources: Sources, selection: Selection) -> Iterator[str]:
    """The paths that a prefix or a glob means: of pictures that are there, and of those that were."""
    folder, pattern = selection.prefix.removesuffix("/"), None
    if selection.glob:
        folder = _WILD.split(selection.glob, maxsplit=1)[0].rpartition("/")[0]
        pattern = compile_glob(selection.glob)
    known = (source.path for source in catalog.sources(folder))
    for paths in (sources.walk(folder), known):
        for path in paths:
            if pattern.fullmatch(path) if pattern else path != folder:
                yield path


def _contents(
    catalog: Catalog,
    sources: Sources,
    paths: Iterable[str],
    chosen: _Chosen,
    tell: Callable[[int], object],
) -> Iterator[tuple[str, Source | None, str | None]]:
    """Each path, what is remembered of it, and the digest of what it is now."""
    left = iter(paths)
    while some := list(islice(left, _FEW)):
        known = catalog.known(some)
        for path in some:
            try:
                digest = _digest(sources, path, known.get(path))
            except NotFound:
                digest = None
                chosen.gone.append(path)
            except (TooLarge, Unavailable):
                digest = known[path].digest if path in known else None
                chosen.unread.append(path)
            yield path, known.get(path), digest
        tell(len(some))


def _digest(sources: Sources, path: str, known: Source | None) -> str:
    """The digest of the picture at *path*; hashed unless it is as it was *known*."""
    for _ in range(3):
        stamp = sources.stamp(path)
        if known and known.stamp == stamp and not known.is_racy:
            return known.digest
        try:
            return sources.digest(path)[0]
        except SourceChanged:
            continue
    raise Unavailable("the picture is being written at the moment", retry_after_s=1)


def _is_gone(sources: Sources, path: str) -> bool:
    try:
        sources.stamp(path)
    except NotFound:
        return True
    except Unavailable:
        pass
    return False


def _digests(store: Store) -> set[str]:
    """The digests of all sources that have variants, with a row or without."""
    if isinstance(store, DiskStore):
        found = {digest for digest in store.index.digests() if re.fullmatch("[0-9a-f]{64}", digest)}
        root = store.objects.root
        folders = {name for outer in _names(root) for name in _names(root / outer) if name[:2] == outer}
        return found | {name for name in folders if re.fullmatch("[0-9a-f]{64}", name)}
    return {variant.key.digest for variant in cast(MemoryStore, store).variants()}


def _names(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)  # noqa: PTH208  # names are all that is wanted
    except OSError:
        return []


def _complete(digest: str, known: Collection[str]) -> list[str]:
    """The one of *known* that starts with *digest*, if there is one. Raises BadParameter for several."""
    if len(digest) == 64:
        return [digest]
    found = sorted(each for each in known if each.startswith(digest))
    if len(found) > 1:
        raise BadParameter("digests", f"{digest} is the start of {', '.join(found[:10])}; write more digits")
    return found


# --- removing


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
                continue  # gone meanwhile
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
