"""Remove variants on command, while servers run: by picture, content, folder, pattern, last use, or all."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from ...storage.protocols import Notices, SourceRows, Sources
from ..stats import Sum
from .selection import Chosen, Selection, check, choose, is_gone

__all__ = ["Purged", "Remover", "remove"]

_FEW = 500  # sources in one statement


class Remover(Protocol):
    """Removes variants from one cache. With *is_dry_run* it only counts. Sums are by the digest of the
    source."""

    def digests(self) -> set[str]:
        """The digests of all sources that have variants, with a row or without."""

    def remove(self, digests: Sequence[str], *, is_dry_run: bool) -> dict[str, Sum]:
        """Remove all variants of the sources with these *digests*."""

    def remove_unused(self, since_s: float, *, is_dry_run: bool) -> dict[str, Sum]:
        """Remove the variants that were used before *since_s* (unix time) for the last time. Raises
        BadParameter where that is not known."""

    def remove_strays(self) -> None:
        """Remove rows whose name is damaged, and files that are no objects."""


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


def remove(
    remover: Remover,
    rows: SourceRows,
    notices: Notices,
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
    check(selection)
    if selection.older_than_s is not None:
        found = remover.remove_unused(now_s - selection.older_than_s, is_dry_run=is_dry_run)
        chosen = Chosen(digests=set(found) - {""})
    else:
        if selection.is_all and not is_dry_run:
            notices.renew()  # what is rendered for the first time at this moment shall go, too
        chosen = choose(selection, rows, sources, remover.digests, report)
        found = remover.remove(chosen.all_digests, is_dry_run=is_dry_run)
        if selection.is_all and not is_dry_run:
            remover.remove_strays()
    if not chosen.contents and not selection.is_all:
        _add_paths(chosen, rows, sources)
    if not is_dry_run:
        for start in range(0, len(chosen.gone), _FEW):
            rows.remove(chosen.gone[start : start + _FEW])
    return _purged(selection, chosen, found)


def _add_paths(chosen: Chosen, rows: SourceRows, sources: Sources) -> None:
    """Add to *chosen* the paths that have its digests, for a selection that names none."""
    for source in rows.walk():
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
