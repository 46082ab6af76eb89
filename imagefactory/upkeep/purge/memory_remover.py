"""Removes variants from a cache in memory."""

from __future__ import annotations

from collections.abc import Sequence

from ...errors import BadParameter
from ...storage.memory import MemoryStore
from ..stats import Sum

__all__ = ["MemoryRemover"]


class MemoryRemover:
    """Removes variants from *store*; see ``Remover``."""

    def __init__(self, store: MemoryStore) -> None:
        self._store = store

    def digests(self) -> set[str]:
        return {variant.key.digest for variant in self._store.index.variants.all()}

    def remove(self, digests: Sequence[str], *, is_dry_run: bool) -> dict[str, Sum]:
        sums: dict[str, Sum] = {}
        wanted = set(digests)
        if not is_dry_run and wanted:
            self._store.notices.renew()
        for variant in self._store.index.variants.all():
            if variant.key.digest in wanted:
                sums[variant.key.digest] = sums.get(variant.key.digest, Sum()) + Sum(1, variant.bytes)
                if not is_dry_run:
                    self._store.remove(variant)
        if not is_dry_run and sums:
            self._store.notices.renew()
        return sums

    def remove_unused(self, since_s: float, *, is_dry_run: bool) -> dict[str, Sum]:
        raise BadParameter("older_than", "a memo in memory does not know when its variants were used")

    def remove_strays(self) -> None:
        """There are none."""
