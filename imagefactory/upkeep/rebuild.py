"""Make the index anew from the objects, and give a row to each object that has none.

The name of an object says source, recipe, encoding and body digest; its bytes, hashed, prove the last of
these. So what is lost with an index is work and the times of last use, never a picture. ``rebuild`` is the
command; ``fill`` is also what the keeper of a server does while it goes on answering: until the index is
whole again a miss looks for an object before it renders (``DiskStore.adopt``).

Killed anywhere, the index is just not whole yet, and the next ``fill`` goes on from what is there.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import islice
from typing import TypeVar

from ..model.recipe import parse
from ..model.variant import Key, Variant
from ..storage.disk import DiskStore
from ..storage.objects import DiskObjects
from .hashing import Look, ahead, look

__all__ = ["Filled", "Settled", "fill", "in_groups", "rebuild", "settle", "variant_of"]

_T = TypeVar("_T")
_AT_ONCE = 500  # rows in one transaction: others wait for its end
_TASK = 32  # objects that a thread hashes at a time
_TIMEOUT_S = 600.0


@dataclass(frozen=True, slots=True)
class Filled:
    """What became of a fill: the index has *variants* of *bytes* now, *added* of them are new; *removed*
    objects were cut or altered, or superseded. *is_whole* is false if it was stopped, or is to be done again
    because the index was replaced meanwhile."""

    variants: int
    bytes: int
    added: int
    removed: int
    is_whole: bool


@dataclass(frozen=True, slots=True)
class Settled:
    """One key with at most one object, and a row if it has one: *kept* has both, *removed* objects are gone.
    *was_right* says that *kept* had its row before."""

    kept: Variant | None
    removed: int
    was_right: bool


def _nothing(count: int) -> None:
    pass


def rebuild(store: DiskStore, threads: int, on_progress: Callable[[int], object] = _nothing) -> Filled:
    """Begin an empty index and fill it; running servers follow at their next request.

    The old one, whatever it was like, is kept as ``tmp/damaged-index`` until the next one. Raises
    StorageError, and TimedOut when another process keeps filling for ten minutes.
    """
    store.index.database.begin_anew()
    store.notices.renew()
    with store.claims.take("rebuild", _TIMEOUT_S):
        return fill(store, threads, on_progress)


def fill(
    store: DiskStore,
    threads: int,
    on_progress: Callable[[int], object] = _nothing,
    may_go_on: Callable[[], bool] = lambda: True,
) -> Filled:
    """Give every sound object without a row its row, and make the index whole.

    Objects that have a good row are not read. What proves to be cut or altered is removed, as it could never
    be served; of two objects of one key that one stays which has the row, else the newest. Files that are no
    objects are left. *threads* hash (0: the caller does); *on_progress* is told how many files were looked
    at, *may_go_on* is asked again and again. The caller has the claim "rebuild". Raises StorageError and
    TimedOut.
    """
    store.journal.finish(_TIMEOUT_S)
    token = store.index.completeness.begin_filling()
    added = removed = 0
    is_whole = False
    batch: list[tuple[Variant, float]] = []
    doubtful: list[Key] = []
    epochs: deque[int] = deque()

    def write() -> None:
        nonlocal added, removed
        epoch = epochs.popleft()
        if batch:
            added += store.index.variants.put_many(batch)
            added -= _withdraw(store, [variant for variant, _ in batch], epoch)
            batch.clear()
        for key in doubtful:
            settled = settle(store, key)
            removed += settled.removed
            added += settled.kept is not None and not settled.was_right
        doubtful.clear()

    objects = _without_row(store, on_progress, doubtful, epochs)
    for looks in ahead(partial(_hash, store.objects), objects, threads):
        for key, body, found in looks:
            variant = variant_of(key, body, found)
            if variant is not None and found is not None:
                batch.append((variant, found.used_s))
            elif found is not None:
                doubtful.append(key)
        on_progress(len(looks))
        if not looks:
            write()
            if not store.index.completeness.is_filling(token):  # somebody began it anew
                break
        if not may_go_on():
            break
    else:
        is_whole = store.index.completeness.end_filling(token)
    return Filled(store.index.variants.count(), store.index.variants.total_bytes(), added, removed, is_whole)


def settle(store: DiskStore, key: Key) -> Settled:
    """Leave one sound object for *key*, with its row; or neither.

    Under the claim of the key, so that nobody makes or purges it at this moment. A row is written before an
    object is removed, and removed before its object is. Raises StorageError, TimedOut.
    """
    with store.claims.take(key.text(), _TIMEOUT_S):
        row = store.index.variants.get(key)
        names = {body: store.objects.name(key, body) for body in store.objects.bodies(key)}
        looks = {body: look(f"{store.objects.root}/{name}") for body, name in names.items()}
        sound: dict[str, tuple[Variant, float]] = {}
        for body, found in looks.items():
            variant = variant_of(key, body, found)
            if variant is not None and found is not None:
                sound[body] = variant, found.used_s
        if row is not None and (mine := sound.get(row.body[:32])) and _is_same(mine[0], row):
            kept: Variant | None = row
            was_right = True
        else:
            # Removed also where there is no good row: it may have a damaged one.
            store.index.variants.remove(key)
            newest = max(sound.values(), key=lambda pair: pair[1], default=None)
            kept = newest and newest[0]
            was_right = False
            if newest:
                store.index.variants.put_many([newest])
        others = [body for body in names if kept is None or not kept.body.startswith(body)]
        for body in others:
            store.objects.remove(key, body)
        return Settled(kept, len(others), was_right)


def variant_of(key: Key, body: str, found: Look | None) -> Variant | None:
    """The variant of *key* whose object was *found*; None if its bytes are not those that *body*, the 32 hex
    digits of its name, stand for."""
    if found is None or not found.bytes or not found.digest.startswith(body):
        return None
    return Variant(key, found.digest, found.bytes, *_size(key.recipe))


def in_groups(folders: Iterable[list[_T]], size: int) -> Iterator[list[_T]]:
    """The contents of *folders*, those of some together that have *size* files or more."""
    group: list[_T] = []
    for names in folders:
        group += names
        if len(group) >= size:
            yield group
            group = []
    if group:
        yield group


def _hash(objects: DiskObjects, some: list[tuple[Key, str]]) -> list[tuple[Key, str, Look | None]]:
    """What lies there for each (key, body). In a thread."""
    return [(key, body, look(f"{objects.root}/{objects.name(key, body)}")) for key, body in some]


def _without_row(
    store: DiskStore, on_progress: Callable[[int], object], doubtful: list[Key], epochs: deque[int]
) -> Iterator[list[tuple[Key, str]]]:
    """Key and body of the objects that have no row, some at a time, and nothing at the end of each group.

    Keys that have several objects, or one beside the row of another, go to *doubtful*; *epochs* gets the
    epoch from before each group was looked for.
    """
    epochs.append(store.notices.epoch())
    for names in in_groups(store.objects.by_folder(), _AT_ONCE):
        objects = [found for found in map(store.objects.named, names) if found]
        rows = {}
        for row in store.index.variants.of_all(sorted({key.digest for key, _ in objects})):
            if row.variant is not None:
                rows[row.variant.key] = row.variant.body[:32]
        fresh: dict[Key, str] = {}
        several = set()
        for key, body in objects:
            if key in fresh or rows.get(key, body) != body:
                several.add(key)
            elif key not in rows:
                fresh[key] = body
        for key in several:
            fresh.pop(key, None)
        doubtful += several
        on_progress(len(names) - len(fresh))
        rest = iter(fresh.items())
        while some := list(islice(rest, _TASK)):
            yield some
        epochs.append(store.notices.epoch())
        yield []  # all may have their rows, and yet somebody may want to stop


def _withdraw(store: DiskStore, variants: list[Variant], epoch: int) -> int:
    """Remove the rows again of those *variants* whose object was purged since *epoch*, or is about to be; how
    many. A purge that begins only now finds the rows."""
    doomed = store.journal.announced()  # before the look at the object: the list goes after it
    if not doomed and store.notices.epoch() == epoch:
        return 0
    count = 0
    for variant in variants:
        name = store.objects.name(variant.key, variant.body)
        inode = store.objects.inode(name)
        if not inode or doomed.get(name) == inode:
            with store.claims.take(variant.key.text(), _TIMEOUT_S):
                row = store.index.variants.get(variant.key)
                if row is not None and _is_same(row, variant):
                    store.index.variants.remove(variant.key)
                    count += 1
    return count


@lru_cache(10_000)  # 6 us each, and the same few recipes for all sources
def _size(recipe: str) -> tuple[int, int]:
    return parse(recipe).size()


def _is_same(one: Variant, other: Variant) -> bool:
    """Whether both are of the same bytes; what they say of the size in pixels may differ."""
    return (one.body, one.bytes) == (other.body, other.bytes)
