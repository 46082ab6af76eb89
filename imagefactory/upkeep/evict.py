"""Bring the cache within its budget: what was used least recently goes first.

The cost is that of what is removed: the oldest rows come by an index of the last use. Objects go before
their rows. Killed in between, a row without its object still counts, is still the oldest, and goes the next
time; the other way round an object would stay that nobody knows of.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import StorageError
from ..storage.disk import DiskStore
from ..storage.variant_rows import VariantRow

__all__ = ["Evicted", "evict"]

_AT_ONCE = 200


@dataclass(frozen=True, slots=True)
class Evicted:
    """How many *variants* went, and how many *bytes* they had."""

    variants: int = 0
    bytes: int = 0


def evict(
    store: DiskStore,
    goal: int | None = None,
    unused_since_s: float | None = None,
    timeout_s: float = 600.0,
) -> Evicted:
    """Remove variants until those that are left have *goal* bytes; by default the capacity of *store*.

    With *unused_since_s* (unix time) only those that were used before. One process evicts at a time; raises
    TimedOut when another one does not end within *timeout_s* seconds. It stops when so many bytes went as
    were too many when it began: the disk counts them as used for as long as somebody reads the files.
    Raises StorageError, also when too many objects can't be removed.
    """
    variants = bytes_ = 0
    stuck: set[int] = set()  # numbers of rows
    with store.claims.take("evict", timeout_s):
        total, capacity, _ = store.room()
        surplus = total - (capacity if goal is None else goal)
        while bytes_ < surplus:
            oldest = [
                row for row in store.index.variants.oldest(_AT_ONCE + len(stuck)) if row.number not in stuck
            ]
            rows = _enough(oldest, surplus - bytes_, unused_since_s)
            if not rows:
                break
            # What can't be removed keeps its row, and counts: else nobody would know of it.
            stuck |= {row.number for row in rows if not store.remove_object(row)}
            gone = store.index.variants.remove_rows(
                [row for row in rows if row.number not in stuck], but_remade=True
            )
            variants += len(gone)
            bytes_ += sum(row.bytes for row in gone)
    if stuck and bytes_ < surplus:
        raise StorageError("objects", f"{len(stuck)} objects can't be removed")
    return Evicted(variants, bytes_)


def _enough(rows: list[VariantRow], bytes_: int, unused_since_s: float | None) -> list[VariantRow]:
    """As many of the first *rows* as have *bytes_* together."""
    some = []
    for row in rows:
        if bytes_ <= 0 or (unused_since_s is not None and row.used_s >= unused_since_s):
            break
        some.append(row)
        bytes_ -= row.bytes
    return some
