"""What the wishes of an order mean for a source: which variants to make, in which order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ...engine.resolve import Resolver
from ...errors import RequestError
from ...model.source import Header, Source, Stamp
from .orders import Wish

__all__ = ["Plan", "Plans"]

_MAX_PLANS = 10_000


@dataclass(frozen=True, slots=True)
class Plan:
    """What wishes mean for sources with one header: the *wishes* to make, in that order, each once, and their
    *names* (*needed* has the same), which are the keys without the digest. *total* counts them with those
    that coincide, and with those that mean the original; *refused* are impossible."""

    names: Sequence[str]
    needed: frozenset[str]
    wishes: Sequence[Wish]
    total: int
    refused: Sequence[tuple[Wish, RequestError]]


class Plans:
    """Plans by header and wishes: pictures of one camera share their size, and a plan takes 20 us a wish."""

    def __init__(self, resolver: Resolver) -> None:
        self._resolver = resolver
        self._plans: dict[tuple[Header, int], tuple[Sequence[Wish], Plan]] = {}

    def reads(self, path: str) -> bool:
        """Whether an external program may read the file at *path*, by its name."""
        return self._resolver.programs.may_read(path)

    def get(self, header: Header, wishes: Sequence[Wish]) -> Plan:
        """The plan of *wishes* for a source with *header*."""
        # The key is the id: to hash the wishes of a ladder takes 100 us. They are kept beside the plan, so
        # that no other list gets their id.
        found = self._plans.get((header, id(wishes)))
        if found is None:
            if len(self._plans) >= _MAX_PLANS:
                self._plans.clear()
            found = self._plans[header, id(wishes)] = wishes, self._make(header, wishes)
        return found[1]

    def _make(self, header: Header, wishes: Sequence[Wish]) -> Plan:
        source = Source("", Stamp(0, 0, 0, 0), "0" * 64, header)
        found: dict[str, tuple[tuple[int, str, str], Wish]] = {}
        refused = []
        for wish in wishes:
            try:
                request = self._resolver.fitted(source, wish.request)
                if request.is_plain:
                    continue
                wanted = self._resolver.wanted(source, request, "")
            except RequestError as error:
                refused.append((wish, error))
                continue
            recipe, encoding = wanted.recipe, wanted.key.encoding
            place = (-recipe.width * recipe.height, replace(recipe, quality=None).text(), encoding)
            found.setdefault(f"{recipe.text()} {encoding}", (place, wish))
        names = sorted(found, key=lambda name: found[name][0])
        return Plan(
            names, frozenset(names), [found[name][1] for name in names], len(wishes) - len(refused), refused
        )
